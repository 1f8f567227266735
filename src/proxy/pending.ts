// Connections that wait for their client: for its first bytes, or for its part of the TLS handshake. They cost an attacker nothing and have a place
// like any other, so they have a budget of their own: when it is used up, newcomers wait in the queue, and those that have kept their place the
// longest are ended for them. A client that means it needs milliseconds, and is gone from here long before its turn would come.

import type { Clock } from "../base/clock.ts";
import type { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";

/** Everybody has this long, however many there are: a burst of good clients waits in the queue, and is not taken for a flood. */
const BUDGET_GRACE_MS = 100;
/** And so long while there is budget left, but no place for another connection. */
const LIMIT_GRACE_MS = 1000;
/** At the budget, one in so many makes room in one go: it is looked again 20 ms later. */
const ROOM_SHARE = 1 / 5;
/** Of all connections that there is room for, by default. */
const BUDGET_SHARE = 1 / 4;
/** By default never fewer, as far as there is room for so many. */
const LEAST_BUDGET = 16;

/** Those of one process, or of one listener. */
export class Pending {
  readonly #clock: Clock;
  /** In order of arrival. */
  readonly #connections = new Set<Connection>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#connections.size;
  }

  /** The client has the next word. Harmless when it had it already. */
  add(connection: Connection): void {
    this.#connections.add(connection);
  }

  delete(connection: Connection): void {
    this.#connections.delete(connection);
  }

  /** Ends some of the oldest because the budget is used up. */
  makeRoomWithin(budget: number): void {
    const count = Math.ceil(this.size * ROOM_SHARE);
    this.#endOldest(count, BUDGET_GRACE_MS, `there were ${this.size}, and ${budget} may wait at once`);
  }

  /** Ends all that are old because there is no place for another connection. */
  makeRoom(): void {
    this.#endOldest(this.size, LIMIT_GRACE_MS, "newcomers had to wait for a place");
  }

  #endOldest(count: number, graceMs: number, why: string): void {
    const { nowMs } = this.#clock;
    let left = count;
    for (const connection of this.#connections) {
      const ageMs = nowMs - connection.acceptedMs;
      if (left-- === 0 || ageMs < graceMs) return;
      connection.end(new Ending("handshake_overload", `after ${Math.round(ageMs)} ms: ${why}`));
    }
  }
}

/** How many may be pending where `room` connections fit. `configured` is 0 for the default. */
export function pendingBudget(room: number, configured = 0): number {
  return configured > 0 ? configured : Math.min(room, Math.max(LEAST_BUDGET, Math.floor(room * BUDGET_SHARE)));
}
