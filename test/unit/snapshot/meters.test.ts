// Counters in shared memory: 64 bits each, places that nobody else is given, and histograms.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { CountTable, DAEMON_TABLE, privateMemory } from "../../../src/snapshot/counts.ts";
import {
  LONG_BOUNDS,
  MAX_METERS,
  METERS_BYTES,
  MeterBook,
  Meters,
  SHORT_BOUNDS,
} from "../../../src/snapshot/meters.ts";

function newMeters(): Meters {
  return new Meters(privateMemory(METERS_BYTES), 0);
}

describe("counters", () => {
  test("add what they are told, beyond 32 bits, each for itself", () => {
    const amount = fc.oneof(fc.nat(), fc.constantFrom(1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 3));
    // Neighbours, ends of parts, and the last of all.
    const meter = fc.constantFrom(0, 1, 2, 8191, 8192, 8193, MAX_METERS - 1);
    fc.assert(
      fc.property(fc.array(fc.tuple(meter, amount)), (additions) => {
        const meters = newMeters();
        const expected = new Map<number, number>();
        for (const [at, more] of additions) {
          meters.add(at, more);
          expected.set(at, (expected.get(at) ?? 0) + more);
        }
        for (const [at, sum] of expected) expect([at, meters.read(at)]).toEqual([at, sum]);
        expect(meters.read(5)).toBe(0);
      }),
    );
  });

  test("are the same for all who have the memory, and stay when a row is reclaimed", () => {
    const memory = privateMemory(CountTable.bytes(DAEMON_TABLE));
    const [first, second] = [new CountTable(memory, DAEMON_TABLE), new CountTable(memory, DAEMON_TABLE)];
    const row = first.claim(1);
    first.meters.add(100_000, 3);
    second.meters.add(100_000, 4);
    first.reclaim(row?.number ?? 0, 10);
    expect([first.meters.read(100_000), second.meters.read(100_000)]).toEqual([7, 7]);
    // Nor do they lie where the rows are.
    expect(first.total(0)).toBe(0);
  });
});

test("a histogram has what is not above a bound in its bucket, what is above all in the last, and the sum", () => {
  const meters = newMeters();
  for (const ms of [0, 0.5, 0.500001, 10_000, 10_000.1, 3_600_000]) meters.observe(64, SHORT_BOUNDS, ms);
  const { counts, sumSeconds } = meters.histogram(64, SHORT_BOUNDS);
  expect(counts).toEqual([2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
  expect(sumSeconds).toBeCloseTo(3620.0011, 4);
  // Nothing of it stands outside its 16 counters.
  expect([meters.read(63), meters.read(80)]).toEqual([0, 0]);
});

test("bounds ascend, and leave room for a sum in 16 counters", () => {
  for (const bounds of [SHORT_BOUNDS, LONG_BOUNDS]) {
    expect(bounds.length + 2).toBe(16);
    expect([...bounds].sort((a, b) => a - b)).toEqual([...bounds]);
  }
});

describe("the book of who has which counters", () => {
  test("gives each its own, and the same again", () => {
    const book = new MeterBook();
    const ends = (["listener", "endpoint", "bytes", "backend", "policy", "listener"] as const).map((kind, index) => {
      const place = book.place(kind, `a b ${index}`);
      expect(book.place(kind, `a b ${index}`)).toBe(place);
      return [place, book.used] as const;
    });
    for (const [index, [place]] of ends.entries()) if (index > 0) expect(place).toBe(ends[index - 1]?.[1] as number);
  });

  test("goes on with what another one has given out, and gives none of it to others", () => {
    const before = new MeterBook();
    const edge = before.place("listener", "edge");
    const db = before.place("backend", "db");
    const after = new MeterBook(before.entries);
    expect([after.place("backend", "db"), after.place("listener", "edge"), after.used]).toEqual([
      db,
      edge,
      before.used,
    ]);
    expect(after.place("policy", "new")).toBe(before.used);
  });

  test("gives out on trial: what is not kept is given to the next one", () => {
    const book = new MeterBook();
    const edge = book.place("listener", "edge");
    const refused = book.draft();
    expect(refused.place("listener", "edge")).toBe(edge);
    const place = refused.place("backend", "a");
    expect(book.entries.length).toBe(1);
    const taken = book.draft();
    expect(taken.place("backend", "b")).toBe(place);
    taken.keep();
    expect([book.place("backend", "b"), book.used]).toEqual([place, taken.used]);
    expect(book.place("backend", "c")).toBe(taken.used);
  });

  test("knows between whom all blocks for bytes were ever given out, also by another one", () => {
    const before = new MeterBook();
    const [db, cache] = [before.place("bytes", "edge/db"), before.place("bytes", "edge/eu/cache")];
    before.place("bytes", "edge/db");
    const blocks = [
      { listener: "edge", backend: "db", place: db },
      { listener: "edge", backend: "eu/cache", place: cache },
    ];
    expect(before.bytesBlocks).toEqual(blocks);
    const after = new MeterBook(before.entries);
    expect(after.bytesBlocks).toEqual(blocks);
    const draft = after.draft();
    const added = { listener: "edge", backend: "new", place: draft.place("bytes", "edge/new") };
    expect(after.bytesBlocks).toEqual(blocks);
    draft.keep();
    expect(after.bytesBlocks).toEqual([...blocks, added]);
  });

  test("a block of another size is another block", () => {
    const book = new MeterBook([["policy 400 clients", 16]]);
    expect(book.place("policy", "clients")).toBe(416);
  });

  test("has room for 10,000 endpoints, 200 listeners that lead to all of 100 backends, and 1,000 policies, many times over", () => {
    const book = new MeterBook();
    for (let index = 0; index < 10_000; index++) book.place("endpoint", `e${index}`);
    for (let index = 0; index < 1000; index++) book.place("policy", `p${index}`);
    for (let index = 0; index < 100; index++) book.place("backend", `b${index}`);
    for (let index = 0; index < 200; index++) {
      book.place("listener", `l${index}`);
      for (let backend = 0; backend < 100; backend++) book.place("bytes", `l${index}/b${backend}`);
    }
    expect(book.used * 5).toBeLessThan(MAX_METERS);
  });
});
