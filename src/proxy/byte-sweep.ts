// Adds to the metrics, once a second, what open connections have relayed since, so that throughput shows before they end. They are gone
// through in slices, so that the relay of the others hardly waits.

import { type Clock, Timer } from "../base/clock.ts";
import type { Connection } from "./connection.ts";
import { countBytes } from "./count.ts";

const SWEEP_MS = 1000;
/** Looked at in one turn of the clock: some 0.1 ms, of which a look takes 15 to 35 ns (bench/micro/count.ts) and the rest is memory that is far away. */
const SLICE = 2000;

/** Goes through the connections of a worker while there are any. */
export class ByteSweep {
  readonly #clock: Clock;
  readonly #connections: Iterable<Connection>;
  readonly #timer = new Timer(() => this.#slice());
  /** Where it goes on; null between two sweeps. It follows connections that come and go. */
  #at: Iterator<Connection> | null = null;

  constructor(clock: Clock, connections: Iterable<Connection>) {
    this.#clock = clock;
    this.#connections = connections;
  }

  /** There are connections. */
  start(): void {
    this.#clock.arm(this.#timer, SWEEP_MS);
  }

  /** There are none any more. */
  stop(): void {
    this.#clock.disarm(this.#timer);
    this.#at = null;
  }

  #slice(): void {
    this.#at ??= this.#connections[Symbol.iterator]();
    for (let count = 0; count < SLICE; count++) {
      const { value, done } = this.#at.next();
      if (done === true) {
        this.#at = null;
        this.#clock.arm(this.#timer, SWEEP_MS);
        return;
      }
      if (value.phase === "relay") countBytes(value);
    }
    this.#clock.arm(this.#timer, 0);
  }
}
