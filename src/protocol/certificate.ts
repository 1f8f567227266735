// Who an X.509 certificate (RFC 5280) says it is for, read from its DER. A platform's own text forms ("URI:a, DNS:b") cannot be
// split safely, because a name may hold the separators; here every name is one string, whole. Nothing is verified: signature,
// chain and dates are the TLS library's to judge, before anybody asks this file.
//
// It runs once for each mutual handshake. A usual leaf (ECDSA, one URI, 460 bytes) takes 5 µs on an idle core and 10 on a busy one
// (Bun 1.4.5); the budget is 15.

import { hex, isAscii, latin1 } from "../base/bytes.ts";
import { formatIp } from "../base/ip.ts";
import { DerReader, decodeIdentifier, decodeInteger, decodeText, TAG } from "./der.ts";
import { eachExtension } from "./extensions.ts";

/** The names of a certificate and what a log says of it. Lists are in the order of the certificate; repeated names stay. */
export interface CertificateNames {
  /** On one line, most specific part first (RFC 4514): `CN=web,OU=eng,O=Acme`. Escaped: safe to log. "" when it is empty. */
  readonly subject: string;
  readonly commonNames: readonly string[];
  readonly organizationalUnits: readonly string[];
  /** As written: a URI is compared byte for byte (SPIFFE-ID, 2). */
  readonly uris: readonly string[];
  /** Lower case. */
  readonly dnsNames: readonly string[];
  /** Canonical text. An IPv4-mapped IPv6 address stays IPv6, as the certificate says. */
  readonly ips: readonly string[];
  /** Lower-case hexadecimal in whole bytes without a sign byte; `-` before it when it is negative. */
  readonly serial: string;
  /** Unix time in ms; both ends belong to the validity. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /**
   * "" or why no name here may be used as an identity: one holds a NUL, another control character, or bytes that are no
   * text in its type. Holds nothing of the certificate. The lists may lack such a name, or have it as it is.
   */
  readonly suspicious: string;
}

/** What is collected on the way. */
interface Draft {
  readonly relativeNames: string[];
  readonly commonNames: string[];
  readonly organizationalUnits: string[];
  readonly uris: string[];
  readonly dnsNames: string[];
  readonly ips: string[];
  hasAlternativeNames: boolean;
  suspicious: string;
}

const VERSION = 0xa0;
const ISSUER_UNIQUE_ID = 0x81;
const SUBJECT_UNIQUE_ID = 0x82;
const EXTENSIONS = 0xa3;
const V1 = 0;
const V3 = 2;

/** GeneralName (RFC 5280, 4.2.1.6). */
const OTHER_NAME = 0xa0;
const EMAIL = 0x81;
const DNS_NAME = 0x82;
const X400_ADDRESS = 0xa3;
const DIRECTORY_NAME = 0xa4;
const EDI_PARTY_NAME = 0xa5;
const URI = 0x86;
const IP_ADDRESS = 0x87;
const REGISTERED_ID = 0x88;

/** Attribute types by the hexadecimal of their object identifier. */
const COMMON_NAME = "550403";
const ORGANIZATIONAL_UNIT = "55040b";
/** The short names of RFC 4514, section 3, and the two others that subjects of certificates really have. */
const SHORT_NAMES: Readonly<Record<string, string>> = {
  [COMMON_NAME]: "CN",
  "550405": "serialNumber",
  "550406": "C",
  "550407": "L",
  "550408": "ST",
  "550409": "STREET",
  "55040a": "O",
  [ORGANIZATIONAL_UNIT]: "OU",
  "0992268993f22c640101": "UID",
  "0992268993f22c640119": "DC",
  "2a864886f70d010901": "emailAddress",
};

/** Beyond Cc the two separators that some log readers take for the end of a line. */
const CONTROL = /[\p{Cc}\u2028\u2029]/u;
/** What no value begins with, ends with or holds unescaped (RFC 4514, 2.4), and all that a terminal does not print. */
const TO_ESCAPE = /^[ #]| $|["+,;<>\\]|[\p{C}\p{Zl}\p{Zp}]/gu;
/** Most values, which need no look at each character. */
const PLAIN = /^[A-Za-z0-9](?:[A-Za-z0-9 ._:/@*-]*[A-Za-z0-9])?$/;

/** Reads one certificate, DER without anything after it. Null when it is malformed; never throws. Keeps no view of `der`. */
export function readCertificate(der: Uint8Array): CertificateNames | null {
  const reader = new DerReader(der);
  const draft: Draft = {
    relativeNames: [],
    commonNames: [],
    organizationalUnits: [],
    uris: [],
    dnsNames: [],
    ips: [],
    hasAlternativeNames: false,
    suspicious: "",
  };
  const file = reader.open(TAG.SEQUENCE);
  const signed = reader.open(TAG.SEQUENCE);
  const version = readVersion(reader);
  const serial = readSerial(reader);
  reader.skip(TAG.SEQUENCE); // signature algorithm
  reader.skip(TAG.SEQUENCE); // issuer
  const validity = reader.open(TAG.SEQUENCE);
  const notBeforeMs = reader.time();
  const notAfterMs = reader.time();
  reader.close(validity);
  readSubject(reader, draft);
  reader.skip(TAG.SEQUENCE); // public key
  if (version !== V1 && reader.nextTag === ISSUER_UNIQUE_ID) reader.skip(ISSUER_UNIQUE_ID);
  if (version !== V1 && reader.nextTag === SUBJECT_UNIQUE_ID) reader.skip(SUBJECT_UNIQUE_ID);
  if (version === V3 && reader.nextTag === EXTENSIONS) readExtensions(reader, draft);
  reader.close(signed);
  reader.skip(TAG.SEQUENCE); // signature algorithm
  reader.skip(TAG.BIT_STRING); // signature
  reader.close(file);
  if (reader.malformed || reader.more) return null;
  const { relativeNames, commonNames, organizationalUnits, uris, dnsNames, ips, suspicious } = draft;
  const subject = relativeNames.reverse().join(",");
  return {
    subject,
    commonNames,
    organizationalUnits,
    uris,
    dnsNames,
    ips,
    serial,
    notBeforeMs,
    notAfterMs,
    suspicious,
  };
}

/** RFC 5280, 4.1.2.1. The first version is the default, so DER leaves it out. */
function readVersion(reader: DerReader): number {
  if (reader.nextTag !== VERSION) return V1;
  const outer = reader.open(VERSION);
  const content = reader.content(TAG.INTEGER);
  reader.close(outer);
  const version = content.length === 1 ? (content[0] as number) : 0;
  if (version <= V1 || version > V3) reader.malformed = true;
  return version;
}

function readSerial(reader: DerReader): string {
  const serial = decodeInteger(reader.content(TAG.INTEGER));
  if (serial === "") reader.malformed = true;
  return serial;
}

/** RDNSequence (RFC 5280, 4.1.2.4): a sequence of sets, of one attribute each as a rule. */
function readSubject(reader: DerReader, draft: Draft): void {
  const sequence = reader.open(TAG.SEQUENCE);
  while (reader.more) {
    const set = reader.open(TAG.SET);
    let text = "";
    // A set is never empty: with nothing to read, reading makes the reader malformed.
    do {
      text += (text === "" ? "" : "+") + readAttribute(reader, draft);
    } while (reader.more);
    reader.close(set);
    draft.relativeNames.push(text);
  }
  reader.close(sequence);
}

/** Answers the attribute as RFC 4514, 2.2 to 2.4 writes it. */
function readAttribute(reader: DerReader, draft: Draft): string {
  const outer = reader.open(TAG.SEQUENCE);
  const type = reader.content(TAG.OBJECT_IDENTIFIER);
  const valueStart = reader.position;
  const tag = reader.nextTag;
  const content = reader.content(tag);
  const value = reader.since(valueStart);
  reader.close(outer);
  const id = hex(type);
  const text = decodeText(tag, content);
  if (id === COMMON_NAME) addText(draft, draft.commonNames, text, "a common name");
  else if (id === ORGANIZATIONAL_UNIT) addText(draft, draft.organizationalUnits, text, "an organizational unit");
  const name = SHORT_NAMES[id];
  if (name !== undefined && text !== null) return `${name}=${escapeValue(text)}`;
  const dotted = decodeIdentifier(type);
  if (dotted === null) reader.malformed = true;
  return `${name ?? dotted}=#${hex(value)}`;
}

function readExtensions(reader: DerReader, draft: Draft): void {
  let isEmpty = true;
  eachExtension(reader, EXTENSIONS, ({ id, critical }) => {
    isEmpty = false;
    if (critical !== null && !isBoolean(critical)) reader.malformed = true;
    if (isSubjectAltName(id)) readAlternativeNames(reader, draft);
    else reader.skip(TAG.OCTET_STRING);
  });
  if (isEmpty) reader.malformed = true;
}

/** 2.5.29.17. */
function isSubjectAltName(id: Uint8Array): boolean {
  return id.length === 3 && id[0] === 0x55 && id[1] === 0x1d && id[2] === 0x11;
}

/** FALSE is the default, which DER leaves out. Some CAs write it all the same, and TLS libraries let it pass. */
function isBoolean(content: Uint8Array): boolean {
  return content.length === 1 && (content[0] === 0 || content[0] === 0xff);
}

/** RFC 5280, 4.2.1.6. Names of the types that no policy can speak of are passed over. */
function readAlternativeNames(reader: DerReader, draft: Draft): void {
  // Of two, one verifier would believe the first and another the last.
  if (draft.hasAlternativeNames) reader.malformed = true;
  draft.hasAlternativeNames = true;
  const octets = reader.open(TAG.OCTET_STRING);
  const sequence = reader.open(TAG.SEQUENCE);
  do {
    const tag = reader.nextTag;
    const content = reader.content(tag);
    switch (tag) {
      case URI:
        addAscii(draft, draft.uris, content, "a URI name");
        break;
      case DNS_NAME:
        addAscii(draft, draft.dnsNames, content, "a DNS name");
        break;
      case IP_ADDRESS:
        if (content.length === 4 || content.length === 16) draft.ips.push(formatIp(content));
        else reader.malformed = true;
        break;
      case EMAIL:
        addAscii(draft, [], content, "an e-mail name");
        break;
      case OTHER_NAME:
      case X400_ADDRESS:
      case DIRECTORY_NAME:
      case EDI_PARTY_NAME:
      case REGISTERED_ID:
        break;
      default:
        reader.malformed = true;
    }
  } while (reader.more);
  reader.close(sequence);
  reader.close(octets);
}

/** An IA5String of a GeneralName. */
function addAscii(draft: Draft, names: string[], content: Uint8Array, what: string): void {
  if (!isAscii(content)) draft.suspicious ||= `${what} holds a byte that is not ASCII`;
  const text = latin1(content);
  addText(draft, names, names === draft.dnsNames ? text.toLowerCase() : text, what);
}

function addText(draft: Draft, names: string[], text: string | null, what: string): void {
  if (text === null) {
    draft.suspicious ||= `${what} is not text`;
    return;
  }
  if (CONTROL.test(text))
    draft.suspicious ||= text.includes("\0") ? `${what} holds a NUL` : `${what} holds a control character`;
  names.push(text);
}

function escapeValue(text: string): string {
  if (PLAIN.test(text)) return text;
  return text.replace(TO_ESCAPE, (character) =>
    /[ #"+,;<>\\]/.test(character)
      ? `\\${character}`
      : hex(new TextEncoder().encode(character)).replace(/../g, (byte) => `\\${byte}`),
  );
}
