// Writing to a stream of Node's, which takes whatever it is given and keeps what the kernel does not take: here as much as fits under a limit, as the
// contract of `write` wants it.

import type net from "node:net";

/** Bytes that wait to be taken by the kernel, or to be encrypted, at most. */
const WRITE_LIMIT_BYTES = 256 * 1024;

/** Writes a copy of what there is room for, since the caller's bytes are the caller's. How many bytes that was. */
export function boundedWrite(target: Pick<net.Socket, "write" | "writableLength">, bytes: Uint8Array): number {
  let taken = 0;
  // What the kernel takes at once makes room again. Only when something waits does `drain` follow for certain.
  while (taken < bytes.length) {
    const room = WRITE_LIMIT_BYTES - target.writableLength;
    if (room <= 0) break;
    // Not `slice`, by which a Buffer would be shared.
    const piece = new Uint8Array(bytes.subarray(taken, taken + room));
    target.write(piece);
    taken += piece.length;
  }
  return taken;
}
