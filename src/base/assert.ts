// Assertions for programmer errors. They stay on in production: a broken invariant must stop the work it
// would corrupt. Operating failures (a peer that resets, a full table) are values, never assertions.

/** Throws `AssertionError` when `condition` is false; narrows the type for the lines that follow. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Marks a branch that the types say cannot be reached. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`);
}

/** A broken invariant: a bug in bunnel, never the fault of a peer or an operator. */
class AssertionError extends Error {
  override readonly name = "AssertionError";
}
