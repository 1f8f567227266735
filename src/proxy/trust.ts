// Whether a certificate that verified once would verify against other authorities and revocation lists: what a change of them asks of every live
// connection. A handshake is never judged here; that is the TLS library's. Of a live connection the platform shows only the leaf, so an
// issuer that the peer sent along, and that is not among the authorities, is unknown: then the answer errs on the side of no.

import { type CertificateDetails, readCertificateDetails } from "../protocol/certificate-details.ts";
import { pemBytes } from "../protocol/pem.ts";
import { type RevocationList, readRevocationList } from "../protocol/revocation-list.ts";
import { parseSpiffeId, svidProblem } from "../protocol/spiffe-id.ts";
import { constrainAnchor } from "../protocol/trust-anchor.ts";
import type { Runtime } from "../runtime/runtime.ts";

/** Authorities and lists as a snapshot has them. */
export interface TrustSpec {
  /** PEM, one certificate each. */
  readonly anchorsPem: readonly string[];
  /** PEM, one CRL each. */
  readonly crlsPem: readonly string[];
  /** Empty: any certificate that verifies. Else it has to be an X.509-SVID. */
  readonly trustDomains: readonly string[];
}

interface Anchor {
  readonly pem: string;
  readonly der: Uint8Array;
  readonly details: CertificateDetails;
}

/** A chain of more authorities than this is none that was meant. */
const CHAIN_LIMIT = 8;

/** Authorities and lists, taken apart when first needed: most never are. */
export class Trust {
  readonly spec: TrustSpec;
  #bySubject: Map<string, Anchor[]> | null = null;
  #lists: RevocationList[] | null = null;

  constructor(spec: TrustSpec) {
    this.spec = spec;
  }

  /** Whether nothing is said here that `other` does not say too. */
  equals({ spec }: Trust): boolean {
    return (
      sameTexts(this.spec.anchorsPem, spec.anchorsPem) &&
      sameTexts(this.spec.crlsPem, spec.crlsPem) &&
      sameTexts(this.spec.trustDomains, spec.trustDomains)
    );
  }

  /** "" when a leaf (DER) that verified against `before` would here, or why not. */
  refusal(leaf: Uint8Array, before: Trust, runtime: Pick<Runtime, "isSignedBy">): string {
    const details = readCertificateDetails(leaf);
    if (details === null) return "the certificate cannot be read";
    if (this.spec.trustDomains.length > 0) {
      const problem = svidProblem(details);
      if (problem !== "") return `no X.509-SVID: ${problem}`;
    }
    let below: { readonly der: Uint8Array; readonly details: CertificateDetails } = { der: leaf, details };
    for (let depth = 0; depth < CHAIN_LIMIT; depth++) {
      const revocation = this.#revocation(below.details);
      if (revocation !== "") return depth === 0 ? revocation : `an authority in its chain: ${revocation}`;
      const issuer = this.#issuerOf(below, before, runtime);
      if (issuer === null)
        return depth === 0 && before.#hasAllIn(this, below.details) ? "" : "no authority vouches for it";
      if (issuer.details.issuer === issuer.details.subjectDer) return this.#domainProblem(details, issuer);
      below = issuer;
    }
    return "its chain is too long";
  }

  /** Why a root is not one of the leaf's trust domain, or "". */
  #domainProblem({ uris }: CertificateDetails, root: Anchor): string {
    if (this.spec.trustDomains.length === 0) return "";
    const id = parseSpiffeId(uris[0] ?? "");
    const domain = typeof id === "string" ? "" : id.trustDomain;
    // A root that is kept to a domain can be kept to that one again, and to no other.
    return typeof constrainAnchor(root.der, domain) === "string" ? `its authority does not vouch for "${domain}"` : "";
  }

  /** The authority here that signed a certificate, or null. */
  #issuerOf(
    { der, details }: { readonly der: Uint8Array; readonly details: CertificateDetails },
    before: Trust,
    runtime: Pick<Runtime, "isSignedBy">,
  ): Anchor | null {
    const candidates = this.#anchorsNamed(details.issuer);
    const known = before.#anchorsNamed(details.issuer).filter((anchor) => mayHaveSigned(anchor, details));
    const [key, ...others] = known.map((anchor) => anchor.details.spki);
    // One key can have signed it, and did. With that key still here there is no need to verify again, which would take longer than all the rest.
    const same = others.length > 0 ? undefined : candidates.find((anchor) => sameBytes(anchor.details.spki, key));
    return same ?? candidates.find((anchor) => runtime.isSignedBy(der, anchor.der)) ?? null;
  }

  /**
   * Whether a leaf whose issuer was sent along by the peer may still rest on what it rested on: on one of these, and `now` has the keys of all
   * that may vouch for it.
   */
  #hasAllIn(now: Trust, leaf: CertificateDetails): boolean {
    if (this.#anchorsNamed(leaf.issuer).length > 0) return false;
    const anchors = [...this.#anchors().values()].flat().filter((anchor) => this.#domainProblem(leaf, anchor) === "");
    const isStill = ({ details }: Anchor): boolean =>
      now
        .#anchorsNamed(details.subjectDer)
        .some((other) => sameBytes(other.details.spki, details.spki) && now.#domainProblem(leaf, other) === "");
    return anchors.length > 0 && anchors.every(isStill);
  }

  /** What the TLS library would say of a certificate by the lists: "", that it is revoked, or that its issuer has no list although there are some. */
  #revocation(certificate: CertificateDetails): string {
    if (this.spec.crlsPem.length === 0) return "";
    this.#lists ??= this.spec.crlsPem.flatMap((pem) => {
      const der = pemBytes(pem);
      return (der === null ? null : readRevocationList(der)) ?? [];
    });
    const lists = this.#lists.filter((list) => isAbout(list, certificate));
    if (lists.length === 0) return "UNABLE_TO_GET_CRL";
    return lists.some((list) => list.isRevoked(certificate.serial)) ? "CERT_REVOKED" : "";
  }

  #anchorsNamed(subject: string): readonly Anchor[] {
    return this.#anchors().get(subject) ?? [];
  }

  #anchors(): ReadonlyMap<string, Anchor[]> {
    if (this.#bySubject !== null) return this.#bySubject;
    this.#bySubject = new Map();
    for (const pem of this.spec.anchorsPem) {
      const der = pemBytes(pem);
      const details = der === null ? null : readCertificateDetails(der);
      if (der === null || details === null) continue;
      const same = this.#bySubject.get(details.subjectDer);
      if (same === undefined) this.#bySubject.set(details.subjectDer, [{ pem, der, details }]);
      else same.push({ pem, der, details });
    }
    return this.#bySubject;
  }
}

/** Whether the key identifiers allow it (RFC 5280, 4.2.1.1); they distinguish CAs of the same name. */
function mayHaveSigned({ details: { subjectKeyId } }: Anchor, { authorityKeyId }: CertificateDetails): boolean {
  return subjectKeyId === "" || authorityKeyId === "" || subjectKeyId === authorityKeyId;
}

function isAbout(list: RevocationList, { issuer, authorityKeyId }: CertificateDetails): boolean {
  const { authorityKeyId: listKeyId } = list;
  return list.issuer === issuer && (listKeyId === "" || authorityKeyId === "" || listKeyId === authorityKeyId);
}

function sameBytes(first: Uint8Array, second: Uint8Array | undefined): boolean {
  return first.length === second?.length && first.every((byte, index) => byte === second[index]);
}

function sameTexts(first: readonly string[], second: readonly string[]): boolean {
  return first.length === second.length && first.every((text, index) => text === second[index]);
}
