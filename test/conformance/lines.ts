// The lines of the suite: `test` of node:test, but for those that the platform is known not to keep (runtime/deno/limits.ts). These are left out, and one
// that is no line of the suite, or not any more, is told.

import assert from "node:assert/strict";
import { test as nodeTest } from "node:test";

type Body = Parameters<typeof nodeTest>[0];
type Options = { readonly timeout?: number };

let exempt: readonly string[] = [];
const met = new Set<string>();

/** From now on these, or all that begin so, are left out. */
export function exemptLines(names: readonly string[]): void {
  exempt = names;
}

/** Registers a line. */
export function test(name: string, ...rest: [Body] | [Options, Body]): void {
  const known = exempt.find((each) => name.startsWith(each));
  if (known !== undefined) {
    met.add(known);
    return;
  }
  if (rest.length === 1) void nodeTest(name, rest[0]);
  else void nodeTest(name, rest[0], rest[1]);
}

/** Registers a line that fails when something was to be left out that there is not. To be called last. */
export function testExempt(): void {
  void nodeTest("all that is left out is a line of the suite", () => {
    assert.deepEqual(
      exempt.filter((name) => !met.has(name)),
      [],
    );
  });
}
