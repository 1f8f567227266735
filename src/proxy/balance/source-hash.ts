// Each source address has its endpoint, the same in all processes and on all hosts with the same endpoints. While that one may not take a connection, the source has
// another one, which is the same each time too; sources of one endpoint are spread over all others.

import type { EndpointSpec } from "../../snapshot/snapshot.ts";
import type { Asker, Balancer, Group } from "./balancer.ts";
import type { Candidates } from "./candidates.ts";
import { hashBytes, MaglevTable } from "./maglev.ts";

/** Entries of the table that are looked at before the endpoints themselves: enough unless nearly none may take a connection. */
const MOST_ENTRIES = 200;

/** A table for each group. Weights count as they are configured: a slow start changes nobody's endpoint. */
export class SourceHash implements Balancer {
  readonly chosenActive = -1;
  readonly #random: () => number;
  /** By the start of a group; entries are places, counted from it. */
  readonly #tables = new Map<number, { readonly words: string; readonly table: MaglevTable }>();

  /** Takes over the tables of `previous` for groups that have the same endpoints: a large one takes a tenth of a second to make. */
  constructor(candidates: Candidates, endpoints: readonly EndpointSpec[], options: SourceHashOptions) {
    this.#random = options.random;
    const { previous } = options;
    const before = previous === null ? [] : [...previous.#tables.values()];
    const known = new Map(before.map(({ words, table }) => [words, table]));
    for (const { start, end } of candidates.groups) {
      const indices = [...candidates.indices.subarray(start, end)];
      const entries = indices
        .map((index) => endpoints[index] as EndpointSpec)
        .map(({ name, weight }) => ({ name, weight }));
      const words = JSON.stringify(entries);
      this.#tables.set(start, { words, table: known.get(words) ?? new MaglevTable(entries) });
    }
  }

  /** Makes another piece of the tables. Whether there is more to make; who chooses before waits for it. */
  makeSome(): boolean {
    // Not the next one in the same piece.
    return [...this.#tables.values()].some(({ table }) => table.makeSome());
  }

  choose(candidates: Candidates, { start, end }: Group, { source }: Asker): number {
    const table = this.#tables.get(start)?.table.whole as Uint16Array;
    // Who has no address, on a unix socket, goes anywhere.
    const hash = source.bytes === null ? Math.floor(this.#random() * 2 ** 32) : hashBytes(source.bytes);
    let at = hash % table.length;
    for (let entries = 0; entries < MOST_ENTRIES; entries++) {
      const place = start + (table[at] as number);
      if (candidates.mayTake(place)) return place;
      if (++at === table.length) at = 0;
    }
    const count = end - start;
    const first = table[at] as number;
    for (let step = 0; step < count; step++) {
      const place = start + ((first + step) % count);
      if (candidates.mayTake(place)) return place;
    }
    return -1;
  }
}

export interface SourceHashOptions {
  /** From 0 up to 1. */
  readonly random: () => number;
  readonly previous: SourceHash | null;
}
