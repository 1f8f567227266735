// Connections that wait for their client: for its first bytes, or for its part of the TLS handshake. They cost an attacker nothing but count
// like any other connection, so they have a budget of their own: when it is used up, new connections wait in the accept queue, and the oldest pending
// ones are ended to make room. An honest client needs milliseconds, and has left this list long before its turn would come.

import type { Clock } from "../base/clock.ts";
import type { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";

/** Every client has at least this long, so that a burst of honest clients waits in the accept queue and is not taken for a flood. */
const BUDGET_GRACE_MS = 100;
/** The same while there is budget left, but no room for another connection. */
const LIMIT_GRACE_MS = 1000;
/** At the budget, at most this share of the pending connections is ended at a time; the next check is 20 ms later. */
const ROOM_SHARE = 1 / 5;
/** The default budget, as a share of all connections that there is room for. */
const BUDGET_SHARE = 1 / 4;
/** The least default budget, unless there is room for fewer connections in all. */
const LEAST_BUDGET = 16;

/** The pending connections of one process, or of one listener. */
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
