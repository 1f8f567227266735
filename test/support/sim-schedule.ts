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

  /** Runs until nothing is planned and no timer is armed. */
  run(): void {
    drainMicrotasks();
    while (this.#heap.length > 0 || this.clock.armed > 0) {
      this.#step();
      if (this.nowMs > RUN_LIMIT_MS) {
        this.violation(`still running: ${this.#heap.length} events planned, ${this.clock.armed} timers armed`);
        return;
      }
      if (this.#heap.length === 0 || !this.chance(this.#batching)) drainMicrotasks();
    }
  }

  #step(): void {
    const nextMs = this.#heap[0]?.atMs ?? Number.POSITIVE_INFINITY;
    const tickMs = (Math.floor(this.clock.nowMs / TICK_MS) + 1) * TICK_MS;
    if (nextMs >= tickMs) {
      // Without an armed timer the ticks between would find nothing to do.
      const skipped = this.clock.armed === 0 && nextMs !== Number.POSITIVE_INFINITY;
      this.nowMs = skipped ? Math.floor(nextMs / TICK_MS) * TICK_MS : tickMs;
      this.clock.advance(this.nowMs);
      return;
    }
    this.nowMs = nextMs;
    this.#pop().act();
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
