// Terminating TLS on the downstream leg: picks the certificate for the SNI, hands over what was peeked, and returns what was negotiated.

import { assert } from "../base/assert.ts";
import { type CertificateDetails, readCertificateDetails } from "../protocol/certificate-details.ts";
import { describeRefused, refusalCode, refusalReason } from "../protocol/leaf.ts";
import { compileDnsPattern, type NamePattern } from "../protocol/name-pattern.ts";
import { pemBytes, splitPem } from "../protocol/pem.ts";
import type { Runtime, ServerContext } from "../runtime/runtime.ts";
import type { TerminationSpec } from "../snapshot/snapshot.ts";
import type { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";
import { Identities } from "./identity.ts";
import { legHandlers } from "./relay.ts";

/** What a finished handshake has negotiated. */
export interface Secured {
  readonly version: string;
  readonly cipher: string;
  readonly resumed: boolean;
  readonly alpn: string;
  readonly handshakeMs: number;
  /** The certificate that we showed. */
  readonly shown: ShownCertificate;
}

/** What the PROXY header tells endpoints about the certificate that we showed. */
export type ShownCertificate = Pick<CertificateDetails, "signatureAlgorithm" | "keyAlgorithm">;

interface CertificateContext {
  readonly names: readonly NamePattern[];
  readonly context: ServerContext;
  readonly shown: ShownCertificate;
}

/** What is built for one terminating route: TLS contexts, and who its clients are. */
export class Termination {
  readonly spec: TerminationSpec;
  readonly identities: Identities;
  readonly #contexts: readonly CertificateContext[];

  constructor(runtime: Pick<Runtime, "serverContext" | "sha256">, spec: TerminationSpec) {
    this.spec = spec;
    this.identities = new Identities(runtime, spec);
    this.#contexts = spec.certificates.map((certificate) => ({
      // A name in a certificate that is no host name cannot be asked for by SNI.
      names: certificate.names.map((name) => compileDnsPattern(name)).filter((name) => typeof name !== "string"),
      context: runtime.serverContext({ ...spec, chainPem: certificate.chainPem, keyPem: certificate.keyPem }),
      shown: shownCertificate(certificate.chainPem),
    }));
    assert(this.#contexts.length > 0, "a terminating route has a certificate");
  }

  /** Index of the certificate for `sni`: the first with a matching name, or else the first of all. */
  choose(sni: string): number {
    const match = this.#contexts.findIndex(({ names }) => names.some((name) => name.matches(sni)));
    return Math.max(match, 0);
  }

  context(index: number): CertificateContext {
    return this.#contexts[index] as CertificateContext;
  }
}

/** A finished handshake. */
export interface Handshake {
  readonly secured: Secured;
  /** DER of the verified leaf; null when the client showed none. */
  readonly peerCertificate: Uint8Array | null;
}

/** Secures the downstream leg; its socket is the TLS one from then on. On an Ending the leg's socket has been aborted. */
export async function handshake(connection: Connection, termination: Termination): Promise<Handshake | Ending> {
  const { listener, downstream } = connection;
  const { runtime } = listener.worker;
  const startedMs = runtime.preciseNowMs();
  const initialData = downstream.joinPending();
  // What is read from now on is plaintext, counted from zero.
  downstream.consume(initialData.length);
  const plain = downstream.socket;
  assert(plain !== null, "an accepted leg has its socket");
  if (downstream.paused) {
    downstream.paused = false;
    plain.resume();
  }
  const { context, shown } = termination.context(termination.choose(connection.sni));
  const result = await runtime.terminateTls(plain, {
    context,
    initialData,
    handlers: legHandlers,
    data: downstream,
    timeoutMs: listener.spec.handshakeTimeoutMs,
  });
  if (result.ok) {
    downstream.socket = result.socket;
    downstream.isTls = true;
    // Ended while it was being secured: nobody had this socket to abort then.
    if (connection.ended) result.socket.terminate();
    const { peerCertificate, version, cipher, resumed, alpn } = result;
    const handshakeMs = runtime.preciseNowMs() - startedMs;
    return { secured: { version, cipher, resumed, alpn, handshakeMs, shown }, peerCertificate };
  }
  connection.refusedCertificate = describeRefused(result.peerCertificate);
  downstream.closed = true;
  switch (result.failure) {
    case "certificate":
      return new Ending(
        "certificate_rejected",
        refusalReason(result.detail, result.peerCertificate, termination.spec.trustDomains),
        refusalCode(result.detail),
      );
    case "timeout":
      return new Ending("handshake_timeout");
    case "closed":
      return new Ending("handshake_failed", "the client left during the handshake");
    default:
      return new Ending("handshake_failed", result.detail);
  }
}

function shownCertificate(chainPem: string): ShownCertificate {
  const der = splitPem(chainPem, "CERTIFICATE").map(pemBytes)[0] ?? null;
  const details = der === null ? null : readCertificateDetails(der);
  return { signatureAlgorithm: details?.signatureAlgorithm ?? "", keyAlgorithm: details?.keyAlgorithm ?? "" };
}
