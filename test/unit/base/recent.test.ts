import { expect, test } from "bun:test";
import { Recent } from "../../../src/base/recent.ts";

test("the values that were put in last are kept, and the first of them goes when it is full", () => {
  const recent = new Recent<number>(2);
  recent.put("a", 1);
  recent.put("b", 2);
  expect([recent.get("a"), recent.get("b"), recent.get("c")]).toEqual([1, 2, undefined]);
  recent.put("c", 3);
  expect([recent.get("a"), recent.get("b"), recent.get("c")]).toEqual([undefined, 2, 3]);
});
