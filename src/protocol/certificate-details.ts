// What an X.509 certificate (RFC 5280) says beyond its names (certificate.ts): who issued it, what its key is and may do. For what is
// asked less often than who someone is: whether material fits together, whether a certificate is an X.509-SVID, whether it has been
// revoked. Nothing is verified here either.

import { hex } from "../base/bytes.ts";
import { AUTHORITY_KEY_ID, readAuthorityKeyId } from "./authority-key-id.ts";
import { type CertificateNames, readCertificate } from "./certificate.ts";
import { DerReader, decodeIdentifier, TAG } from "./der.ts";
import { eachExtension } from "./extensions.ts";

/** The uses of a key that decide whether a certificate is a leaf (RFC 5280, 4.2.1.3). */
export interface KeyUsage {
  readonly digitalSignature: boolean;
  /** Signing certificates. */
  readonly keyCertSign: boolean;
  readonly crlSign: boolean;
}

/** All that is read of a certificate. */
export interface CertificateDetails extends CertificateNames {
  /** The name of the issuer as hexadecimal DER, to be compared with `subjectDer` of an authority or `issuer` of a CRL. */
  readonly issuer: string;
  /** `subject` as hexadecimal DER: two subjects that read the same may still be different ones. */
  readonly subjectDer: string;
  /** SubjectPublicKeyInfo in DER, a copy. Its SHA-256 is what pins are made of (RFC 7469, 2.4). */
  readonly spki: Uint8Array;
  /** As HAProxy writes it: `EC256`, `RSA2048`, `ED25519`. The object identifier, or `EC`, when it is none that is known here. */
  readonly keyAlgorithm: string;
  /** OpenSSL's short name: `ecdsa-with-SHA256`, `RSA-SHA256`, `RSASSA-PSS`, `ED25519`. The object identifier when it is not known here. */
  readonly signatureAlgorithm: string;
  /** Hexadecimal; "" without one. The authority with this `subjectKeyId` has the key that signed the certificate. */
  readonly authorityKeyId: string;
  /** Hexadecimal; "" without one. */
  readonly subjectKeyId: string;
  /** basicConstraints: whether it may issue certificates. */
  readonly isCa: boolean;
  /** Null without that extension, which leaves the key free to do anything. */
  readonly keyUsage: KeyUsage | null;
  /** Object identifiers in numbers with dots; see EXTENDED_KEY_USAGE. Empty without that extension: any use. */
  readonly extendedKeyUsages: readonly string[];
}

/** Which side of a TLS connection a certificate is for (RFC 5280, 4.2.1.12). */
export const EXTENDED_KEY_USAGE = { SERVER_AUTH: "1.3.6.1.5.5.7.3.1", CLIENT_AUTH: "1.3.6.1.5.5.7.3.2" } as const;

interface Extensions {
  authorityKeyId: string;
  subjectKeyId: string;
  isCa: boolean;
  keyUsage: KeyUsage | null;
  extendedKeyUsages: readonly string[];
}

const VERSION = 0xa0;
const ISSUER_UNIQUE_ID = 0x81;
const SUBJECT_UNIQUE_ID = 0x82;
const EXTENSIONS = 0xa3;

/** By the hexadecimal of their object identifiers. */
const SUBJECT_KEY_ID = "551d0e";
const KEY_USAGE = "551d0f";
const BASIC_CONSTRAINTS = "551d13";
const EXTENDED_KEY_USAGES = "551d25";

const RSA_KEY = "2a864886f70d010101";
const RSA_PSS_KEY = "2a864886f70d01010a";
const EC_KEY = "2a8648ce3d0201";
const ED25519 = "2b6570";
const ED448 = "2b6571";
/** Bits by curve. */
const CURVES: Readonly<Record<string, number>> = {
  "2a8648ce3d030107": 256,
  "2b8104000a": 256,
  "2b81040021": 224,
  "2b81040022": 384,
  "2b81040023": 521,
  "2b2403030208010107": 256,
  "2b240303020801010b": 384,
  "2b240303020801010d": 512,
};
const SIGNATURE_NAMES: Readonly<Record<string, string>> = {
  "2a8648ce3d0401": "ecdsa-with-SHA1",
  "2a8648ce3d040301": "ecdsa-with-SHA224",
  "2a8648ce3d040302": "ecdsa-with-SHA256",
  "2a8648ce3d040303": "ecdsa-with-SHA384",
  "2a8648ce3d040304": "ecdsa-with-SHA512",
  "2a864886f70d010104": "RSA-MD5",
  "2a864886f70d010105": "RSA-SHA1",
  "2a864886f70d01010a": "RSASSA-PSS",
  "2a864886f70d01010b": "RSA-SHA256",
  "2a864886f70d01010c": "RSA-SHA384",
  "2a864886f70d01010d": "RSA-SHA512",
  "2a864886f70d01010e": "RSA-SHA224",
  [ED25519]: "ED25519",
  [ED448]: "ED448",
};

/**
 * Reads one certificate, DER without anything after it. Null when it is malformed, an extension read here is, or any is there twice;
 * never throws. Keeps no view of `der`.
 */
export function readCertificateDetails(der: Uint8Array): CertificateDetails | null {
  // Judges the whole structure too, so that here only the parts that it passes over have to be looked at.
  const names = readCertificate(der);
  if (names === null) return null;
  const reader = new DerReader(der);
  reader.open(TAG.SEQUENCE);
  reader.open(TAG.SEQUENCE);
  if (reader.nextTag === VERSION) reader.skip(VERSION);
  reader.skip(TAG.INTEGER); // serial
  const signatureAlgorithm = readSignatureAlgorithm(reader);
  const issuer = hex(reader.element(TAG.SEQUENCE));
  reader.skip(TAG.SEQUENCE); // validity
  const subjectDer = hex(reader.element(TAG.SEQUENCE));
  const spki = reader.element(TAG.SEQUENCE).slice();
  const keyAlgorithm = readKeyAlgorithm(spki);
  if (reader.nextTag === ISSUER_UNIQUE_ID) reader.skip(ISSUER_UNIQUE_ID);
  if (reader.nextTag === SUBJECT_UNIQUE_ID) reader.skip(SUBJECT_UNIQUE_ID);
  const extensions: Extensions = {
    authorityKeyId: "",
    subjectKeyId: "",
    isCa: false,
    keyUsage: null,
    extendedKeyUsages: [],
  };
  if (reader.nextTag === EXTENSIONS) readExtensions(reader, extensions);
  if (reader.malformed) return null;
  return { ...names, issuer, subjectDer, spki, keyAlgorithm, signatureAlgorithm, ...extensions };
}

function readSignatureAlgorithm(reader: DerReader): string {
  const { id } = readAlgorithm(reader);
  return SIGNATURE_NAMES[hex(id)] ?? nameOf(id, reader);
}

/** AlgorithmIdentifier (4.1.1.2). `parameter` is an object identifier or empty: all that is of use here. */
function readAlgorithm(reader: DerReader): { id: Uint8Array; parameter: Uint8Array } {
  const sequence = reader.open(TAG.SEQUENCE);
  const id = reader.content(TAG.OBJECT_IDENTIFIER);
  let parameter = new Uint8Array(0);
  if (reader.nextTag === TAG.OBJECT_IDENTIFIER) parameter = reader.content(TAG.OBJECT_IDENTIFIER).slice();
  else if (reader.more) reader.skip(reader.nextTag);
  reader.close(sequence);
  return { id, parameter };
}

/** SubjectPublicKeyInfo (4.1.2.7; RFC 3279, 2.3; RFC 5480; RFC 8410). */
function readKeyAlgorithm(spki: Uint8Array): string {
  const reader = new DerReader(spki);
  reader.open(TAG.SEQUENCE);
  const { id, parameter } = readAlgorithm(reader);
  switch (hex(id)) {
    case EC_KEY:
      return `EC${CURVES[hex(parameter)] ?? ""}`;
    case RSA_KEY:
    case RSA_PSS_KEY:
      return `RSA${modulusBits(reader.content(TAG.BIT_STRING))}`;
    case ED25519:
      return "ED25519";
    case ED448:
      return "ED448";
    default:
      return nameOf(id, reader);
  }
}

/** Of an RSAPublicKey in a BIT STRING, whose first byte says that no bits are unused; 0 when it is none. */
function modulusBits(bits: Uint8Array): number {
  const reader = new DerReader(bits.subarray(1));
  reader.open(TAG.SEQUENCE);
  const modulus = reader.content(TAG.INTEGER);
  const start = modulus.findIndex((byte) => byte !== 0);
  if (start < 0) return 0;
  return (modulus.length - start) * 8 - (Math.clz32(modulus[start] as number) - 24);
}

function nameOf(id: Uint8Array, reader: DerReader): string {
  const dotted = decodeIdentifier(id);
  if (dotted === null) reader.malformed = true;
  return dotted ?? "";
}

function readExtensions(reader: DerReader, found: Extensions): void {
  const seen = new Set<string>();
  eachExtension(reader, EXTENSIONS, (extension) => {
    const id = hex(extension.id);
    // Of two, one reader would believe the first and another the last (4.2).
    if (seen.has(id)) reader.malformed = true;
    seen.add(id);
    readExtension(id, reader.content(TAG.OCTET_STRING), found, reader);
  });
}

function readExtension(id: string, content: Uint8Array, found: Extensions, outer: DerReader): void {
  const reader = new DerReader(content);
  switch (id) {
    case SUBJECT_KEY_ID:
      found.subjectKeyId = hex(reader.content(TAG.OCTET_STRING));
      break;
    case KEY_USAGE:
      found.keyUsage = readKeyUsage(reader);
      break;
    case BASIC_CONSTRAINTS:
      found.isCa = readIsCa(reader);
      break;
    case AUTHORITY_KEY_ID:
      found.authorityKeyId = readAuthorityKeyId(reader);
      break;
    case EXTENDED_KEY_USAGES:
      found.extendedKeyUsages = readExtendedKeyUsages(reader);
      break;
    default:
      return;
  }
  if (reader.malformed || reader.more) outer.malformed = true;
}

/** A BIT STRING: the number of unused bits, then the bits, the first of them the highest. */
function readKeyUsage(reader: DerReader): KeyUsage {
  const bits = reader.content(TAG.BIT_STRING);
  if (bits.length < 2) reader.malformed = true;
  const first = bits[1] ?? 0;
  return {
    digitalSignature: (first & 0x80) !== 0,
    keyCertSign: (first & 0x04) !== 0,
    crlSign: (first & 0x02) !== 0,
  };
}

/** 4.2.1.9. */
function readIsCa(reader: DerReader): boolean {
  let isCa = false;
  const sequence = reader.open(TAG.SEQUENCE);
  if (reader.nextTag === TAG.BOOLEAN) {
    const content = reader.content(TAG.BOOLEAN);
    if (content.length !== 1) reader.malformed = true;
    // Anything but zero is true in BER, and there are readers of BER.
    isCa = content[0] !== 0;
  }
  if (reader.nextTag === TAG.INTEGER) reader.skip(TAG.INTEGER); // pathLenConstraint
  reader.close(sequence);
  return isCa;
}

function readExtendedKeyUsages(reader: DerReader): string[] {
  const usages: string[] = [];
  const sequence = reader.open(TAG.SEQUENCE);
  // An empty list would read as "any use", which is what no list at all says.
  do {
    usages.push(nameOf(reader.content(TAG.OBJECT_IDENTIFIER), reader));
  } while (reader.more);
  reader.close(sequence);
  return usages;
}
