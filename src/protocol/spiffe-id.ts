// SPIFFE IDs and the certificates that carry them, as the SPIFFE-ID and X509-SVID standards have them (spiffe.io, version 1.0).

import type { CertificateDetails } from "./certificate-details.ts";

/** SPIFFE-ID, 2.1 and 2.3. */
const TRUST_DOMAIN_MAX_BYTES = 255;
const ID_MAX_BYTES = 2048;
const SCHEME = "spiffe://";

/** What of a certificate `svidProblem` looks at. */
export type SvidFields = Pick<CertificateDetails, "uris" | "isCa" | "keyUsage">;

/** The parts of a SPIFFE ID. */
export interface SpiffeId {
  readonly trustDomain: string;
  /** With its leading slash; "" in the ID of a trust domain itself. */
  readonly path: string;
}

/**
 * Takes a URI apart, or says why it is no SPIFFE ID. The text never repeats the URI, so it is safe to log. Nothing is normalised: IDs are
 * equal when their bytes are.
 */
export function parseSpiffeId(uri: string): SpiffeId | string {
  if (!uri.startsWith(SCHEME)) return "the scheme is not spiffe://";
  if (uri.length > ID_MAX_BYTES) return `it is longer than ${ID_MAX_BYTES} bytes`;
  const slash = uri.indexOf("/", SCHEME.length);
  const trustDomain = slash < 0 ? uri.slice(SCHEME.length) : uri.slice(SCHEME.length, slash);
  const path = slash < 0 ? "" : uri.slice(slash);
  const problem = trustDomainProblem(trustDomain) || pathProblem(path);
  return problem === "" ? { trustDomain, path } : problem;
}

/** Why `name` is no name of a trust domain, or "". */
export function trustDomainProblem(name: string): string {
  if (name === "") return "the trust domain is empty";
  if (name.length > TRUST_DOMAIN_MAX_BYTES) return `the trust domain is longer than ${TRUST_DOMAIN_MAX_BYTES} bytes`;
  if (!/^[a-z0-9._-]+$/.test(name)) return "a trust domain has only a-z, 0-9, dots, hyphens and underscores";
  return "";
}

/** Why a certificate is no X.509-SVID of a workload (X509-SVID, 2 to 5), or "". Its signature is not this function's to judge. */
export function svidProblem({ uris, isCa, keyUsage }: SvidFields): string {
  const [uri, ...others] = uris;
  if (uri === undefined) return "it has no URI name";
  if (others.length > 0) return `it has ${uris.length} URI names, and exactly one is allowed`;
  const id = parseSpiffeId(uri);
  if (typeof id === "string") return `its URI name is no SPIFFE ID: ${id}`;
  if (id.path === "") return "its SPIFFE ID has no path: it names a trust domain and no workload";
  if (isCa) return "it is an authority (CA=true)";
  if (keyUsage?.keyCertSign === true || keyUsage?.crlSign === true) return "its key may sign certificates or lists";
  // Without the extension a key may do anything; the validation of 5.2 lets that pass, although 4.3 asks issuers for it.
  if (keyUsage !== null && !keyUsage.digitalSignature) return "its key may not make digital signatures";
  return "";
}

function pathProblem(path: string): string {
  if (path === "") return "";
  for (const segment of path.slice(1).split("/")) {
    if (segment === "") return "its path has an empty segment or ends in a slash";
    if (segment === "." || segment === "..") return "its path has a segment of dots";
    if (!/^[A-Za-z0-9._-]+$/.test(segment))
      return "its path has a character other than letters, digits, dots, hyphens and underscores";
  }
  return "";
}
