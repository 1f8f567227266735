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

/** Indices of the entries, each about as often as its weight says. There is at least one, and all have different names. */
export function maglevTable(entries: readonly MaglevEntry[]): Uint16Array {
  const size = TABLE_SIZES.find((each) => each >= entries.length * ENTRIES_FOR_EACH) ?? (TABLE_SIZES.at(-1) as number);
  const table = new Uint16Array(size);
  const taken = new Uint8Array(size);
  // One turn: about the mean weight, so that there are no long rounds in which only a heavy one takes entries; and a power of two, so that it stays the same
  // when somebody leaves.
  const mean = entries.reduce((sum, { weight }) => sum + weight, 0) / entries.length;
  const unit = 2 ** Math.floor(Math.log2(mean));
  const positions = Float64Array.from(entries, ({ name }) => hashText(name, FIRST_SEED) % size);
  const steps = Float64Array.from(entries, ({ name }) => (hashText(name, SECOND_SEED) % (size - 1)) + 1);
  const weights = Float64Array.from(entries, ({ weight }) => weight);
  // By weight: who has half of a unit takes a turn in every other round.
  const saved = new Float64Array(entries.length);
  for (let filled = 0; filled < size; ) {
    for (let index = 0; index < entries.length && filled < size; index++) {
      let savings = (saved[index] as number) + (weights[index] as number);
      let position = positions[index] as number;
      const step = steps[index] as number;
      for (; savings >= unit && filled < size; savings -= unit) {
        while (taken[position] === 1) {
          position += step;
          if (position >= size) position -= size;
        }
        table[position] = index;
        taken[position] = 1;
        filled++;
      }
      positions[index] = position;
      saved[index] = savings;
    }
  }
  return table;
}

const FIRST_SEED = 0x811c9dc5;
const SECOND_SEED = 0x2545f491;

function hashText(text: string, seed: number): number {
  return hashBytes(new TextEncoder().encode(text), seed);
}

/** 32 bits, without sign: FNV-1a, and then the finish of MurmurHash3, for FNV leaves the upper bits of short inputs alike. The same on every host. */
export function hashBytes(bytes: Uint8Array, seed = FIRST_SEED): number {
  let hash = seed;
  for (let at = 0; at < bytes.length; at++) hash = Math.imul(hash ^ (bytes[at] as number), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
