// Certificates that no sound authority would sign, signed by one all the same: every signature is good, and what is wrong is what the certificate
// says. (For bytes that are wrong, and nobody's signature, see certificate-bytes.ts.)

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Extension, JsonGeneralNames } from "@peculiar/x509";
import { generateKeys, importKeyOf, KEY_ALGORITHM, parseCertificate } from "../../src/tls-tools/keys.ts";
import { encodePem } from "../../src/tls-tools/pem.ts";
import type { KeyPair } from "../../src/tls-tools/tls-tools.ts";
import { x509 } from "../../src/tls-tools/x509-library.ts";
import type { CertificateFiles } from "./certificates.ts";

/** What a forged certificate says. What is left out is as in a good client's. */
export interface ForgeryOptions {
  readonly uris?: readonly string[];
  readonly dns?: readonly string[];
  readonly commonName?: string;
  readonly isCa?: boolean;
  /** Of the key, beside digital signatures. Null: without the extension. */
  readonly keyUsage?: "keyCertSign" | "cRLSign" | "keyAgreement" | null;
  readonly usage?: "client" | "server" | "codeSigning" | "none";
  /** From now, in ms. Default: an hour ago to in a day. */
  readonly validMs?: readonly [from: number, until: number];
}

const HOUR_MS = 3_600_000;

/** A certificate of this authority for a new key. It need not be one that `issueCertificate` would issue from. */
export async function forge(authority: KeyPair, options: ForgeryOptions): Promise<KeyPair> {
  const { uris = [], dns = [], commonName = "forged", isCa = false, keyUsage, usage = "client" } = options;
  const [from, until] = options.validMs ?? [-HOUR_MS, 24 * HOUR_MS];
  const names: JsonGeneralNames = [
    ...uris.map((value) => ({ type: "url" as const, value })),
    ...dns.map((value) => ({ type: "dns" as const, value })),
  ];
  const flags = x509.KeyUsageFlags;
  const purposes = {
    client: x509.ExtendedKeyUsage.clientAuth,
    server: x509.ExtendedKeyUsage.serverAuth,
    codeSigning: x509.ExtendedKeyUsage.codeSigning,
  };
  const extensions: Extension[] = [new x509.BasicConstraintsExtension(isCa, undefined, true)];
  const alone = keyUsage === "keyAgreement";
  if (keyUsage !== null)
    extensions.push(
      new x509.KeyUsagesExtension(
        (alone ? 0 : flags.digitalSignature) | (keyUsage === undefined ? 0 : flags[keyUsage]),
        true,
      ),
    );
  if (usage !== "none") extensions.push(new x509.ExtendedKeyUsageExtension([purposes[usage]]));
  if (names.length > 0) extensions.push(new x509.SubjectAlternativeNameExtension(names));
  const issuer = parseCertificate(authority.certificatePem);
  // It tells authorities of the same name apart, of which there are many: SPIRE's all have the same.
  const keyId = issuer.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId;
  if (keyId !== undefined) extensions.push(new x509.AuthorityKeyIdentifierExtension(keyId));
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.create({
    subject: new x509.Name([{ CN: [{ utf8String: commonName }] }]),
    issuer: issuer.subjectName,
    notBefore: new Date(Date.now() + from),
    notAfter: new Date(Date.now() + until),
    publicKey: keys.publicKey,
    signingKey: await importKeyOf(issuer, authority.keyPem),
    signingAlgorithm: KEY_ALGORITHM,
    extensions,
  });
  return {
    certificatePem: encodePem(certificate.rawData, "CERTIFICATE"),
    keyPem: encodePem(await crypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY"),
  };
}

/** Puts a pair where openssl finds it, with the certificates that are to be sent along. */
export function keepPair(
  directory: string,
  name: string,
  pair: KeyPair,
  ...issuers: readonly KeyPair[]
): CertificateFiles {
  const certificatePath = join(directory, `${name}.pem`);
  const keyPath = join(directory, `${name}.key`);
  const certificatePem = [pair, ...issuers].map((one) => one.certificatePem).join("");
  writeFileSync(certificatePath, certificatePem);
  writeFileSync(keyPath, pair.keyPem, { mode: 0o600 });
  return { certificatePem, keyPem: pair.keyPem, certificatePath, keyPath };
}
