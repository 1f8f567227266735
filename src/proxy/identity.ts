// Who the client is, read from the certificate that the handshake verified and from nothing else.

import type { CertificateNames } from "../protocol/certificate.ts";
import { type CertificateDetails, readCertificateDetails } from "../protocol/certificate-details.ts";
import { leafProblem, refusalCode } from "../protocol/leaf.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { TerminationSpec } from "../snapshot/snapshot.ts";
import { Ending } from "./ending.ts";

/** The names of a verified client. Kept for as long as the connection lives, so nothing of the certificate that no rule or record asks for. */
export interface Identity
  extends Pick<CertificateNames, "uris" | "dnsNames" | "ips" | "commonNames" | "organizationalUnits" | "notAfterMs"> {
  /** SHA-256 of the certificate and of its public key (RFC 7469, 2.4), in lower-case hexadecimal. Both are "" where no record is kept. */
  readonly fingerprint: string;
  readonly spkiFingerprint: string;
}

/**
 * The identity in the DER of a verified certificate, or an Ending when what it says can be nobody's identity. Fingerprints are for the record:
 * without `sha256` there are none.
 */
export function identify(
  certificate: Uint8Array,
  { trustDomains }: Pick<TerminationSpec, "trustDomains">,
  sha256: Runtime["sha256"] | null,
): Identity | Ending {
  const details = readCertificateDetails(certificate);
  if (details === null) return new Ending("certificate_rejected", "the certificate cannot be read", "CERT_REJECTED");
  const problem = leafProblem(details, trustDomains) || authorityProblem(details);
  if (problem !== "") return new Ending("certificate_rejected", problem, refusalCode(problem));
  return {
    uris: kept(details.uris),
    dnsNames: kept(details.dnsNames),
    ips: kept(details.ips),
    commonNames: kept(details.commonNames),
    organizationalUnits: kept(details.organizationalUnits),
    notAfterMs: details.notAfterMs,
    fingerprint: sha256?.(certificate) ?? "",
    spkiFingerprint: sha256?.(details.spki) ?? "",
  };
}

/** Most connections have no names of most kinds, and there are many connections: these share one empty list. */
function kept(names: readonly string[]): readonly string[] {
  return names.length === 0 ? NO_NAMES : names;
}

const NO_NAMES: readonly string[] = [];

/** "" or why a client cannot show this: with a key that signs certificates it could be anybody. */
function authorityProblem({ isCa, keyUsage }: CertificateDetails): string {
  if (isCa) return "it is an authority (CA=true)";
  return keyUsage?.keyCertSign === true ? "its key may sign certificates" : "";
}
