// Bytes that were received while the reader has paused. Neither node:net nor node:tls is paused itself: the former would not notice resets, and the latter
// loses what comes in the meantime. When this buffer is full, its source is throttled.

/** What an inflow does. */
export interface InflowEvents {
  deliver(bytes: Uint8Array): void;
  /** The peer has ended its direction; everything before that has been delivered. Once. */
  tellEnd(): void;
  /** To stop, or to let go on, what fills this. */
  throttle(stop: boolean): void;
}

/** What is kept beyond what came with the last read, before its source is stopped. */
const LIMIT_BYTES = 64 * 1024;

/** The receiving direction of a socket. */
export class Inflow {
  readonly #events: InflowEvents;
  readonly #held: Uint8Array[] = [];
  #heldBytes = 0;
  #isPaused = false;
  #isDelivering = false;
  #hasEnded = false;
  #isThrottled = false;
  #isClosed = false;

  constructor(events: InflowEvents) {
    this.#events = events;
  }

  /** Whether there is something that has not been delivered or told yet. */
  get isWaiting(): boolean {
    return !this.#isClosed && (this.#held.length > 0 || this.#hasEnded);
  }

  take(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    if (!this.#isPaused && !this.#isDelivering) {
      this.#events.deliver(bytes);
      return;
    }
    this.#held.push(bytes);
    this.#heldBytes += bytes.length;
    if (this.#heldBytes < LIMIT_BYTES || this.#isThrottled) return;
    this.#isThrottled = true;
    this.#events.throttle(true);
  }

  end(): void {
    if (this.#isClosed || this.#hasEnded) return;
    this.#hasEnded = true;
    if (!this.#isPaused && !this.#isDelivering) this.#tellEnd();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    if (this.#isDelivering || this.#isClosed) return;
    this.#isDelivering = true;
    // Not from within the call: the caller may be in the middle of something.
    setImmediate(() => this.#deliver());
  }

  /** Nothing more is delivered or told. */
  close(): void {
    this.#isClosed = true;
    this.#held.length = 0;
  }

  #deliver(): void {
    while (!this.#isPaused && !this.#isClosed) {
      const bytes = this.#held.shift();
      if (bytes === undefined) break;
      this.#heldBytes -= bytes.length;
      this.#events.deliver(bytes);
    }
    this.#isDelivering = false;
    if (this.#isPaused || this.#isClosed) return;
    if (this.#hasEnded) this.#tellEnd();
    else if (this.#isThrottled) {
      this.#isThrottled = false;
      this.#events.throttle(false);
    }
  }

  #tellEnd(): void {
    this.#isClosed = true;
    this.#events.tellEnd();
  }
}
