// What becomes of open connections when their endpoint goes down by its probes, where the backend says `on_down: close`. The states are in shared memory
// (snapshot/endpoint-states.ts), so nobody tells a worker of a change: it looks.

import { type Clock, Timer } from "../base/clock.ts";
import type { EndpointStates } from "../snapshot/endpoint-states.ts";
import type { BackendSpec } from "../snapshot/snapshot.ts";
import type { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";

/** How often the states are checked: connections end within this time of the change. */
const LOOK_MS = 500;

export interface OnDownParts {
  readonly clock: Clock;
  readonly states: EndpointStates;
  /** Those that are open, as they come and go. */
  readonly connections: Iterable<Connection>;
}

/** Looks for endpoints that have gone down, while there is a backend that asks for it. */
export class OnDown {
  readonly #parts: OnDownParts;
  readonly #timer = new Timer(() => this.#look());
  /** Slots of the endpoints that are followed; true when one was down at the last look. */
  #wasDown = new Map<number, boolean>();
  #changesSeen = -1;

  constructor(parts: OnDownParts) {
    this.#parts = parts;
  }

  /** From now on these. One that is down already when it is first seen ends nothing: whoever is connected came knowing that. */
  follow(backends: readonly BackendSpec[]): void {
    const { clock, states } = this.#parts;
    const before = this.#wasDown;
    this.#wasDown = new Map();
    for (const { onDown, endpoints } of backends) {
      if (onDown !== "close") continue;
      for (const { slot } of endpoints) this.#wasDown.set(slot, before.get(slot) ?? states.health(slot) === "down");
    }
    this.#changesSeen = -1;
    if (this.#wasDown.size === 0) clock.disarm(this.#timer);
    else if (this.#timer.deadlineMs === 0) clock.arm(this.#timer, LOOK_MS);
  }

  #look(): void {
    const { clock, states } = this.#parts;
    clock.arm(this.#timer, LOOK_MS);
    const { changes } = states;
    if (changes === this.#changesSeen) return;
    this.#changesSeen = changes;
    const gone = new Set<number>();
    for (const [slot, wasDown] of this.#wasDown) {
      const isDown = states.health(slot) === "down";
      if (isDown && !wasDown) gone.add(slot);
      if (isDown !== wasDown) this.#wasDown.set(slot, isDown);
    }
    if (gone.size > 0) this.#close(gone);
  }

  #close(slots: ReadonlySet<number>): void {
    for (const connection of [...this.#parts.connections]) {
      const { acquired } = connection;
      // Whoever is still connecting tries another endpoint by itself.
      if (acquired === null || connection.ended || connection.phase !== "relay" || !slots.has(acquired.slot)) continue;
      connection.end(new Ending("endpoint_down", acquired.name));
    }
  }
}
