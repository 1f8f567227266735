import { expect, test } from "bun:test";
import fc from "fast-check";
import { didYouMean, editDistance, nearestName } from "../../../src/config/nearest.ts";

test("an edit is a character added, left out, replaced or swapped with its neighbour", () => {
  expect(editDistance("backend", "backend")).toBe(0);
  expect(editDistance("backend", "bakend")).toBe(1);
  expect(editDistance("bakcend", "backend")).toBe(1);
  expect(editDistance("", "abc")).toBe(3);
});

test("the distance is the same both ways, and no more than the longer text", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
      const distance = editDistance(a, b);
      expect(distance).toBe(editDistance(b, a));
      expect(distance === 0).toBe(a === b);
      expect(distance).toBeLessThanOrEqual(Math.max(a.length, b.length));
    }),
  );
});

test("a near name is suggested, a far one is not", () => {
  const known = ["listeners", "policies", "backends"];
  expect(nearestName("listner", known)).toBe("listeners");
  expect(nearestName("policy", known)).toBe("policies");
  expect(nearestName("frontends", known)).toBe(null);
  expect(nearestName("x", ["y"])).toBe(null);
  expect(nearestName("LOG", ["log"])).toBe("log");
  expect(didYouMean("bakends", known)).toBe('; did you mean "backends"?');
  expect(didYouMean("z", [])).toBe("");
});

test("a name of any length is compared in bounded time", () => {
  expect(nearestName("x".repeat(1_000_000), ["listeners"])).toBe(null);
});
