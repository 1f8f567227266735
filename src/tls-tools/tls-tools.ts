// What an operator needs to get mTLS going where no PKI is at hand: a development authority, the certificates it issues, its
// renewals, revocation lists, and a plain account of what a certificate says. PEM texts in, PEM texts out; no files, no network.
// It is the package's `bunnel/tls-tools`. Keys are P-256: the fastest handshakes, and understood by every peer.
//
// Loading it takes some 70 ms, for the library beneath: import it where it is used, not at the top of a program.
// It is no certificate authority for production: it keeps no database of what it issued, and keys are not protected.

import type { Extension, JsonGeneralNames, X509Certificate } from "@peculiar/x509";
import { hex } from "../base/bytes.ts";
import { ProxyError } from "../base/errors.ts";
import { readCertificateDetails } from "../protocol/certificate-details.ts";
import { splitPem } from "../protocol/pem.ts";
import { svidProblem } from "../protocol/spiffe-id.ts";
import { crlNumberExtension, type NameConstraints, nameConstraintsExtension } from "./extensions.ts";
import {
  generateKeys,
  identifierOf,
  importKeyOf,
  KEY_ALGORITHM,
  keyTypeOf,
  ownsKey,
  parseCertificate,
} from "./keys.ts";
import { base64, encodePem } from "./pem.ts";
import { optionsOf } from "./renewal.ts";
import { checkedCommonName, type SubjectNames, subjectAlternativeNames } from "./subject-names.ts";
import { x509 } from "./x509-library.ts";

/** A certificate and its private key (PKCS#8), both PEM. */
export interface KeyPair {
  readonly certificatePem: string;
  readonly keyPem: string;
}

export interface Validity {
  /** From now, or from `notBefore` where that is given. Above 0. */
  readonly lifetimeMs: number;
  /** Default: five minutes ago, so that a peer whose clock is late accepts the certificate at once. */
  readonly notBefore?: Date;
}

export interface AuthorityOptions extends Validity {
  readonly commonName: string;
  readonly nameConstraints?: NameConstraints;
  /** Makes an intermediate authority, which may issue no further authorities. Default: a self-signed root. */
  readonly issuer?: KeyPair;
}

export interface CertificateOptions extends Validity, SubjectNames {
  /** Default: none, and an empty subject. Names that verifiers match belong in `dns`, `ip` and `uri`. */
  readonly commonName?: string;
  /** The extended key usages: which side of a TLS connection may present it. */
  readonly usage: "server" | "client" | "both";
}

export interface RevocationListOptions {
  /** Hexadecimal, as `certificateSummaries` gives them. */
  readonly revokedSerials: readonly string[];
  /** When a verifier stops trusting this list. From then on every certificate of the authority is refused. */
  readonly nextUpdate: Date;
  /** Default: five minutes ago. */
  readonly thisUpdate?: Date;
}

/** What a certificate says. Names are not verified: anyone can write any certificate. */
export interface CertificateSummary {
  readonly subject: string;
  readonly issuer: string;
  /** Lower-case hexadecimal. */
  readonly serial: string;
  /** Subject alternative names as `dns:…`, `ip:…`, `uri:…`, `email:…`, in the certificate's order. */
  readonly names: readonly string[];
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** `ECDSA P-256`, `RSA 2048`, `Ed25519`. */
  readonly keyType: string;
  /** Extended key usages (`server`, `client`, or the object identifier). Empty means that any is allowed. */
  readonly usages: readonly string[];
  /** Whether it may issue certificates. */
  readonly isAuthority: boolean;
  /** SHA-256 of the certificate, lower-case hexadecimal. */
  readonly fingerprint: string;
  /** SHA-256 of the public key, base64: what curl's `--pinnedpubkey sha256//…` takes (RFC 7469, 2.4). */
  readonly keyPin: string;
  /** Why it is no X509-SVID that a workload may show, "" when it is one: its URI is then its SPIFFE ID. */
  readonly svidProblem: string;
}

export interface RenewalOptions {
  /** From now. Default: as long as the old one from its first to its last moment, which begins five minutes ago. */
  readonly lifetimeMs?: number;
}

const CLOCK_SKEW_MS = 5 * 60_000;
const SERIAL_BYTES = 16;
const USAGE_IDS = { server: x509.ExtendedKeyUsage.serverAuth, client: x509.ExtendedKeyUsage.clientAuth } as const;
const NAME_KINDS: Readonly<Record<string, string>> = { url: "uri" };

/** An authority that can issue. Throws ProxyError as `issueCertificate` does. */
export async function createAuthority(options: AuthorityOptions): Promise<KeyPair> {
  const keys = await generateKeys();
  const issuer = options.issuer === undefined ? null : await loadAuthority(options.issuer);
  if (issuer?.certificate.getExtension(x509.BasicConstraintsExtension)?.pathLength === 0)
    throw new ProxyError("BAD_AUTHORITY", `"${issuer.certificate.subject}" may issue no further authorities`);
  const extensions: Extension[] = [
    // RFC 5280, 4.2.1.9: critical in an authority. An intermediate stops the chain: nothing below it may issue.
    new x509.BasicConstraintsExtension(true, issuer === null ? undefined : 0, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
  ];
  if (options.nameConstraints !== undefined) extensions.push(nameConstraintsExtension(options.nameConstraints));
  return sign(keys, { issuer, commonName: options.commonName, validity: options, extensions });
}

/**
 * A certificate for one side, or both, of TLS connections. Throws ProxyError `BAD_NAME` (a malformed name, or no name at all),
 * `BAD_LIFETIME` (not above 0, or longer than the authority's own), `BAD_AUTHORITY` (no authority), `BAD_KEY` or `BAD_PEM`.
 */
export async function issueCertificate(authority: KeyPair, options: CertificateOptions): Promise<KeyPair> {
  const names = subjectAlternativeNames(options);
  if (names.length === 0 && (options.usage !== "client" || options.commonName === undefined))
    throw new ProxyError(
      "BAD_NAME",
      "a certificate needs a DNS name, an IP address or a SPIFFE ID: clients match no other",
    );
  return issueWithNames(authority, options, names);
}

/**
 * As `issueCertificate`, with subject alternative names that nobody has checked: for tests of what verifiers make of odd ones.
 * @internal
 */
export async function issueWithNames(
  authority: KeyPair,
  options: Omit<CertificateOptions, keyof SubjectNames>,
  names: JsonGeneralNames,
): Promise<KeyPair> {
  const usages = options.usage === "both" ? (["server", "client"] as const) : [options.usage];
  const extensions: Extension[] = [
    new x509.BasicConstraintsExtension(false, undefined, true),
    // All that an ECDSA key does in TLS 1.2 and 1.3.
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
    new x509.ExtendedKeyUsageExtension(usages.map((usage) => USAGE_IDS[usage])),
  ];
  if (names.length > 0) {
    // Critical when there is no other name (RFC 5280, 4.2.1.6).
    extensions.push(new x509.SubjectAlternativeNameExtension(names, options.commonName === undefined));
  }
  const issuer = await loadAuthority(authority);
  return sign(await generateKeys(), { issuer, commonName: options.commonName, validity: options, extensions });
}

/** A CRL, PEM, that revokes these serials. Throws ProxyError `BAD_SERIAL`, or as `issueCertificate` does. */
export async function createRevocationList(authority: KeyPair, options: RevocationListOptions): Promise<string> {
  const issuer = await loadAuthority(authority);
  const thisUpdate = options.thisUpdate ?? new Date(Date.now() - CLOCK_SKEW_MS);
  for (const serial of options.revokedSerials) {
    if (!/^[0-9a-f]{1,40}$/i.test(serial))
      throw new ProxyError("BAD_SERIAL", `"${serial}" is not a serial number: write up to 40 hexadecimal digits`);
  }
  const list = await x509.X509CrlGenerator.create({
    issuer: issuer.certificate.subjectName,
    thisUpdate,
    nextUpdate: options.nextUpdate,
    // Without a reason the library writes an empty list of extensions, which RFC 5280 forbids; this one claims the least.
    entries: options.revokedSerials.map((serialNumber) => ({
      serialNumber,
      revocationDate: thisUpdate,
      reason: x509.X509CrlReason.privilegeWithdrawn,
    })),
    extensions: [new x509.AuthorityKeyIdentifierExtension(issuer.keyId), crlNumberExtension(Date.now())],
    signingAlgorithm: KEY_ALGORITHM,
    signingKey: issuer.key,
  });
  return encodePem(list.rawData, "X509 CRL");
}

/** What the certificates in a PEM text say, in order. Empty when there is none; throws ProxyError `BAD_PEM` for a broken one. */
export async function certificateSummaries(pem: string): Promise<CertificateSummary[]> {
  return Promise.all(splitPem(pem, "CERTIFICATE").map((block) => summarise(parseCertificate(block))));
}

/**
 * A certificate with a new key that says what the first one in the PEM text says: subject, names, usages and length of life. Who signed
 * that is not asked. Throws ProxyError `BAD_NAME` when it says more than `issueCertificate` can, or as `issueCertificate` does.
 */
export async function renewCertificate(
  authority: KeyPair,
  certificatePem: string,
  { lifetimeMs }: RenewalOptions = {},
): Promise<KeyPair> {
  const certificate = parseCertificate(certificatePem);
  const same = optionsOf(certificate);
  if (lifetimeMs !== undefined) return issueCertificate(authority, { ...same, lifetimeMs });
  const notBefore = new Date(Date.now() - CLOCK_SKEW_MS);
  const wholeMs = certificate.notAfter.getTime() - certificate.notBefore.getTime();
  return issueCertificate(authority, { ...same, notBefore, lifetimeMs: wholeMs });
}

/** Whether the authority's key has signed the certificate; each is the first in its PEM text. Says nothing of dates. False, too, for damaged ones. */
export async function isSignedBy(certificatePem: string, authorityPem: string): Promise<boolean> {
  try {
    const certificate = parseCertificate(certificatePem);
    const authority = parseCertificate(authorityPem);
    if (certificate.issuer !== authority.subject) return false;
    return await certificate.verify({ publicKey: authority.publicKey, signatureOnly: true });
  } catch {
    // Ours for a broken PEM, or the library's for a signature that it cannot read.
    return false;
  }
}

/**
 * Whether the certificate is signed by the issuer's key and the private key is its own: whether the pair can be presented to
 * those who trust the issuer. Says nothing of dates. False, too, when either text is damaged.
 */
export async function isIssuedPair(pair: KeyPair, issuer: Pick<KeyPair, "certificatePem">): Promise<boolean> {
  return (
    (await isSignedBy(pair.certificatePem, issuer.certificatePem)) && (await ownsKey(pair.certificatePem, pair.keyPem))
  );
}

interface Issuer {
  readonly certificate: X509Certificate;
  readonly key: CryptoKey;
  /** The subject key identifier, which what it signs carries as authority key identifier. Hexadecimal. */
  readonly keyId: string;
}

interface SignOptions {
  readonly issuer: Issuer | null;
  readonly commonName: string | undefined;
  readonly validity: Validity;
  readonly extensions: readonly Extension[];
}

async function sign(keys: CryptoKeyPair, options: SignOptions): Promise<KeyPair> {
  const { notBefore, notAfter } = validityOf(options.validity, options.issuer);
  const { keyId } = await identifierOf(keys.publicKey);
  // As a UTF8String, so that nothing in the name is read as syntax of distinguished names.
  const subject =
    options.commonName === undefined ? [] : [{ CN: [{ utf8String: checkedCommonName(options.commonName) }] }];
  const subjectName = new x509.Name(subject);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: subjectName,
    issuer: options.issuer === null ? subjectName : options.issuer.certificate.subjectName,
    serialNumber: hex(crypto.getRandomValues(new Uint8Array(SERIAL_BYTES))),
    notBefore,
    notAfter,
    publicKey: keys.publicKey,
    signingKey: options.issuer === null ? keys.privateKey : options.issuer.key,
    signingAlgorithm: KEY_ALGORITHM,
    extensions: [
      ...options.extensions,
      new x509.SubjectKeyIdentifierExtension(keyId),
      new x509.AuthorityKeyIdentifierExtension(options.issuer === null ? keyId : options.issuer.keyId),
    ],
  });
  return {
    certificatePem: encodePem(certificate.rawData, "CERTIFICATE"),
    keyPem: encodePem(await crypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY"),
  };
}

function validityOf(validity: Validity, issuer: Issuer | null): { notBefore: Date; notAfter: Date } {
  const start = validity.notBefore?.getTime() ?? Date.now();
  const notBefore = validity.notBefore ?? new Date(start - CLOCK_SKEW_MS);
  const notAfter = new Date(start + validity.lifetimeMs);
  if (!(validity.lifetimeMs > 0) || Number.isNaN(notAfter.getTime()))
    throw new ProxyError("BAD_LIFETIME", "a lifetime is a positive duration, such as 30d");
  // A chain is good only while all of it is: a longer promise than the authority's own would be broken without a word.
  if (issuer !== null && notAfter > issuer.certificate.notAfter) {
    const end = issuer.certificate.notAfter.toISOString();
    throw new ProxyError(
      "BAD_LIFETIME",
      `the certificate would outlive its authority, which ends at ${end}: give it a shorter lifetime, or replace the authority`,
    );
  }
  return { notBefore, notAfter };
}

async function loadAuthority(authority: KeyPair): Promise<Issuer> {
  const certificate = parseCertificate(authority.certificatePem);
  if (certificate.getExtension(x509.BasicConstraintsExtension)?.ca !== true)
    throw new ProxyError(
      "BAD_AUTHORITY",
      `"${certificate.subject}" is not an authority: it may not issue certificates`,
    );
  const key = await importKeyOf(certificate, authority.keyPem);
  const keyId = certificate.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId;
  return { certificate, key, keyId: keyId ?? (await identifierOf(certificate.publicKey)).keyId };
}

async function summarise(certificate: X509Certificate): Promise<CertificateSummary> {
  const names = certificate.getExtension(x509.SubjectAlternativeNameExtension)?.names.items ?? [];
  const usages = certificate.getExtension(x509.ExtendedKeyUsageExtension)?.usages ?? [];
  const details = readCertificateDetails(new Uint8Array(certificate.rawData));
  return {
    subject: certificate.subject,
    issuer: certificate.issuer,
    serial: certificate.serialNumber,
    names: names.map((name) => `${NAME_KINDS[name.type] ?? name.type}:${name.value}`),
    notBefore: certificate.notBefore,
    notAfter: certificate.notAfter,
    keyType: keyTypeOf(certificate),
    usages: usages.map((id) => (id === USAGE_IDS.server ? "server" : id === USAGE_IDS.client ? "client" : String(id))),
    isAuthority: certificate.getExtension(x509.BasicConstraintsExtension)?.ca ?? false,
    fingerprint: hex(new Uint8Array(await crypto.subtle.digest("SHA-256", certificate.rawData))),
    svidProblem: details === null ? "the daemon cannot read it" : svidProblem(details),
    keyPin: base64(await crypto.subtle.digest("SHA-256", certificate.publicKey.rawData)),
  };
}
