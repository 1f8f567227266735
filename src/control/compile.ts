// Turns a config into a snapshot: reads the certificates that it names, resolves the names of endpoints, and lets
// every name refer by index. What is wrong comes back with its place in the config file, all at once; nothing is
// opened.

import { type Address, formatAddress } from "../base/address.ts";
import { messageOf } from "../base/errors.ts";
import { formatIp, isIp, parseIp } from "../base/ip.ts";
import { ANYONE, type PlacedRoute, routesOf } from "../config/effective.ts";
import type { LoadedConfig } from "../config/load.ts";
import { type Path, type PlacedProblem, sortProblems } from "../config/problems.ts";
import type { Config, HealthConfig, ListenerConfig, OutlierConfig } from "../config/schema.ts";
import { DEFAULT_TIMEOUT_MS, HTTP_DEFAULTS } from "../config/schema-health.ts";
import { DAEMON_SLOT } from "../snapshot/counts.ts";
import { MAX_METERS, MeterBook } from "../snapshot/meters.ts";
import type {
  BackendSpec,
  EndpointSpec,
  HealthSpec,
  ListenerSpec,
  OutlierSpec,
  PolicySpec,
  RouteSpec,
  Snapshot,
} from "../snapshot/snapshot.ts";
import { type AdminAccess, readAdminAccess } from "./admin-access.ts";
import type { Expiring } from "./findings.ts";
import { type MaterialOptions, MaterialReader } from "./material.ts";
import { refusedPlaces } from "./platform-limits.ts";
import { type ServedCertificate, servedCertificates } from "./served-certificates.ts";

export interface CompileOptions extends MaterialOptions {
  /** Number of the snapshot. */
  readonly generation: number;
  /**
   * The address of a host name: an IP literal, IPv4 where there is one. Rejects when there is none. Null leaves names
   * as they are.
   */
  readonly resolve: ((name: string) => Promise<string>) | null;
  /** The slots that listeners and endpoints have been given, by their names: who stays keeps its own. New ones are added. */
  readonly slots: Map<string, number>;
  /** The same for counters. Default: a book of its own. */
  readonly meters?: MeterBook;
}

export type CompileResult =
  | {
      readonly ok: true;
      readonly snapshot: Snapshot;
      /** Of the config and of the files it names, in the order of the config. */
      readonly warnings: readonly PlacedProblem[];
      /** Every certificate and revocation list that was read, for telling of their end ahead of time. */
      readonly expiring: readonly Expiring[];
      /** The same, by who uses it. */
      readonly certificates: readonly ServedCertificate[];
      readonly stamps: ReadonlyMap<string, string>;
      /** Of the files that were read, for `served` of the next time. Never to be logged: keys are among them. */
      readonly texts: ReadonlyMap<string, string>;
      /** Who may ask the admin API. */
      readonly admin: AdminAccess;
    }
  | {
      readonly ok: false;
      readonly problems: readonly PlacedProblem[];
      /** Of the files and folders with certificates, keys and lists, as they were when they were read: what to watch. */
      readonly stamps: ReadonlyMap<string, string>;
    };

/**
 * Compiles a config that was loaded. Without `resolve` the snapshot is for looking at: its endpoints may still have
 * host names.
 */
export async function compile(loaded: LoadedConfig, options: CompileOptions): Promise<CompileResult> {
  const compiler = new Compiler(loaded, options);
  const admin = readAdminAccess(compiler.material, loaded.config.admin, options.runtime);
  const snapshot = await compiler.compile();
  const { problems, warnings, expiring, expiringAt } = compiler.material.findings;
  const { stamps, texts } = compiler.material.files;
  if (problems.length > 0) return { ok: false, problems: sortProblems(problems), stamps };
  compiler.keepNames();
  const certificates = servedCertificates(expiringAt, loaded.config);
  const allWarnings = sortProblems([...loaded.warnings, ...warnings]);
  return { ok: true, snapshot, warnings: allWarnings, expiring, certificates, stamps, texts, admin };
}

/** How much of the room for names is used, by slots of the counts and by counters; above 1 there is not enough. */
export function usedOfNames(slots: number, meters: number): number {
  return Math.max(slots / DAEMON_SLOT, meters / MAX_METERS);
}

/** Where a warning begins. */
const NAMES_TO_WARN = 0.8;

/** The host names of the endpoints of a config, once each: what `resolve` will be asked. */
export function hostNamesOf({ backends }: Config): ReadonlySet<string> {
  const addresses = Object.values(backends).flatMap(({ endpoints }) => endpoints.map(({ address }) => address));
  return new Set(addresses.flatMap((address) => (needsResolving(address) ? [address.host] : [])));
}

function needsResolving(address: Address): address is Extract<Address, { kind: "tcp" }> {
  return address.kind === "tcp" && !isIp(address.host);
}

class Compiler {
  /** Also keeps the findings, whoever makes them. */
  readonly material: MaterialReader;
  readonly #config: Config;
  readonly #options: CompileOptions;
  readonly #meters: MeterBook;
  /** Given out on trial, like the counters: a config that is refused must not use up what is left. */
  readonly #newSlots = new Map<string, number>();
  readonly #policyNames: readonly string[];
  readonly #backendNames: readonly string[];

  constructor({ config, places }: LoadedConfig, options: CompileOptions) {
    this.material = new MaterialReader(places, options);
    this.#config = config;
    this.#options = options;
    this.#meters = (options.meters ?? new MeterBook()).draft();
    this.#policyNames = Object.keys(config.policies);
    this.#backendNames = Object.keys(config.backends);
  }

  async compile(): Promise<Snapshot> {
    const config = this.#config;
    if (config.user !== undefined && this.#options.runtime?.userExists(config.user) === false) {
      const told = `there is no user ${config.user} on this host: create it or name another`;
      this.material.findings.error(["user"], told);
    }
    for (const { path, message } of refusedPlaces(config, this.#options.runtime?.refusals ?? []))
      this.material.findings.error(path, message);
    const listeners = config.listeners.map((listener, index) => this.#listener(listener, index));
    const backends: BackendSpec[] = [];
    for (const name of this.#backendNames) backends.push(await this.#backend(name));
    const policies = Object.entries(config.policies).map(
      ([name, { mode, rules }]): PolicySpec => ({ name, mode, rules, meter: this.#meters.place("policy", name) }),
    );
    this.#judgeNames();
    return {
      generation: this.#options.generation,
      maxConnections: config.max_connections,
      maxPendingHandshakes: config.max_pending_handshakes,
      drainTimeoutMs: config.drain_timeout,
      listeners,
      policies,
      backends,
      slotCount: this.#slotCount,
      collector: this.material.readCollector(config.telemetry.otlp),
    };
  }

  #listener(listener: ListenerConfig, index: number): ListenerSpec {
    const path: Path = ["listeners", index];
    const routes = routesOf(listener, path).map((placed) => this.#route(listener, path, placed));
    return {
      name: listener.name,
      address: listener.address,
      acceptProxyProtocol: listener.accept_proxy_protocol,
      trustedSources: listener.trusted_sources,
      allowSources: listener.allow_sources,
      maxConnections: listener.max_connections,
      maxConnectionsPerSource: listener.max_connections_per_source,
      maxConnectionsPerSecond: listener.max_connections_per_second,
      maxConnectionsPerSecondPerSource: listener.max_connections_per_second_per_source,
      peekTimeoutMs: listener.peek_timeout,
      handshakeTimeoutMs: listener.handshake_timeout,
      slot: this.#slot(`listener ${listener.name}`),
      meter: this.#meters.place("listener", listener.name),
      routes,
    };
  }

  #route(listener: ListenerConfig, listenerPath: Path, placed: PlacedRoute): RouteSpec {
    const { route } = placed;
    const open = route.policy === undefined || route.policy === ANYONE;
    return {
      name: route.name,
      match: route.match,
      tls: route.tls,
      termination: this.material.readTermination(listener, listenerPath, placed),
      policy: open ? -1 : this.#policyNames.indexOf(route.policy ?? ANYONE),
      backend: this.#backendNames.indexOf(route.backend),
      bytesMeter: this.#meters.place("bytes", `${listener.name}/${route.backend}`),
    };
  }

  async #backend(name: string): Promise<BackendSpec> {
    const { zone } = this.#config;
    const config = this.#config.backends[name] as Config["backends"][string];
    // Together: a hundred names are then looked up in the time of one.
    const endpoints = await Promise.all(
      config.endpoints.map(
        async (endpoint, index): Promise<EndpointSpec> => ({
          name: formatAddress(endpoint.address),
          host: endpoint.address.kind === "tcp" ? endpoint.address.host : "",
          address: await this.#resolved(endpoint.address, ["backends", name, "endpoints", index]),
          weight: endpoint.weight,
          maxConnections: endpoint.max_connections,
          backup: endpoint.backup,
          isNear: endpoint.zone === undefined || zone === undefined || endpoint.zone === zone,
          state: endpoint.state,
          slot: this.#slot(`backend ${name} ${formatAddress(endpoint.address)}`),
          meter: this.#meters.place("endpoint", `${name} ${formatAddress(endpoint.address)}`),
        }),
      ),
    );
    return {
      name,
      balance: config.balance,
      panicThreshold: config.panic_threshold,
      slowStartMs: config.slow_start,
      endpoints,
      connectTimeoutMs: config.connect_timeout,
      connectAttempts: config.connect_attempts,
      retryBudget: config.retry_budget,
      retriesSlot: this.#slot(`retries of backend ${name}`),
      maxConnections: config.max_connections,
      maxPendingConnects: config.max_pending_connects,
      slot: this.#slot(`connections of backend ${name}`),
      connectsSlot: this.#slot(`connects of backend ${name}`),
      meter: this.#meters.place("backend", name),
      queueSize: config.queue.size,
      queueTimeoutMs: config.queue.timeout,
      idleTimeoutMs: config.idle_timeout,
      maxLifetimeMs: config.max_lifetime,
      halfCloseIdleTimeoutMs: config.half_close_idle_timeout,
      maxBandwidth: config.max_bandwidth,
      maxBackendBandwidth: config.max_backend_bandwidth,
      sendProxyProtocol: config.send_proxy_protocol,
      forwardProxyTlvs: config.forward_proxy_tlvs,
      origination: this.material.readOrigination(name, config.tls),
      health: config.health === undefined ? null : healthSpec(config.health),
      onDown: config.on_down,
      outliers: config.outliers === undefined ? null : outlierSpec(config.outliers),
    };
  }

  /** A slot is never given to another one: connections of one that went may still count there. */
  #slot(key: string): number {
    const known = this.#options.slots.get(key) ?? this.#newSlots.get(key);
    if (known !== undefined) return known;
    const slot = this.#slotCount;
    this.#newSlots.set(key, slot);
    return slot;
  }

  get #slotCount(): number {
    return this.#options.slots.size + this.#newSlots.size;
  }

  #judgeNames(): void {
    const names = `of the room for names of listeners, backends, endpoints and policies, which those that are gone keep until a restart`;
    const used = usedOfNames(this.#slotCount, this.#meters.used);
    if (used > 1)
      this.material.findings.error(["backends"], `needs ${Math.ceil(used * 100)}% ${names}: restart to begin anew`);
    else if (used >= NAMES_TO_WARN)
      this.material.findings.warn(["backends"], `uses ${Math.floor(used * 100)}% ${names}: restart before it is full`);
  }

  /** Who is new keeps what it was given. */
  keepNames(): void {
    for (const [key, slot] of this.#newSlots) this.#options.slots.set(key, slot);
    this.#meters.keep();
  }

  async #resolved(address: Address, path: Path): Promise<Address> {
    const { resolve } = this.#options;
    if (resolve === null || !needsResolving(address)) return address;
    try {
      const ip = await resolve(address.host);
      const bytes = parseIp(ip);
      if (bytes !== null) return { ...address, host: formatIp(bytes) };
      this.material.findings.error(path, `"${address.host}" resolved to "${ip}", which is no IP address`);
    } catch (error) {
      this.material.findings.error(path, `"${address.host}" cannot be resolved: ${messageOf(error)}`);
    }
    return address;
  }
}

function outlierSpec(config: OutlierConfig): OutlierSpec {
  return {
    failures: config.failures,
    ejectionMs: config.ejection,
    maxEjectionMs: config.max_ejection,
    maxEjectionPercent: config.max_ejection_percent,
  };
}

function healthSpec(config: HealthConfig): HealthSpec {
  const { type, jitter, rise, fall, initial } = config;
  // What `http` says where nothing is said is in the schema.
  const http = type === "http" ? (config.http ?? HTTP_DEFAULTS) : null;
  return {
    type,
    intervalMs: config.interval,
    jitter,
    timeoutMs: config.timeout ?? Math.min(DEFAULT_TIMEOUT_MS, config.interval),
    rise,
    fall,
    initial,
    port: config.port ?? 0,
    http:
      http === null
        ? null
        : { method: http.method, path: http.path, host: http.host ?? "", statuses: http.expect_status },
    send: config.send ?? "",
    expect: config.expect ?? "",
  };
}
