// The table of consistent hashing that Google's Maglev has (Eisenbud et al., NSDI 2016, section 3.4): each endpoint has an order of its own in which it would like
// the entries, and they take turns at taking the next one that is free. It is nearly even, a look-up is one read, and when an endpoint leaves, hardly
// any entry changes but its own.

/** Primes. A table has at least 100 entries for each endpoint, up to the last; with another size everything moves, so sizes are few. */
export const TABLE_SIZES: readonly number[] = [65_537, 262_147, 1_048_583];
const ENTRIES_FOR_EACH = 100;

/** Who is in a table. The order counts for nothing but a tie. */
export interface MaglevEntry {
  readonly name: string;
  /** At least 1. */
  readonly weight: number;
}

/** Looks for a free entry in one piece of the work: about a millisecond. */
const PIECE_LOOKS = 100_000;

/** A table, and the making of it: a large one takes a tenth of a second, and a relay cannot wait for that. */
export class MaglevTable {
  readonly #table: Uint16Array;
  readonly #taken: Uint8Array;
  readonly #unit: number;
  /** By entry: where it would like to be next, and how far from there after that. */
  readonly #positions: Int32Array;
  readonly #steps: Int32Array;
  readonly #weights: Float64Array;
  /** By weight: who has half of a unit takes a turn in every other round. */
  readonly #saved: Float64Array;
  #filled = 0;
  /** Whose turn it is. */
  #index = 0;

  /** There is at least one entry, and all have different names. */
  constructor(entries: readonly MaglevEntry[]) {
    const isEnough = (each: number): boolean => each >= entries.length * ENTRIES_FOR_EACH;
    const size = TABLE_SIZES.find(isEnough) ?? (TABLE_SIZES.at(-1) as number);
    // One turn: about the mean weight, so that there are no long rounds in which only a heavy one takes entries; and a power of two, so that it stays the same
    // when somebody leaves.
    const mean = entries.reduce((sum, { weight }) => sum + weight, 0) / entries.length;
    this.#unit = 2 ** Math.floor(Math.log2(mean));
    this.#table = new Uint16Array(size);
    this.#taken = new Uint8Array(size);
    const names = entries.map(({ name }) => TEXT.encode(name));
    this.#positions = Int32Array.from(names, (name) => hashBytes(name, FIRST_SEED) % size);
    this.#steps = Int32Array.from(names, (name) => (hashBytes(name, SECOND_SEED) % (size - 1)) + 1);
    this.#weights = Float64Array.from(entries, ({ weight }) => weight);
    this.#saved = new Float64Array(entries.length);
  }

  /** Indices of the entries, each about as often as its weight says. What is not made yet is made now. */
  get whole(): Uint16Array {
    while (this.makeSome());
    return this.#table;
  }

  /** Makes another piece. Whether there is more to make. */
  makeSome(): boolean {
    const size = this.#table.length;
    for (let looks = 0; this.#filled < size && looks < PIECE_LOOKS; ) {
      looks += this.#takeTurn(this.#index);
      this.#index = this.#index + 1 === this.#steps.length ? 0 : this.#index + 1;
    }
    return this.#filled < size;
  }

  /** Gives it what is its due. How many entries were looked at. */
  #takeTurn(index: number): number {
    const table = this.#table;
    const taken = this.#taken;
    const unit = this.#unit;
    const size = table.length;
    const step = this.#steps[index] as number;
    let position = this.#positions[index] as number;
    let savings = (this.#saved[index] as number) + (this.#weights[index] as number);
    let looks = 1;
    for (; savings >= unit && this.#filled < size; savings -= unit) {
      for (; taken[position] === 1; looks++) {
        position += step;
        if (position >= size) position -= size;
      }
      table[position] = index;
      taken[position] = 1;
      this.#filled++;
    }
    this.#positions[index] = position;
    this.#saved[index] = savings;
    return looks;
  }
}

const FIRST_SEED = 0x811c9dc5;
const SECOND_SEED = 0x2545f491;
const TEXT = new TextEncoder();

/** 32 bits, without sign: FNV-1a, and then the finish of MurmurHash3, for FNV leaves the upper bits of short inputs alike. The same on every host. */
export function hashBytes(bytes: Uint8Array, seed = FIRST_SEED): number {
  let hash = seed;
  for (let at = 0; at < bytes.length; at++) hash = Math.imul(hash ^ (bytes[at] as number), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
