// Reading integers out of bytes that a peer sent, with the bounds in one place. A reader never throws: it goes "short",
// answers zeros from then on, and the caller asks once, at the end, whether all it read was there.

const EMPTY = new Uint8Array(0);
const LATIN1 = new TextDecoder("latin1");

/** A forward cursor over a byte range. Big-endian, as network protocols are (RFC 1700). */
export class Reader {
  /** Set when something beyond the end was asked for; everything read since is zero or empty. */
  short = false;
  position: number;
  readonly end: number;
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
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
    return (this.u8() << 16) | this.u16();
  }

  u32(): number {
    return this.u16() * 0x10000 + this.u16();
  }

  /** The next `length` bytes as a view that shares memory with the source. */
  view(length: number): Uint8Array {
    return this.#take(length) ? this.bytes.subarray(this.position - length, this.position) : EMPTY;
  }

  /** The next `length` bytes, one character each (ISO 8859-1). */
  text(length: number): string {
    return LATIN1.decode(this.view(length));
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
    if (this.short || length > this.end - this.position) {
      this.short = true;
      return false;
    }
    this.position += length;
    return true;
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

/** Lower-case hexadecimal. */
export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}
