// What a certificate says that decides whether it may stand in a chain (RFC 5280, 6.1), beyond certificate-details.ts: its version, how long a
// chain below it may be, whose names it may vouch for, and whether it demands something that nobody here understands.

import { hex, isAscii, latin1 } from "../base/bytes.ts";
import { type CertificateDetails, readCertificateDetails } from "./certificate-details.ts";
import { DerReader, TAG } from "./der.ts";
import { eachExtension, isCritical } from "./extensions.ts";

/** Names that an authority may vouch for, or may not (4.2.1.10). */
export interface Subtree {
  readonly kind: "dns" | "uri" | "ip" | "other";
  /** The tag of the GeneralName. */
  readonly tag: number;
  /** Lower case; of an address and its mask and of kinds that are not known here, hexadecimal. */
  readonly base: string;
}

/** One certificate of a chain. */
export interface ChainLink {
  readonly der: Uint8Array;
  readonly details: CertificateDetails;
  readonly isV3: boolean;
  /** How many authorities may follow below it that have not issued themselves; Infinity when it does not say. */
  readonly pathLength: number;
  readonly permitted: readonly Subtree[];
  readonly excluded: readonly Subtree[];
  /** The kinds of names among its alternative names, by tag. */
  readonly nameTags: ReadonlySet<number>;
  /** Whether there is a critical extension that is not understood here: then it must not be used (4.2). */
  readonly demandsUnknown: boolean;
}

const VERSION = 0xa0;
const V3 = 2;
const ISSUER_UNIQUE_ID = 0x81;
const SUBJECT_UNIQUE_ID = 0x82;
const EXTENSIONS = 0xa3;
const PERMITTED = 0xa0;
const EXCLUDED = 0xa1;
const DNS_NAME = 0x82;
const URI = 0x86;
const IP_ADDRESS = 0x87;

const BASIC_CONSTRAINTS = "551d13";
const NAME_CONSTRAINTS = "551d1e";
const SUBJECT_ALT_NAME = "551d11";
/** Read here or in certificate-details.ts: both key identifiers, both key usages. */
const UNDERSTOOD: readonly string[] = [
  BASIC_CONSTRAINTS,
  NAME_CONSTRAINTS,
  SUBJECT_ALT_NAME,
  "551d0e",
  "551d0f",
  "551d23",
  "551d25",
];

type Draft = { -readonly [Key in keyof Omit<ChainLink, "der" | "details" | "isV3">]: ChainLink[Key] };

/** Reads one certificate, DER. Null when it is malformed, or names another algorithm inside than it is signed by (4.1.1.2); never throws. */
export function readChainLink(der: Uint8Array): ChainLink | null {
  const details = readCertificateDetails(der);
  if (details === null) return null;
  const reader = new DerReader(der);
  reader.open(TAG.SEQUENCE);
  reader.open(TAG.SEQUENCE);
  const isV3 = reader.nextTag === VERSION && readVersion(reader) === V3;
  reader.skip(TAG.INTEGER); // serial
  const algorithm = hex(reader.element(TAG.SEQUENCE));
  for (let field = 0; field < 4; field++) reader.skip(TAG.SEQUENCE); // issuer, validity, subject, public key
  if (reader.nextTag === ISSUER_UNIQUE_ID) reader.skip(ISSUER_UNIQUE_ID);
  if (reader.nextTag === SUBJECT_UNIQUE_ID) reader.skip(SUBJECT_UNIQUE_ID);
  const draft: Draft = {
    pathLength: Number.POSITIVE_INFINITY,
    permitted: [],
    excluded: [],
    nameTags: new Set(),
    demandsUnknown: false,
  };
  if (reader.nextTag === EXTENSIONS) readExtensions(reader, draft);
  if (reader.malformed || signedBy(der) !== algorithm) return null;
  return { der, details, isV3, ...draft };
}

/** The algorithm of the signature that is there, in hexadecimal. */
function signedBy(der: Uint8Array): string {
  const reader = new DerReader(der);
  reader.open(TAG.SEQUENCE);
  reader.skip(TAG.SEQUENCE);
  return hex(reader.element(TAG.SEQUENCE));
}

function readVersion(reader: DerReader): number {
  const outer = reader.open(VERSION);
  const content = reader.content(TAG.INTEGER);
  reader.close(outer);
  return content.length === 1 ? (content[0] as number) : 0;
}

function readExtensions(reader: DerReader, draft: Draft): void {
  eachExtension(reader, EXTENSIONS, (extension) => {
    const id = hex(extension.id);
    const content = new DerReader(reader.content(TAG.OCTET_STRING));
    if (id === BASIC_CONSTRAINTS) draft.pathLength = readPathLength(content);
    else if (id === NAME_CONSTRAINTS) readNameConstraints(content, draft);
    else if (id === SUBJECT_ALT_NAME) draft.nameTags = readNameTags(content);
    else if (isCritical(extension) && !UNDERSTOOD.includes(id)) draft.demandsUnknown = true;
    if (content.malformed) reader.malformed = true;
  });
}

/** 4.2.1.9. */
function readPathLength(reader: DerReader): number {
  let length = Number.POSITIVE_INFINITY;
  const sequence = reader.open(TAG.SEQUENCE);
  if (reader.nextTag === TAG.BOOLEAN) reader.skip(TAG.BOOLEAN);
  if (reader.nextTag === TAG.INTEGER) {
    const content = reader.content(TAG.INTEGER);
    // What is negative or longer than a byte is nothing that anybody means.
    length = content.length === 1 && (content[0] as number) < 0x80 ? (content[0] as number) : 0;
  }
  reader.close(sequence);
  return length;
}

function readNameTags(reader: DerReader): Set<number> {
  const tags = new Set<number>();
  const sequence = reader.open(TAG.SEQUENCE);
  while (reader.more) {
    tags.add(reader.nextTag);
    reader.skip(reader.nextTag);
  }
  reader.close(sequence);
  return tags;
}

function readNameConstraints(reader: DerReader, draft: Draft): void {
  const sequence = reader.open(TAG.SEQUENCE);
  if (reader.nextTag === PERMITTED) draft.permitted = readSubtrees(reader, PERMITTED);
  if (reader.nextTag === EXCLUDED) draft.excluded = readSubtrees(reader, EXCLUDED);
  reader.close(sequence);
}

function readSubtrees(reader: DerReader, tag: number): Subtree[] {
  const subtrees: Subtree[] = [];
  const list = reader.open(tag);
  while (reader.more) {
    const subtree = reader.open(TAG.SEQUENCE);
    const nameTag = reader.nextTag;
    const content = reader.content(nameTag);
    // minimum and maximum must not be there, so closing makes malformed what has them.
    reader.close(subtree);
    subtrees.push(toSubtree(nameTag, content));
  }
  reader.close(list);
  return subtrees;
}

function toSubtree(tag: number, content: Uint8Array): Subtree {
  const isText = (tag === DNS_NAME || tag === URI) && isAscii(content);
  if (isText) return { kind: tag === URI ? "uri" : "dns", tag, base: latin1(content).toLowerCase() };
  if (tag === IP_ADDRESS && (content.length === 8 || content.length === 32))
    return { kind: "ip", tag, base: hex(content) };
  return { kind: "other", tag, base: hex(content) };
}
