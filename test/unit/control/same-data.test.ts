import { expect, test } from "bun:test";
import fc from "fast-check";
import { sameData } from "../../../src/control/same-data.ts";

test("plain data is the same when its JSON is, whatever the order of keys", () => {
  const plain = fc.jsonValue({ maxDepth: 3 });
  fc.assert(
    fc.property(plain, plain, (first, second) => {
      expect(sameData(first, JSON.parse(JSON.stringify(first)))).toBe(true);
      expect(sameData(first, second)).toBe(Bun.deepEquals(plainCopy(first), plainCopy(second)));
    }),
    { numRuns: 500 },
  );
  expect(sameData({ a: 1, b: [{ c: 2 }] }, { b: [{ c: 2 }], a: 1 })).toBe(true);
});

test("what differs by one field, one entry or one level is not the same", () => {
  const data = { a: 1, b: [{ c: 2, d: null }], e: {} };
  const others: unknown[] = [
    { ...data, a: 2 },
    { ...data, f: 0 },
    { a: 1, b: data.b },
    { ...data, b: [] },
    { ...data, b: [...data.b, 1] },
    { ...data, b: [{ c: 2 }] },
    { ...data, b: [{ c: 2, d: null, f: 1 }] },
    { ...data, b: { 0: { c: 2, d: null } } },
    { ...data, e: [] },
    { ...data, e: null },
    null,
    [],
    "",
  ];
  for (const other of others) expect([sameData(data, other), sameData(other, data)]).toEqual([false, false]);
});

test("a field that is undefined counts as absent, as in JSON", () => {
  expect(sameData({ a: 1, b: undefined }, { a: 1 })).toBe(true);
  expect(sameData({ a: 1 }, { a: 1, b: undefined })).toBe(true);
  expect(sameData({ a: undefined }, { b: 1 })).toBe(false);
});

/** Without -0, which JSON writes as 0. */
function plainCopy(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}
