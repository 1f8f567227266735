// Endpoints that are ejected because connections to them fail. They are counted in the memory that all processes share (snapshot/endpoint-states.ts), and
// every pick of an endpoint reads it.
//
// An ejection is followed by trials: one connection at a time goes there until one succeeds, which is when the endpoint has sent a byte or has at least kept the
// connection for a moment. A trial is a client's connection like any other, and goes on to another endpoint when it fails.

import { type Clock, Timer } from "../base/clock.ts";
import type { EndpointStates } from "../snapshot/endpoint-states.ts";
import type { EndpointSpec, OutlierSpec } from "../snapshot/snapshot.ts";
import type { CloseReason } from "../telemetry/close-reason.ts";
import type { Leg } from "./leg.ts";

/** An endpoint that has kept a connection open for this long without a byte has taken it: in many protocols the client speaks first. */
const PROBATION_MS = 1000;
/** How often to look for its first byte meanwhile. */
const PROBATION_LOOK_MS = 100;
/** Added to the connect timeout, more than a trial can take: after that another trial may begin, whatever became of the last one. */
const TRIAL_SPARE_MS = 2 * PROBATION_MS;
/** An ejection's duration doubles at most so many times, whatever its configured maximum. */
const MOST_DOUBLINGS = 20;
/** Endings after the endpoint's first byte that count neither as success nor as failure. */
const NO_VERDICT: ReadonlySet<CloseReason> = new Set(["upstream_reset", "upstream_truncated", "endpoint_down"]);

/** Told when an endpoint is ejected, and when it is back. */
export interface EjectionEvents {
  ejected(endpoint: EndpointSpec, forMs: number): void;
  back(endpoint: EndpointSpec): void;
}

export interface OutlierParts {
  readonly spec: OutlierSpec;
  readonly endpoints: readonly EndpointSpec[];
  readonly connectTimeoutMs: number;
  readonly states: EndpointStates;
  /** Milliseconds since 1970. */
  readonly wallClockMs: () => number;
  readonly events: EjectionEvents | null;
}

/** Counts failures of the endpoints of one backend, ejects endpoints, and begins trials. */
export class Outliers {
  readonly #parts: OutlierParts;
  /** Slots that count for the share that may be ejected. */
  readonly #slots: readonly number[];
  readonly #mostEjected: number;

  constructor(parts: OutlierParts) {
    this.#parts = parts;
    this.#slots = parts.endpoints.filter(({ state }) => state !== "drain").map(({ slot }) => slot);
    const count = this.#slots.length;
    const share = Math.floor((count * parts.spec.maxEjectionPercent) / 100);
    this.#mostEjected = count < 2 ? 0 : Math.max(1, share);
  }

  /**
   * A connection is about to be made. Returns null when the endpoint was chosen as usable (`isUsable`), but its ejection has only just ended and another
   * connection is its trial: the caller must choose another endpoint.
   */
  begin(endpoint: EndpointSpec, isUsable: boolean): Attempt | null {
    const { states, wallClockMs, connectTimeoutMs } = this.#parts;
    const { slot } = endpoint;
    const ejections = states.ejections(slot);
    if (ejections === 0 || !isUsable) return new Attempt(this, endpoint, { ejections, isTrial: false });
    const nowMs = wallClockMs();
    const untilMs = nowMs + 2 * connectTimeoutMs + TRIAL_SPARE_MS;
    const isTrial = states.beginTrial(slot, { nowS: nowMs / 1000, untilS: untilMs / 1000 });
    return isTrial ? new Attempt(this, endpoint, { ejections, isTrial }) : null;
  }

  /** Whether anything is held against the endpoint, so that a success would change something. */
  isSuspect({ endpoint: { slot }, ejections }: Attempt): boolean {
    return ejections > 0 || this.#parts.states.failures(slot) > 0;
  }

  /** Only an attempt calls this. */
  failed({ endpoint, isTrial }: Attempt): void {
    const { states, spec, wallClockMs } = this.#parts;
    const { slot } = endpoint;
    const failures = states.addFailure(slot);
    const ejections = states.ejections(slot);
    const nowMs = wallClockMs();
    // While it is ejected there is nothing to add. Afterwards one failure is enough.
    const isDue = ejections > 0 ? states.ejectedUntilS(slot) * 1000 <= nowMs : failures >= spec.failures;
    if (isDue) this.#eject(endpoint, ejections, nowMs);
    // Not before the next ejection has begun, or somebody else would begin a trial in between.
    if (isTrial) states.endTrial(slot);
  }

  /** Only an attempt calls this. */
  succeeded({ endpoint, ejections, isTrial }: Attempt): void {
    const { states, wallClockMs, events } = this.#parts;
    const { slot } = endpoint;
    // What was begun before an ejection says nothing of the time after it.
    if (states.ejections(slot) === ejections) {
      states.clearFailures(slot);
      if (ejections > 0 && states.changeEjections(slot, ejections, 0)) {
        states.setEjectedUntilS(slot, 0);
        states.setBackSinceS(slot, wallClockMs() / 1000);
        events?.back(endpoint);
      }
    }
    if (isTrial) states.endTrial(slot);
  }

  /** Only an attempt calls this: it came to no verdict. */
  abandoned({ endpoint, isTrial }: Attempt): void {
    if (isTrial) this.#parts.states.endTrial(endpoint.slot);
  }

  #eject(endpoint: EndpointSpec, ejections: number, nowMs: number): void {
    const { states, spec, events } = this.#parts;
    const { slot } = endpoint;
    if (ejections === 0 && this.#ejected() >= this.#mostEjected) return;
    const forMs = Math.min(spec.ejectionMs * 2 ** Math.min(ejections, MOST_DOUBLINGS), spec.maxEjectionMs);
    // First the time, or others would see an ejection that is over. Of those that see the last failure at once, one ejects.
    states.setEjectedUntilS(slot, (nowMs + forMs) / 1000);
    const isOurs = states.changeEjections(slot, ejections, ejections + 1);
    // Another process may have been quicker with another endpoint, or with a success.
    if (isOurs && ejections === 0 && this.#ejected() > this.#mostEjected) states.changeEjections(slot, 1, 0);
    if (states.ejections(slot) === 0) states.setEjectedUntilS(slot, 0);
    if (!isOurs || states.ejections(slot) === 0) return;
    states.clearFailures(slot);
    events?.ejected(endpoint, forMs);
  }

  /** How many are ejected, or have not succeeded since. */
  #ejected(): number {
    const { states } = this.#parts;
    let count = 0;
    for (const slot of this.#slots) if (states.ejections(slot) > 0) count++;
    return count;
  }
}

/** One connection to one endpoint, until it is known what it says of the endpoint. */
export class Attempt extends Timer {
  readonly endpoint: EndpointSpec;
  /** Of the endpoint, as it began. */
  readonly ejections: number;
  readonly isTrial: boolean;
  readonly #outliers: Outliers;
  #isSettled = false;
  #clock: Clock | null = null;
  #upstream: Leg | null = null;
  #probationEndsMs = 0;

  constructor(
    outliers: Outliers,
    endpoint: EndpointSpec,
    at: { readonly ejections: number; readonly isTrial: boolean },
  ) {
    super(() => this.#look());
    this.#outliers = outliers;
    this.endpoint = endpoint;
    this.ejections = at.ejections;
    this.isTrial = at.isTrial;
  }

  /** It could not be connected or secured, and that is the endpoint's fault. */
  failed(): void {
    if (this.#settle()) this.#outliers.failed(this);
  }

  /** It ended before it could say anything of the endpoint. */
  abandoned(): void {
    if (this.#settle()) this.#outliers.abandoned(this);
  }

  /** It is connected: now for the first byte, if that would change anything. */
  connected(upstream: Leg, clock: Clock): void {
    this.#upstream = upstream;
    if (!this.#outliers.isSuspect(this)) return;
    this.#clock = clock;
    this.#probationEndsMs = clock.nowMs + PROBATION_MS;
    clock.arm(this, PROBATION_LOOK_MS);
  }

  /** The connection has ended. */
  closed(reason: CloseReason): void {
    const upstream = this.#upstream;
    if (upstream === null) this.abandoned();
    else if (reason === "upstream_reset" && upstream.bytesRead === 0) this.failed();
    // A client that left at once, or was sent away, has not seen what the endpoint would have done.
    else if (upstream.bytesRead > 0 ? NO_VERDICT.has(reason) : reason !== "completed") this.abandoned();
    else this.#succeed();
  }

  #look(): void {
    const clock = this.#clock as Clock;
    const isOver = clock.nowMs >= this.#probationEndsMs || (this.#upstream as Leg).bytesRead > 0;
    if (isOver) this.#succeed();
    else clock.arm(this, PROBATION_LOOK_MS);
  }

  #succeed(): void {
    if (this.#settle()) this.#outliers.succeeded(this);
  }

  #settle(): boolean {
    this.#clock?.disarm(this);
    if (this.#isSettled) return false;
    this.#isSettled = true;
    return true;
  }
}
