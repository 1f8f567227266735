// How Bun's socket events reach the caller: the one translation of close errors, and what happens when a handler throws.

import type { CloseCode } from "../runtime.ts";

/** The contract's code for the argument of Bun's `close`. Bun gives an error for a reset or a dead peer, and none after two FINs. */
export function closeCode(error: unknown): CloseCode {
  if (error === undefined || error === null) return "clean";
  return (error as { code?: unknown }).code === "ETIMEDOUT" ? "timed_out" : "reset";
}

/**
 * A handler threw, which the contract forbids: a defect of ours. The socket has been aborted by the caller; the error goes to the process's
 * uncaught-exception handler, because swallowing it here would hide the defect.
 */
export function reportDefect(thrown: unknown): void {
  setImmediate(() => {
    throw thrown;
  });
}
