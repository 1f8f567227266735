// How each endpoint is, in the memory that all processes of the daemon share (counts.ts): what probes have found, and what connections to it have
// met with. Whoever chooses an endpoint sees at once what any process has seen. A cell may be written by several processes; each is right by itself.

/** What probes say. `unknown`: not probed, or not yet. */
export type Health = "unknown" | "up" | "down";

const HEALTHS: readonly Health[] = ["unknown", "up", "down"];

/** Seconds since 1970 at which the times in the table begin: they have 31 bits. */
const EPOCH_S = Date.UTC(2025, 0, 1) / 1000;

const HEALTH = 0;
/** When the last ejection ends. */
const EJECTED_UNTIL = 1;
/** Failures in a row. */
const FAILURES = 2;
/** Ejections without a success since. */
const EJECTIONS = 3;
/** When it came back from being down or ejected; 0 = it has always been there. */
const BACK_SINCE = 4;
/** Smoothed, in microseconds; 0 = not known. */
const LATENCY = 5;
/** When `LATENCY` was written last, in milliseconds that wrap around. */
const LATENCY_AT = 6;
/** When `HEALTH` was given another value; 0 = never. */
const HEALTH_SINCE = 7;
/** Until when a connection may be under way that tries an endpoint whose ejection is over; 0 = none is. */
const TRIAL = 8;

/** Int32 cells for each slot; the last one is spare. */
export const STATE_CELLS = 10;

/** The states of all slots. */
export class EndpointStates {
  readonly #cells: Int32Array;
  /** Where changes are counted: the spare cell of the last slot, which is the daemon's and no endpoint's. */
  readonly #changesAt: number;

  /** On `STATE_CELLS` cells for each slot. */
  constructor(cells: Int32Array) {
    this.#cells = cells;
    this.#changesAt = cells.length - 1;
  }

  /** Another number each time that the health, the ejection, the trial or the return of any endpoint has changed; not for latencies or failures. */
  get changes(): number {
    return Atomics.load(this.#cells, this.#changesAt);
  }

  health(slot: number): Health {
    return HEALTHS[this.#get(slot, HEALTH)] ?? "unknown";
  }

  /** Seconds since 1970; 0 when it was never found to have changed. */
  healthSinceS(slot: number): number {
    return this.#time(slot, HEALTH_SINCE);
  }

  /** Written by the control plane alone. `sinceS`: as `healthSinceS`. */
  setHealth(slot: number, health: Health, sinceS = 0): void {
    this.#setTime(slot, HEALTH_SINCE, sinceS);
    this.#change(slot, HEALTH, HEALTHS.indexOf(health));
  }

  /** Seconds since 1970; in the past, or 0, when it is not ejected. */
  ejectedUntilS(slot: number): number {
    return this.#time(slot, EJECTED_UNTIL);
  }

  setEjectedUntilS(slot: number, seconds: number): void {
    this.#setTime(slot, EJECTED_UNTIL, seconds);
  }

  failures(slot: number): number {
    return this.#get(slot, FAILURES);
  }

  /** One more failure in a row; how many that makes. */
  addFailure(slot: number): number {
    return Atomics.add(this.#cells, slot * STATE_CELLS + FAILURES, 1) + 1;
  }

  clearFailures(slot: number): void {
    if (this.#get(slot, FAILURES) !== 0) this.#set(slot, FAILURES, 0);
  }

  ejections(slot: number): number {
    return this.#get(slot, EJECTIONS);
  }

  setEjections(slot: number, count: number): void {
    this.#change(slot, EJECTIONS, count);
  }

  /** Another number of ejections, if there still are `from`: of those who try at once, one does. */
  changeEjections(slot: number, from: number, to: number): boolean {
    if (Atomics.compareExchange(this.#cells, slot * STATE_CELLS + EJECTIONS, from, to) !== from) return false;
    this.#changed();
    return true;
  }

  /** Seconds since 1970, until when nobody else may try the endpoint; in the past, or 0, when anybody may. */
  trialUntilS(slot: number): number {
    return this.#time(slot, TRIAL);
  }

  /** Takes the trial of an endpoint, up to a time, unless somebody else has it. Both in seconds since 1970. */
  beginTrial(slot: number, { nowS, untilS }: { readonly nowS: number; readonly untilS: number }): boolean {
    const seen = this.#get(slot, TRIAL);
    if (seen !== 0 && seen + EPOCH_S > nowS) return false;
    const until = Math.ceil(untilS) - EPOCH_S;
    if (Atomics.compareExchange(this.#cells, slot * STATE_CELLS + TRIAL, seen, until) !== seen) return false;
    this.#changed();
    return true;
  }

  endTrial(slot: number): void {
    this.#change(slot, TRIAL, 0);
  }

  /** Seconds since 1970; 0 when it has always been there. */
  backSinceS(slot: number): number {
    return this.#time(slot, BACK_SINCE);
  }

  setBackSinceS(slot: number, seconds: number): void {
    this.#setTime(slot, BACK_SINCE, seconds);
  }

  /** Microseconds; 0 = not known. */
  latencyUs(slot: number): number {
    return this.#get(slot, LATENCY);
  }

  /** As `setLatency` was told, modulo 2^31. */
  latencyAtMs(slot: number): number {
    return this.#get(slot, LATENCY_AT);
  }

  setLatency(slot: number, microseconds: number, nowMs: number): void {
    this.#set(slot, LATENCY, microseconds);
    this.#set(slot, LATENCY_AT, nowMs % 2 ** 31);
  }

  /** For a slot that another endpoint is given. */
  clear(slot: number): void {
    for (let cell = 0; cell < STATE_CELLS; cell++) {
      if (slot * STATE_CELLS + cell !== this.#changesAt) this.#set(slot, cell, 0);
    }
    this.#changed();
  }

  #get(slot: number, cell: number): number {
    return Atomics.load(this.#cells, slot * STATE_CELLS + cell);
  }

  #set(slot: number, cell: number, value: number): void {
    Atomics.store(this.#cells, slot * STATE_CELLS + cell, value);
  }

  /** Increments `changes`. */
  #change(slot: number, cell: number, value: number): void {
    if (this.#get(slot, cell) === value) return;
    this.#set(slot, cell, value);
    this.#changed();
  }

  #changed(): void {
    Atomics.add(this.#cells, this.#changesAt, 1);
  }

  #time(slot: number, cell: number): number {
    const seconds = this.#get(slot, cell);
    return seconds === 0 ? 0 : seconds + EPOCH_S;
  }

  #setTime(slot: number, cell: number, seconds: number): void {
    this.#change(slot, cell, seconds === 0 ? 0 : Math.max(1, Math.ceil(seconds) - EPOCH_S));
  }
}
