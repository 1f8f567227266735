// Reading DER (X.690), the encoding of certificates, as strictly as its definition: definite lengths in their shortest form,
// nothing after the last element that belongs there. As with base/bytes.ts a reader does not throw on what a peer sent: it
// becomes "malformed", answers nothing from then on, and the caller asks once, at the end. There is no recursion: the depth is
// that of the calls to `open`, so a nest of elements can cost no more than the caller wrote down.

import { hex, isAscii, latin1 } from "../base/bytes.ts";

/** The first byte of an element: universal types, with the "constructed" bit where DER has it. */
export const TAG = {
  BOOLEAN: 0x01,
  INTEGER: 0x02,
  BIT_STRING: 0x03,
  OCTET_STRING: 0x04,
  OBJECT_IDENTIFIER: 0x06,
  UTF8_STRING: 0x0c,
  NUMERIC_STRING: 0x12,
  PRINTABLE_STRING: 0x13,
  TELETEX_STRING: 0x14,
  IA5_STRING: 0x16,
  UTC_TIME: 0x17,
  GENERALIZED_TIME: 0x18,
  VISIBLE_STRING: 0x1a,
  UNIVERSAL_STRING: 0x1c,
  BMP_STRING: 0x1e,
  SEQUENCE: 0x30,
  SET: 0x31,
} as const;

/** Ends an element of indefinite length in BER, so no element of DER has it. */
const NO_TAG = 0;
/** Of the low bits of a tag: its number follows in further bytes. Nothing in a certificate has one. */
const LONG_TAG = 0x1f;

/** Those that hold a UUID have about 20. The work grows with the square of the length, and a peer chooses that. */
const IDENTIFIER_MAX_BYTES = 64;

const EMPTY = new Uint8Array(0);
// Without ignoreBOM a leading U+FEFF would be dropped, and two different names would read the same.
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A cursor over nested elements. */
export class DerReader {
  /** Set by the first thing that is not as asked for or not DER; there is nothing more to read then. */
  malformed = false;
  readonly #bytes: Uint8Array;
  #position = 0;
  /** End of the element that was opened last. */
  #end: number;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#end = bytes.length;
  }

  /** Where in all the bytes the next element begins, for `since`. */
  get position(): number {
    return this.#position;
  }

  /** Whether the open element holds more. */
  get more(): boolean {
    return this.#position < this.#end && !this.malformed;
  }

  /** The tag of the next element, or 0, which reads as malformed, when there is none. */
  get nextTag(): number {
    return this.more ? (this.#bytes[this.#position] as number) : NO_TAG;
  }

  /** Enters the next element, which must have this tag. Answers what `close` wants. */
  open(tag: number): number {
    const outer = this.#end;
    const length = this.#header(tag);
    this.#end = this.#position + length;
    return outer;
  }

  /** Leaves the open element, which must have been read to its end. */
  close(outer: number): void {
    if (this.#position !== this.#end) this.malformed = true;
    this.#end = outer;
  }

  /** The content of the next element, which must have this tag, as a view. */
  content(tag: number): Uint8Array {
    const length = this.#header(tag);
    if (length === 0) return EMPTY;
    const start = this.#position;
    this.#position = start + length;
    return this.#bytes.subarray(start, this.#position);
  }

  /** Moves past the next element, which must have this tag. What is in it is not looked at. */
  skip(tag: number): void {
    const length = this.#header(tag); // moves the position itself
    this.#position += length;
  }

  /** The whole of the next element, which must have this tag, as a view. */
  element(tag: number): Uint8Array {
    const start = this.#position;
    this.skip(tag);
    return this.since(start);
  }

  /** The next element, as `decodeTime` reads it. */
  time(): number {
    const tag = this.nextTag;
    const time = decodeTime(tag, this.content(tag));
    if (Number.isNaN(time)) this.malformed = true;
    return time;
  }

  /** What has been read since the reader was at `start`, as a view. */
  since(start: number): Uint8Array {
    return this.#bytes.subarray(start, this.#position);
  }

  /** Reads tag and length; the position is at the content then. 0 when malformed. */
  #header(tag: number): number {
    const bytes = this.#bytes;
    const at = this.#position;
    if (this.malformed || this.#end - at < 2 || bytes[at] !== tag) return this.#fail();
    if (tag === NO_TAG || (tag & LONG_TAG) === LONG_TAG) return this.#fail();
    let length = bytes[at + 1] as number;
    let content = at + 2;
    if (length > 0x7f) {
      // 0x80 is the indefinite length of BER. Three bytes hold more than a TLS message can (RFC 8446, 4.4.2).
      const lengthBytes = length & 0x7f;
      if (lengthBytes === 0 || lengthBytes > 3 || this.#end - content < lengthBytes) return this.#fail();
      length = 0;
      for (const end = content + lengthBytes; content < end; content++)
        length = (length << 8) | (bytes[content] as number);
      // The shortest form (X.690, 10.1).
      if (length < (lengthBytes === 1 ? 0x80 : 1 << (8 * (lengthBytes - 1)))) return this.#fail();
    }
    if (length > this.#end - content) return this.#fail();
    this.#position = content;
    return length;
  }

  #fail(): number {
    this.malformed = true;
    return 0;
  }
}

/**
 * The text of a string type, as it is, control characters included; null when the bytes are not valid for the type, or the
 * type is none that RFC 5280 allows in a name. T.61 is read as ISO 8859-1, which is what everybody has put into it.
 */
export function decodeText(tag: number, content: Uint8Array): string | null {
  switch (tag) {
    case TAG.UTF8_STRING:
      return isAscii(content) ? latin1(content) : decodeUtf8(content);
    case TAG.PRINTABLE_STRING:
    case TAG.IA5_STRING:
    case TAG.NUMERIC_STRING:
    case TAG.VISIBLE_STRING:
      // Narrower alphabets are not held to: an "@" or "*" in a PrintableString is common and says just what it says.
      return isAscii(content) ? latin1(content) : null;
    case TAG.TELETEX_STRING:
      return latin1(content);
    case TAG.BMP_STRING:
      return decodeWide(content, 2);
    case TAG.UNIVERSAL_STRING:
      return decodeWide(content, 4);
    default:
      return null;
  }
}

/**
 * Unix time in ms of a UTCTime or GeneralizedTime in the one form that RFC 5280, 4.1.2.5 allows for each: with seconds, without
 * fraction, in UTC. NaN otherwise. A GeneralizedTime before 2050 is read although a CA must not write one: it is unambiguous.
 */
function decodeTime(tag: number, content: Uint8Array): number {
  const yearDigits = tag === TAG.UTC_TIME ? 2 : 4;
  const isTime = tag === TAG.UTC_TIME || tag === TAG.GENERALIZED_TIME;
  if (!isTime || content.length !== yearDigits + 11 || content[yearDigits + 10] !== 0x5a) return Number.NaN;
  const shortYear = digits(content, yearDigits - 2);
  // UTCTime is 1950 to 2049.
  const century = tag === TAG.UTC_TIME ? (shortYear < 50 ? 20 : 19) : digits(content, 0);
  const month = digits(content, yearDigits) - 1;
  const day = digits(content, yearDigits + 2);
  const hour = digits(content, yearDigits + 4);
  const minute = digits(content, yearDigits + 6);
  const second = digits(content, yearDigits + 8);
  // Written so that NaN, which stands for "not a digit", is refused too.
  if (!(hour < 24 && minute < 60 && second < 60)) return Number.NaN;
  const date = new Date(Date.UTC(2000, month, day, hour, minute, second));
  // Date.UTC takes the years 0 to 99 for 1900 to 1999.
  date.setUTCFullYear(century * 100 + shortYear);
  // A day that the month does not have falls into another month.
  return date.getUTCMonth() === month ? date.getTime() : Number.NaN;
}

/** An object identifier in numbers with dots (X.690, 8.19); null when it is not one, or longer than any in use. */
export function decodeIdentifier(content: Uint8Array): string | null {
  if (content.length === 0 || content.length > IDENTIFIER_MAX_BYTES) return null;
  const arcs: bigint[] = [];
  let arc = 0n;
  let isArcStart = true;
  for (const byte of content) {
    if (isArcStart && byte === 0x80) return null; // not the shortest form
    arc = (arc << 7n) | BigInt(byte & 0x7f);
    isArcStart = byte < 0x80;
    if (!isArcStart) continue;
    arcs.push(arc);
    arc = 0n;
  }
  if (!isArcStart) return null;
  // The first number holds two arcs, of which the first is 0, 1 or 2.
  const [both = 0n, ...rest] = arcs;
  const root = both < 80n ? both / 40n : 2n;
  return [root, both - root * 40n, ...rest].join(".");
}

/**
 * The content of an INTEGER as lower-case hexadecimal in whole bytes, without a sign byte, `-` before it when it is negative; "" when it
 * is not in its shortest form.
 */
export function decodeInteger(content: Uint8Array): string {
  const [first = 0, second = 0] = content;
  const isPadded = content.length > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80));
  if (content.length === 0 || isPadded) return "";
  if (first < 0x80) return hex(first === 0 && content.length > 1 ? content.subarray(1) : content);
  // A serial number: no CA may write one, but a reader should cope (RFC 5280, 4.1.2.2).
  const magnitude = (-BigInt.asIntN(content.length * 8, BigInt(`0x${hex(content)}`))).toString(16);
  return `-${magnitude.length % 2 === 0 ? "" : "0"}${magnitude}`;
}

/** The number that two digits make, or NaN. */
function digits(content: Uint8Array, at: number): number {
  const tens = (content[at] as number) - 0x30;
  const ones = (content[at + 1] as number) - 0x30;
  return tens >= 0 && tens <= 9 && ones >= 0 && ones <= 9 ? tens * 10 + ones : Number.NaN;
}

function decodeUtf8(content: Uint8Array): string | null {
  try {
    return UTF8.decode(content);
  } catch {
    return null;
  }
}

/** Big-endian code points of 2 or 4 bytes each. Surrogates are not characters in either type: null. */
function decodeWide(content: Uint8Array, width: 2 | 4): string | null {
  if (content.length % width !== 0) return null;
  let text = "";
  for (let at = 0; at < content.length; at += width) {
    let code = 0;
    for (let index = at; index < at + width; index++) code = code * 256 + (content[index] as number);
    if ((code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff) return null;
    text += String.fromCodePoint(code);
  }
  return text;
}
