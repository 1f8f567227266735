// Certificates for tests: one PKI per test process, made on first use, with a good certificate for each side and one bad
// one for every reason to refuse. Everything is there both as PEM text and as a file.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type CertificateOptions,
  certificateSummaries,
  createAuthority,
  createRevocationList,
  issueCertificate,
  issueWithNames,
  type KeyPair,
} from "../../src/tls-tools/tls-tools.ts";
import { temporaryDirectory } from "./temporary.ts";

/** A certificate and its key, as PEM and as files that openssl, curl and a config can name. */
export interface CertificateFiles extends KeyPair {
  readonly certificatePath: string;
  readonly keyPath: string;
}

/** A CRL as PEM and as a file. */
export interface RevocationListFile {
  readonly pem: string;
  readonly path: string;
}

export interface TestPki {
  /** Removed when the process has run its tests. */
  readonly directory: string;
  /** The root that signed everything here but what says otherwise. */
  readonly authority: CertificateFiles;
  /** Another root, that nobody trusts. */
  readonly otherAuthority: CertificateFiles;
  /** Signed by `authority`; issues `viaIntermediate`. */
  readonly intermediate: CertificateFiles;
  /** For localhost, 127.0.0.1 and ::1. */
  readonly server: CertificateFiles;
  /** For `*.db.test` and db.test, to be chosen by SNI. */
  readonly databaseServer: CertificateFiles;
  /** `spiffe://bunnel.test/client`, CN `client`. */
  readonly client: CertificateFiles;
  /** `spiffe://bunnel.test/other`, CN `other`: good, but not the one that policies of tests allow. */
  readonly otherClient: CertificateFiles;
  /** DNS name client.test, CN `dns-client`, no URI. */
  readonly dnsClient: CertificateFiles;
  /** CN `nameless` and no alternative name. */
  readonly commonNameClient: CertificateFiles;
  /** Leaf and intermediate in one file: verifies against `authority`. */
  readonly viaIntermediate: CertificateFiles;
  /** The same leaf alone: does not. */
  readonly withoutIntermediate: CertificateFiles;
  /** Ended a day ago. `spiffe://bunnel.test/client`, as all the bad clients that follow. */
  readonly expired: CertificateFiles;
  /** Begins in a day. */
  readonly notYetValid: CertificateFiles;
  /** Signed by `otherAuthority`. */
  readonly wrongAuthority: CertificateFiles;
  /** For servers only. */
  readonly wrongUsage: CertificateFiles;
  /** An authority's own certificate, presented as a client's. */
  readonly selfSigned: CertificateFiles;
  /** Signed by an authority that may vouch for elsewhere.test only; comes with that authority in the chain. */
  readonly constrained: CertificateFiles;
  /** Good but for being on `revocationList`. */
  readonly revoked: CertificateFiles;
  /** Of `authority`; holds `revoked`. */
  readonly revocationList: RevocationListFile;
  /** Of `authority`; out of date, so a verifier must refuse everyone. */
  readonly expiredRevocationList: RevocationListFile;
  /** Of `intermediate`; empty. With CRLs in use every authority in a chain needs one. */
  readonly intermediateRevocationList: RevocationListFile;
  /** Names meant to break whoever splits text: see ODD_NAMES. */
  readonly oddNames: CertificateFiles;
  /** Two SPIFFE IDs, the first of them `spiffe://bunnel.test/client`: not a valid SPIFFE certificate. */
  readonly twoUris: CertificateFiles;
}

/** The URI names of `oddNames`. None of them is `spiffe://bunnel.test/client`, however its text is split. */
export const ODD_NAMES: readonly string[] = [
  "spiffe://bunnel.test/odd, URI:spiffe://bunnel.test/client",
  'spiffe://bunnel.test/odd", URI:"spiffe://bunnel.test/client',
  "spiffe://bunnel.test/odd\nURI:spiffe://bunnel.test/client",
  "spiffe://bunnel.test/client\0.evil",
];

const DAY_MS = 86_400_000;
const CLIENT_URI = "spiffe://bunnel.test/client";

let made: Promise<TestPki> | null = null;

/** The PKI of this test process. */
export function testPki(): Promise<TestPki> {
  made ??= makePki();
  return made;
}

async function makePki(): Promise<TestPki> {
  const directory = temporaryDirectory("bunnel-pki-");

  const keep = (name: string, pair: KeyPair): CertificateFiles => {
    const certificatePath = join(directory, `${name}.pem`);
    const keyPath = join(directory, `${name}.key`);
    writeFileSync(certificatePath, pair.certificatePem);
    writeFileSync(keyPath, pair.keyPem, { mode: 0o600 });
    return { ...pair, certificatePath, keyPath };
  };
  const keepList = (name: string, pem: string): RevocationListFile => {
    const path = join(directory, `${name}.crl`);
    writeFileSync(path, pem);
    return { pem, path };
  };

  const notBefore = new Date(Date.now() - 30 * DAY_MS);
  const year = { lifetimeMs: 365 * DAY_MS, notBefore };
  const root = await createAuthority({ commonName: "bunnel test root", lifetimeMs: 730 * DAY_MS, notBefore });
  const otherRoot = await createAuthority({ commonName: "bunnel other root", ...year });
  const middle = await createAuthority({ commonName: "bunnel test intermediate", ...year, issuer: root });
  const confined = await createAuthority({
    commonName: "bunnel test confined",
    ...year,
    issuer: root,
    nameConstraints: { uri: ["elsewhere.test"] },
  });

  const issue = (name: string, options: Partial<CertificateOptions>, issuer = root): Promise<CertificateFiles> =>
    issueCertificate(issuer, { usage: "client", lifetimeMs: 30 * DAY_MS, ...options }).then((pair) => keep(name, pair));
  const withIssuer = (name: string, leaf: KeyPair, issuer: KeyPair): CertificateFiles =>
    keep(name, { ...leaf, certificatePem: leaf.certificatePem + issuer.certificatePem });
  const odd = (name: string, uris: readonly string[]): Promise<CertificateFiles> =>
    issueWithNames(
      root,
      { commonName: name, usage: "client", lifetimeMs: DAY_MS },
      uris.map((value) => ({ type: "url", value })),
    ).then((pair) => keep(name, pair));

  const client = { commonName: "client", uri: CLIENT_URI };
  const outside = await issueCertificate(confined, { ...client, usage: "client", lifetimeMs: 30 * DAY_MS });
  const withoutIntermediate = await issue("without-intermediate", client, middle);
  const revoked = await issue("revoked", client);
  const [revokedSummary] = await certificateSummaries(revoked.certificatePem);
  const revokedSerials = revokedSummary === undefined ? [] : [revokedSummary.serial];
  const tomorrow = new Date(Date.now() + DAY_MS);
  const yesterday = new Date(Date.now() - DAY_MS);
  const longAgo = new Date(Date.now() - 2 * DAY_MS);

  return {
    directory,
    authority: keep("ca", root),
    otherAuthority: keep("other-ca", otherRoot),
    intermediate: keep("intermediate-ca", middle),
    server: await issue("server", { dns: ["localhost"], ip: ["127.0.0.1", "::1"], usage: "server" }),
    databaseServer: await issue("database", { dns: ["db.test", "*.db.test"], usage: "server" }),
    client: await issue("client", client),
    otherClient: await issue("other-client", { commonName: "other", uri: "spiffe://bunnel.test/other" }),
    dnsClient: await issue("dns-client", { commonName: "dns-client", dns: ["client.test"] }),
    commonNameClient: await issue("common-name-client", { commonName: "nameless" }),
    viaIntermediate: withIssuer("via-intermediate", withoutIntermediate, middle),
    withoutIntermediate,
    expired: await issue("expired", { ...client, notBefore: longAgo, lifetimeMs: DAY_MS }),
    notYetValid: await issue("not-yet-valid", { ...client, notBefore: tomorrow }),
    wrongAuthority: await issue("wrong-authority", client, otherRoot),
    wrongUsage: await issue("wrong-usage", { ...client, usage: "server" }),
    selfSigned: keep("self-signed", await createAuthority({ commonName: "client", lifetimeMs: DAY_MS })),
    constrained: withIssuer("constrained", outside, confined),
    revoked,
    revocationList: keepList("ca", await createRevocationList(root, { revokedSerials, nextUpdate: tomorrow })),
    expiredRevocationList: keepList(
      "expired",
      await createRevocationList(root, { revokedSerials, thisUpdate: longAgo, nextUpdate: yesterday }),
    ),
    intermediateRevocationList: keepList(
      "intermediate-ca",
      await createRevocationList(middle, { revokedSerials: [], nextUpdate: tomorrow }),
    ),
    oddNames: await odd("odd-names", ODD_NAMES),
    twoUris: await odd("two-uris", [CLIENT_URI, "spiffe://bunnel.test/second"]),
  };
}
