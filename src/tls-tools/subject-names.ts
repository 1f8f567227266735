// The names that a certificate is to carry, checked before they are signed: a name that verifiers read differently from
// its issuer is worse than an error. DNS names, IP addresses and SPIFFE IDs; nothing else is issued.

import type { JsonGeneralNames } from "@peculiar/x509";
import { ProxyError } from "../base/errors.ts";
import { formatIp, parseIp } from "../base/ip.ts";
import { parseSpiffeId } from "../protocol/spiffe-id.ts";

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
  const id = parseSpiffeId(uri);
  if (typeof id === "string") throw new ProxyError("BAD_NAME", `"${uri}" is not a SPIFFE ID: ${id}`);
  // X509-SVID, 5.2: a workload's path is not empty.
  if (id.path === "") throw new ProxyError("BAD_NAME", `"${uri}" names a trust domain: add a path, such as /workload`);
  return uri;
}
