// Probes of all endpoints of the backends that ask for them. They are made by the control plane, once for the whole daemon; what they find is in the
// memory that all processes share (snapshot/endpoint-states.ts), where it outlives reloads, workers, and by an upgrade this process.

import type { EndpointStates } from "../../snapshot/endpoint-states.ts";
import type { BackendSpec, OriginationSpec, Snapshot } from "../../snapshot/snapshot.ts";
import type { EndpointStatus } from "../../snapshot/status.ts";
import type { Log } from "../../telemetry/log.ts";
import { sameData } from "../same-data.ts";
import { CheckedEndpoint, type CheckedOwner } from "./checked-endpoint.ts";
import type { ProbeRuntime } from "./probe.ts";
import { type BackendTls, backendTls, probeTarget } from "./target.ts";

/** Probes under way at once, where there are descriptors for them. More would be of use only where thousands of endpoints do not answer. */
const MOST_AT_ONCE = 2000;
/** Probes take at most this fraction of the descriptors of a process that may also relay. */
const DESCRIPTOR_PART = 8;
/** How often to log that probes cannot be made. */
const TELL_MS = 60_000;

export interface HealthChecksOptions {
  readonly runtime: ProbeRuntime & { descriptorLimit(): number };
  readonly states: EndpointStates;
  readonly log: Log;
  /** Slots of endpoints that a predecessor has served, whose states are in the memory. */
  readonly before?: Iterable<number>;
  /** From 0 up to 1. Default `Math.random`. */
  readonly random?: () => number;
}

/** What is known of an endpoint by its probes. */
export type HealthStatus = Pick<EndpointStatus, "health" | "health_since" | "reason" | "health_changes_total">;

/** The probes of a daemon. */
export class HealthChecks implements CheckedOwner {
  readonly runtime: ProbeRuntime;
  readonly random: () => number;
  readonly #states: EndpointStates;
  readonly #log: Log;
  readonly #mostAtOnce: number;
  /** By slot. */
  #checked = new Map<number, CheckedEndpoint>();
  /** Slots of the endpoints that are served. */
  #served: ReadonlySet<number>;
  /** Slots that `prepare` has found to be new, and that are not served yet. */
  readonly #isNew = new Set<number>();
  #tls = new Map<string, BackendTls>();
  #waiting: CheckedEndpoint[] = [];
  #underWay = 0;
  #isRunning = false;
  #toldMs = Number.NEGATIVE_INFINITY;

  constructor({ runtime, states, log, before = [], random = Math.random }: HealthChecksOptions) {
    this.runtime = runtime;
    this.random = random;
    this.#states = states;
    this.#log = log;
    this.#served = new Set(before);
    const part = Math.floor(runtime.descriptorLimit() / DESCRIPTOR_PART);
    this.#mostAtOnce = Math.max(1, Math.min(MOST_AT_ONCE, part));
  }

  /** Before a snapshot is served: says how its new endpoints begin. Nothing that is served now is touched. */
  prepare({ backends }: Snapshot): void {
    this.#isNew.clear();
    for (const { health, endpoints } of backends) {
      for (const { slot } of endpoints) {
        if (this.#served.has(slot)) continue;
        this.#isNew.add(slot);
        this.#states.setHealth(slot, health === null || health.initial === "up" ? "unknown" : "down");
      }
    }
  }

  /** A snapshot that was prepared is served. Who stays keeps its state, its turns and its probe. */
  adopt({ backends }: Snapshot): void {
    const before = this.#checked;
    const tls = new Map<string, BackendTls>();
    this.#checked = new Map();
    for (const backend of backends) {
      if (backend.health === null) for (const { slot } of backend.endpoints) this.#forget(slot);
      else this.#adopt(backend, before, this.#tlsOf(backend.name, backend.origination, tls));
    }
    // Before anybody is stopped, which makes room at once.
    this.#waiting = this.#waiting.filter((endpoint) => this.#checked.get(endpoint.slot) === endpoint);
    for (const [slot, endpoint] of before) {
      if (this.#checked.has(slot)) continue;
      endpoint.stop();
      this.#forget(slot);
    }
    this.#tls = tls;
    this.#served = new Set(backends.flatMap(({ endpoints }) => endpoints.map(({ slot }) => slot)));
    this.#isNew.clear();
  }

  /** Probes from now on. */
  start(): void {
    this.#isRunning = true;
    for (const endpoint of this.#checked.values()) this.#start(endpoint);
  }

  /** Probes no more. States stay as they are: a successor goes on from them. */
  stop(): void {
    this.#isRunning = false;
    this.#waiting = [];
    for (const endpoint of this.#checked.values()) endpoint.stop();
  }

  /** Of the endpoint in a slot. */
  status(slot: number): HealthStatus {
    const endpoint = this.#checked.get(slot);
    const sinceS = this.#states.healthSinceS(slot);
    return {
      health: this.#states.health(slot),
      health_since: sinceS === 0 ? null : new Date(sinceS * 1000).toISOString(),
      reason: endpoint?.reason ?? "",
      health_changes_total: endpoint?.changes ?? 0,
    };
  }

  due(endpoint: CheckedEndpoint): void {
    if (this.#underWay < this.#mostAtOnce) this.#begin(endpoint);
    else {
      endpoint.isWaiting = true;
      this.#waiting.push(endpoint);
    }
  }

  changed(endpoint: CheckedEndpoint): void {
    const { backend, name, slot, isUp, reason } = endpoint;
    const nowS = Math.floor(Date.now() / 1000);
    const before = this.#states.health(slot);
    this.#states.setHealth(slot, isUp ? "up" : "down", nowS);
    if (isUp === false) {
      this.#log.warn({ backend, endpoint: name, reason }, "an endpoint is down");
    } else if (before === "down") {
      this.#states.setBackSinceS(slot, nowS);
      this.#log.info({ backend, endpoint: name }, "an endpoint is up");
    }
  }

  unable(code: string): void {
    const { nowMs } = this.runtime.clock;
    if (nowMs - this.#toldMs < TELL_MS) return;
    this.#toldMs = nowMs;
    this.#log.error({ problem: code }, "endpoints cannot be probed: what they were found to be is kept");
  }

  gone(): void {
    this.#underWay--;
    const next = this.#waiting.shift();
    if (next !== undefined) this.#begin(next);
  }

  #begin(endpoint: CheckedEndpoint): void {
    this.#underWay++;
    endpoint.probe();
  }

  #adopt(backend: BackendSpec, before: ReadonlyMap<number, CheckedEndpoint>, tls: BackendTls | null): void {
    const { health: spec } = backend;
    if (spec === null) return;
    for (const endpoint of backend.endpoints) {
      const { slot } = endpoint;
      const target = probeTarget(backend, endpoint, tls);
      const known = before.get(slot);
      if (known !== undefined) {
        this.#checked.set(slot, known);
        known.replace({ spec, target, isSame: sameData(known.spec, spec) });
        continue;
      }
      const health = this.#states.health(slot);
      const isUp = health === "unknown" ? null : health === "up";
      const firstDecides = this.#isNew.has(slot) && spec.initial === "check";
      const checked = new CheckedEndpoint(this, backend, endpoint, { spec, target, isUp, firstDecides });
      this.#checked.set(slot, checked);
      if (this.#isRunning) this.#start(checked);
    }
  }

  /** Who is waited for has its first turn soon. */
  #start(endpoint: CheckedEndpoint): void {
    endpoint.start({ soon: endpoint.isUp !== true && endpoint.spec.initial === "check" });
  }

  /** Nobody says any more how it is. */
  #forget(slot: number): void {
    if (this.#states.health(slot) !== "unknown") this.#states.setHealth(slot, "unknown");
  }

  /** Rebuilt only where it has changed. */
  #tlsOf(name: string, spec: OriginationSpec | null, all: Map<string, BackendTls>): BackendTls | null {
    if (spec === null) return null;
    const before = this.#tls.get(name);
    const tls = before !== undefined && sameData(before.spec, spec) ? before : backendTls(this.runtime, spec);
    all.set(name, tls);
    return tls;
  }
}
