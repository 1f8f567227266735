// The PROXY header that we put before a connection's own bytes, to tell the backend where the client really is (haproxy,
// doc/proxy-protocol.txt). Which header is sent, and when, is the proxy's to say; the receiving side is proxy-protocol.ts.

import { assert } from "../base/assert.ts";
import { formatIp, type IpBytes, parseIp } from "../base/ip.ts";
import { crc32c } from "./crc32c.ts";
import {
  COMMAND_PROXY,
  type ProxyAddress,
  SSL_CLIENT,
  SSL_TLV,
  TLV,
  type Tlv,
  UNIQUE_ID_MAX_BYTES,
  V2_FIXED_BYTES,
  V2_SIGNATURE,
} from "./proxy-protocol.ts";

/** What goes into a v2 header. */
export interface ProxyV2 {
  /** Null, for both, when there are none, as on a unix socket. */
  readonly source: ProxyAddress | null;
  readonly destination: ProxyAddress | null;
  /** Written in this order, without those of type CRC32C: a checksum that came with another header is wrong in this one. */
  readonly tlvs: readonly Tlv[];
  /** Whether a checksum over the whole header stands before the other TLVs (2.2.3). */
  readonly crc32c: boolean;
}

/** The client's TLS, as TLV.SSL tells of it (2.2.6). A text or certificate that is empty is left out. */
export interface SslTlvContent {
  /** The client's certificate: shown in this connection's handshake, in that of the session that it resumes, or in neither. */
  readonly presented: "connection" | "session" | "none";
  /** Whether that certificate was verified. Without one it counts for nothing. */
  readonly verified: boolean;
  /** `TLSv1.3`. */
  readonly version: string;
  /** OpenSSL's name: `TLS_AES_128_GCM_SHA256`. */
  readonly cipher: string;
  /** Of the client's certificate. Any text: written as UTF-8. */
  readonly commonName: string;
  /** How the certificate that WE showed to the client is signed, and its key: the specification means the frontend's, not the client's. */
  readonly signatureAlgorithm: string;
  readonly keyAlgorithm: string;
  /** The client's certificate in DER. */
  readonly certificate: Uint8Array | null;
}

interface AddressPair {
  /** Both 4 bytes, or both 16. */
  readonly sourceIp: IpBytes;
  readonly destinationIp: IpBytes;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

const FAMILY_UNSPEC = 0x00;
const FAMILY_TCP4 = 0x11;
const FAMILY_TCP6 = 0x21;
const TLV_HEADER_BYTES = 3;
const CRC_BYTES = 4;
/** The header's own length field, and that of a TLV, has 16 bits. */
const LENGTH_MAX = 0xffff;
const NOT_VERIFIED = 1;
const MAPPED_PREFIX = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);
const UTF8 = new TextEncoder();

/**
 * A v1 line, CRLF included. `PROXY UNKNOWN` when either address is null or no IP address. With an IPv4 address on one side only, that
 * one is written as IPv6 (::ffff:a.b.c.d), since a line has one family.
 */
export function encodeProxyV1(source: ProxyAddress | null, destination: ProxyAddress | null): Uint8Array {
  const pair = addressPair(source, destination);
  if (pair === null) return UTF8.encode("PROXY UNKNOWN\r\n");
  const { sourceIp, destinationIp, sourcePort, destinationPort } = pair;
  const protocol = sourceIp.length === 4 ? "TCP4" : "TCP6";
  return UTF8.encode(
    `PROXY ${protocol} ${formatIp(sourceIp)} ${formatIp(destinationIp)} ${sourcePort} ${destinationPort}\r\n`,
  );
}

/**
 * A v2 header of the command PROXY. Its family is UNSPEC when either address is null or no IP address, and IPv6 when either is. Null
 * when the TLVs do not fit into the 65535 bytes that a header may have: one that lacks some would say something else.
 */
export function encodeProxyV2(content: ProxyV2): Uint8Array | null {
  const pair = addressPair(content.source, content.destination);
  const tlvs = content.tlvs.filter(({ type }) => type !== TLV.CRC32C);
  if (content.crc32c) tlvs.unshift({ type: TLV.CRC32C, value: new Uint8Array(CRC_BYTES) });
  const addressBytes = pair === null ? 0 : 2 * (pair.sourceIp.length + 2);
  const length = addressBytes + tlvsLength(tlvs);
  // A TLV that is too long for its own length field is too long for the header too.
  if (length > LENGTH_MAX) return null;
  const header = new Uint8Array(V2_FIXED_BYTES + length);
  const view = new DataView(header.buffer);
  header.set(V2_SIGNATURE);
  header[12] = COMMAND_PROXY;
  header[13] = pair === null ? FAMILY_UNSPEC : pair.sourceIp.length === 4 ? FAMILY_TCP4 : FAMILY_TCP6;
  view.setUint16(14, length);
  let at = V2_FIXED_BYTES;
  if (pair !== null) {
    header.set(pair.sourceIp, at);
    header.set(pair.destinationIp, at + pair.sourceIp.length);
    at += addressBytes;
    view.setUint16(at - 4, pair.sourcePort);
    view.setUint16(at - 2, pair.destinationPort);
  }
  writeTlvs(header, at, tlvs);
  // It is the first TLV; until here its value was the zeros that it is computed with.
  if (content.crc32c) view.setUint32(at + TLV_HEADER_BYTES, crc32c(header));
  return header;
}

/** The application protocol that the client and we agreed on (2.2.1). */
export function alpnTlv(name: string): Tlv {
  return { type: TLV.ALPN, value: UTF8.encode(name) };
}

/** The host name that the client asked for: its SNI (2.2.2). */
export function authorityTlv(sni: string): Tlv {
  return { type: TLV.AUTHORITY, value: UTF8.encode(sni) };
}

/** An id of the connection for logs on both sides, at most 128 bytes (2.2.5). Keeps a view of `id`. */
export function uniqueIdTlv(id: Uint8Array): Tlv {
  assert(id.length <= UNIQUE_ID_MAX_BYTES, "a unique id has at most 128 bytes");
  return { type: TLV.UNIQUE_ID, value: id };
}

/** That, and how, the client came over TLS (2.2.6). */
export function sslTlv(content: SslTlvContent): Tlv {
  const { presented, verified, certificate } = content;
  const parts: Tlv[] = [
    { type: SSL_TLV.VERSION, value: UTF8.encode(content.version) },
    { type: SSL_TLV.CN, value: UTF8.encode(content.commonName) },
    { type: SSL_TLV.CIPHER, value: UTF8.encode(content.cipher) },
    { type: SSL_TLV.SIG_ALG, value: UTF8.encode(content.signatureAlgorithm) },
    { type: SSL_TLV.KEY_ALG, value: UTF8.encode(content.keyAlgorithm) },
    { type: SSL_TLV.CLIENT_CERT, value: certificate ?? new Uint8Array(0) },
  ].filter(({ value }) => value.length > 0);
  const value = new Uint8Array(5 + tlvsLength(parts));
  let client: number = SSL_CLIENT.SSL;
  // A certificate of this connection is one of its session too: so says the specification, and so does HAProxy.
  if (presented !== "none") client |= SSL_CLIENT.CERT_SESS;
  if (presented === "connection") client |= SSL_CLIENT.CERT_CONN;
  value[0] = client;
  new DataView(value.buffer).setUint32(1, presented !== "none" && verified ? 0 : NOT_VERIFIED);
  writeTlvs(value, 5, parts);
  return { type: TLV.SSL, value };
}

/** Both addresses in one family; null when one is not there or not an IP address (a zone, for one, cannot be written). */
function addressPair(source: ProxyAddress | null, destination: ProxyAddress | null): AddressPair | null {
  if (source === null || destination === null) return null;
  const sourceIp = parseIp(source.ip);
  const destinationIp = parseIp(destination.ip);
  if (sourceIp === null || destinationIp === null) return null;
  const isSame = sourceIp.length === destinationIp.length;
  return {
    sourceIp: isSame ? sourceIp : asIpv6(sourceIp),
    destinationIp: isSame ? destinationIp : asIpv6(destinationIp),
    sourcePort: source.port,
    destinationPort: destination.port,
  };
}

function asIpv6(ip: IpBytes): IpBytes {
  return ip.length === 16 ? ip : Uint8Array.of(...MAPPED_PREFIX, ...ip);
}

function tlvsLength(tlvs: readonly Tlv[]): number {
  return tlvs.reduce((sum, { value }) => sum + TLV_HEADER_BYTES + value.length, 0);
}

function writeTlvs(target: Uint8Array, start: number, tlvs: readonly Tlv[]): void {
  let at = start;
  for (const { type, value } of tlvs) {
    target[at] = type;
    target[at + 1] = value.length >> 8;
    target[at + 2] = value.length & 0xff;
    target.set(value, at + TLV_HEADER_BYTES);
    at += TLV_HEADER_BYTES + value.length;
  }
}
