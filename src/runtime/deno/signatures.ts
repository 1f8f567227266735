// Signatures of certificates and revocation lists, by node:crypto. A list's are not in its reach as such, so its parts are taken apart here.

import { Buffer } from "node:buffer";
import { createPublicKey, type KeyObject, verify, X509Certificate } from "node:crypto";
import { hex } from "../../base/bytes.ts";
import { readCertificateDetails } from "../../protocol/certificate-details.ts";
import { DerReader, TAG } from "../../protocol/der.ts";

/** By the hexadecimal of their object identifiers. SHA-1 and what is unknown verify nothing. */
const HASHES: Readonly<Record<string, string | null>> = {
  "2a8648ce3d040302": "sha256",
  "2a8648ce3d040303": "sha384",
  "2a8648ce3d040304": "sha512",
  "2a864886f70d01010b": "sha256",
  "2a864886f70d01010c": "sha384",
  "2a864886f70d01010d": "sha512",
  "2b6570": null,
};

/** Pairs of certificates that are remembered. */
const PAIRS_KEPT = 2000;
const pairs = new Set<string>();

/**
 * Whether the key of `issuer` signed `certificate` (both DER). Remembers those that are good: here a signature costs more than all else in a handshake, and
 * the same peers come again and again. Of what strangers make up nothing is kept.
 */
export function isSignedBy(certificate: Uint8Array, issuer: Uint8Array): boolean {
  const pair = `${Buffer.from(certificate).toString("base64")} ${Buffer.from(issuer).toString("base64")}`;
  if (pairs.has(pair)) return true;
  if (!hasSigned(certificate, issuer)) return false;
  if (pairs.size >= PAIRS_KEPT) pairs.clear();
  pairs.add(pair);
  return true;
}

function hasSigned(certificate: Uint8Array, issuer: Uint8Array): boolean {
  try {
    return new X509Certificate(certificate).verify(new X509Certificate(issuer).publicKey);
  } catch {
    // One of them is no certificate, or has a key that nothing can be verified with.
    return false;
  }
}

/** Whether the key of `issuer`, a certificate, signed the list (both DER). */
export function isListSignedBy(list: Uint8Array, issuer: Uint8Array): boolean {
  const reader = new DerReader(list);
  reader.open(TAG.SEQUENCE);
  const start = reader.position;
  reader.skip(TAG.SEQUENCE);
  const signed = reader.since(start);
  const algorithm = reader.open(TAG.SEQUENCE);
  const id = hex(reader.content(TAG.OBJECT_IDENTIFIER));
  if (reader.more) reader.skip(reader.nextTag);
  reader.close(algorithm);
  const bits = reader.content(TAG.BIT_STRING);
  const hash = HASHES[id];
  const key = keyOf(issuer);
  // The first byte says that no bits are unused.
  if (reader.malformed || bits[0] !== 0 || hash === undefined || key === null) return false;
  try {
    return verify(hash, signed, key, bits.subarray(1));
  } catch {
    return false;
  }
}

function keyOf(certificate: Uint8Array): KeyObject | null {
  const spki = readCertificateDetails(certificate)?.spki;
  try {
    return spki === undefined ? null : createPublicKey({ key: Buffer.from(spki), format: "der", type: "spki" });
  } catch {
    return null;
  }
}
