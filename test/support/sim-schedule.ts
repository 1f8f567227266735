// Virtual time for simulations: a queue of events, one seeded source of chance, and the coarse clock of the data plane. Nothing
// here reads the wall clock, so a run is told by its seed alone.

import { drainMicrotasks } from "bun:jsc";
import { Clock, TICK_MS } from "../../src/base/clock.ts";

interface Event {
  readonly atMs: number;
  /** Events of the same time keep the order in which they were planned. */
  readonly order: number;
  readonly act: () => void;
}

/** Longer than any script and any deadline; a run that comes so far hangs. */
const RUN_LIMIT_MS = 600_000;

export class Schedule {
  readonly clock = new Clock(0);
  /** From 0 up to 1. */
  readonly random: () => number;
  /** What went wrong, in order. Also holds breaches of the seam's contract by its caller. */
  readonly violations: string[] = [];
  nowMs = 0;
  /** The chance that the next event comes before what was awaited for the last one has gone on. */
  readonly #batching: number;
  readonly #heap: Event[] = [];
  #order = 0;

  constructor(seed: number) {
    this.random = mulberry32(seed);
    this.#batching = this.pick([0, 0.1, 0.5]);
  }

  chance(probability: number): boolean {
    return this.random() < probability;
  }

  /** From `least` to `most`, both included. */
  integer(least: number, most: number): number {
    return least + Math.floor(this.random() * (most - least + 1));
  }

  pick<T>(values: readonly T[]): T {
    return values[this.integer(0, values.length - 1)] as T;
  }

  violation(text: string): void {
    this.violations.push(`${this.nowMs.toFixed(1)} ms: ${text}`);
  }

  after(delayMs: number, act: () => void): void {
    this.at(this.nowMs + delayMs, act);
  }

  at(atMs: number, act: () => void): void {
    this.#push({ atMs: Math.max(atMs, this.nowMs), order: this.#order++, act });
  }

  /** Runs until nothing is planned and no timer is armed, or for so long. */
  run(forMs = Number.POSITIVE_INFINITY): void {
    const untilMs = this.nowMs + forMs;
    drainMicrotasks();
    while (this.#nextMs() <= untilMs && (this.#heap.length > 0 || this.clock.armed > 0)) {
      this.#step();
      if (this.nowMs > RUN_LIMIT_MS) {
        this.violation(`still running: ${this.#heap.length} events planned, ${this.clock.armed} timers armed`);
        return;
      }
      if (this.#heap.length === 0 || !this.chance(this.#batching)) drainMicrotasks();
    }
    drainMicrotasks();
    if (Number.isFinite(untilMs)) this.nowMs = untilMs;
  }

  get #tickMs(): number {
    return (Math.floor(this.clock.nowMs / TICK_MS) + 1) * TICK_MS;
  }

  #nextMs(): number {
    const eventMs = this.#heap[0]?.atMs ?? Number.POSITIVE_INFINITY;
    return this.clock.armed > 0 ? Math.min(eventMs, this.#tickMs) : eventMs;
  }

  #step(): void {
    const eventMs = this.#heap[0]?.atMs ?? Number.POSITIVE_INFINITY;
    if (eventMs < this.#tickMs) {
      this.nowMs = eventMs;
      this.#pop().act();
      return;
    }
    // Without an armed timer the ticks between would find nothing to do.
    const skips = this.clock.armed === 0 && eventMs !== Number.POSITIVE_INFINITY;
    this.nowMs = Math.max(this.nowMs, skips ? Math.floor(eventMs / TICK_MS) * TICK_MS : this.#tickMs);
    this.clock.advance(this.nowMs);
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let index = heap.push(event) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(event, heap[parent] as Event)) break;
      heap[index] = heap[parent] as Event;
      index = parent;
    }
    heap[index] = event;
  }

  #pop(): Event {
    const heap = this.#heap;
    const first = heap[0] as Event;
    const last = heap.pop() as Event;
    if (heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Event, heap[child] as Event)) child++;
      if (!isBefore(heap[child] as Event, last)) break;
      heap[index] = heap[child] as Event;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}

/** A small generator with 32 bits of state (Tommy Ettinger's mulberry32): good enough to draw scripts, and quick. */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}
