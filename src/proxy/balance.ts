// Which endpoint a connection goes to. The counts of active connections are in one table for the whole daemon, with a column for each endpoint, so
// they are exact however many listeners, routes and processes share a backend. balance/candidates.ts decides which endpoints are usable; each balancing
// algorithm is a file beside it.

import { unreachable } from "../base/assert.ts";
import type { CountRow } from "../snapshot/counts.ts";
import { BACKEND_METERS, ENDPOINT_METERS, SHORT_BOUNDS } from "../snapshot/meters.ts";
import type { BackendSpec, EndpointSpec } from "../snapshot/snapshot.ts";
import { connectFailurePlace } from "../telemetry/outcomes.ts";
import type { Balancer } from "./balance/balancer.ts";
import { Candidates } from "./balance/candidates.ts";
import { LeastConnections } from "./balance/least-connections.ts";
import { LeastLatency } from "./balance/least-latency.ts";
import { PowerOfTwo } from "./balance/power-of-two.ts";
import { WeightedRandom } from "./balance/random.ts";
import { RoundRobin } from "./balance/round-robin.ts";
import { SourceHash } from "./balance/source-hash.ts";
import type { Origination } from "./originate.ts";
import { type Attempt, type EjectionEvents, Outliers } from "./outliers.ts";
import { retriesWithin } from "./retry.ts";
import type { Source } from "./source-address.ts";
import { WaitQueue } from "./wait-queue.ts";

/** What a backend is built from, beside its spec. */
export interface BackendOptions {
  readonly counts: CountRow;
  readonly origination?: Origination | null;
  /** From 0 up to 1. Default `Math.random`. */
  readonly random?: () => number;
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly wallClockMs?: () => number;
  /** The backend of this name in the previous snapshot, whose costly parts are reused where they fit. */
  readonly previous?: Backend | null;
  /** Called on ejections. */
  readonly events?: EjectionEvents | null;
}

const NO_SOURCE: Source = { bytes: null };

/** A group of interchangeable endpoints: the choice among them, their TLS, limits and queue. */
export class Backend {
  readonly spec: BackendSpec;
  /** Null where the endpoints get plaintext. */
  readonly origination: Origination | null;
  /** Records how the connection to the endpoint acquired last turns out; null where no outlier detection wants it. */
  attempt: Attempt | null = null;
  /** From 0 up to 1. */
  readonly random: () => number;
  /** Connections of this process that wait for room. Those from before a reload wait in the queue of their own snapshot's Backend. */
  readonly queue: WaitQueue;
  readonly #outliers: Outliers | null;
  readonly #counts: CountRow;
  readonly #wallClockMs: () => number;
  readonly #candidates: Candidates;
  readonly #balancer: Balancer;
  /** What was chosen last. */
  #picked = -1;

  constructor(spec: BackendSpec, options: BackendOptions) {
    const { counts, origination = null, wallClockMs = Date.now, random = Math.random, events = null } = options;
    const { outliers, endpoints, connectTimeoutMs } = spec;
    const { states } = counts.table;
    this.spec = spec;
    this.origination = origination;
    this.random = random;
    this.queue = new WaitQueue({ size: spec.queueSize, timeoutMs: spec.queueTimeoutMs });
    this.#outliers =
      outliers === null
        ? null
        : new Outliers({ spec: outliers, endpoints, connectTimeoutMs, states, wallClockMs, events });
    this.#counts = counts;
    this.#wallClockMs = wallClockMs;
    this.#candidates = new Candidates(spec, counts.table);
    this.#balancer = this.#newBalancer(options);
  }

  /** Makes another piece of what is costly to build. Whether there is more; who picks before that is made waits for it. */
  makeSome(): boolean {
    return this.#balancer instanceof SourceHash && this.#balancer.makeSome();
  }

  /**
   * The index of an endpoint that may take a connection from this source and is not in `tried`, or -1: of the first group that has one. The pick is not
   * counted: `acquire` is.
   */
  pick(tried: readonly number[], source: Source = NO_SOURCE): number {
    const candidates = this.#candidates;
    const asker = { nowMs: this.#wallClockMs(), source };
    candidates.look(asker.nowMs);
    candidates.setAside(tried);
    let place = -1;
    for (let group = 0; place < 0 && group < candidates.groups.length; group++)
      place = this.#balancer.choose(candidates, candidates.groups[group] as (typeof candidates.groups)[number], asker);
    candidates.setBack(tried);
    this.#picked = place < 0 ? -1 : (candidates.indices[place] as number);
    return this.#picked;
  }

  /**
   * Counts a connection to the endpoint that was picked, from before it is dialled. Null when another process has been quicker, so that it
   * would be the wrong choice now, or is trying one that was ejected: then pick again.
   */
  acquire(index: number): EndpointSpec | null {
    const endpoint = this.spec.endpoints[index] as EndpointSpec;
    const { slot, maxConnections } = endpoint;
    const active = index === this.#picked ? this.#balancer.chosenActive : -1;
    const isStillRight =
      active >= 0 ? this.#counts.addIfStill(slot, active) : this.#counts.addWithin(slot, maxConnections);
    if (!isStillRight) return null;
    if (this.#outliers !== null) {
      this.attempt = this.#outliers.begin(endpoint, this.#candidates.isUsable(index));
      if (this.attempt === null) {
        this.release(endpoint);
        return null;
      }
    }
    this.#counts.count(slot, "opened", 1);
    return endpoint;
  }

  release(endpoint: EndpointSpec): void {
    this.#counts.subtract(endpoint.slot);
    this.queue.serve();
  }

  /** Counts a connection that is about to connect, if the backend has room for it. */
  enter(): boolean {
    const { slot, connectsSlot, maxConnections, maxPendingConnects } = this.spec;
    if (!this.#counts.addWithin(slot, maxConnections)) return false;
    if (maxPendingConnects === 0 || this.#counts.addWithin(connectsSlot, maxPendingConnects)) return true;
    this.#counts.subtract(slot);
    return false;
  }

  /** One that has entered connects no more, whatever came of it. */
  endConnecting(): void {
    if (this.spec.maxPendingConnects === 0) return;
    this.#counts.subtract(this.spec.connectsSlot);
    this.queue.serve();
  }

  /** One that has entered is over. */
  leave(): void {
    this.#counts.subtract(this.spec.slot);
    this.queue.serve();
  }

  /** Whether there are endpoints that would take a connection if they had room. */
  get isServing(): boolean {
    this.#candidates.look(this.#wallClockMs());
    return this.#candidates.isAny;
  }

  /** A limit of the backend itself that has been reached, in words; "" when none has been. */
  get reachedLimit(): string {
    const { slot, connectsSlot, maxConnections, maxPendingConnects } = this.spec;
    if (maxConnections > 0 && this.#counts.total(slot) >= maxConnections) return `max_connections ${maxConnections}`;
    const isPending = maxPendingConnects > 0 && this.#counts.total(connectsSlot) >= maxPendingConnects;
    return isPending ? `max_pending_connects ${maxPendingConnects}` : "";
  }

  /** Counts a connection for which there was no room. */
  overloaded(): void {
    this.#counts.count(this.spec.slot, "failed", 1);
  }

  /** Whether it is of use to know how long endpoints take. */
  get learnsLatency(): boolean {
    return this.#balancer instanceof LeastLatency;
  }

  /** An endpoint could be connected to, in this many milliseconds. Whether it is as quick to answer is still to be seen. */
  connected(endpoint: EndpointSpec, tookMs: number): void {
    const { meters, states } = this.#counts.table;
    meters.observe(this.spec.meter + BACKEND_METERS.connectSeconds, SHORT_BOUNDS, tookMs);
    const knownUs = states.latencyUs(endpoint.slot);
    if (knownUs === 0 || tookMs * 1000 > knownUs) this.#addLatency(endpoint, tookMs);
  }

  /** Records the time from the dial to an endpoint's first byte, or to its end without one, in ms. */
  answered(endpoint: EndpointSpec, tookMs: number): void {
    this.#addLatency(endpoint, tookMs);
  }

  /** Releases an endpoint that could not be connected to; `code` is what the dial met with, or the close reason of what comes after it. */
  failed(endpoint: EndpointSpec, code: string): void {
    this.#counts.count(endpoint.slot, "failed", 1);
    this.#counts.table.meters.add(endpoint.meter + ENDPOINT_METERS.failures + connectFailurePlace(code));
    // One that refuses at once is not a fast one.
    this.#addLatency(endpoint, this.spec.connectTimeoutMs);
    this.release(endpoint);
  }

  /** Counts a connection that retries, if the retry budget allows another one. */
  beginRetry(): boolean {
    const { endpoints, retryBudget, retriesSlot } = this.spec;
    const active = endpoints.reduce((sum, endpoint) => sum + this.activeOf(endpoint), 0);
    return this.#counts.addWithin(retriesSlot, retriesWithin(retryBudget, active));
  }

  endRetry(): void {
    this.#counts.subtract(this.spec.retriesSlot);
  }

  /** Active connections of an endpoint, of the whole daemon. */
  activeOf(endpoint: EndpointSpec): number {
    return this.#counts.total(endpoint.slot);
  }

  #addLatency({ slot }: EndpointSpec, ms: number): void {
    const balancer = this.#balancer;
    if (balancer instanceof LeastLatency)
      balancer.took(this.#candidates, slot, { us: ms * 1000, nowMs: this.#wallClockMs() });
  }

  #newBalancer({ counts, previous = null }: BackendOptions): Balancer {
    const { random } = this;
    const { balance, endpoints } = this.spec;
    const count = endpoints.length;
    switch (balance) {
      case "least_connections":
        return new LeastConnections(count);
      case "least_latency":
        return new LeastLatency(this.#candidates.slots, counts.table.states);
      case "round_robin":
        return new RoundRobin(count);
      case "random":
        return new WeightedRandom(count, random);
      case "power_of_two":
        return new PowerOfTwo(count, random);
      case "source_hash": {
        const before = previous === null ? null : previous.#balancer;
        return new SourceHash(this.#candidates, endpoints, {
          random,
          previous: before instanceof SourceHash ? before : null,
        });
      }
      default:
        return unreachable(balance);
    }
  }
}
