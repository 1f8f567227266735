// Keeping SPIFFE trust domains apart. "Only that domain's bundle verifies it" is no question that a TLS library can be asked: it has one list of
// authorities, and each vouches for everybody. What it does ask of an authority is its name constraints (RFC 5280, 4.2.1.10), so each
// authority is handed to it in a copy that may vouch for URIs of its own trust domain only. The signature of the copy no longer fits, which
// nobody looks at: a trusted root is trusted for being in the list, not for having signed itself. The test shows that BoringSSL obeys it.
//
// A certificate without any URI name passes name constraints: callers that rely on this must require an X.509-SVID, too (spiffe-id.ts).

import { hex, isAscii, latin1 } from "../base/bytes.ts";
import { readCertificateDetails } from "./certificate-details.ts";
import { DerReader, TAG } from "./der.ts";
import { derElement } from "./der-writer.ts";
import { eachExtension } from "./extensions.ts";
import { trustDomainProblem } from "./spiffe-id.ts";

const VERSION = 0xa0;
const ISSUER_UNIQUE_ID = 0x81;
const SUBJECT_UNIQUE_ID = 0x82;
const EXTENSIONS = 0xa3;
const PERMITTED_SUBTREES = 0xa0;
const EXCLUDED_SUBTREES = 0xa1;
const URI = 0x86;
const NAME_CONSTRAINTS_ID = Uint8Array.of(0x55, 0x1d, 0x1e);
const NAME_CONSTRAINTS = hex(NAME_CONSTRAINTS_ID);
const TRUE = Uint8Array.of(0xff);

/** A nameConstraints extension taken apart: whole GeneralSubtree elements, as views. */
interface NameConstraints {
  readonly permittedHosts: readonly string[];
  /** Of the other kinds of names. */
  readonly permittedOthers: readonly Uint8Array[];
  /** The whole [1] element; empty when there is none. */
  readonly excluded: Uint8Array;
}

/**
 * A copy of a self-signed authority, DER, that vouches for URIs of this trust domain only, whatever it says of other kinds of names. It is to
 * stand in a list of trusted roots; its signature is that of the original. A certificate that another one issued is answered as it is: in
 * such a list it is no root, and rests on one that is constrained. Never throws.
 *
 * A text is the problem, never with anything of the certificate in it: it cannot be read, is no
 * authority, or has name constraints that do not name the trust domain exactly.
 */
export function constrainAnchor(der: Uint8Array, trustDomain: string): Uint8Array<ArrayBuffer> | string {
  const wrongName = trustDomainProblem(trustDomain);
  if (wrongName !== "") return `it cannot be kept to its trust domain: ${wrongName}`;
  // In a constraint a host with a dot in front stands for all below it.
  if (trustDomain.startsWith(".")) return "it cannot be kept to a trust domain whose name begins with a dot";
  const details = readCertificateDetails(der);
  if (details === null) return "it cannot be read";
  if (details.issuer !== details.subjectDer) return der.slice();
  if (!details.isCa) return "it is no authority (CA=false)";
  const reader = new DerReader(der);
  reader.open(TAG.SEQUENCE);
  const signed = reader.open(TAG.SEQUENCE);
  const fieldsStart = reader.position;
  skipToExtensions(reader);
  const fields = reader.since(fieldsStart);
  // An authority has basicConstraints, so there are extensions.
  const extensions = readExtensions(reader, trustDomain);
  if (typeof extensions === "string") return extensions;
  reader.close(signed);
  const signatureStart = reader.position;
  reader.skip(TAG.SEQUENCE);
  reader.skip(TAG.BIT_STRING);
  const signature = reader.since(signatureStart);
  if (reader.malformed) return "it cannot be read";
  const wrapped = derElement(EXTENSIONS, derElement(TAG.SEQUENCE, ...extensions));
  return derElement(TAG.SEQUENCE, derElement(TAG.SEQUENCE, fields, wrapped), signature);
}

/** Past everything that stands before them (4.1). */
function skipToExtensions(reader: DerReader): void {
  if (reader.nextTag === VERSION) reader.skip(VERSION);
  reader.skip(TAG.INTEGER); // serial
  reader.skip(TAG.SEQUENCE); // signature algorithm
  reader.skip(TAG.SEQUENCE); // issuer
  reader.skip(TAG.SEQUENCE); // validity
  reader.skip(TAG.SEQUENCE); // subject
  reader.skip(TAG.SEQUENCE); // public key
  if (reader.nextTag === ISSUER_UNIQUE_ID) reader.skip(ISSUER_UNIQUE_ID);
  if (reader.nextTag === SUBJECT_UNIQUE_ID) reader.skip(SUBJECT_UNIQUE_ID);
}

/** The extensions that the copy is to have, or the problem. */
function readExtensions(reader: DerReader, trustDomain: string): Uint8Array[] | string {
  const kept: Uint8Array[] = [];
  let constraints: NameConstraints | null = { permittedHosts: [], permittedOthers: [], excluded: new Uint8Array(0) };
  eachExtension(reader, EXTENSIONS, ({ id, start }) => {
    const value = reader.content(TAG.OCTET_STRING);
    if (hex(id) === NAME_CONSTRAINTS) constraints = readNameConstraints(value);
    else kept.push(reader.since(start));
  });
  if (constraints === null) return "it has name constraints that cannot be read";
  const { permittedHosts } = constraints;
  if (permittedHosts.length > 0 && !permittedHosts.includes(trustDomain))
    return `it may vouch for other trust domains only: its name constraints do not permit "${trustDomain}"`;
  return [...kept, nameConstraintsExtension(constraints, trustDomain)];
}

function readNameConstraints(content: Uint8Array): NameConstraints | null {
  const reader = new DerReader(content);
  const sequence = reader.open(TAG.SEQUENCE);
  const permitted = readPermitted(reader);
  const excludedStart = reader.position;
  if (reader.nextTag === EXCLUDED_SUBTREES) reader.skip(EXCLUDED_SUBTREES);
  const excluded = reader.since(excludedStart);
  reader.close(sequence);
  return reader.malformed || reader.more ? null : { ...permitted, excluded };
}

function readPermitted(reader: DerReader): Pick<NameConstraints, "permittedHosts" | "permittedOthers"> {
  const permittedHosts: string[] = [];
  const permittedOthers: Uint8Array[] = [];
  if (reader.nextTag !== PERMITTED_SUBTREES) return { permittedHosts, permittedOthers };
  const list = reader.open(PERMITTED_SUBTREES);
  while (reader.more) {
    const start = reader.position;
    const subtree = reader.open(TAG.SEQUENCE);
    const tag: number = reader.nextTag;
    const base = reader.content(tag);
    // minimum and maximum, which must not be there, are left for the TLS library to refuse.
    while (reader.more) reader.skip(reader.nextTag);
    reader.close(subtree);
    // Hosts are compared without regard to case (RFC 3986, 3.2.2).
    if (tag === URI) permittedHosts.push(isAscii(base) ? latin1(base).toLowerCase() : "");
    else permittedOthers.push(reader.since(start));
  }
  reader.close(list);
  return { permittedHosts, permittedOthers };
}

/** Critical, so that a library that does not know it refuses rather than passes over it (4.2.1.10). */
function nameConstraintsExtension({ permittedOthers, excluded }: NameConstraints, host: string): Uint8Array {
  const own = derElement(TAG.SEQUENCE, derElement(URI, new TextEncoder().encode(host)));
  const permitted = derElement(PERMITTED_SUBTREES, ...permittedOthers, own);
  return derElement(
    TAG.SEQUENCE,
    derElement(TAG.OBJECT_IDENTIFIER, NAME_CONSTRAINTS_ID),
    derElement(TAG.BOOLEAN, TRUE),
    derElement(TAG.OCTET_STRING, derElement(TAG.SEQUENCE, permitted, excluded)),
  );
}
