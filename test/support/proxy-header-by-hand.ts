// PROXY headers of version 2 read by hand, straight from the specification (haproxy, doc/proxy-protocol.txt): what we write is not to be judged by the
// code that reads for us, which could be wrong in the same way.

import { expect } from "bun:test";

/** The first 12 bytes, in hexadecimal. */
export const SIGNATURE = "0d0a0d0a000d0a515549540a";
/** Bits of the first byte of the TLV of TLS (2.2.6). */
export const SSL = 1;
export const CERT_CONN = 2;
export const CERT_SESS = 4;

/** The TLVs in some bytes: type, two bytes of length, value. */
function tlvsIn(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  let at = 0;
  while (at < bytes.length) {
    const length = bytes.readUInt16BE(at + 1);
    found.set(bytes[at] as number, bytes.subarray(at + 3, at + 3 + length));
    at += 3 + length;
  }
  expect(at).toBe(bytes.length);
  return found;
}

/** What a v2 header holds. */
export interface ReadByHand {
  readonly family: number;
  readonly addresses: Buffer;
  readonly tlvs: Map<number, Buffer>;
  readonly rest: string;
}

/** Reads a header with what follows it. Fails the test when it is none, or when it has a checksum that is wrong. */
export function readByHand(bytes: Buffer): ReadByHand {
  expect(bytes.subarray(0, 12).toString("hex")).toBe(SIGNATURE);
  expect(bytes[12]).toBe(0x21);
  const family = bytes[13] as number;
  const end = 16 + bytes.readUInt16BE(14);
  const addressBytes = { 0: 0, 17: 12, 33: 36 }[family] ?? Number.NaN;
  const tlvs = tlvsIn(bytes.subarray(16 + addressBytes, end));
  const checksum = tlvs.get(0x03);
  if (checksum !== undefined) {
    const said = checksum.readUInt32BE(0);
    const zeroed = Buffer.from(bytes.subarray(0, end));
    zeroed.fill(0, checksum.byteOffset - bytes.byteOffset, checksum.byteOffset - bytes.byteOffset + 4);
    expect(crc32c(zeroed)).toBe(said);
  }
  return {
    family,
    addresses: bytes.subarray(16, 16 + addressBytes),
    tlvs,
    rest: bytes.subarray(end).toString("latin1"),
  };
}

/** Bit by bit (RFC 3309, with the polynomial of CRC-32C reflected), so that it shares no table with the code. */
function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** The TLV of TLS, 0x20 (2.2.6). */
export interface Ssl {
  readonly client: number;
  readonly verify: number;
  readonly version: string;
  /** Of the client's certificate; undefined without that TLV. */
  readonly commonName: string | undefined;
  readonly cipher: string;
  /** How our certificate is signed, and its key. */
  readonly signature: string;
  readonly key: string;
  readonly certificate: Buffer | undefined;
}

/** Reads it from the TLVs of a header. */
export function sslIn(tlvs: Map<number, Buffer>): Ssl {
  const value = tlvs.get(0x20) ?? Buffer.alloc(0);
  const parts = tlvsIn(value.subarray(5));
  const text = (type: number): string => parts.get(type)?.toString("utf8") ?? "";
  return {
    client: value[0] as number,
    verify: value.readUInt32BE(1),
    version: text(0x21),
    commonName: parts.has(0x22) ? text(0x22) : undefined,
    cipher: text(0x23),
    signature: text(0x24),
    key: text(0x25),
    certificate: parts.get(0x28),
  };
}
