// TLS on Bun, in both directions: an accepted socket is upgraded as the server once its ClientHello has been seen, a dialled one as the client.
// This file decides which peers are accepted; the upgrade and the events after it are in tls-upgrade.ts.
//
// Bun's own behaviour is unsafe in several ways that are shut here, each with a test in test/conformance:
//  - options beside `secureContext` drop client authentication unless they repeat it, and the environment variable
//    NODE_TLS_REJECT_UNAUTHORIZED weakens it unless `rejectUnauthorized` is explicit: both are always given;
//  - a client whose certificate does not verify still gets `handshake(ok = true)`: `judgeClient` accepts only what is verified;
//  - a resumed session lets in a client whose certificate has expired since: `judgeClient` looks at the dates again;
//  - a server's name is checked as Bun sees fit (the common name counts, without SNI nothing is checked): its word on names is ignored.

import { X509Certificate } from "node:crypto";
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import { codeOf } from "../../base/errors.ts";
import type { OriginateTlsOptions, StreamSocket, TerminateTlsOptions, TlsResult } from "../runtime.ts";
import { heardBefore } from "./dial.ts";
import type { BunClientContext, BunServerContext } from "./tls-contexts.ts";
import { isTls, reasonOf, silence, type TlsSocket, upgrade, type Verdict } from "./tls-upgrade.ts";

/** Reasons for which BoringSSL ends a handshake before it verifies, and which are the fault of the peer's certificate. */
const CERTIFICATE_FAULTS: readonly string[] = [
  "PEER_DID_NOT_RETURN_A_CERTIFICATE",
  "CANNOT_PARSE_LEAF_CERT",
  "KEY_USAGE_BIT_INCORRECT",
  "UNKNOWN_CERTIFICATE_TYPE",
  "WRONG_CERTIFICATE_TYPE",
];

/** What Bun says when the chain is good and only the name is not the one that was sent as SNI. A fault of the chain goes before it. */
const WRONG_NAME = "ERR_TLS_CERT_ALTNAME_INVALID";
/** Codes of a handshake that either side has broken off, whatever certificate had been seen by then. */
const NO_HANDSHAKE: readonly string[] = ["", "EPROTO"];

/** Upgrades an accepted socket. See `Runtime.terminateTls`. */
export function terminateTls<S>(
  clock: Clock,
  socket: StreamSocket<unknown>,
  options: TerminateTlsOptions<S>,
): Promise<TlsResult<S>> {
  const context = options.context as BunServerContext;
  const { handlers, data, timeoutMs, initialData } = options;
  const { clientAuth, alpn } = context.identity;
  return upgrade(clock, socket, {
    handlers,
    data,
    timeoutMs,
    initialData,
    tls: {
      secureContext: handleOf(context),
      requestCert: clientAuth !== "none",
      rejectUnauthorized: clientAuth === "required",
      ...(alpn.length > 0 && { ALPNProtocols: alpnWireFormat(alpn) }),
    },
    judge: (secured, completed, error) => judgeClient(context, secured, { completed, error }),
  });
}

/** Upgrades a dialled socket. See `Runtime.originateTls`. */
export function originateTls<S>(
  clock: Clock,
  socket: StreamSocket<unknown>,
  options: OriginateTlsOptions<S>,
): Promise<TlsResult<S>> {
  const context = options.context as BunClientContext;
  const { handlers, data, timeoutMs, serverName } = options;
  const { alpn } = context.identity;
  const secureContext = handleOf(context);
  const heard = heardBefore(socket);
  if (heard !== "") {
    // Bytes from before the handshake are not authenticated. And an end that was reported is not reported again: the handshake would only time out.
    silence(socket);
    socket.terminate();
    const [failure, detail] = heard === "data" ? (["handshake", "SPOKE_FIRST"] as const) : (["closed", ""] as const);
    return Promise.resolve({ ok: false, failure, detail, peerCertificate: null });
  }
  return upgrade(clock, socket, {
    handlers,
    data,
    timeoutMs,
    initialData: null,
    tls: {
      secureContext,
      requestCert: true,
      // With true, Bun would end the connection itself over a name that `accept` is there to judge.
      rejectUnauthorized: false,
      ...(serverName !== "" && { serverName }),
      ...(alpn.length > 0 && { ALPNProtocols: alpnWireFormat(alpn) }),
    },
    judge: (secured, completed, error) => judgeServer(options, secured, { completed, error }),
  });
}

/** See `Runtime.peerCertificate`. */
export function peerCertificate(socket: StreamSocket<unknown>): Uint8Array | null {
  // Without a refused one among them: a socket that shows a certificate here was let in with it.
  return isTls(socket) ? ((socket as unknown as TlsSocket).getPeerX509Certificate()?.raw ?? null) : null;
}

/** See `Runtime.isSignedBy`. */
export function isSignedBy(certificate: Uint8Array, issuer: Uint8Array): boolean {
  try {
    return new X509Certificate(certificate).verify(new X509Certificate(issuer).publicKey);
  } catch {
    // One of them is no certificate, or has a key that nothing can be verified with.
    return false;
  }
}

/** A handshake as Bun reports it. */
interface Report {
  readonly completed: boolean;
  readonly error: unknown;
}

function judgeClient(context: BunServerContext, socket: TlsSocket, { completed, error }: Report): Verdict {
  if (hasLeft(error)) return LEFT;
  if (!completed) return failed(error);
  const { clientAuth } = context.identity;
  const certificate = clientAuth === "none" ? undefined : socket.getPeerX509Certificate();
  const verified = certificate !== undefined && isNone(error) && socket.authorized === true;
  const acceptable = clientAuth === "none" || verified || (clientAuth === "optional" && certificate === undefined);
  if (!acceptable) return refused(reasonOf(error), certificate);
  const fault = certificate === undefined || !socket.isSessionReused() ? "" : staleness(context, certificate);
  return fault === "" ? accepted(certificate) : refused(fault, certificate);
}

/** Bun calls a handshake with a bad certificate completed or not as it likes: only the code tells what happened. */
function judgeServer(options: OriginateTlsOptions<unknown>, socket: TlsSocket, { completed, error }: Report): Verdict {
  const certificate = socket.getPeerX509Certificate();
  const chainIsGood = (completed && isNone(error)) || codeOf(error) === WRONG_NAME;
  if (hasLeft(error)) return LEFT;
  if (certificate === undefined || (!chainIsGood && NO_HANDSHAKE.includes(codeOf(error)))) return failed(error);
  if (!chainIsGood) return refused(reasonOf(error), certificate);
  const fault = options.accept(certificate.raw);
  if (fault !== "") return refused(fault, certificate);
  // A server may pass over what we offer (RFC 7301, 3.2), and then speak anything.
  if (options.context.identity.alpn.length > 0 && typeof socket.alpnProtocol !== "string")
    return { ...refused("NO_APPLICATION_PROTOCOL", certificate), failure: "handshake" };
  // TLS 1.2 renegotiation: the peer has been verified, and must not change.
  socket.disableRenegotiation();
  return accepted(certificate);
}

/**
 * The reason to refuse a resumed session, or "". A ticket carries the verdict of the first handshake, and nobody looks at dates again. (An
 * intermediate that has expired since is not seen: Bun shows only the leaf. A new context makes all tickets void.)
 */
function staleness({ revocationEndsMs }: BunServerContext, certificate: X509Certificate): string {
  const nowMs = Date.now();
  // "Invalid Date" compares as false, so ask in the way that then refuses.
  if (!(Date.parse(certificate.validTo) > nowMs)) return "CERT_HAS_EXPIRED";
  return revocationEndsMs > nowMs ? "" : "CRL_HAS_EXPIRED";
}

function accepted(certificate: X509Certificate | undefined): Verdict {
  return { failure: "", detail: "", certificate: certificate?.raw ?? null, alerts: false };
}

/** Nothing more is sent: of a client's handshake in TLS 1.3, its certificate is still waiting then. */
function refused(detail: string, certificate: X509Certificate | undefined): Verdict {
  return { failure: "certificate", detail, certificate: certificate?.raw ?? null, alerts: false };
}

function failed(error: unknown): Verdict {
  const detail = reasonOf(error);
  const failure = CERTIFICATE_FAULTS.includes(detail) ? "certificate" : "handshake";
  return { failure, detail, certificate: null, alerts: true };
}

const LEFT: Verdict = { failure: "closed", detail: "", certificate: null, alerts: false };

/** So Bun reports an end in the middle of a handshake, in order or not. */
function hasLeft(error: unknown): boolean {
  return codeOf(error) === "ECONNRESET";
}

function isNone(error: unknown): boolean {
  return error === undefined || error === null;
}

function handleOf({ secureContext }: BunServerContext | BunClientContext): object {
  // Bun takes an upgrade without a context for one without TLS.
  assert(typeof secureContext === "object" && secureContext !== null, "the context was built by this runtime");
  return secureContext;
}

/** Protocol names, each behind a byte that tells its length (RFC 7301, 3.1), as the text that Bun takes. */
function alpnWireFormat(protocols: readonly string[]): string {
  return protocols.map((name) => String.fromCharCode(name.length) + name).join("");
}
