// Texts in a snapshot were validated when it was compiled, so one that does not compile here is a defect, not an operator's mistake.

import { assert } from "../base/assert.ts";

/** The value of a compiler that answers with a value, or with a string that says what is wrong. */
export function mustCompile<T extends object>(compiled: T | string): T {
  assert(typeof compiled !== "string", `the snapshot was validated: ${String(compiled)}`);
  return compiled;
}
