// Who the client is, read from the certificate that the handshake verified and from nothing else.

import { type CertificateNames, readCertificate } from "../protocol/certificate.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { Ending } from "./ending.ts";

/** The names of a verified client. Kept for as long as the connection lives, so nothing of the certificate that no rule or record asks for. */
export interface Identity
  extends Pick<CertificateNames, "uris" | "dnsNames" | "ips" | "commonNames" | "organizationalUnits"> {
  /** SHA-256 of the certificate, in lower-case hexadecimal. */
  readonly fingerprint: string;
}

/** The identity in the DER of a verified certificate, or an Ending when what it says cannot be trusted as text. */
export function identify(certificate: Uint8Array, { sha256 }: Pick<Runtime, "sha256">): Identity | Ending {
  const names = readCertificate(certificate);
  if (names === null) return new Ending("certificate_rejected", "the certificate cannot be read");
  // A name with a NUL or a newline in it can pass for another one in a rule or in a log.
  if (names.suspicious !== "") return new Ending("certificate_rejected", names.suspicious);
  const { uris, dnsNames, ips, commonNames, organizationalUnits } = names;
  return { uris, dnsNames, ips, commonNames, organizationalUnits, fingerprint: sha256(certificate) };
}

/** What a certificate that was refused says of itself, for the log: never an identity. */
export function describeRefused(certificate: Uint8Array | null): string {
  const names = certificate === null ? null : readCertificate(certificate);
  if (names === null) return "";
  const alternatives = [...names.uris, ...names.dnsNames, ...names.ips];
  const sans = alternatives.length > 0 ? `, SANs ${alternatives.join(" ")}` : "";
  return printable(`subject ${names.subject}${sans}, serial ${names.serial}`);
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?").slice(0, 512);
}
