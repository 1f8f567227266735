// What is true now: the whole of what the data plane needs to know, as plain readonly data. The control plane compiles it, the data
// plane swaps to it; neither imports the other. It can be serialised: names refer by index, bytes are text or base64,
// nothing in it is live. It holds private keys, so it is never logged or shown as it is.

import { type Address, formatAddress, type ListenAddress } from "../base/address.ts";

/** Immutable, numbered, complete. Every index in it points into one of its own arrays. */
export interface Snapshot {
  /** Counts up from 1 with every published snapshot. */
  readonly generation: number;
  /** Connections held at once by the process; 0 = what the descriptor limit allows. */
  readonly maxConnections: number;
  /** How many connections of one process may wait for their clients, in peek and handshake, before the oldest are ended; 0 = a share of all. */
  readonly maxPendingHandshakes: number;
  readonly drainTimeoutMs: number;
  readonly listeners: readonly ListenerSpec[];
  readonly policies: readonly PolicySpec[];
  readonly backends: readonly BackendSpec[];
  /** One more than the largest slot of a listener or an endpoint. */
  readonly slotCount: number;
  /** Where spans go; null: nowhere. */
  readonly collector: CollectorSpec | null;
}

/** A collector of OpenTelemetry. */
export interface CollectorSpec {
  readonly endpoint: string;
  /** Secrets, as a rule. */
  readonly headers: Readonly<Record<string, string>>;
  /** Of connections that went well, the share that is exported; from 0 to 1. */
  readonly sample: number;
  /** PEM, one authority each; empty: the public ones. */
  readonly caPem: readonly string[];
  /** What is shown, PEM; "" when nothing is. */
  readonly chainPem: string;
  readonly keyPem: string;
}

export interface ListenerSpec {
  readonly name: string;
  readonly address: ListenAddress;
  readonly acceptProxyProtocol: boolean;
  /** Canonical CIDRs that may send a PROXY header. */
  readonly trustedSources: readonly string[];
  /** Canonical CIDRs; empty = all. Judged on the true source: after a PROXY header, on the address it carries. */
  readonly allowSources: readonly string[];
  /** 0 = no limit of its own. */
  readonly maxConnections: number;
  readonly maxConnectionsPerSource: number;
  /** New ones, of the whole daemon; 0 = no limit. */
  readonly maxConnectionsPerSecond: number;
  /** New ones of one source, in one process; 0 = no limit. */
  readonly maxConnectionsPerSecondPerSource: number;
  readonly peekTimeoutMs: number;
  readonly handshakeTimeoutMs: number;
  /** Its column in the table of counts. Stable while a listener of this name stays. */
  readonly slot: number;
  /** Its block of counters (meters.ts), stable in the same way. */
  readonly meter: number;
  /** In order; the first that matches wins. Never empty. */
  readonly routes: readonly RouteSpec[];
}

/** Where a listener listens: one that has the same place in the next snapshot keeps its socket. With port 0 each has a port of its own. */
export function placeOf({ name, address }: ListenerSpec): string {
  const text = formatAddress(address);
  return address.kind === "tcp" && address.port === 0 ? `${name} ${text}` : text;
}

export interface RouteSpec {
  readonly name: string;
  readonly match: RouteMatch;
  readonly tls: "terminate" | "passthrough" | "none";
  /** Present exactly when `tls` is "terminate". */
  readonly termination: TerminationSpec | null;
  /** Index into `policies`; -1 = any client may pass. */
  readonly policy: number;
  /** Index into `backends`. */
  readonly backend: number;
  /** The block for bytes between its listener and its backend, which it shares with routes that lead there too. */
  readonly bytesMeter: number;
}

/** Fields are AND-ed, values OR-ed; an empty list matches everything. */
export interface RouteMatch {
  /** Lower-case name patterns; "" matches a hello without SNI. */
  readonly sni: readonly string[];
  readonly alpn: readonly string[];
  /** Canonical CIDRs. */
  readonly source: readonly string[];
}

/** What a terminating route presents and demands. All PEM texts have been validated as a set. */
export interface TerminationSpec {
  /** The first is the default; the others are chosen by SNI. Never empty. */
  readonly certificates: readonly CertificateSpec[];
  readonly clientAuth: "required" | "optional" | "none";
  /** PEM, one certificate each; never empty unless clientAuth is "none". */
  readonly clientCaPem: readonly string[];
  /** PEM, one CRL each. */
  readonly clientCrlPem: readonly string[];
  readonly minVersion: "1.2" | "1.3";
  readonly alpn: readonly string[];
  readonly sessionTickets: boolean;
  /** Empty: any certificate that verifies. Else a client needs an X.509-SVID, and `clientCaPem` keeps each domain's anchors to their own names. */
  readonly trustDomains: readonly string[];
  readonly onExpiry: OnExpiry;
}

/** What happens to a connection when the peer's certificate expires while it is open. */
export type OnExpiry = "keep" | "close";

export interface CertificateSpec {
  /** Leaf first, then intermediates. */
  readonly chainPem: string;
  readonly keyPem: string;
  /** The leaf's DNS SANs in lower case, wildcards included. */
  readonly names: readonly string[];
}

export interface PolicySpec {
  readonly name: string;
  readonly mode: "enforce" | "shadow";
  /** Its block of counters. */
  readonly meter: number;
  /** In order; the first that matches decides; none = deny. */
  readonly rules: readonly PolicyRule[];
}

/** Fields are AND-ed, values OR-ed; an empty field says nothing. A rule whose identity fields are not empty needs a verified certificate. */
export interface PolicyRule {
  readonly action: "allow" | "deny";
  readonly uri: readonly string[];
  readonly dns: readonly string[];
  /** IP SANs of the certificate, as canonical CIDRs. */
  readonly ip: readonly string[];
  readonly cn: readonly string[];
  readonly ou: readonly string[];
  /** Canonical CIDRs of the true source. */
  readonly source: readonly string[];
}

export interface BackendSpec {
  readonly name: string;
  readonly balance: "least_connections" | "round_robin" | "random" | "power_of_two" | "least_latency" | "source_hash";
  /** Percentage: when fewer endpoints are neither down nor ejected, all count as usable. 0 = never. */
  readonly panicThreshold: number;
  /** Time in which the weight of an endpoint that came back grows to what it is. 0 = at once. */
  readonly slowStartMs: number;
  readonly endpoints: readonly EndpointSpec[];
  readonly connectTimeoutMs: number;
  /** Of one connection, the first included. At least 1. */
  readonly connectAttempts: number;
  /** From 0 to 1: what part of the connections may be trying an endpoint again. */
  readonly retryBudget: number;
  /** The column in the table of counts of those that do. Stable while a backend of this name stays. */
  readonly retriesSlot: number;
  /** Of all processes, to all endpoints together. 0 = no limit. */
  readonly maxConnections: number;
  /** How many of them may be connecting. 0 = no limit. */
  readonly maxPendingConnects: number;
  /** The columns of those two. */
  readonly slot: number;
  readonly connectsSlot: number;
  /** Its block of counters. */
  readonly meter: number;
  /** Connections of one process that may wait for room. */
  readonly queueSize: number;
  readonly queueTimeoutMs: number;
  /** 0 = never. */
  readonly idleTimeoutMs: number;
  /** 0 = none. */
  readonly maxLifetimeMs: number;
  /** 0 = idleTimeoutMs. */
  readonly halfCloseIdleTimeoutMs: number;
  /** Bytes per second of one connection, each way; 0 = no limit. */
  readonly maxBandwidth: number;
  /** Of all its connections together, in the whole daemon; 0 = no limit. */
  readonly maxBackendBandwidth: number;
  readonly sendProxyProtocol: "off" | "v1" | "v2" | "v2-tls";
  /** Passes on the TLVs of a received PROXY header. */
  readonly forwardProxyTlvs: boolean;
  /** Null: endpoints are sent what the route sees. */
  readonly origination: OriginationSpec | null;
  /** Null: its endpoints are not probed. */
  readonly health: HealthSpec | null;
  /** What happens to open connections when probes find their endpoint down. */
  readonly onDown: "keep" | "close";
  /** Null: what connections meet with ejects no endpoint. */
  readonly outliers: OutlierSpec | null;
}

/** When an endpoint is ejected for what connections to it have met with, and for how long. */
export interface OutlierSpec {
  /** Failures in a row; at least 1. */
  readonly failures: number;
  /** Of the first time. Twice as long each time that no connection has succeeded since. */
  readonly ejectionMs: number;
  /** Not less than `ejectionMs`. */
  readonly maxEjectionMs: number;
  /** Of the endpoints that do not drain, how many may be ejected at a time; of several, one may be in any case. */
  readonly maxEjectionPercent: number;
}

/** How the endpoints of a backend are probed. */
export interface HealthSpec {
  readonly type: "tcp" | "tls" | "http";
  readonly intervalMs: number;
  /** From 0 to 1: by what part of the interval the time between two probes differs at random. */
  readonly jitter: number;
  /** Not more than the interval. */
  readonly timeoutMs: number;
  /** Successes in a row that bring an endpoint up; at least 1. */
  readonly rise: number;
  /** Failures in a row that bring it down; at least 1. */
  readonly fall: number;
  readonly initial: "up" | "down" | "check";
  /** 0 = that of the endpoint. */
  readonly port: number;
  /** Present exactly when `type` is "http". */
  readonly http: HttpProbeSpec | null;
  /** One character for each byte; "" = nothing. */
  readonly send: string;
  readonly expect: string;
}

export interface HttpProbeSpec {
  readonly method: "GET" | "HEAD";
  readonly path: string;
  /** "" = that of the endpoint. */
  readonly host: string;
  /** Both ends belong to it. */
  readonly statuses: readonly { readonly first: number; readonly last: number }[];
}

/** TLS towards endpoints. All PEM texts have been validated as a set. */
export interface OriginationSpec {
  /** What we show: leaf first, then intermediates. Both are "" when we show none. */
  readonly chainPem: string;
  readonly keyPem: string;
  /** PEM, one certificate each; never empty. */
  readonly serverCaPem: readonly string[];
  /** PEM, one CRL each. */
  readonly serverCrlPem: readonly string[];
  readonly minVersion: "1.2" | "1.3";
  readonly alpn: readonly string[];
  /** The host name or IP that is asked for and verified; "" = that of the endpoint. */
  readonly serverName: string;
  /** Patterns instead of the server name; those that are given must each match. */
  readonly verifyDns: readonly string[];
  readonly verifyUri: readonly string[];
  /** As of a TerminationSpec. */
  readonly trustDomains: readonly string[];
  readonly onExpiry: OnExpiry;
}

export interface EndpointSpec {
  /** As the operator wrote it; what logs and metrics call it. */
  readonly name: string;
  /** Resolved: a "tcp" host is an IP literal. */
  readonly address: Address;
  /** The host as it was written, a name or an IP; "" of a unix socket. */
  readonly host: string;
  /** At least 1. */
  readonly weight: number;
  /** 0 = no limit. */
  readonly maxConnections: number;
  /** Used only while no other endpoint of the backend can take a connection. */
  readonly backup: boolean;
  /** In this node's zone, or in none: the others are used only while none of these can take a connection. */
  readonly isNear: boolean;
  /** One that drains is given no new connections. */
  readonly state: "active" | "drain";
  /** Column of this endpoint in the table of counts. Stable while the endpoint stays. */
  readonly slot: number;
  /** Its block of counters. */
  readonly meter: number;
}
