// Counters that only ever grow, in the memory that all processes share: what happened, by listener, backend, endpoint and policy. Whoever relays adds to
// them, whoever is asked reads them; nobody has to be told, and a process that is killed takes nothing of them away.
//
// Each thing that is counted for has a block of counters, whose place the compiler gives out by its name and that stays its own. What the counters of a block mean
// is told by the tables below; where they stand for names (close reasons, results), the order of the names is the caller's, and there is room for more.

import type { TableMemory } from "./counts.ts";

/** How many counters a block of each kind has. */
const BLOCK_SIZES = { listener: 96, bytes: 2, backend: 48, policy: 4, endpoint: 16 } as const;
export type MeterKind = keyof typeof BLOCK_SIZES;
/** What keys of blocks for bytes begin with in the book. */
const BYTES_KEY = `bytes ${BLOCK_SIZES.bytes} `;

/** Counters of a daemon. Memory is taken for those that are used. */
export const MAX_METERS = 2 ** 21;

/** Of a listener: by close reason (room for 64), by result of a handshake (room for 16), and how long those took that succeeded. */
export const LISTENER_METERS = { closed: 0, handshakes: 64, handshakeSeconds: 80 } as const;
/** Of a listener and a backend that it sends to, whichever route leads there. */
export const BYTES_METERS = { up: 0, down: 1 } as const;
/** Of a backend: how long its endpoints took to connect to, and how long its connections lasted. */
export const BACKEND_METERS = { connectSeconds: 0, connectionSeconds: 16, noEndpoint: 32 } as const;
/** Of a policy, by what became of whom it was asked about. */
export const POLICY_METERS = { allow: 0, deny: 1, shadow_deny: 2 } as const;
/** Of an endpoint: failed attempts to connect, by their code (room for 16). */
export const ENDPOINT_METERS = { failures: 0 } as const;

/** Upper bounds of the buckets of a histogram, in seconds; the last bucket has none. */
export type Bounds = readonly number[];

/** For what should take milliseconds: connecting and handshakes. */
export const SHORT_BOUNDS: Bounds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** For what may take anything from a request to days: connections. */
export const LONG_BOUNDS: Bounds = [0.01, 0.05, 0.25, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 43_200, 86_400, 604_800];
/** Behind the buckets of a histogram: the sum of all, in microseconds. */
const SUM_AT = 15;

/** As read. */
export interface Histogram {
  /** Of each bucket alone; one more than there are bounds. */
  readonly counts: readonly number[];
  readonly sumSeconds: number;
}

/** 64 KiB for each part that is mapped. */
const PART_BITS = 13;
const PART_METERS = 2 ** PART_BITS;
/** Two cells of 32 bits: the low one, then the high one. */
const METER_BYTES = 8;
const LOW_WORDS = 2 ** 32;

/** Bytes that all counters need. */
export const METERS_BYTES = MAX_METERS * METER_BYTES;

/** The counters. Reading and adding may be done by any process. */
export class Meters {
  readonly #memory: TableMemory;
  readonly #offset: number;
  readonly #parts: (Int32Array | undefined)[] = new Array(MAX_METERS / PART_METERS).fill(undefined);

  /** From `offset` on, a multiple of a page, there are `METERS_BYTES`. */
  constructor(memory: TableMemory, offset: number) {
    this.#memory = memory;
    this.#offset = offset;
  }

  /** Adds a whole number to a counter. */
  add(meter: number, amount = 1): void {
    const part = this.#parts[meter >>> PART_BITS] ?? this.#map(meter >>> PART_BITS);
    addTo(part, (meter & (PART_METERS - 1)) * 2, amount);
  }

  read(meter: number): number {
    const part = this.#parts[meter >>> PART_BITS] ?? this.#map(meter >>> PART_BITS);
    return readFrom(part, (meter & (PART_METERS - 1)) * 2);
  }

  /** Counts what took so long in the histogram that begins at `meter`. */
  observe(meter: number, bounds: Bounds, ms: number): void {
    const seconds = ms / 1000;
    let bucket = 0;
    while (bucket < bounds.length && seconds > (bounds[bucket] as number)) bucket++;
    this.add(meter + bucket);
    this.add(meter + SUM_AT, Math.max(0, Math.round(ms * 1000)));
  }

  histogram(meter: number, bounds: Bounds): Histogram {
    const counts = Array.from({ length: bounds.length + 1 }, (_, bucket) => this.read(meter + bucket));
    return { counts, sumSeconds: this.read(meter + SUM_AT) / 1e6 };
  }

  /** Mapped when it is first asked for. */
  #map(index: number): Int32Array {
    const bytes = PART_METERS * METER_BYTES;
    const part = new Int32Array(this.#memory.map(this.#offset + index * bytes, bytes));
    this.#parts[index] = part;
    return part;
  }
}

/** Adds to the 64-bit number whose low half is in `cell` and whose high half is in the next. */
export function addTo(cells: Int32Array, cell: number, amount: number): void {
  const added = amount % LOW_WORDS;
  const before = Atomics.add(cells, cell, added | 0) >>> 0;
  const carried = Math.floor(amount / LOW_WORDS) + (before + added >= LOW_WORDS ? 1 : 0);
  if (carried > 0) Atomics.add(cells, cell + 1, carried);
}

/** Reads such a number. */
export function readFrom(cells: Int32Array, cell: number): number {
  for (;;) {
    const high = Atomics.load(cells, cell + 1);
    const count = high * LOW_WORDS + (Atomics.load(cells, cell) >>> 0);
    if (Atomics.load(cells, cell + 1) === high) return count;
  }
}

/** The block for bytes of a listener and a backend that a route led to, now or once. */
export interface BytesBlock {
  readonly listener: string;
  readonly backend: string;
  readonly place: number;
}

/**
 * Who has which block. A block is never given to another one: who has gone may still be counted for, by connections of any age in this daemon and in those that it has taken over from.
 */
export class MeterBook {
  readonly #places: Map<string, number>;
  readonly #bytesBlocks: BytesBlock[] = [];
  #used = 0;
  /** What this one is a draft of. */
  #original: MeterBook | null = null;

  /** Goes on with what was given out before, by another process or another version. */
  constructor(entries: Iterable<readonly [string, number]> = []) {
    this.#places = new Map(entries);
    for (const [key, place] of this.#places) {
      this.#used = Math.max(this.#used, place + Number(key.split(" ")[1]));
      if (key.startsWith(BYTES_KEY)) this.#bytesBlocks.push(bytesBlock(key.slice(BYTES_KEY.length), place));
    }
  }

  /** The first counter of the block of this kind and name. */
  place(kind: MeterKind, name: string): number {
    const size = BLOCK_SIZES[kind];
    // With its size: for a version with other blocks it is another one.
    const key = `${kind} ${size} ${name}`;
    const known = this.#places.get(key) ?? (this.#original === null ? undefined : this.#original.#places.get(key));
    if (known !== undefined) return known;
    const place = this.#used;
    this.#places.set(key, place);
    this.#used += size;
    if (kind === "bytes") this.#bytesBlocks.push(bytesBlock(name, place));
    return place;
  }

  /** Gives out on trial, for a config that may yet be refused. There is one draft at a time. */
  draft(): MeterBook {
    const draft = new MeterBook();
    draft.#original = this;
    draft.#used = this.#used;
    return draft;
  }

  /** What this draft has given out is given out. */
  keep(): void {
    if (this.#original === null) return;
    for (const [key, place] of this.#places) this.#original.#places.set(key, place);
    this.#original.#used = this.#used;
    this.#original.#bytesBlocks.push(...this.#bytesBlocks);
  }

  /** All blocks for bytes that were ever given out: what a route has moved stays counted when it goes. */
  get bytesBlocks(): readonly BytesBlock[] {
    return this.#bytesBlocks;
  }

  /** How many counters are given out. */
  get used(): number {
    return this.#used;
  }

  get entries(): readonly (readonly [string, number])[] {
    return [...this.#places];
  }
}

/** Of `listener/backend`: a name of a listener has no slash. */
function bytesBlock(name: string, place: number): BytesBlock {
  const slash = name.indexOf("/");
  return { listener: name.slice(0, slash), backend: name.slice(slash + 1), place };
}
