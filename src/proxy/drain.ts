// Closing connections during a drain: idle ones early and spread over the window, so that their clients do not all reconnect elsewhere in one
// moment; those in use not before the deadline.
//
// Which connections are in use cannot be known, only which have moved bytes. A connection counts as idle when no byte has moved on it since
// the drain began and for at least some seconds, as a request may still be being worked on. On a half-closed one that is
// likely, as nobody ends their direction to keep the connection for later; so it has longer.

import { type Clock, TICK_MS, Timer } from "../base/clock.ts";
import type { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";
import { hasMovedSince } from "./relay.ts";

/** No connection is ended in this first part of the window: most requests under way are answered by then. */
const UNTOUCHED_SHARE = 1 / 4;
/** The last of the idle ones is ended a little before the deadline. */
const SPREAD_SHARE = 0.95;
/** How long a connection must have been idle at least; and one that is half closed. */
const SILENT_MS = 5000;
const HALF_CLOSED_SILENT_MS = 30_000;
/** The idle connections are ended in at least so many portions. */
const LEAST_MOMENTS = 32;

export interface DrainOptions {
  readonly clock: Clock;
  readonly connections: Iterable<Connection>;
  readonly windowMs: number;
  /** Called when the window has passed. */
  deadline(): void;
}

/** One drain that is under way. */
export class Drain {
  readonly #clock: Clock;
  readonly #beganMs: number;
  readonly #spreadEndsMs: number;
  readonly #most: number;
  /** Less than one connection, which the ticks of the clock have left over. */
  #carried = 0;
  /** Silent ever since it began, the most silent last. */
  #silent: Connection[];
  readonly #moment = new Timer(() => this.#endSome());
  readonly #deadline: Timer;

  constructor({ clock, connections, windowMs, deadline }: DrainOptions) {
    this.#clock = clock;
    this.#deadline = new Timer(() => {
      clock.disarm(this.#moment);
      deadline();
    });
    // Before the time is read: the clock may have stood still until now.
    clock.arm(this.#deadline, windowMs);
    this.#beganMs = clock.nowMs;
    this.#spreadEndsMs = clock.nowMs + windowMs * SPREAD_SHARE;
    // What is not relayed yet has just come, and has time limits of its own.
    this.#silent = [...connections].filter(({ phase }) => phase === "relay");
    // What waits in the kernel for a slow reader is noted, so that the next look can tell whether it moves.
    for (const connection of this.#silent) hasMovedSince(connection, this.#beganMs);
    this.#silent.sort((a, b) => b.lastActivityMs - a.lastActivityMs);
    this.#most = Math.max(1, Math.floor(this.#silent.length / LEAST_MOMENTS));
    if (this.#silent.length > 0) clock.arm(this.#moment, windowMs * UNTOUCHED_SHARE);
  }

  /** Ends nobody any more. */
  stop(): void {
    this.#clock.disarm(this.#moment);
    this.#clock.disarm(this.#deadline);
  }

  /** Ends as many as have to go now for the rest to go evenly, and comes back for the next. */
  #endSome(): void {
    const { nowMs } = this.#clock;
    this.#silent = this.#silent.filter(
      (connection) => !connection.ended && connection.lastActivityMs <= this.#beganMs && connection.ending === null,
    );
    const leftMs = this.#spreadEndsMs - nowMs;
    if (this.#silent.length === 0 || leftMs <= 0) return;
    const everyMs = Math.ceil(leftMs / this.#silent.length / TICK_MS) * TICK_MS;
    const due = Math.min(this.#carried + (this.#silent.length * everyMs) / leftMs, this.#most);
    this.#carried = due % 1;
    // Before it ends any: with the last connection `stop` may be called.
    this.#clock.arm(this.#moment, everyMs);
    this.#end(Math.floor(due));
  }

  #end(count: number): void {
    const { nowMs } = this.#clock;
    let left = count;
    for (let index = this.#silent.length - 1; index >= 0 && left > 0; index--) {
      const connection = this.#silent[index] as Connection;
      const silentMs = nowMs - connection.lastActivityMs;
      // Those behind it have been silent for a shorter time.
      if (silentMs < SILENT_MS) return;
      const isHalfClosed = connection.downstream.readEnded || connection.upstream.readEnded;
      if (isHalfClosed && silentMs < HALF_CLOSED_SILENT_MS) continue;
      // Whoever reads slowly moves bytes that are out of our hands already.
      if (hasMovedSince(connection, this.#beganMs)) continue;
      connection.end(new Ending("drain_idle", `silent for ${Math.floor(silentMs / 1000)} s`));
      left--;
    }
  }
}
