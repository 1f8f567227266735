// Who the client is, read from the certificate that the handshake verified and from nothing else.

import { Recent } from "../base/recent.ts";
import type { CertificateNames } from "../protocol/certificate.ts";
import { type CertificateDetails, readCertificateDetails } from "../protocol/certificate-details.ts";
import { leafProblem, refusalCode } from "../protocol/leaf.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { TerminationSpec } from "../snapshot/snapshot.ts";
import { Ending } from "./ending.ts";

/** The names of a verified client. Kept for as long as its connections live, so nothing of the certificate that no rule or record asks for. */
export interface Identity
  extends Pick<CertificateNames, "uris" | "dnsNames" | "ips" | "commonNames" | "organizationalUnits" | "notAfterMs"> {
  /** SHA-256 of the certificate and of its public key (RFC 7469, 2.4), in lower-case hexadecimal. */
  readonly fingerprint: string;
  readonly spkiFingerprint: string;
}

/** Each is about 1 KiB. */
const KNOWN_AT_MOST = 1024;
/** Larger certificates, of a thousand names, are read each time: to know the last ones would cost 100 MB. */
export const KNOWN_BYTES = 8192;

/**
 * Who the clients of one terminating route are. The same few clients connect again and again, so what was read from the last certificates is kept, by their
 * digest: it depends on nothing else. Whether a certificate is good is for each handshake to verify, and is not remembered.
 */
export class Identities {
  readonly #trustDomains: TerminationSpec["trustDomains"];
  readonly #sha256: Runtime["sha256"];
  readonly #known = new Recent<Identity>(KNOWN_AT_MOST);

  constructor({ sha256 }: Pick<Runtime, "sha256">, { trustDomains }: Pick<TerminationSpec, "trustDomains">) {
    this.#sha256 = sha256;
    this.#trustDomains = trustDomains;
  }

  /** The identity in the DER of a verified certificate, or an Ending when what it says can be nobody's identity. */
  read(certificate: Uint8Array): Identity | Ending {
    const fingerprint = this.#sha256(certificate);
    const known = this.#known.get(fingerprint);
    if (known !== undefined) return known;
    const details = readCertificateDetails(certificate);
    if (details === null) return new Ending("certificate_rejected", "the certificate cannot be read", "CERT_REJECTED");
    const problem = leafProblem(details, this.#trustDomains) || authorityProblem(details);
    if (problem !== "") return new Ending("certificate_rejected", problem, refusalCode(problem));
    const identity: Identity = {
      uris: kept(details.uris),
      dnsNames: kept(details.dnsNames),
      ips: kept(details.ips),
      commonNames: kept(details.commonNames),
      organizationalUnits: kept(details.organizationalUnits),
      notAfterMs: details.notAfterMs,
      fingerprint,
      spkiFingerprint: this.#sha256(details.spki),
    };
    if (certificate.length <= KNOWN_BYTES) this.#known.put(fingerprint, identity);
    return identity;
  }
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
