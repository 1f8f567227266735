// Certificates that endpoints show: for every reason to refuse one, a certificate that is good but for that. All are for `localhost`, and trusted
// by way of `testPki().authority`, where nothing else is said.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readCertificateDetails } from "../../src/protocol/certificate-details.ts";
import { pemBytes } from "../../src/protocol/pem.ts";
import {
  type CertificateOptions,
  certificateSummaries,
  createAuthority,
  createRevocationList,
  issueCertificate,
  issueWithNames,
  type KeyPair,
} from "../../src/tls-tools/tls-tools.ts";
import { testPki } from "./certificates.ts";
import { run } from "./child.ts";
import { temporaryDirectory } from "./temporary.ts";

const DAY_MS = 86_400_000;

/** Kinds of subject alternative names, as the library calls them. */
export type OddName = { readonly type: "dns" | "url" | "ip"; readonly value: string };

export interface EndpointCertificates {
  /** Holds the files named here. */
  readonly directory: string;
  /** For `localhost` unless `options` say otherwise, with the common name `endpoint`. */
  issue(options?: Partial<CertificateOptions>, issuer?: KeyPair): Promise<KeyPair>;
  /** With names that nobody checks, and the common name `endpoint`. */
  withNames(names: readonly OddName[], commonName?: string): Promise<KeyPair>;
  /** With itself as its issuer, as tutorials make them. */
  readonly selfSigned: KeyPair;
  /** Of another authority that has the subject of ours; `sameNameAndKeyId` has its key identifier too. Both come with that authority. */
  readonly sameNameAuthority: KeyPair;
  readonly sameNameAndKeyId: KeyPair;
  /** Signed by an authority that may vouch for elsewhere.test only; comes with it. */
  readonly outsideConstraints: KeyPair;
  /** May itself issue certificates. */
  readonly authority: KeyPair;
  readonly revoked: KeyPair;
  /** Lists of `testPki().authority`: with `revoked` on it, and the same out of date. */
  readonly crlPath: string;
  readonly expiredCrlPath: string;
}

/** Makes them. Needs openssl. */
export async function endpointCertificates(): Promise<EndpointCertificates> {
  const pki = await testPki();
  const directory = temporaryDirectory("bunnel-endpoints-");
  const issue = (options: Partial<CertificateOptions> = {}, issuer: KeyPair = pki.authority): Promise<KeyPair> =>
    issueCertificate(issuer, {
      usage: "server",
      commonName: "endpoint",
      dns: ["localhost"],
      lifetimeMs: DAY_MS,
      ...options,
    });
  const withIssuer = (leaf: KeyPair, issuer: KeyPair): KeyPair => ({
    ...leaf,
    certificatePem: leaf.certificatePem + issuer.certificatePem,
  });

  const { subjectKeyId } = detailsOf(pki.authority);
  const common = "CN=bunnel test root";
  const usages = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
  const lookalike = await opensslPair(directory, "lookalike", common, usages);
  const twin = await opensslPair(directory, "twin", common, [...usages, `subjectKeyIdentifier=${subjectKeyId}`]);
  const confined = await createAuthority({
    commonName: "confined",
    lifetimeMs: 2 * DAY_MS,
    issuer: pki.authority,
    nameConstraints: { dns: ["elsewhere.test"] },
  });
  const revoked = await issue();
  const [summary] = await certificateSummaries(revoked.certificatePem);
  const keepList = async (name: string, thisUpdate: number, nextUpdate: number): Promise<string> => {
    const path = join(directory, name);
    const dates = { thisUpdate: new Date(Date.now() + thisUpdate), nextUpdate: new Date(Date.now() + nextUpdate) };
    const revokedSerials = [summary?.serial ?? ""];
    writeFileSync(path, await createRevocationList(pki.authority, { revokedSerials, ...dates }));
    return path;
  };

  return {
    directory,
    issue,
    withNames: (names, commonName = "endpoint") =>
      issueWithNames(pki.authority, { usage: "server", commonName, lifetimeMs: DAY_MS }, [...names]),
    selfSigned: await opensslPair(directory, "self-signed", "CN=endpoint", ["subjectAltName=DNS:localhost"]),
    sameNameAuthority: withIssuer(await issue({}, lookalike), lookalike),
    sameNameAndKeyId: withIssuer(await issue({}, twin), twin),
    outsideConstraints: withIssuer(await issue({}, confined), confined),
    authority: await opensslPair(
      directory,
      "authority",
      "CN=endpoint",
      [
        "subjectAltName=DNS:localhost",
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=critical,digitalSignature,keyCertSign",
      ],
      ["-CA", pki.authority.certificatePath, "-CAkey", pki.authority.keyPath],
    ),
    revoked,
    crlPath: await keepList("ca.crl", -DAY_MS, DAY_MS),
    expiredCrlPath: await keepList("expired.crl", -2 * DAY_MS, -DAY_MS),
  };
}

function detailsOf({ certificatePem }: KeyPair): { readonly subjectKeyId: string } {
  const der = pemBytes(certificatePem);
  const details = der === null ? null : readCertificateDetails(der);
  if (details === null) throw new Error("the authority of the tests cannot be read");
  return details;
}

/** A P-256 pair that the openssl command makes: the library issues nothing so odd. Self-signed unless `signing` names an authority. */
async function opensslPair(
  directory: string,
  name: string,
  subject: string,
  extensions: readonly string[],
  signing: readonly string[] = [],
): Promise<KeyPair> {
  const [keyPath, certificatePath] = [join(directory, `${name}.key`), join(directory, `${name}.pem`)];
  const { exitCode, stderr } = await run([
    ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"],
    ...["-config", "/dev/null", "-subj", `/${subject}`, "-keyout", keyPath, "-out", certificatePath, ...signing],
    ...extensions.flatMap((extension) => ["-addext", extension]),
  ]);
  if (exitCode !== 0) throw new Error(stderr);
  return { certificatePem: readFileSync(certificatePath, "utf8"), keyPem: readFileSync(keyPath, "utf8") };
}
