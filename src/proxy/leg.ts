// One socket of a connection: its bytes that wait for the other leg, and how far each of its directions has come. What moves the bytes is in
// relay.ts; a leg only keeps the state.

import { assert } from "../base/assert.ts";
import type { StreamSocket } from "../runtime/runtime.ts";
import type { Connection } from "./connection.ts";

/** Bytes are kept until the relay starts: the connection is still being peeked at, authorised or dialled. */
export const HOLDING = 0;
/** Bytes go to the other leg as they come. */
export const RELAYING = 1;
/** Bytes are dropped: the other leg can no longer take any, and this one is only being let finish. */
export const DISCARDING = 2;
/** As RELAYING, and they are counted against a limit of bandwidth (rate-limit-bandwidth.ts). */
export const METERED = 3;
/** As RELAYING, before the first chunk, which first-byte.ts waits for. */
export const SILENT = 4;

/** What most legs have pending most of the time; one for all, and never added to. */
const NOTHING: Uint8Array[] = [];

/** Either leg of a connection. */
export class Leg {
  readonly connection: Connection;
  /** Null until this leg is dialled. */
  socket: StreamSocket<Leg> | null = null;
  /** Whether TLS ends here: `socket` carries plaintext that the wire does not. */
  isTls = false;
  flow: typeof HOLDING | typeof RELAYING | typeof DISCARDING | typeof METERED | typeof SILENT = HOLDING;
  /** Bytes read from this leg that the other one has not taken yet, oldest first. */
  pending: Uint8Array[] = NOTHING;
  pendingBytes = 0;
  /** Bytes read from this leg that were or will be given to the other one. */
  bytesRead = 0;
  paused = false;
  /** Its peer has sent FIN (or close_notify): no more bytes come from it, in order. */
  readEnded = false;
  /** What the other leg had delivered to this one by then. */
  receivedAtEnd = 0;
  /** We have sent FIN (or close_notify). */
  writeEnded = false;
  /** The socket is gone. */
  closed = false;

  constructor(connection: Connection) {
    this.connection = connection;
  }

  /** Bytes of this leg that the other one has taken. */
  get bytesDelivered(): number {
    return this.bytesRead - this.pendingBytes;
  }

  keep(bytes: Uint8Array): void {
    if (this.pending === NOTHING) this.pending = [bytes];
    else this.pending.push(bytes);
    this.pendingBytes += bytes.length;
  }

  /** All that is pending as one array; it stays pending. Doubles its room, so that appending single bytes stays linear. */
  joinPending(): Uint8Array {
    const [first, ...others] = this.pending;
    assert(first !== undefined, "there is something pending");
    if (others.length === 0) return first;
    const start = first.byteOffset;
    const hasRoom = first.buffer.byteLength - start >= this.pendingBytes && first.buffer === this.#joined;
    const all = hasRoom ? new Uint8Array(first.buffer, start, this.pendingBytes) : this.#moveToRoom(first);
    let at = first.length;
    for (const chunk of others) {
      all.set(chunk, at);
      at += chunk.length;
    }
    this.pending.length = 1;
    this.pending[0] = all;
    return all;
  }

  /** Takes away the first `count` pending bytes, as if they had never been read. */
  consume(count: number): void {
    const rest = this.joinPending().subarray(count);
    this.bytesRead += rest.length;
    this.dropPending();
    if (rest.length > 0) this.keep(rest);
  }

  /** The first `count` pending chunks have been taken. */
  forget(count: number): void {
    // An array that is emptied keeps its room, and an idle connection would keep it with it.
    if (count === this.pending.length) this.pending = NOTHING;
    else this.pending.splice(0, count);
  }

  /** Forgets all that is pending, as if it had never been read. */
  dropPending(): void {
    this.bytesRead -= this.pendingBytes;
    this.pending = NOTHING;
    this.pendingBytes = 0;
    this.#joined = null;
  }

  /** The buffer that `joinPending` made, and may therefore write behind what is pending. */
  #joined: ArrayBufferLike | null = null;

  #moveToRoom(first: Uint8Array): Uint8Array {
    const room = new Uint8Array(this.pendingBytes * 2);
    room.set(first, 0);
    this.#joined = room.buffer;
    return room.subarray(0, this.pendingBytes);
  }
}
