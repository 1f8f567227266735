// Connections of one process that wait for room at a backend, in order of arrival; their number and their waiting time are limited. Room that this process makes is
// given away at once; that of other processes is seen a moment later.

import { type Clock, Timer } from "../base/clock.ts";
import type { Connection } from "./connection.ts";

/** How often to check whether other processes have made room. */
const ROOM_LOOK_MS = 20;

/** How a wait ended. `ended`: the connection did. */
export type WaitOutcome = "served" | "late" | "ended";

export interface WaitQueueOptions {
  readonly size: number;
  readonly timeoutMs: number;
}

interface Waiting {
  readonly connection: Connection;
  readonly deadlineMs: number;
  /** Gives the connection room if there is some. */
  readonly tryEnter: () => boolean;
  readonly resolve: (outcome: WaitOutcome) => void;
}

/** The queue of one backend. */
export class WaitQueue {
  readonly #size: number;
  readonly #timeoutMs: number;
  /** In order of arrival. */
  readonly #waiting = new Set<Waiting>();
  readonly #look = new Timer(() => this.#lookNow());
  #clock: Clock | null = null;
  #isServing = false;

  constructor({ size, timeoutMs }: WaitQueueOptions) {
    this.#size = size;
    this.#timeoutMs = timeoutMs;
  }

  get length(): number {
    return this.#waiting.size;
  }

  get isFull(): boolean {
    return this.#waiting.size >= this.#size;
  }

  /** Waits for room, behind those that do already. To be called while it is not full. */
  wait(connection: Connection, tryEnter: () => boolean): Promise<WaitOutcome> {
    const { clock } = connection;
    const { promise, resolve } = Promise.withResolvers<WaitOutcome>();
    const waiting: Waiting = { connection, tryEnter, resolve, deadlineMs: clock.nowMs + this.#timeoutMs };
    this.#waiting.add(waiting);
    // Called when the client sends something, which is kept, and when the connection has ended.
    connection.onHeld = () => {
      if (connection.ended) this.#finish(waiting, "ended");
    };
    this.#clock = clock;
    if (this.#look.deadlineMs === 0) clock.arm(this.#look, ROOM_LOOK_MS);
    return promise;
  }

  /** There may be room: lets in as many as there is room for. */
  serve(): void {
    // What is being tried gives back what it cannot use, and that is no news.
    if (this.#waiting.size === 0 || this.#isServing) return;
    this.#isServing = true;
    for (const waiting of this.#waiting) {
      if (!waiting.tryEnter()) break;
      this.#finish(waiting, "served");
    }
    this.#isServing = false;
  }

  #lookNow(): void {
    const clock = this.#clock as Clock;
    this.serve();
    for (const waiting of this.#waiting) {
      if (waiting.deadlineMs > clock.nowMs) break;
      this.#finish(waiting, "late");
    }
    if (this.#waiting.size > 0) clock.arm(this.#look, ROOM_LOOK_MS);
  }

  #finish(waiting: Waiting, outcome: WaitOutcome): void {
    if (!this.#waiting.delete(waiting)) return;
    if (this.#waiting.size === 0) this.#clock?.disarm(this.#look);
    waiting.connection.onHeld = null;
    waiting.resolve(outcome);
  }
}
