// What a TLS client asks for before anything is encrypted: the server name and the application protocols of its ClientHello
// (RFC 8446, 4.1.2; RFC 5246, 7.4.1.2). It reads just enough to route by. Whether the hello is one that a server would
// accept is for the TLS library, or for the backend behind a passthrough route, to say.
//
// The message may be cut anywhere: into TCP segments, and into TLS records of any size (RFC 8446, 5.1). Post-quantum key
// shares make it 1.5 to 2 kB today, so both happen.

import { latin1, Reader } from "../base/bytes.ts";
import { isIp } from "../base/ip.ts";
import { hostNameProblem } from "./host-name.ts";

/** A hello that is not complete within this many bytes, record headers included, is refused. The largest in use are near 2 kB. */
export const CLIENT_HELLO_LIMIT_BYTES = 16_384;

/** The answer to "what is this?" about the first bytes of a connection. */
export type ClientHello =
  | {
      readonly kind: "hello";
      /** Lower case, a legal host name without final dot; "" when the client named none. */
      readonly sni: string;
      /** In the client's order; each is opaque bytes (RFC 7301, 3.1), one character for a byte. */
      readonly alpn: readonly string[];
    }
  | {
      /** So far it may become a hello. */
      readonly kind: "incomplete";
      /** The answer stays this, or becomes "malformed", until so many bytes are there: no need to parse again earlier. */
      readonly atLeastBytes: number;
    }
  | { readonly kind: "not_tls" }
  | {
      readonly kind: "malformed";
      /** For a log; holds nothing that the client wrote. */
      readonly reason: string;
    };

const RECORD_HEADER_BYTES = 5;
/** RFC 8446, 5.1. */
const FRAGMENT_MAX_BYTES = 16_384;
const MESSAGE_HEADER_BYTES = 4;
const RECORD_TYPE_HANDSHAKE = 22;
const MESSAGE_TYPE_CLIENT_HELLO = 1;
const MAJOR_VERSION = 3;
const EXTENSION_SERVER_NAME = 0;
const EXTENSION_ALPN = 16;
const NAME_TYPE_HOST_NAME = 0;

const NOT_TLS: ClientHello = { kind: "not_tls" };
const NO_PROTOCOLS: readonly string[] = [];

/**
 * Reads a ClientHello from all the bytes received so far, from the first. Bytes after it are not looked at. Costs a few steps for
 * each record until the hello is complete, and one pass over it then. Plain text, an SSLv2 hello and DTLS are "not_tls",
 * known from the first byte or two.
 */
export function parseClientHello(bytes: Uint8Array): ClientHello {
  if (bytes.length > 0 && bytes[0] !== RECORD_TYPE_HANDSHAKE) return NOT_TLS;
  if (bytes.length > 1 && bytes[1] !== MAJOR_VERSION) return NOT_TLS;
  const received = Math.min(bytes.length, CLIENT_HELLO_LIMIT_BYTES);
  // Of the handshake message: its header as far as it is known, and how many of its bytes the records before `at` hold.
  let header = 0;
  let headerBytes = 0;
  let promised = 0;
  let at = 0;
  let needed = bytes.length + 1;
  while (at < received) {
    const problem = recordProblem(bytes, at, received);
    if (problem !== "") return malformed(problem);
    if (received - at < RECORD_HEADER_BYTES) break;
    let next = at + RECORD_HEADER_BYTES;
    at = next + u16(bytes, at + 3);
    promised += at - next;
    for (; headerBytes < MESSAGE_HEADER_BYTES && next < at && next < received; next++, headerBytes++)
      header = (header << 8) | (bytes[next] as number);
    const type = headerBytes === 0 ? MESSAGE_TYPE_CLIENT_HELLO : header >>> (8 * (headerBytes - 1));
    if (type !== MESSAGE_TYPE_CLIENT_HELLO) return malformed(`the first handshake message has type ${type}`);
    if (headerBytes < MESSAGE_HEADER_BYTES) continue;
    const missing = MESSAGE_HEADER_BYTES + (header & 0xffffff) - promised;
    // Complete within this record, perhaps before its end; or else every further record adds a header.
    needed = at + missing + RECORD_HEADER_BYTES * Math.ceil(Math.max(missing, 0) / FRAGMENT_MAX_BYTES);
    if (missing <= 0 && needed <= received) return parseMessage(bytes, needed);
    if (missing <= 0 || needed > CLIENT_HELLO_LIMIT_BYTES) break;
  }
  needed = Math.max(needed, bytes.length + 1);
  if (needed <= CLIENT_HELLO_LIMIT_BYTES) return { kind: "incomplete", atLeastBytes: needed };
  return malformed(`the ClientHello is longer than ${CLIENT_HELLO_LIMIT_BYTES} bytes`);
}

/** What is wrong with the part that is there of the record header at `at`, or "". */
function recordProblem(bytes: Uint8Array, at: number, received: number): string {
  const type = bytes[at] as number;
  if (type !== RECORD_TYPE_HANDSHAKE) return `a record of type ${type} comes before the end of the ClientHello`;
  // The minor version is to be ignored (RFC 8446, 5.1).
  if (received - at > 1 && bytes[at + 1] !== MAJOR_VERSION) return "a record has an unknown version";
  if (received - at < RECORD_HEADER_BYTES) return "";
  const length = u16(bytes, at + 3);
  // A handshake record must not be empty (RFC 8446, 5.1); endless empty ones would be a way to send nothing.
  if (length === 0) return "a handshake record is empty";
  if (length > FRAGMENT_MAX_BYTES) return `a record of ${length} bytes is longer than TLS allows`;
  return "";
}

/** Reads the message whose last byte is just before `end`; all record headers before `end` have been checked. */
function parseMessage(bytes: Uint8Array, end: number): ClientHello {
  const start = RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES;
  const firstRecordEnd = RECORD_HEADER_BYTES + u16(bytes, 3);
  if (end <= firstRecordEnd) return parseBody(new Reader(bytes, start, end));
  const joined = joinRecords(bytes, end);
  return parseBody(new Reader(joined, MESSAGE_HEADER_BYTES));
}

function joinRecords(bytes: Uint8Array, end: number): Uint8Array {
  const joined = new Uint8Array(end);
  let length = 0;
  for (let at = 0; at < end; ) {
    const start = at + RECORD_HEADER_BYTES;
    at = start + u16(bytes, at + 3);
    const fragment = bytes.subarray(start, Math.min(at, end));
    joined.set(fragment, length);
    length += fragment.length;
  }
  return joined.subarray(0, length);
}

function parseBody(body: Reader): ClientHello {
  const majorVersion = body.u8();
  body.skip(1 + 32); // minor version, random
  const sessionIdLength = body.u8();
  body.skip(sessionIdLength);
  const suitesLength = body.u16();
  body.skip(suitesLength);
  const compressionsLength = body.u8();
  body.skip(compressionsLength);
  if (body.short) return malformed("the ClientHello ends before its extensions");
  if (majorVersion !== MAJOR_VERSION) return malformed("the ClientHello has an unknown version");
  if (sessionIdLength > 32) return malformed("the session id is longer than 32 bytes");
  if (suitesLength === 0 || suitesLength % 2 !== 0) return malformed("the list of cipher suites has a wrong length");
  if (compressionsLength === 0) return malformed("the list of compression methods is empty");
  // Before TLS 1.3 a hello may have no extensions at all (RFC 5246, 7.4.1.2).
  if (body.left === 0) return { kind: "hello", sni: "", alpn: NO_PROTOCOLS };
  const extensions = body.sub(body.u16());
  if (body.short || body.left > 0) return malformed("the extensions do not fill the ClientHello");
  return parseExtensions(extensions);
}

function parseExtensions(extensions: Reader): ClientHello {
  const seen = new Set<number>();
  let sni = "";
  let alpn = NO_PROTOCOLS;
  while (extensions.left > 0) {
    const type = extensions.u16();
    const data = extensions.sub(extensions.u16());
    if (extensions.short) return malformed("an extension is longer than the list it is in");
    // RFC 8446, 4.2. Of two server names, we might route by the one and the backend answer for the other.
    if (seen.has(type)) return malformed(`extension ${type} appears twice`);
    seen.add(type);
    if (type === EXTENSION_SERVER_NAME) {
      const name = parseServerName(data);
      if (typeof name !== "string") return name;
      sni = name;
    } else if (type === EXTENSION_ALPN) {
      const protocols = parseProtocols(data);
      if (protocols === null) return malformed("the ALPN extension is malformed");
      alpn = protocols;
    }
  }
  return { kind: "hello", sni, alpn };
}

/** RFC 6066, section 3: a list which, as only one type is defined and a type may appear once, holds exactly one name. */
function parseServerName(data: Reader): string | ClientHello {
  const list = data.sub(data.u16());
  if (data.short || data.left > 0 || list.left === 0) return malformed("the server_name extension is malformed");
  if (list.u8() !== NAME_TYPE_HOST_NAME) return malformed("the server name is not of the type host_name");
  const name = list.view(list.u16());
  if (list.short) return malformed("the server_name extension is malformed");
  if (list.left > 0) return malformed("the server_name extension holds more than one name");
  const text = latin1(name);
  const relative = text.endsWith(".") ? text.slice(0, -1) : text;
  // RFC 6066 forbids an address here, and yet some clients that were given one send it (Bun's own does). They ask for no
  // host name, and are served as those who send none.
  if (isIp(relative)) return "";
  const problem = hostNameProblem(relative);
  return problem === "" ? relative.toLowerCase() : malformed(`the server name ${problem}`);
}

/** RFC 7301, 3.1: at least one protocol, none empty. */
function parseProtocols(data: Reader): readonly string[] | null {
  const list = data.sub(data.u16());
  if (data.short || data.left > 0 || list.left === 0) return null;
  const protocols: string[] = [];
  while (list.left > 0) {
    const length = list.u8();
    protocols.push(list.text(length));
    if (list.short || length === 0) return null;
  }
  return protocols;
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

function malformed(reason: string): ClientHello {
  return { kind: "malformed", reason };
}
