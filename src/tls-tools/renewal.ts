// What a certificate says, turned back into the options that it was issued with, so that a new one can say the same. Only what tls-tools issues
// itself: of anything else a part would be lost without a word, so it is refused.

import type { X509Certificate } from "@peculiar/x509";
import { ProxyError } from "../base/errors.ts";
import { parseCertificate } from "./keys.ts";
import type { CertificateOptions } from "./tls-tools.ts";
import { x509 } from "./x509-library.ts";

/** Without its dates. Throws ProxyError `BAD_NAME` when it says more than `issueCertificate` can. */
export function optionsOf(certificate: X509Certificate): Omit<CertificateOptions, "lifetimeMs" | "notBefore"> {
  const dns: string[] = [];
  const ip: string[] = [];
  const uris: string[] = [];
  for (const { type, value } of certificate.getExtension(x509.SubjectAlternativeNameExtension)?.names.items ?? []) {
    if (type === "dns") dns.push(value);
    else if (type === "ip") ip.push(value);
    else if (type === "url") uris.push(value);
    else throw unlike(`an alternative name that is no DNS name, IP address or URI`);
  }
  const [uri] = uris;
  if (uris.length > 1) throw unlike(`${uris.length} URIs`);
  const commonName = commonNameOf(certificate);
  return {
    dns,
    ip,
    ...(uri === undefined ? {} : { uri }),
    ...(commonName === null ? {} : { commonName }),
    usage: usageOf(certificate),
  };
}

/**
 * The common name for an authority that is to take the place of this one. Throws ProxyError `BAD_AUTHORITY` when it is none
 * that `createAuthority` makes as a root: one with another issuer, or with limits on what it may vouch for.
 */
export function replaceableName(authorityPem: string): string {
  const authority = parseCertificate(authorityPem);
  const name = commonNameOf(authority);
  const isPlain = authority.subject === authority.issuer && authority.getExtension(NAME_CONSTRAINTS_ID) === null;
  if (name === null || !isPlain)
    throw new ProxyError(
      "BAD_AUTHORITY",
      `"${authority.subject}" is no plain root: its issuer or its name constraints would be lost`,
    );
  return name;
}

const NAME_CONSTRAINTS_ID = "2.5.29.30";

function commonNameOf(certificate: X509Certificate): string | null {
  const parts = certificate.subjectName.toJSON().flatMap((part) => Object.keys(part));
  if (parts.length === 0) return null;
  const [name] = certificate.subjectName.getField("CN");
  if (name === undefined || parts.length > 1) throw unlike("more than a common name in its subject");
  return name;
}

function usageOf(certificate: X509Certificate): CertificateOptions["usage"] {
  const usages = new Set(certificate.getExtension(x509.ExtendedKeyUsageExtension)?.usages.map(String));
  const isServer = usages.delete(x509.ExtendedKeyUsage.serverAuth);
  const isClient = usages.delete(x509.ExtendedKeyUsage.clientAuth);
  if (usages.size > 0 || !(isServer || isClient)) throw unlike("other extended key usages than server and client");
  return isServer && isClient ? "both" : isServer ? "server" : "client";
}

function unlike(what: string): ProxyError {
  return new ProxyError("BAD_NAME", `the certificate has ${what}: issue it anew where it was issued`);
}
