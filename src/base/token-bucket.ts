// A token bucket kept as one number: when it will be full again. So it needs no refilling, and many of them are a table of numbers. Taking more than
// there is leaves a debt. A caller that waits for as long as the debt lasted when it took waits its turn, whatever others take after it.
// (The generic cell rate algorithm, ITU-T I.371, is the same thing seen from the other side.)

/** Tokens that come at a steady rate, up to a burst. Begins full. */
export class TokenBucket {
  readonly #burstMs: number;
  /** When it is full, in ms of the caller's clock, if nothing more is taken. */
  #fullMs: number;

  /** `burstMs`: it holds what comes in that time. `fullMs`: the state of an earlier bucket to go on from. */
  constructor(burstMs: number, fullMs = Number.NEGATIVE_INFINITY) {
    this.#burstMs = burstMs;
    this.#fullMs = fullMs;
  }

  /** When it is full again, in ms of the caller's clock; this is its whole state. */
  get fullMs(): number {
    return this.#fullMs;
  }

  /** Takes tokens, also those that are not there yet. The rate, in tokens per second and above 0, may be another one each time. */
  take(count: number, perSecond: number, nowMs: number): void {
    this.#fullMs = Math.max(this.#fullMs, nowMs) + (count * 1000) / perSecond;
  }

  /** How long until `count` tokens can be taken without a debt, in ms; 0 when they are there. With a `count` of 0: until the debt is paid. */
  waitMs(count: number, perSecond: number, nowMs: number): number {
    return Math.max(0, Math.max(this.#fullMs, nowMs) + (count * 1000) / perSecond - nowMs - this.#burstMs);
  }

  /** Tokens that are there; never below 0. */
  available(perSecond: number, nowMs: number): number {
    return Math.max(0, ((this.#burstMs - Math.max(0, this.#fullMs - nowMs)) * perSecond) / 1000);
  }
}
