import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  type CountRow,
  CountTable,
  DAEMON_SLOT,
  MAX_SLOTS,
  privateCounts,
  privateMemory,
} from "../../../src/snapshot/counts.ts";

const SIZE = { rows: 4, columns: MAX_SLOTS };

function newTable(): CountTable {
  return new CountTable(privateMemory(CountTable.bytes(SIZE)), SIZE);
}

function claimed(table: CountTable, owner: number): CountRow {
  const row = table.claim(owner);
  if (row === null) throw new Error("a row is free");
  return row;
}

describe("rows", () => {
  test("are claimed once each, and are free again once they were reclaimed", () => {
    const table = newTable();
    const rows = [claimed(table, 10), claimed(table, 11), claimed(table, 12)];
    expect(new Set(rows.map(({ number }) => number)).size).toBe(3);
    expect(table.claim(13)).toBeNull();
    expect(table.owners().map(({ owner }) => owner)).toEqual([10, 11, 12]);
    table.reclaim((rows[1] as CountRow).number, 0);
    expect(claimed(table, 13).number).toBe((rows[1] as CountRow).number);
  });

  test("share the totals, and each knows what it holds itself", () => {
    const table = newTable();
    const [first, second] = [claimed(table, 1), claimed(table, 2)];
    first.add(7);
    second.add(7);
    second.add(DAEMON_SLOT);
    expect([first.total(7), first.held(7), second.held(7), table.total(DAEMON_SLOT)]).toEqual([2, 1, 1, 1]);
    first.subtract(7);
    expect([second.total(7), table.held(first.number, 7), table.held(second.number, 7)]).toEqual([1, 0, 1]);
  });

  test("give back no more than they have", () => {
    const table = newTable();
    const [first, second] = [claimed(table, 1), claimed(table, 2)];
    first.add(3);
    expect(() => second.subtract(3)).toThrow("given back was taken");
  });
});

describe("limits", () => {
  test("hold for all rows together, and 0 is none", () => {
    const table = newTable();
    const [first, second] = [claimed(table, 1), claimed(table, 2)];
    expect([first.addWithin(0, 2), second.addWithin(0, 2), first.addWithin(0, 2), second.addWithin(0, 2)]).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect(first.addWithin(0, 0)).toBe(true);
    expect(table.total(0)).toBe(3);
  });

  test("a choice that another row has overtaken is not counted", () => {
    const table = newTable();
    const [first, second] = [claimed(table, 1), claimed(table, 2)];
    const seen = first.total(5);
    second.add(5);
    expect([first.addIfStill(5, seen), first.addIfStill(5, seen + 1)]).toEqual([false, true]);
    expect([table.total(5), first.held(5)]).toEqual([2, 1]);
  });
});

describe("a row that is reclaimed", () => {
  test("gives back what it held, the daemon's own slot too, and what it has counted stays", () => {
    const table = newTable();
    const [first, second] = [claimed(table, 1), claimed(table, 2)];
    for (const slot of [0, 0, 1, DAEMON_SLOT]) first.add(slot);
    second.add(0);
    first.count(1, "opened", 5);
    second.count(1, "opened", 2);
    second.count(1, "failed", 2 ** 40);
    table.reclaim(first.number, 2);
    expect([table.total(0), table.total(1), table.total(DAEMON_SLOT)]).toEqual([1, 0, 0]);
    expect([table.traffic(1, "opened"), table.traffic(1, "failed")]).toEqual([7, 2 ** 40]);
    // The next one in that row begins at nothing, and the sum goes on from where it was.
    claimed(table, 3).count(1, "opened", 1);
    expect(table.traffic(1, "opened")).toBe(8);
  });

  test("after whatever was done by all rows: the totals are the sums of those that are left", () => {
    const step = fc.record({ row: fc.nat({ max: 2 }), slot: fc.nat({ max: 3 }), up: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), fc.nat({ max: 2 }), (steps, dies) => {
        const table = newTable();
        const rows = [claimed(table, 1), claimed(table, 2), claimed(table, 3)];
        for (const { row, slot, up } of steps) {
          const counts = rows[row] as CountRow;
          if (up) counts.add(slot);
          else if (counts.held(slot) > 0) counts.subtract(slot);
        }
        table.reclaim((rows[dies] as CountRow).number, 4);
        for (let slot = 0; slot < 4; slot++) {
          const left = rows.filter((_, index) => index !== dies).map((counts) => counts.held(slot));
          expect(table.total(slot)).toBe(left.reduce((sum, held) => sum + held, 0));
        }
      }),
      { numRuns: 100 },
    );
  });
});

test("memory that holds something else is not taken for a table", () => {
  const memory = privateMemory(CountTable.bytes(SIZE));
  expect(CountTable.fits(memory, SIZE)).toBe(false);
  new CountTable(memory, SIZE);
  expect(CountTable.fits(memory, SIZE)).toBe(true);
  expect(CountTable.fits(memory, { ...SIZE, rows: 3 })).toBe(false);
  new Int32Array(memory.map(0, 4))[0] = 1;
  expect(CountTable.fits(memory, SIZE)).toBe(false);
  expect(CountTable.fits(privateMemory(64), SIZE)).toBe(false);
});

test("traffic is counted beyond 32 bits", () => {
  const table = newTable();
  const counts = claimed(table, 1);
  for (const amount of [2 ** 32 - 1, 1, 2 ** 40 + 5, 2 ** 31, 2 ** 31]) counts.count(2, "failed", amount);
  expect(table.traffic(2, "failed")).toBe(2 ** 32 + 2 ** 40 + 5 + 2 ** 32);
  expect(table.traffic(2, "opened")).toBe(0);
});

test("a private row needs nobody else", () => {
  const counts = privateCounts();
  expect([counts.addWithin(0, 1), counts.addWithin(0, 1), counts.total(0)]).toEqual([true, false, 1]);
});
