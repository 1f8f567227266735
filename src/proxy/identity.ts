// Who the client is, read from the certificate that the handshake verified and from nothing else.

import { type CertificateNames, readCertificate } from "../protocol/certificate.ts";
import { readCertificateDetails } from "../protocol/certificate-details.ts";
import { svidProblem } from "../protocol/spiffe-id.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { TerminationSpec } from "../snapshot/snapshot.ts";
import { Ending } from "./ending.ts";

/** The names of a verified client. Kept for as long as the connection lives, so nothing of the certificate that no rule or record asks for. */
export interface Identity
  extends Pick<CertificateNames, "uris" | "dnsNames" | "ips" | "commonNames" | "organizationalUnits" | "notAfterMs"> {
  /** SHA-256 of the certificate, in lower-case hexadecimal. */
  readonly fingerprint: string;
}

/**
 * The identity in the DER of a verified certificate, or an Ending when what it says cannot be trusted as text, or when it is no X.509-SVID where
 * trust domains are configured.
 */
export function identify(
  certificate: Uint8Array,
  { trustDomains }: Pick<TerminationSpec, "trustDomains">,
  { sha256 }: Pick<Runtime, "sha256">,
): Identity | Ending {
  const names = readCertificate(certificate);
  if (names === null) return new Ending("certificate_rejected", "the certificate cannot be read");
  // A name with a NUL or a newline in it can pass for another one in a rule or in a log.
  if (names.suspicious !== "") return new Ending("certificate_rejected", names.suspicious);
  if (trustDomains.length > 0) {
    const details = readCertificateDetails(certificate);
    const problem = details === null ? "it cannot be read" : svidProblem(details);
    if (problem !== "") return new Ending("certificate_rejected", `no X.509-SVID: ${problem}`);
  }
  const { uris, dnsNames, ips, commonNames, organizationalUnits, notAfterMs } = names;
  return { uris, dnsNames, ips, commonNames, organizationalUnits, notAfterMs, fingerprint: sha256(certificate) };
}

/** What a certificate that was refused says of itself, for the log: never an identity. */
export function describeRefused(certificate: Uint8Array | null): string {
  const names = certificate === null ? null : readCertificate(certificate);
  if (names === null) return "";
  const alternatives = [...names.uris, ...names.dnsNames, ...names.ips];
  const sans = alternatives.length > 0 ? `, SANs ${alternatives.join(" ")}` : "";
  return printable(`subject ${names.subject}${sans}, serial ${names.serial}`);
}

/** Text for a log, whoever wrote it. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?").slice(0, 512);
}
