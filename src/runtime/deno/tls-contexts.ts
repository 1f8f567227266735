// TLS contexts on Deno: what we present and demand, checked once. The library under Deno's node:tls (rustls) reads all of it anew for each connection, ignores
// what it cannot read and knows no revocation lists. So material is judged here, and peers by our own verification (protocol/chain.ts).

import { createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import tls from "node:tls";
import { messageOf, ProxyError } from "../../base/errors.ts";
import { type ChainTrust, type SignedList, verifyChain } from "../../protocol/chain.ts";
import { type ChainLink, readChainLink } from "../../protocol/chain-link.ts";
import { pemBytes } from "../../protocol/pem.ts";
import { readRevocationList } from "../../protocol/revocation-list.ts";
import type { ClientContext, ClientIdentity, ServerContext, ServerIdentity } from "../runtime.ts";
import { isListSignedBy, isSignedBy } from "./signatures.ts";

/** What both directions hold. */
interface Verifying {
  /** Judges what a peer presents (DER, its own certificate first). */
  verify(presented: readonly Uint8Array[]): PeerVerdict;
}

/** What our own verification says of a peer. */
export interface PeerVerdict {
  /** "" or why it is refused. */
  readonly fault: string;
  /** Whether it is an authority itself (CA=true). */
  readonly isCa: boolean;
  /**
   * Whether an authority of the chain that is believed may vouch for some URIs only. Deno's library refuses every chain with such a one, whatever the URI,
   * because it cannot compare URIs. What else a peer sends along does not count: it could talk its way past Deno's verdict.
   */
  readonly constrainsUris: boolean;
}

/** A context that this runtime has built. */
export interface DenoServerContext extends ServerContext, Verifying {}

/** A context that this runtime has built. */
export interface DenoClientContext extends ClientContext, Verifying {}

/** See `Runtime.serverContext`. */
export function serverContext(identity: ServerIdentity): ServerContext {
  const { chainPem, keyPem, clientAuth, clientCaPem, clientCrlPem, sessionTickets } = identity;
  checkCertificate(chainPem, keyPem);
  if (sessionTickets)
    throw badMaterial("session_tickets: true is not possible on Deno, whose TLS library cannot give out tickets");
  if (clientAuth !== "none" && clientCaPem.length === 0)
    throw badMaterial("clients are asked for a certificate, but there is no CA to verify it with");
  const context: DenoServerContext = { identity, ...verification("client", clientCaPem, clientCrlPem) };
  return context;
}

/** See `Runtime.clientContext`. */
export function clientContext(identity: ClientIdentity): ClientContext {
  const { chainPem, keyPem, serverCaPem, serverCrlPem } = identity;
  if (chainPem !== "" || keyPem !== "") checkCertificate(chainPem, keyPem);
  if (serverCaPem.length === 0) throw badMaterial("there is no CA to verify servers with");
  const context: DenoClientContext = { identity, ...verification("server", serverCaPem, serverCrlPem) };
  return context;
}

function verification(usage: ChainTrust["usage"], caPem: readonly string[], crlPem: readonly string[]): Verifying {
  const authorities = caPem.map((pem) => readAuthority(usage, pem));
  const lists = crlPem.map(readList);
  // Lists are long, and the same for every connection. Of authorities that a peer sent along nothing is kept.
  const signed = new WeakMap<Uint8Array, Map<Uint8Array, boolean>>();
  const trust: ChainTrust = {
    authorities,
    lists,
    usage,
    isSignedBy,
    isListSignedBy(list, issuer) {
      const known = signed.get(issuer) ?? new Map<Uint8Array, boolean>();
      signed.set(issuer, known);
      const answer = known.get(list) ?? isListSignedBy(list, issuer);
      known.set(list, answer);
      return answer;
    },
  };
  const constrains = ({ permitted, excluded }: ChainLink): boolean =>
    [...permitted, ...excluded].some(({ kind }) => kind === "uri");
  return {
    verify: (presented) => {
      const { fault, chain } = verifyChain(presented, trust, Date.now());
      return { fault, isCa: chain[0]?.details.isCa === true, constrainsUris: chain.some(constrains) };
    },
  };
}

function readAuthority(usage: ChainTrust["usage"], pem: string): ChainLink {
  const der = countOf(pem, "-----BEGIN CERTIFICATE-----") === 1 ? pemBytes(pem) : null;
  const link = der === null ? null : readChainLink(der);
  if (link === null) throw badMaterial(`a ${usage} CA must be the PEM text of one certificate`);
  return link;
}

function readList(pem: string): SignedList {
  const der = countOf(pem, "-----BEGIN X509 CRL-----") === 1 ? pemBytes(pem) : null;
  const list = der === null ? null : readRevocationList(der);
  if (der === null || list === null) throw badMaterial("a CRL must be the PEM text of one list");
  return { der, list };
}

/** Deno itself would find out at the first handshake only. */
function checkCertificate(chainPem: string, keyPem: string): void {
  if (!chainPem.includes("-----BEGIN CERTIFICATE-----")) throw badMaterial("there is no certificate");
  if (!keyPem.includes("PRIVATE KEY-----")) throw badMaterial("there is no private key");
  let fits: boolean;
  try {
    const ours = createPublicKey(createPrivateKey(keyPem)).export({ type: "spki", format: "der" });
    const theirs = new X509Certificate(chainPem).publicKey.export({ type: "spki", format: "der" });
    fits = Buffer.compare(ours, theirs) === 0;
    // Looks at how strong the key is, which tls.ts leaves out of every handshake.
    tls.createSecureContext({ cert: chainPem, key: keyPem });
  } catch (thrown) {
    throw badMaterial(messageOf(thrown));
  }
  if (!fits) throw badMaterial("the private key is not the certificate's");
}

function countOf(text: string, what: string): number {
  return text.split(what).length - 1;
}

function badMaterial(what: string): ProxyError {
  return new ProxyError("BAD_TLS_MATERIAL", what);
}
