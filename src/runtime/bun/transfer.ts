// Moving a stream in bulk from a plain socket to another one without Bun's `data` in between. A chunk that Bun reads, of up to 512 KiB, is copied into an
// array of its own, which by then no cache holds, and copied again to be written. So
//  - to a plain socket, bytes are moved inside the kernel by splice(2) through a pipe, and not copied at all: half the CPU per byte on loopback;
//  - to a TLS socket, they are received into one small buffer that stays in the cache, and encrypted from there.
//
// Both the pipe and the buffer are empty between calls, so one of each serves the whole process: what the target does not take at once
// is handed to the caller as an array of its own.

import { assert } from "../../base/assert.ts";
import type { StreamSocket, TransferOutcome } from "../runtime.ts";
import { BROKEN, openPipe, readInto, receiveInto, spliceBytes } from "./libc.ts";
import { isTls } from "./tls-upgrade.ts";

/** What is spliced at a time. Small enough that reading back what the target refused costs little. */
const SPLICE_BYTES = 256 * 1024;
/** What is received at a time: four full TLS records. */
const RECEIVE_BYTES = 64 * 1024;

// A pipe counts buffers, not bytes, and a socket fills them by the page at worst: with room to spare a step fits.
const { readEnd, writeEnd } = openPipe(SPLICE_BYTES * 4);
const buffer = new Uint8Array(RECEIVE_BYTES);

/** See `Runtime.transfer`. */
export function transfer(
  from: StreamSocket<unknown>,
  to: StreamSocket<unknown>,
  limitBytes: number,
  outcome: TransferOutcome,
): void {
  assert(!isTls(from), "bytes of a TLS stream are read by TLS only");
  outcome.movedBytes = 0;
  outcome.rest = null;
  outcome.broken = "";
  const step = isTls(to) ? copyStep : spliceStep;
  while (outcome.movedBytes < limitBytes && step(from, to, outcome));
}

/** Whether there may be more to move. */
function spliceStep(from: StreamSocket<unknown>, to: StreamSocket<unknown>, outcome: TransferOutcome): boolean {
  const taken = spliceBytes(descriptorOf(from), writeEnd, SPLICE_BYTES);
  if (taken <= 0) return ended(taken, outcome);
  const target = descriptorOf(to);
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
  return outcome.rest === null;
}

/** Whether there may be more to move. */
function copyStep(from: StreamSocket<unknown>, to: StreamSocket<unknown>, outcome: TransferOutcome): boolean {
  const taken = receiveInto(descriptorOf(from), buffer);
  if (taken <= 0) return ended(taken, outcome);
  const bytes = taken === buffer.length ? buffer : buffer.subarray(0, taken);
  const given = Math.max(0, to.write(bytes));
  outcome.movedBytes += given;
  // The caller writes the rest, and learns from that whether the socket is broken or only full.
  if (given < taken) outcome.rest = bytes.slice(given);
  return given === buffer.length;
}

function ended(taken: number, outcome: TransferOutcome): boolean {
  // The kernel reports a socket error once: having got it here, Bun will take the socket for ended in order. An end (0) Bun will see itself.
  if (taken === BROKEN) outcome.broken = "from";
  return false;
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
