// TLS contexts on Bun: what we present and demand, checked and built once, then used by any number of handshakes. An empty or missing option
// means plaintext to Bun, and a missing CA the public roots, so material that would be weaker than it reads is refused here.

import { createSecureContext, type SecureContextOptions } from "node:tls";
import { messageOf, ProxyError } from "../../base/errors.ts";
import type { ClientContext, ClientIdentity, ServerContext, ServerIdentity } from "../runtime.ts";
import { earliestNextUpdateMs } from "./crl-expiry.ts";
import { reasonOf } from "./tls-upgrade.ts";

/** The suites of TLS 1.2 that have forward secrecy and an AEAD (RFC 9325, 4.2). Those of TLS 1.3 are all fit and not for us to choose. */
export const TLS12_AEAD_SUITES = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");
const SSL_OP_NO_TICKET = 0x4000;
const SSL_OP_CIPHER_SERVER_PREFERENCE = 0x400000;
/** Of a server that lets nobody resume a session. */
export const SERVER_OPTIONS = SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_TICKET;
const KEY_MISMATCH = "the private key is not the certificate's";
/** By BoringSSL's reason. */
const WHAT_IS_WRONG: Readonly<Record<string, string>> = {
  KEY_VALUES_MISMATCH: KEY_MISMATCH,
  KEY_TYPE_MISMATCH: KEY_MISMATCH,
  KEY_USAGE_BIT_INCORRECT: "the first certificate may not sign handshakes by its key usage: is it an authority's?",
};

/** A context with Bun's own handle to the built SSL_CTX. */
export interface BunServerContext extends ServerContext {
  readonly secureContext: unknown;
  /** When the first of the CRLs goes out of date, in ms since the epoch. */
  readonly revocationEndsMs: number;
}

/** A context with Bun's own handle to the built SSL_CTX. */
export interface BunClientContext extends ClientContext {
  readonly secureContext: unknown;
}

/** Builds and checks a context. See `Runtime.serverContext`. */
export function serverContext(identity: ServerIdentity): ServerContext {
  const { chainPem, keyPem, minVersion, clientAuth, clientCaPem, clientCrlPem } = identity;
  checkCertificate(chainPem, keyPem);
  if (clientAuth !== "none" && clientCaPem.length === 0)
    throw badMaterial("clients are asked for a certificate, but there is no CA to verify it with");
  checkAuthorities("client", clientCaPem, clientCrlPem);
  const context: BunServerContext = {
    identity,
    secureContext: build({
      cert: chainPem,
      key: keyPem,
      ...verification(clientCaPem, clientCrlPem),
      minVersion: `TLSv${minVersion}`,
      secureOptions: identity.sessionTickets ? SSL_OP_CIPHER_SERVER_PREFERENCE : SERVER_OPTIONS,
    }),
    revocationEndsMs: earliestNextUpdateMs(clientCrlPem),
  };
  return context;
}

/** Builds and checks a context. See `Runtime.clientContext`. */
export function clientContext(identity: ClientIdentity): ClientContext {
  const { chainPem, keyPem, minVersion, serverCaPem, serverCrlPem } = identity;
  const presents = chainPem !== "" || keyPem !== "";
  if (presents) checkCertificate(chainPem, keyPem);
  if (serverCaPem.length === 0) throw badMaterial("there is no CA to verify servers with");
  checkAuthorities("server", serverCaPem, serverCrlPem);
  const context: BunClientContext = {
    identity,
    secureContext: build({
      ...(presents && { cert: chainPem, key: keyPem }),
      ...verification(serverCaPem, serverCrlPem),
      minVersion: `TLSv${minVersion}`,
      // Nothing here resumes a session; so servers are not made to remember one.
      secureOptions: SSL_OP_NO_TICKET,
    }),
  };
  return context;
}

function checkCertificate(chainPem: string, keyPem: string): void {
  if (!chainPem.includes("-----BEGIN CERTIFICATE-----")) throw badMaterial("there is no certificate");
  if (!keyPem.includes("PRIVATE KEY-----")) throw badMaterial("there is no private key");
}

/** Bun drops what it cannot read beside a good one, and the second CRL of a text: without it, the revoked would pass. */
function checkAuthorities(whose: "client" | "server", caPem: readonly string[], crlPem: readonly string[]): void {
  if (!caPem.every((pem) => countOf(pem, "-----BEGIN CERTIFICATE-----") === 1))
    throw badMaterial(`a ${whose} CA must be the PEM text of one certificate`);
  if (!crlPem.every((pem) => countOf(pem, "-----BEGIN X509 CRL-----") === 1))
    throw badMaterial("a CRL must be the PEM text of one list");
}

function verification(caPem: readonly string[], crlPem: readonly string[]): SecureContextOptions {
  return { ...(caPem.length > 0 && { ca: [...caPem] }), ...(crlPem.length > 0 && { crl: [...crlPem] }) };
}

function build(options: SecureContextOptions): unknown {
  try {
    return createSecureContext({ ...options, ciphers: TLS12_AEAD_SUITES }).context;
  } catch (thrown) {
    const reason = reasonOf(thrown);
    throw badMaterial(
      WHAT_IS_WRONG[reason] ?? `it cannot be used, and may be damaged (${reason || messageOf(thrown)})`,
    );
  }
}

function countOf(text: string, what: string): number {
  return text.split(what).length - 1;
}

function badMaterial(what: string): ProxyError {
  return new ProxyError("BAD_TLS_MATERIAL", what);
}
