// Reading integers out of bytes that a peer sent, with the bounds in one place. A reader never throws on them: it goes
// "short", answers zeros from then on, and the caller asks once, at the end, whether all it read was there.

import { assert } from "./assert.ts";

const EMPTY = new Uint8Array(0);
const UTF8 = new TextDecoder();

/** A forward cursor over a byte range. Big-endian, as network protocols are (RFC 1700). */
export class Reader {
  /** Set when something beyond the end was asked for; everything read since is zero or empty, and nothing is left. */
  short = false;
  position: number;
  readonly end: number;
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    assert(start >= 0 && start <= end && end <= bytes.length, "a reader's range lies within its bytes");
    this.bytes = bytes;
    this.position = start;
    this.end = end;
  }

  /** Bytes not read yet. */
  get left(): number {
    return this.end - this.position;
  }

  u8(): number {
    return this.#take(1) ? (this.bytes[this.position - 1] as number) : 0;
  }

  u16(): number {
    if (!this.#take(2)) return 0;
    const at = this.position - 2;
    return ((this.bytes[at] as number) << 8) | (this.bytes[at + 1] as number);
  }

  u24(): number {
    if (!this.#take(3)) return 0;
    const at = this.position - 3;
    return ((this.bytes[at] as number) << 16) | ((this.bytes[at + 1] as number) << 8) | (this.bytes[at + 2] as number);
  }

  u32(): number {
    const high = this.u16();
    const low = this.u16();
    return this.short ? 0 : high * 0x10000 + low;
  }

  /** The next `length` bytes as a view that shares memory with the source. */
  view(length: number): Uint8Array {
    return this.#take(length) ? this.bytes.subarray(this.position - length, this.position) : EMPTY;
  }

  /** The next `length` bytes, one character each (ISO 8859-1). */
  text(length: number): string {
    return latin1(this.view(length));
  }

  /** A reader over the next `length` bytes; this one moves past them. */
  sub(length: number): Reader {
    if (this.#take(length)) return new Reader(this.bytes, this.position - length, this.position);
    const none = new Reader(this.bytes, this.end, this.end);
    none.short = true;
    return none;
  }

  skip(length: number): void {
    this.#take(length);
  }

  #take(length: number): boolean {
    // Written so that a negative length and NaN are refused too: the cursor only moves forward.
    if (length >= 0 && length <= this.end - this.position && !this.short) {
      this.position += length;
      return true;
    }
    this.short = true;
    // A loop of the form `while (reader.left > 0)` must end.
    this.position = this.end;
    return false;
  }
}

/** One array with the bytes of both. */
export function concat(first: Uint8Array, second: Uint8Array): Uint8Array {
  if (first.length === 0) return second;
  if (second.length === 0) return first;
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first, 0);
  joined.set(second, first.length);
  return joined;
}

/** One character for each byte, U+0000 to U+00FF (ISO 8859-1). */
export function latin1(bytes: Uint8Array): string {
  // TextDecoder's "latin1" is windows-1252, which turns 0x80 to 0x9f into other characters. For ASCII any decoder will do.
  if (isAscii(bytes)) return UTF8.decode(bytes);
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/** Whether every byte is below 0x80. */
export function isAscii(bytes: Uint8Array): boolean {
  for (let index = 0; index < bytes.length; index++) if ((bytes[index] as number) > 0x7f) return false;
  return true;
}

const HEX_OF_BYTE = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Lower-case hexadecimal. */
export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += HEX_OF_BYTE[byte];
  return text;
}
