// Which certificates an authority has revoked: its CRL (RFC 5280, 5), read once and asked often. The signature is not verified; the TLS
// library does that in every full handshake. This answers for connections that are open already, whose handshake is past.

import { hex } from "../base/bytes.ts";
import { AUTHORITY_KEY_ID, readAuthorityKeyId } from "./authority-key-id.ts";
import { DerReader, decodeInteger, TAG } from "./der.ts";
import { eachExtension, eachInSequence, isCritical } from "./extensions.ts";

/** One complete list. Memory: some 50 bytes for each entry. */
export interface RevocationList {
  /** As `issuer` of a certificate that it is about: hexadecimal DER. */
  readonly issuer: string;
  /** Hexadecimal; "" without one. Tells lists of two authorities of the same name apart. */
  readonly authorityKeyId: string;
  /** Unix time in ms. */
  readonly thisUpdateMs: number;
  /** Unix time in ms from which the list is out of date; Infinity when it does not say. */
  readonly nextUpdateMs: number;
  /** Entries; the same serial twice counts once. */
  readonly revokedCount: number;
  /**
   * "" or why the list does not say, for every certificate of its issuer, whether that is revoked: as the end of a sentence that begins
   * with "it". TLS libraries refuse such lists, or read them in ways of their own.
   */
  readonly problem: string;
  /** Whether it holds this serial, written as `serial` of a certificate. */
  isRevoked(serial: string): boolean;
}

const EXTENSIONS = 0xa0;
const V2 = 1;

/** By the hexadecimal of their object identifiers. */
const CRL_NUMBER = "551d14";
const DELTA_INDICATOR = "551d1b";
const ISSUING_DISTRIBUTION_POINT = "551d1c";

/** Of entries: why and since when, which does not change that it is revoked. */
const ENTRY_EXTENSIONS: readonly string[] = ["551d15", "551d18"];

/** Where the list is published, in an issuingDistributionPoint (5.2.5). */
const DISTRIBUTION_POINT = 0xa0;
/** Its other fields. */
const SCOPES: Readonly<Record<number, string>> = {
  129: "is about certificates of users only",
  130: "is about certificates of authorities only",
  131: "is about some reasons only",
  132: "is an indirect list, of more issuers than its own",
  133: "is about attribute certificates only",
};

/**
 * Reads one CRL, DER without anything after it, of less than 16 MiB. Null when it is malformed; never throws. Keeps no view of `der`.
 * 100,000 entries take some 100 ms.
 */
export function readRevocationList(der: Uint8Array): RevocationList | null {
  const reader = new DerReader(der);
  const file = reader.open(TAG.SEQUENCE);
  const signed = reader.open(TAG.SEQUENCE);
  const isV2 = readIsV2(reader);
  reader.skip(TAG.SEQUENCE); // signature algorithm
  const issuerStart = reader.position;
  reader.skip(TAG.SEQUENCE);
  const issuer = hex(reader.since(issuerStart));
  const thisUpdateMs = reader.time();
  const hasNextUpdate = reader.nextTag === TAG.UTC_TIME || reader.nextTag === TAG.GENERALIZED_TIME;
  const nextUpdateMs = hasNextUpdate ? reader.time() : Number.POSITIVE_INFINITY;
  const revoked = new Set<string>();
  const found = { authorityKeyId: "", problem: "" };
  if (reader.nextTag === TAG.SEQUENCE) readEntries(reader, revoked, found);
  if (isV2 && reader.nextTag === EXTENSIONS) readExtensions(reader, found);
  reader.close(signed);
  reader.skip(TAG.SEQUENCE); // signature algorithm
  reader.skip(TAG.BIT_STRING); // signature
  reader.close(file);
  if (reader.malformed || reader.more) return null;
  return {
    ...{ issuer, thisUpdateMs, nextUpdateMs, revokedCount: revoked.size, ...found },
    isRevoked: (serial) => revoked.has(serial),
  };
}

/** 5.1.2.1. The first version is the default, so DER leaves it out. */
function readIsV2(reader: DerReader): boolean {
  if (reader.nextTag !== TAG.INTEGER) return false;
  if (reader.content(TAG.INTEGER)[0] !== V2) reader.malformed = true;
  return true;
}

/** 5.1.2.6. Why and when is not kept: revoked is revoked. Some authorities write an empty list although it should be left out. */
function readEntries(reader: DerReader, revoked: Set<string>, found: { problem: string }): void {
  const sequence = reader.open(TAG.SEQUENCE);
  while (reader.more) {
    const entry = reader.open(TAG.SEQUENCE);
    const serial = decodeInteger(reader.content(TAG.INTEGER));
    if (serial === "") reader.malformed = true;
    revoked.add(serial);
    const tag = reader.nextTag;
    if (tag !== TAG.UTC_TIME && tag !== TAG.GENERALIZED_TIME) reader.malformed = true;
    reader.skip(tag);
    if (reader.more) readEntryExtensions(reader, found);
    reader.close(entry);
  }
  reader.close(sequence);
}

/** 5.3. What is critical and not understood in one entry makes the whole list unusable; an entry of an indirect list says so of its issuer. */
function readEntryExtensions(reader: DerReader, found: { problem: string }): void {
  eachInSequence(reader, (extension) => {
    reader.skip(TAG.OCTET_STRING);
    if (isCritical(extension) && !ENTRY_EXTENSIONS.includes(hex(extension.id)))
      found.problem ||= "has an entry with a critical extension that is not known";
  });
}

function readExtensions(reader: DerReader, found: { authorityKeyId: string; problem: string }): void {
  eachExtension(reader, EXTENSIONS, (extension) => {
    const id = hex(extension.id);
    const content = new DerReader(reader.content(TAG.OCTET_STRING));
    if (id === AUTHORITY_KEY_ID) found.authorityKeyId = readAuthorityKeyId(content);
    else if (id === DELTA_INDICATOR) found.problem ||= "is a delta list, which tells changes only";
    else if (id === ISSUING_DISTRIBUTION_POINT) found.problem ||= readScope(content);
    // What is critical and not understood makes the whole list unusable (5.2).
    else if (isCritical(extension) && id !== CRL_NUMBER) found.problem ||= "has a critical extension that is not known";
    if (content.malformed) reader.malformed = true;
  });
}

/** 5.2.5. Where the list is published does not narrow it; every other field does, if it is there with another value than FALSE. */
function readScope(reader: DerReader): string {
  let scope = "";
  const sequence = reader.open(TAG.SEQUENCE);
  while (reader.more) {
    const tag = reader.nextTag;
    const content = reader.content(tag);
    const isUnset = content.length === 1 && content[0] === 0;
    if (tag !== DISTRIBUTION_POINT && !isUnset) scope ||= SCOPES[tag] ?? "has a scope that is not known";
  }
  reader.close(sequence);
  return scope;
}
