// Moving a stream from one plain socket to another inside the kernel, by splice(2) through a pipe. A chunk that Bun reads is copied three times (out
// of the kernel, into an array of its own, back in); a spliced one is not copied at all. Measured on loopback: half the CPU per byte.
//
// The pipe is empty between calls, so one serves the whole process: what the target does not take at once is read back and
// handed to the caller.

import { assert } from "../../base/assert.ts";
import type { SpliceOutcome, StreamSocket } from "../runtime.ts";
import { BROKEN, openPipe, readInto, spliceBytes } from "./libc.ts";

/** What is moved at a time. Small enough that reading back what the target refused costs little. */
const STEP_BYTES = 256 * 1024;

// A pipe counts buffers, not bytes, and a socket fills them by the page at worst: with room to spare a step fits.
const { readEnd, writeEnd } = openPipe(STEP_BYTES * 4);

/** See `Runtime.splice`. */
export function splice(
  from: StreamSocket<unknown>,
  to: StreamSocket<unknown>,
  limitBytes: number,
  outcome: SpliceOutcome,
): void {
  const source = descriptorOf(from);
  const target = descriptorOf(to);
  outcome.movedBytes = 0;
  outcome.rest = null;
  outcome.broken = "";
  while (outcome.movedBytes < limitBytes) {
    const taken = spliceBytes(source, writeEnd, STEP_BYTES);
    // An error that is told here is told nobody again: to Bun the socket will seem to end in order. An end (0) Bun will see itself.
    if (taken === BROKEN) outcome.broken = "from";
    if (taken <= 0) return;
    let given = 0;
    while (given < taken) {
      const count = spliceBytes(readEnd, target, taken - given);
      if (count === BROKEN) outcome.broken = "to";
      if (count <= 0) {
        outcome.rest = readBack(taken - given);
        break;
      }
      given += count;
    }
    outcome.movedBytes += given;
    if (outcome.rest !== null) return;
  }
}

function readBack(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let filled = 0;
  while (filled < length) {
    const count = readInto(readEnd, bytes, filled);
    assert(count > 0, "what was put into the pipe is in it");
    filled += count;
  }
  return bytes;
}

/** Bun's sockets have their descriptor, which its types do not say; -1 once closed. */
export function descriptorOf(socket: StreamSocket<unknown>): number {
  return (socket as unknown as { readonly fd: number }).fd;
}
