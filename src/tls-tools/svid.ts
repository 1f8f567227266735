// Whether a certificate is an X509-SVID that a workload may show (SPIFFE X509-SVID, 2 to 5). Its signature is not looked at.

import type { X509Certificate } from "@peculiar/x509";
import { spiffeIdProblem } from "./subject-names.ts";
import { x509 } from "./x509-library.ts";

/** Why it is none, or "" when it is one. Holds nothing that the certificate says. */
export function svidProblem(certificate: X509Certificate): string {
  const names = certificate.getExtension(x509.SubjectAlternativeNameExtension)?.names.items ?? [];
  const uris = names.filter(({ type }) => type === "url").map(({ value }) => value);
  const [uri] = uris;
  if (uri === undefined) return "it has no URI";
  if (uris.length > 1) return `it has ${uris.length} URIs, and may have one`;
  if (spiffeIdProblem(uri) !== null) return "its URI is no SPIFFE ID of a workload";
  if (certificate.getExtension(x509.BasicConstraintsExtension)?.ca === true) return "it is an authority";
  const flags = certificate.getExtension(x509.KeyUsagesExtension)?.usages ?? 0;
  if ((flags & (x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign)) !== 0)
    return "its key may sign certificates or revocation lists";
  if ((flags & x509.KeyUsageFlags.digitalSignature) === 0) return "its key may not make digital signatures";
  return "";
}
