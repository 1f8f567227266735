// The header that a trusted proxy in front of us puts before a connection's own bytes, to say where the client really
// is (haproxy, doc/proxy-protocol.txt): version 1 is a line of text, version 2 is binary and may carry more.
//
// The caller knows whether a header must come; nothing here guesses (section 2 of the specification forbids it).

import { latin1, Reader } from "../base/bytes.ts";
import { formatIp, parseIp, unmapIp } from "../base/ip.ts";
import { crc32c } from "./crc32c.ts";

/** A v1 line is no longer than this, CRLF included (2.1). */
const V1_LIMIT_BYTES = 107;
/** Bytes before the addresses of a v2 header. */
export const V2_FIXED_BYTES = 16;
/** Room for addresses and TLVs, a client certificate included. The specification's own limit would be 64 KiB. */
export const PROXY_HEADER_LIMIT_BYTES = V2_FIXED_BYTES + 4096;
/** A longer TLV.UNIQUE_ID is malformed (2.2.5). */
export const UNIQUE_ID_MAX_BYTES = 128;

/** Types of TLV with a meaning here (2.2.1 to 2.2.6). */
export const TLV = { ALPN: 0x01, AUTHORITY: 0x02, CRC32C: 0x03, NOOP: 0x04, UNIQUE_ID: 0x05, SSL: 0x20 } as const;
/** Types of TLV inside the value of TLV.SSL (2.2.6; CLIENT_CERT came later than HAProxy 2.6). */
export const SSL_TLV = {
  VERSION: 0x21,
  CN: 0x22,
  CIPHER: 0x23,
  SIG_ALG: 0x24,
  KEY_ALG: 0x25,
  CLIENT_CERT: 0x28,
} as const;
/** Bits of the first byte of TLV.SSL (2.2.6). */
export const SSL_CLIENT = { SSL: 1, CERT_CONN: 2, CERT_SESS: 4 } as const;

/** One end of the original connection. */
export interface ProxyAddress {
  /** Canonical text; IPv4-mapped IPv6 is IPv4. */
  readonly ip: string;
  readonly port: number;
}

/** One further piece of information in a v2 header. `value` shares memory with the header's bytes. */
export interface Tlv {
  readonly type: number;
  readonly value: Uint8Array;
}

/** The answer to "which header do these bytes begin with?". */
export type ProxyHeader =
  | {
      readonly kind: "header";
      readonly version: 1 | 2;
      /** Length of the header; the connection's own bytes begin after it. */
      readonly lengthBytes: number;
      /**
       * Who dialled. Null when the header says that the socket's own addresses are right (LOCAL, UNKNOWN, UNSPEC) or that
       * there are none (unix sockets).
       */
      readonly source: ProxyAddress | null;
      /** What was dialled. Null exactly when `source` is. */
      readonly destination: ProxyAddress | null;
      /** In the sender's order, unknown types and repetitions included; never any in v1. */
      readonly tlvs: readonly Tlv[];
      /** The host name that the client asked for (TLV 02: its SNI); "" when the header has none. UTF-8, no control characters. */
      readonly authority: string;
      /** An opaque id of the connection, up to 128 bytes (TLV 05); null when the header has none. */
      readonly uniqueId: Uint8Array | null;
    }
  | { readonly kind: "incomplete" }
  | {
      readonly kind: "malformed";
      /** For a log; holds nothing that the sender wrote. */
      readonly reason: string;
    };

interface Addresses {
  readonly source: ProxyAddress | null;
  readonly destination: ProxyAddress | null;
}

const V1_START = asciiBytes("PROXY ");
/** What no other protocol begins with (2.2). */
export const V2_SIGNATURE = Uint8Array.of(0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a);
const V1_PROTOCOLS = ["TCP4", "TCP6", "UNKNOWN"] as const;
const COMMAND_LOCAL = 0x20;
/** Version 2 and the command for a connection made on behalf of another. */
export const COMMAND_PROXY = 0x21;
/** Bytes of the two addresses, by family and transport (2.2). Any other combination must be refused. */
const ADDRESS_BYTES: ReadonlyMap<number, number> = new Map([
  [0x00, 0],
  [0x11, 12],
  [0x12, 12],
  [0x21, 36],
  [0x22, 36],
  [0x31, 216],
  [0x32, 216],
]);
const CR = 0x0d;
const LF = 0x0a;
const SPACE = 0x20;

const INCOMPLETE: ProxyHeader = { kind: "incomplete" };
const NO_ADDRESSES: Addresses = { source: null, destination: null };
const NO_TLVS: readonly Tlv[] = [];
const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Reads a PROXY header of either version from all the bytes received so far, from the first. What follows the header is
 * not looked at. Bytes that cannot become a header are "malformed" as soon as they are there, often from the first.
 */
export function parseProxyHeader(bytes: Uint8Array): ProxyHeader {
  if (bytes.length === 0) return INCOMPLETE;
  return bytes[0] === CR ? parseVersion2(bytes) : parseVersion1(bytes);
}

function parseVersion1(bytes: Uint8Array): ProxyHeader {
  if (!startsLike(bytes, V1_START)) return malformed("the first bytes are no PROXY header");
  if (bytes.length <= V1_START.length) return INCOMPLETE;
  const end = Math.min(bytes.length, V1_LIMIT_BYTES);
  // The protocol's name ends at a space, or (UNKNOWN only) at the end of the line.
  let at = V1_START.length;
  while (at < end && bytes[at] !== SPACE && bytes[at] !== CR) at++;
  const name = latin1(bytes.subarray(V1_START.length, at));
  const nameEnded = at < end;
  const protocol = V1_PROTOCOLS.find((known) => (nameEnded ? known === name : known.startsWith(name)));
  if (protocol === undefined) return malformed("the PROXY line names another protocol than TCP4, TCP6 and UNKNOWN");
  const isUnknown = protocol === "UNKNOWN";
  while (at < end && bytes[at] !== CR && bytes[at] !== LF) {
    if (!isUnknown && !isAddressCharacter(bytes[at] as number))
      return malformed("the PROXY line holds a character that no address has");
    at++;
  }
  if (at === V1_LIMIT_BYTES) return malformed("the PROXY line does not end within 107 bytes");
  if (at === end) return INCOMPLETE;
  // "Must not tolerate a single CR or LF" (2.1).
  if (bytes[at] === LF || (at + 1 < end && bytes[at + 1] !== LF))
    return malformed("the PROXY line does not end in CRLF");
  if (at + 1 === V1_LIMIT_BYTES) return malformed("the PROXY line does not end within 107 bytes");
  if (at + 1 === end) return INCOMPLETE;
  // Whatever stands between UNKNOWN and the end of the line is to be ignored (2.1).
  const addresses = isUnknown ? NO_ADDRESSES : parseLine(latin1(bytes.subarray(V1_START.length, at)));
  if (addresses === null) return malformed("the addresses in the PROXY line are malformed");
  return {
    kind: "header",
    version: 1,
    lengthBytes: at + 2,
    ...addresses,
    tlvs: NO_TLVS,
    authority: "",
    uniqueId: null,
  };
}

/** `TCP4 192.168.0.1 192.168.0.11 56324 443`, with exactly one space between the fields. */
function parseLine(line: string): Addresses | null {
  const [protocol, sourceIp, destinationIp, sourcePort, destinationPort, ...more] = line.split(" ");
  if (destinationPort === undefined || more.length > 0) return null;
  const source = parseEndpoint(protocol === "TCP6", sourceIp ?? "", sourcePort ?? "");
  const destination = parseEndpoint(protocol === "TCP6", destinationIp ?? "", destinationPort);
  return source === null || destination === null ? null : { source, destination };
}

function parseEndpoint(isVersion6: boolean, ip: string, port: string): ProxyAddress | null {
  const bytes = parseIp(ip);
  if (bytes === null || ip.includes(":") !== isVersion6) return null;
  if (!/^(0|[1-9]\d{0,4})$/.test(port) || Number(port) > 0xffff) return null;
  return { ip: formatIp(bytes), port: Number(port) };
}

function parseVersion2(bytes: Uint8Array): ProxyHeader {
  if (!startsLike(bytes, V2_SIGNATURE)) return malformed("the first bytes are no PROXY header");
  const command = bytes[12];
  if (command === undefined) return INCOMPLETE;
  if (command !== COMMAND_LOCAL && command !== COMMAND_PROXY)
    return malformed(`the PROXY header has an unknown version and command 0x${hexByte(command)}`);
  const isLocal = command === COMMAND_LOCAL;
  const family = bytes[13];
  if (family === undefined) return INCOMPLETE;
  // Of a LOCAL header everything after the command is to be ignored, the family too (2.2).
  const addressBytes = isLocal ? 0 : ADDRESS_BYTES.get(family);
  if (addressBytes === undefined)
    return malformed(`the PROXY header has an unknown family and transport 0x${hexByte(family)}`);
  if (bytes.length < V2_FIXED_BYTES) {
    // One byte of the length may be enough to know that it is too much.
    const least = (bytes[14] ?? 0) << 8;
    return least > PROXY_HEADER_LIMIT_BYTES - V2_FIXED_BYTES ? tooLong() : INCOMPLETE;
  }
  const reader = new Reader(bytes, 14);
  const lengthBytes = V2_FIXED_BYTES + reader.u16();
  if (lengthBytes > PROXY_HEADER_LIMIT_BYTES) return tooLong();
  if (lengthBytes < V2_FIXED_BYTES + addressBytes) return malformed("the PROXY header is shorter than its addresses");
  if (bytes.length < lengthBytes) return INCOMPLETE;
  if (isLocal)
    return { kind: "header", version: 2, lengthBytes, ...NO_ADDRESSES, tlvs: NO_TLVS, authority: "", uniqueId: null };
  const addresses = readAddresses(reader.sub(addressBytes));
  const tlvs = readTlvs(reader.sub(lengthBytes - V2_FIXED_BYTES - addressBytes));
  if (tlvs === null) return malformed("a TLV of the PROXY header is longer than the header");
  return withTlvs(bytes.subarray(0, lengthBytes), addresses, tlvs);
}

/** 12 bytes are IPv4, 36 are IPv6; unix paths and nothing at all name no address. */
function readAddresses(reader: Reader): Addresses {
  const ipBytes = reader.left === 12 ? 4 : reader.left === 36 ? 16 : 0;
  if (ipBytes === 0) return NO_ADDRESSES;
  const sourceIp = formatIp(unmapIp(reader.view(ipBytes)));
  const destinationIp = formatIp(unmapIp(reader.view(ipBytes)));
  return {
    source: { ip: sourceIp, port: reader.u16() },
    destination: { ip: destinationIp, port: reader.u16() },
  };
}

function readTlvs(reader: Reader): readonly Tlv[] | null {
  if (reader.left === 0) return NO_TLVS;
  const tlvs: Tlv[] = [];
  while (reader.left > 0) {
    const type = reader.u8();
    tlvs.push({ type, value: reader.view(reader.u16()) });
  }
  return reader.short ? null : tlvs;
}

/** The complete header, once the TLVs that have rules of their own have been checked. */
function withTlvs(header: Uint8Array, addresses: Addresses, tlvs: readonly Tlv[]): ProxyHeader {
  let authority = "";
  let uniqueId: Uint8Array | null = null;
  for (const { type, value } of tlvs) {
    if (type === TLV.CRC32C) {
      if (value.length !== 4) return malformed("the checksum of the PROXY header is malformed");
      if (!checksumHolds(header, value)) return malformed("the checksum of the PROXY header is wrong");
    } else if (type === TLV.AUTHORITY) {
      authority = UTF8.decode(value);
      if (holdsUnprintable(authority)) return malformed("the authority in the PROXY header is no printable UTF-8 text");
    } else if (type === TLV.UNIQUE_ID) {
      if (value.length > UNIQUE_ID_MAX_BYTES) return malformed("the unique id in the PROXY header is too long");
      uniqueId = value;
    }
  }
  return { kind: "header", version: 2, lengthBytes: header.length, ...addresses, tlvs, authority, uniqueId };
}

/** 2.2.3: computed over the whole header with zeros in the checksum's own place. `value` is a view into `header`. */
function checksumHolds(header: Uint8Array, value: Uint8Array): boolean {
  // `slice` of a Buffer, which is a Uint8Array too, would be no copy.
  const zeroed = new Uint8Array(header);
  const at = value.byteOffset - header.byteOffset;
  zeroed.fill(0, at, at + 4);
  return crc32c(zeroed) === new Reader(value).u32();
}

/** Control characters, and what a decoder puts in the place of bytes that are no UTF-8. */
function holdsUnprintable(value: string): boolean {
  for (let index = 0; index < value.length; index++) {
    const code = value.charCodeAt(index);
    if (code < 0x20 || (code >= 0x7f && code < 0xa0) || code === 0xfffd) return true;
  }
  return false;
}

/** Whether one of the two begins with the other. */
function startsLike(bytes: Uint8Array, start: Uint8Array): boolean {
  const length = Math.min(bytes.length, start.length);
  for (let index = 0; index < length; index++) if (bytes[index] !== start[index]) return false;
  return true;
}

/** Hexadecimal digits, dots, colons and the space between fields; the protocol's own name has been read already. */
function isAddressCharacter(code: number): boolean {
  if (code >= 0x30 && code <= 0x3a) return true;
  return code === SPACE || code === 0x2e || (code >= 0x61 && code <= 0x66) || (code >= 0x41 && code <= 0x46);
}

function asciiBytes(value: string): Uint8Array {
  return Uint8Array.from(value, (character) => character.charCodeAt(0));
}

function hexByte(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}

function tooLong(): ProxyHeader {
  return malformed(`the PROXY header is longer than ${PROXY_HEADER_LIMIT_BYTES} bytes`);
}

function malformed(reason: string): ProxyHeader {
  return { kind: "malformed", reason };
}
