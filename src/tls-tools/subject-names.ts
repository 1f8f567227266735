// The names that a certificate is to carry, checked before they are signed: a name that verifiers read differently from
// its issuer is worse than an error. DNS names, IP addresses and SPIFFE IDs; nothing else is issued.

import type { JsonGeneralNames } from "@peculiar/x509";
import { ProxyError } from "../base/errors.ts";
import { formatIp, parseIp } from "../base/ip.ts";

/** The names that a certificate stands for. */
export interface SubjectNames {
  /** Host names; `*.` may stand for the first label. */
  readonly dns?: readonly string[];
  /** IP literals. */
  readonly ip?: readonly string[];
  /** A SPIFFE ID. One at most, since a SPIFFE certificate carries exactly one URI (X509-SVID, 2). */
  readonly uri?: string;
}

/** ub-common-name (RFC 5280, appendix A). OpenSSL refuses more. */
const MAX_COMMON_NAME_LENGTH = 64;
/** The length that SPIFFE-ID, 2.3 asks every implementation to support, and none to exceed. */
const MAX_SPIFFE_ID_LENGTH = 2048;
const DNS_NAME = /^(\*\.)?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/;

/** The names in the library's form. Throws ProxyError `BAD_NAME` for the first that a verifier would refuse or misread. */
export function subjectAlternativeNames(names: SubjectNames): JsonGeneralNames {
  const checked: JsonGeneralNames = [];
  for (const name of names.dns ?? []) checked.push({ type: "dns", value: checkedDnsName(name) });
  for (const text of names.ip ?? []) {
    const bytes = parseIp(text);
    if (bytes === null) throw new ProxyError("BAD_NAME", `"${text}" is not an IP address`);
    checked.push({ type: "ip", value: formatIp(bytes) });
  }
  if (names.uri !== undefined) checked.push({ type: "url", value: checkedSpiffeId(names.uri) });
  return checked;
}

/** The common name itself. Throws ProxyError `BAD_NAME` when it is empty, too long or holds control characters. */
export function checkedCommonName(name: string): string {
  if (name === "" || name.length > MAX_COMMON_NAME_LENGTH || /\p{Cc}/u.test(name))
    throw new ProxyError("BAD_NAME", `a common name has 1 to ${MAX_COMMON_NAME_LENGTH} printable characters`);
  return name;
}

function checkedDnsName(name: string): string {
  const lower = name.toLowerCase();
  // Verifiers read four numbers as an address and look for it among the IP names only.
  if (parseIp(lower) !== null) throw new ProxyError("BAD_NAME", `"${name}" is an IP address, not a DNS name`);
  if (lower.length > 253 || !DNS_NAME.test(lower))
    throw new ProxyError(
      "BAD_NAME",
      `"${name}" is not a DNS name: letters, digits, hyphens, and "*." first if a wildcard`,
    );
  return lower;
}

function checkedSpiffeId(uri: string): string {
  const problem = spiffeIdProblem(uri);
  if (problem !== null) throw new ProxyError("BAD_NAME", `"${uri}" is not a SPIFFE ID: ${problem}`);
  return uri;
}

/** Null for the SPIFFE ID of a workload: SPIFFE-ID, 2.1 and 2.2, and a path that is not empty (X509-SVID, 5.2). */
export function spiffeIdProblem(uri: string): string | null {
  if (!uri.startsWith("spiffe://")) return "it begins with spiffe://";
  if (uri.length > MAX_SPIFFE_ID_LENGTH) return `it has at most ${MAX_SPIFFE_ID_LENGTH} characters`;
  const [trustDomain = "", ...segments] = uri.slice("spiffe://".length).split("/");
  if (!/^[a-z0-9._-]{1,255}$/.test(trustDomain))
    return "a trust domain has 1 to 255 lower-case letters, digits, dots, hyphens and underscores, and no port";
  if (segments.length === 0) return "a path must follow the trust domain, such as /workload";
  for (const segment of segments) {
    if (segment === "" || segment === "." || segment === "..") return "no path segment is empty, . or ..";
    if (!/^[A-Za-z0-9._-]+$/.test(segment)) return `"${segment}" has characters other than letters, digits, . - _`;
  }
  return null;
}
