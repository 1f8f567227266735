// What a leaf certificate says of who shows it, on either side: whether it may be anybody's at all, why a library refused it, and how it is described
// in a log. Whether its chain verifies is not asked here.

import { readCertificate } from "./certificate.ts";
import { type CertificateDetails, readCertificateDetails } from "./certificate-details.ts";
import { parseSpiffeId, svidProblem } from "./spiffe-id.ts";

/** "" or why nobody on either side may be who a leaf says, whoever vouches for it. `trustDomains` is empty where none are configured. */
export function leafProblem(leaf: CertificateDetails, trustDomains: readonly string[]): string {
  // A name with a NUL or a newline in it can pass for another one in a rule or in a log, and one with a comma for two.
  if (leaf.suspicious !== "") return leaf.suspicious;
  if (leaf.uris.some(hasComma)) return "a URI name holds a comma";
  if (leaf.dnsNames.some(hasComma)) return "a DNS name holds a comma";
  // Whoever shows a SPIFFE ID is held to its standard, also where no trust domains are configured: a second URI would be a second identity.
  if (trustDomains.length === 0 && !leaf.uris.some(isSpiffe)) return "";
  const problem = svidProblem(leaf);
  return problem === "" ? "" : `no X.509-SVID: ${problem}`;
}

/** All that BoringSSL says of names that an authority may not vouch for (x509_txt.cc); what it has a code for are other faults. */
const NAME_CONSTRAINTS = /subtree violation$|name constraint|^unsupported or invalid name syntax$/i;

/**
 * The reason to tell for a leaf (DER; null when none was seen) that the TLS library refused. Trust domains are name constraints to it
 * (trust-anchor.ts), of which it speaks in words instead of a code; this says in terms of trust domains what was wrong.
 */
export function refusalReason(reason: string, leaf: Uint8Array | null, trustDomains: readonly string[]): string {
  if (!NAME_CONSTRAINTS.test(reason) || leaf === null || trustDomains.length === 0) return reason;
  const details = readCertificateDetails(leaf);
  const problem = details === null ? "" : leafProblem(details, trustDomains);
  if (problem !== "") return problem;
  const id = parseSpiffeId(details?.uris[0] ?? "");
  if (typeof id === "string") return reason;
  if (!trustDomains.includes(id.trustDomain)) return `the trust domain ${id.trustDomain} is none of those configured`;
  return `no authority of the trust domain ${id.trustDomain} vouches for it (${reason})`;
}

/** What is said in words of a certificate, beside the codes of the TLS library, as codes. The names are OpenSSL's where it has one. */
const CODES: readonly (readonly [RegExp, string])[] = [
  [/^not for the address /, "IP_ADDRESS_MISMATCH"],
  [/^(not for the name |no DNS name matches )/, "HOSTNAME_MISMATCH"],
  [/^no URI name matches /, "URI_MISMATCH"],
  [/^no X\.509-SVID/, "INVALID_SVID"],
  [/^no authority vouches for it$/, "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"],
  [/^excluded subtree violation$/, "EXCLUDED_VIOLATION"],
  [NAME_CONSTRAINTS, "PERMITTED_VIOLATION"],
];

/** The code for a reason to refuse a certificate, for programs: of the TLS library, or of what this program finds itself. */
export function refusalCode(reason: string): string {
  const code = /^(?:an authority in its chain: )?([A-Z][A-Z0-9_]+)$/.exec(reason)?.[1];
  return code ?? CODES.find(([words]) => words.test(reason))?.[1] ?? "CERT_REJECTED";
}

/** What a certificate that was refused says of itself, for the log: never an identity. */
export function describeRefused(certificate: Uint8Array | null): string {
  const names = certificate === null ? null : readCertificate(certificate);
  if (names === null) return "";
  const alternatives = [...names.uris, ...names.dnsNames, ...names.ips];
  const sans = alternatives.length > 0 ? `, SANs ${alternatives.map(quoted).join(" ")}` : "";
  return printable(`subject ${names.subject || "(empty)"}${sans}, serial ${names.serial}`);
}

/** A name as it is, or in quotes where it could be taken for more than one. */
function quoted(name: string): string {
  return /^[!#-+\--~]+$/.test(name) ? name : JSON.stringify(name);
}

/** Text from a peer, made safe for a log. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?").slice(0, 512);
}

function hasComma(name: string): boolean {
  return name.includes(",");
}

/** In any case, as RFC 3986 reads schemes: what only looks like a SPIFFE ID is held to the standard too, and fails. */
function isSpiffe(uri: string): boolean {
  return /^spiffe:/i.test(uri);
}
