// Keys and what ties them to certificates: making them, loading them, and proving that the two belong together. P-256 where
// a key is made; any ECDSA curve that WebCrypto knows where one is loaded.

import type { PublicKey, SubjectKeyIdentifierExtension, X509Certificate } from "@peculiar/x509";
import { ProxyError } from "../base/errors.ts";
import { decodePem } from "./pem.ts";
import { x509 } from "./x509-library.ts";

/** How keys are made, and what is signed with them. */
export const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** A new pair, exportable. */
export async function generateKeys(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
}

/** The private key, proven to be the certificate's. Throws ProxyError `BAD_PEM`, `BAD_KEY`. */
export async function importKeyOf(certificate: X509Certificate, keyPem: string): Promise<CryptoKey> {
  const { algorithm } = certificate.publicKey;
  if (algorithm.name !== KEY_ALGORITHM.name)
    throw new ProxyError(
      "BAD_KEY",
      `"${certificate.subject}" has a ${keyTypeOf(certificate)} key: only ECDSA is supported`,
    );
  const bytes = decodePem(keyPem, "PRIVATE KEY");
  let key: CryptoKey;
  try {
    key = await crypto.subtle.importKey("pkcs8", bytes, algorithm, false, ["sign"]);
  } catch {
    // Without the cause: nothing about a private key belongs into an error.
    throw new ProxyError("BAD_KEY", `the private key of "${certificate.subject}" is broken or of another kind`);
  }
  const probe = new Uint8Array(16);
  const signature = await crypto.subtle.sign(KEY_ALGORITHM, key, probe);
  const publicKey = await certificate.publicKey.export();
  if (!(await crypto.subtle.verify(KEY_ALGORITHM, publicKey, signature, probe)))
    throw new ProxyError("BAD_KEY", `the private key does not belong to the certificate "${certificate.subject}"`);
  return key;
}

/** Whether the private key is the certificate's. False, too, when either text is damaged. */
export async function ownsKey(certificatePem: string, keyPem: string): Promise<boolean> {
  try {
    await importKeyOf(parseCertificate(certificatePem), keyPem);
    return true;
  } catch (error) {
    if (error instanceof ProxyError) return false;
    throw error;
  }
}

/** The key identifier of RFC 5280, 4.2.1.2 (1): SHA-1 of the public key's bits. No secret rests on it. */
export async function identifierOf(key: CryptoKey | PublicKey): Promise<SubjectKeyIdentifierExtension> {
  return x509.SubjectKeyIdentifierExtension.create(key);
}

/** Throws ProxyError `BAD_PEM`. */
export function parseCertificate(pem: string): X509Certificate {
  const bytes = decodePem(pem, "CERTIFICATE");
  try {
    return new x509.X509Certificate(bytes);
  } catch (error) {
    throw new ProxyError("BAD_PEM", "the PEM block holds no X.509 certificate", { cause: error });
  }
}

/** `ECDSA P-256`, `RSA 2048`, `Ed25519`. */
export function keyTypeOf(certificate: X509Certificate): string {
  const { algorithm } = certificate.publicKey;
  if ("namedCurve" in algorithm) return `${algorithm.name} ${String(algorithm.namedCurve)}`;
  if ("modulusLength" in algorithm) return `RSA ${String(algorithm.modulusLength)}`;
  return algorithm.name;
}
