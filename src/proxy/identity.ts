// Who the client is, read from the certificate that the handshake verified and from nothing else.

import { type CertificateNames, readCertificate } from "../protocol/certificate.ts";
import { Ending } from "./ending.ts";
import type { Secured } from "./handshake.ts";

export type Identity = CertificateNames;

/** The verified identity; null when the client showed no certificate; an Ending when what it says cannot be trusted as text. */
export function identify(secured: Pick<Secured, "peerCertificate">): Identity | null | Ending {
  if (secured.peerCertificate === null) return null;
  const names = readCertificate(secured.peerCertificate);
  if (names === null) return new Ending("certificate_rejected", "the certificate cannot be read");
  // A name with a NUL or a newline in it can pass for another one in a rule or in a log.
  if (names.suspicious !== "") return new Ending("certificate_rejected", names.suspicious);
  return names;
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
