// Verifying a certificate's chain (RFC 5280, 6), for a platform whose TLS library cannot be asked for all of it. Strict where OpenSSL is: only
// self-issued authorities of the list are anchors, everything in the chain has its dates, uses and constraints looked at, and with revocation
// lists every certificate must have one that is signed by its issuer and up to date. The arithmetic of signatures is the caller's.
//
// Anybody may send a chain, so what one costs is bounded: chains are put together by names first, and signatures verified from the anchor down. Whatever
// a peer has made up itself fails at the first one; no key is computed with that an authority of ours does not vouch for.

import { EXTENDED_KEY_USAGE } from "./certificate-details.ts";
import { type ChainLink, readChainLink } from "./chain-link.ts";
import { constraintViolation } from "./name-constraints.ts";
import type { RevocationList } from "./revocation-list.ts";

/** A list with what its signature is verified by. */
export interface SignedList {
  readonly der: Uint8Array;
  readonly list: RevocationList;
}

/** Whom to believe. */
export interface ChainTrust {
  /** All authorities of the config: those that issued themselves are anchors, the others may stand in a chain. */
  readonly authorities: readonly ChainLink[];
  /** When there are any, each certificate of a chain needs one. */
  readonly lists: readonly SignedList[];
  /** Which side of a connection the leaf has to be for. */
  readonly usage: "client" | "server";
  /** Whether the key of `issuer` signed `certificate` (both DER). */
  isSignedBy(certificate: Uint8Array, issuer: Uint8Array): boolean;
  /** Whether the key of `issuer` (DER) signed the list. */
  isListSignedBy(list: Uint8Array, issuer: Uint8Array): boolean;
}

/** Authorities in a chain, the anchor among them. */
const CHAIN_LIMIT = 8;
/** Certificates of a peer that are looked at. */
const PRESENTED_LIMIT = 10;
/** Steps upwards that are tried: a peer can send many authorities of one name, and these make many chains. */
const STEP_LIMIT = 100;
/** Signatures that one verification may cost. */
const SIGNATURE_LIMIT = 32;

const WEAK_SIGNATURES: readonly string[] = ["ecdsa-with-SHA1", "RSA-SHA1", "RSA-MD5"];

/** Of several chains that fail, what is told: the reason of one that got further. Revocation is never outweighed. */
const REVOKED = "CERT_REVOKED";
const UNVERIFIED = "UNABLE_TO_VERIFY_LEAF_SIGNATURE";

/** What came of a verification. */
export interface ChainVerdict {
  /** "" or why no chain leads to an anchor: BoringSSL's name of it, or its words where it has none. */
  readonly fault: string;
  /** When there is no fault: the chain that is good, from the leaf to the anchor. */
  readonly chain: readonly ChainLink[];
}

/** Whether a chain leads from the first certificate (DER) to an anchor. */
export function verifyChain(presented: readonly Uint8Array[], trust: ChainTrust, nowMs: number): ChainVerdict {
  const [leaf, ...others] = presented.slice(0, PRESENTED_LIMIT).map(readChainLink);
  if (leaf === undefined || leaf === null) return { fault: "CERT_UNREADABLE", chain: [] };
  // With such a key nobody can end a handshake, so this is found out before all else.
  if (leaf.details.keyUsage?.digitalSignature === false) return { fault: "KEY_USAGE_BIT_INCORRECT", chain: [] };
  const search = new Search(trust, issuersFor(leaf, others, trust), nowMs);
  search.extend([leaf]);
  return search.verdict();
}

/** Who may stand above the leaf: ours first, each certificate once. */
function issuersFor(leaf: ChainLink, presented: readonly (ChainLink | null)[], trust: ChainTrust): ChainLink[] {
  const issuers = trust.authorities.filter((each) => !isSame(each, leaf));
  for (const link of presented)
    if (link !== null && !isSame(link, leaf) && !issuers.some((each) => isSame(each, link))) issuers.push(link);
  return issuers;
}

/** Whether two links are the same certificate. */
function isSame(first: ChainLink, second: ChainLink): boolean {
  return first.der.length === second.der.length && first.der.every((byte, index) => byte === second.der[index]);
}

function isSelfIssued({ details }: ChainLink): boolean {
  return details.issuer === details.subjectDer;
}

/** By what it says: nobody else is to be looked for. Between two keys of an authority there are some that issued themselves and are signed by the other. */
function isSelfSigned(link: ChainLink): boolean {
  const { authorityKeyId, subjectKeyId } = link.details;
  return isSelfIssued(link) && (authorityKeyId === "" || authorityKeyId === subjectKeyId);
}

/** Goes through the chains that there are. */
class Search {
  readonly #trust: ChainTrust;
  readonly #issuers: readonly ChainLink[];
  readonly #nowMs: number;
  readonly #signed = new Map<ChainLink, Map<ChainLink, boolean>>();
  #steps = 0;
  #signatures = 0;
  #good: readonly ChainLink[] = [];
  #isRevoked = false;
  /** Of the first complete chain. */
  #fault = "";
  /** A chain was complete by its names only. */
  #isForged = false;
  /** Where no chain was complete. */
  #gap = "";

  constructor(trust: ChainTrust, issuers: readonly ChainLink[], nowMs: number) {
    this.#trust = trust;
    this.#issuers = issuers;
    this.#nowMs = nowMs;
  }

  verdict(): ChainVerdict {
    if (this.#isRevoked) return { fault: REVOKED, chain: [] };
    if (this.#good.length > 0) return { fault: "", chain: this.#good };
    const gap = this.#isForged ? "CERT_SIGNATURE_FAILURE" : this.#gap;
    return { fault: this.#fault || gap || UNVERIFIED, chain: [] };
  }

  /** `chain`: from the leaf upwards, by names; the last one's issuer is to be found. */
  extend(chain: readonly ChainLink[]): void {
    if (this.#steps++ >= STEP_LIMIT) return;
    const last = chain[chain.length - 1] as ChainLink;
    const { authorities } = this.#trust;
    const anchor = isSelfIssued(last) ? authorities.find((each) => isAnchorFor(each, last)) : undefined;
    if (anchor !== undefined && chain.length > 1) {
      this.#judge([...chain.slice(0, -1), anchor]);
      return;
    }
    const candidates = isSelfSigned(last) ? [] : this.#issuersOf(last).filter((each) => !chain.includes(each));
    for (const candidate of chain.length < CHAIN_LIMIT ? candidates : []) this.extend([...chain, candidate]);
    if (candidates.length === 0) this.#gap ||= gapOf(chain, last);
  }

  /**
   * One of ours that goes by the name stands for all who do, as to BoringSSL. Were a peer's own of that name believed as well, it would outlive
   * the authority above it: trust.ts takes a leaf to be signed by whom of ours it names.
   */
  #issuersOf(link: ChainLink): readonly ChainLink[] {
    const named = this.#issuers.filter((each) => isNamedBy(each, link));
    const ours = named.filter((each) => this.#trust.authorities.includes(each));
    return ours.length > 0 ? ours : named;
  }

  #judge(chain: readonly ChainLink[]): void {
    for (let depth = chain.length - 2; depth >= 0; depth--) {
      if (this.#hasSigned(chain[depth + 1] as ChainLink, chain[depth] as ChainLink)) continue;
      this.#isForged = true;
      return;
    }
    const fault = this.#faultOf(chain);
    if (fault === REVOKED) this.#isRevoked = true;
    else if (fault !== "") this.#fault ||= fault;
    else if (this.#good.length === 0) this.#good = chain;
  }

  #hasSigned(issuer: ChainLink, link: ChainLink): boolean {
    const known = this.#signed.get(issuer) ?? new Map<ChainLink, boolean>();
    this.#signed.set(issuer, known);
    const answer =
      known.get(link) ?? (this.#signatures++ < SIGNATURE_LIMIT && this.#trust.isSignedBy(link.der, issuer.der));
    known.set(link, answer);
    return answer;
  }

  /** `chain` ends with an anchor. */
  #faultOf(chain: readonly ChainLink[]): string {
    // Revocation goes first: another chain past the same certificate must not be believed.
    let fault = "";
    for (const [depth, link] of chain.entries()) {
      const revocation = this.#revocationOf(link, chain[depth + 1] ?? link);
      if (revocation === REVOKED) return REVOKED;
      fault ||= revocation;
    }
    let below = 0;
    for (const [depth, link] of chain.entries()) {
      const own = this.#ownFaultOf(link, { isLeaf: depth === 0, isAnchor: depth === chain.length - 1 });
      if (own !== "") return own;
      if (depth > 0 && below > link.pathLength) return "PATH_LENGTH_EXCEEDED";
      if (depth > 0 && !isSelfIssued(link)) below++;
      for (const lower of chain.slice(0, depth)) {
        const violation = constraintViolation(link, lower);
        if (violation !== "") return violation;
      }
    }
    return fault;
  }

  #ownFaultOf(link: ChainLink, { isLeaf, isAnchor }: { readonly isLeaf: boolean; readonly isAnchor: boolean }): string {
    const { details, isV3, demandsUnknown } = link;
    if (details.notBeforeMs > this.#nowMs) return "CERT_NOT_YET_VALID";
    if (details.notAfterMs < this.#nowMs) return "CERT_HAS_EXPIRED";
    if (!isV3) return isLeaf ? "UNSUPPORTED_CERT_VERSION" : "INVALID_CA";
    if (demandsUnknown) return "UNHANDLED_CRITICAL_EXTENSION";
    if (!isAnchor && WEAK_SIGNATURES.includes(details.signatureAlgorithm)) return "CA_MD_TOO_WEAK";
    const { isCa, keyUsage, extendedKeyUsages } = details;
    const wanted = this.#trust.usage === "client" ? EXTENDED_KEY_USAGE.CLIENT_AUTH : EXTENDED_KEY_USAGE.SERVER_AUTH;
    if (!isLeaf && (!isCa || keyUsage?.keyCertSign === false)) return "INVALID_CA";
    return extendedKeyUsages.length === 0 || extendedKeyUsages.includes(wanted) ? "" : "INVALID_PURPOSE";
  }

  #revocationOf({ details }: ChainLink, issuer: ChainLink): string {
    const { lists, isListSignedBy } = this.#trust;
    if (lists.length === 0) return "";
    const { subjectDer, subjectKeyId, keyUsage } = issuer.details;
    const about = lists.filter(
      ({ der, list }) =>
        list.issuer === subjectDer &&
        (list.authorityKeyId === "" || subjectKeyId === "" || list.authorityKeyId === subjectKeyId) &&
        isListSignedBy(der, issuer.der),
    );
    if (about.some(({ list }) => list.isRevoked(details.serial))) return REVOKED;
    if (about.length === 0) return "UNABLE_TO_GET_CRL";
    if (keyUsage?.crlSign === false) return "KEYUSAGE_NO_CRL_SIGN";
    const current = about.filter(({ list }) => list.nextUpdateMs > this.#nowMs && list.problem === "");
    if (current.length === 0) return "CRL_HAS_EXPIRED";
    return current.some(({ list }) => list.thisUpdateMs <= this.#nowMs) ? "" : "CRL_NOT_YET_VALID";
  }
}

/** The same certificate, or its copy with constraints of ours (trust-anchor.ts): it is what we have that counts. */
function isAnchorFor(anchor: ChainLink, { details }: ChainLink): boolean {
  const { subjectDer, spki } = anchor.details;
  return (
    isSelfIssued(anchor) &&
    subjectDer === details.subjectDer &&
    spki.length === details.spki.length &&
    spki.every((byte, index) => byte === details.spki[index])
  );
}

/** Whether `link` names this issuer, and its key where both say which. */
function isNamedBy(issuer: ChainLink, { details }: ChainLink): boolean {
  const { subjectDer, subjectKeyId } = issuer.details;
  const { authorityKeyId } = details;
  return (
    subjectDer === details.issuer && (subjectKeyId === "" || authorityKeyId === "" || subjectKeyId === authorityKeyId)
  );
}

function gapOf(chain: readonly ChainLink[], last: ChainLink): string {
  if (isSelfIssued(last)) return chain.length === 1 ? "DEPTH_ZERO_SELF_SIGNED_CERT" : "SELF_SIGNED_CERT_IN_CHAIN";
  return chain.length === 1 ? UNVERIFIED : "UNABLE_TO_GET_ISSUER_CERT";
}
