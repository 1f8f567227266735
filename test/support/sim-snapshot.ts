// Snapshots for tests: each part with harmless values, of which a test names only what it is about.

import type {
  BackendSpec,
  EndpointSpec,
  ListenerSpec,
  PolicyRule,
  RouteSpec,
  Snapshot,
  TerminationSpec,
} from "../../src/snapshot/snapshot.ts";

/** An opaque listener on 127.0.0.1:1000 that sends everything to the first backend. */
export function listenerSpec(spec: Partial<ListenerSpec> = {}): ListenerSpec {
  const { address = { kind: "tcp", host: "127.0.0.1", port: 1000 } } = spec;
  return {
    name: "listener",
    address,
    slot: 1000 + (address.kind === "tcp" ? address.port : 0),
    meter: 100_000 + 100 * (address.kind === "tcp" ? address.port : 0),
    acceptProxyProtocol: false,
    trustedSources: [],
    allowSources: [],
    maxConnections: 0,
    maxConnectionsPerSource: 0,
    maxConnectionsPerSecond: 0,
    maxConnectionsPerSecondPerSource: 0,
    peekTimeoutMs: 1000,
    handshakeTimeoutMs: 1000,
    routes: [routeSpec()],
    ...spec,
  };
}

/** An opaque route to the first backend, without a policy. */
export function routeSpec(
  spec: Partial<Omit<RouteSpec, "match">> & { match?: Partial<RouteSpec["match"]> } = {},
): RouteSpec {
  return {
    name: "route",
    tls: "none",
    termination: null,
    policy: -1,
    backend: 0,
    bytesMeter: 90_000,
    ...spec,
    match: { sni: [], alpn: [], source: [], ...spec.match },
  };
}

/** Material that only the simulated runtime takes. Clients may show a certificate. */
export const SIM_TERMINATION: TerminationSpec = {
  certificates: [{ chainPem: "", keyPem: "", names: ["a.example"] }],
  clientAuth: "optional",
  clientCaPem: [],
  clientCrlPem: [],
  minVersion: "1.2",
  alpn: [],
  sessionTickets: false,
  trustDomains: [],
  onExpiry: "keep",
};

/** A rule that allows everyone. */
export function ruleSpec(spec: Partial<PolicyRule> = {}): PolicyRule {
  return { action: "allow", uri: [], dns: [], ip: [], cn: [], ou: [], source: [], ...spec };
}

/** One endpoint, least connections, one attempt, no relay limits. */
export function backendSpec(spec: Partial<BackendSpec> = {}): BackendSpec {
  return {
    name: "backend",
    balance: "least_connections",
    panicThreshold: 0,
    slowStartMs: 0,
    endpoints: [endpointSpec(0)],
    connectTimeoutMs: 500,
    connectAttempts: 1,
    retryBudget: 0.2,
    retriesSlot: 902,
    maxConnections: 0,
    maxPendingConnects: 0,
    slot: 900,
    connectsSlot: 901,
    meter: 91_000,
    queueSize: 0,
    queueTimeoutMs: 1000,
    idleTimeoutMs: 0,
    maxLifetimeMs: 0,
    halfCloseIdleTimeoutMs: 0,
    maxBandwidth: 0,
    maxBackendBandwidth: 0,
    sendProxyProtocol: "off",
    forwardProxyTlvs: false,
    origination: null,
    health: null,
    onDown: "keep",
    outliers: null,
    ...spec,
  };
}

/** The endpoint of a slot: weight 1, no limit, no backup. */
export function endpointSpec(slot: number, spec: Partial<EndpointSpec> = {}): EndpointSpec {
  const host = `10.2.0.${slot + 1}`;
  return {
    name: `${host}:80`,
    address: { kind: "tcp", host, port: 80 },
    host,
    weight: 1,
    maxConnections: 0,
    backup: false,
    isNear: true,
    state: "active",
    slot,
    meter: 20 * (slot + 1),
    ...spec,
  };
}

/** One listener and one backend. */
export function snapshotSpec(spec: Partial<Snapshot> = {}): Snapshot {
  const backends = spec.backends ?? [backendSpec()];
  const slots = backends.flatMap(({ endpoints }) => endpoints.map(({ slot }) => slot + 1));
  return {
    generation: 1,
    maxConnections: 0,
    maxPendingHandshakes: 0,
    drainTimeoutMs: 1000,
    listeners: [listenerSpec()],
    policies: [],
    slotCount: Math.max(0, ...slots),
    collector: null,
    ...spec,
    backends,
  };
}
