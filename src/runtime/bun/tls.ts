// TLS termination on Bun: a plain accepted socket is upgraded on the server side once its ClientHello has been seen.
//
// Bun's own behaviour is unsafe in several ways that are shut here, each with a test in test/conformance:
//  - an empty or missing option means plaintext, and a missing CA means the public roots: `serverContext` refuses such material;
//  - options beside `secureContext` drop client authentication unless they repeat it, and the environment variable
//    NODE_TLS_REJECT_UNAUTHORIZED weakens it unless `rejectUnauthorized` is explicit: both are always given;
//  - a client whose certificate does not verify still gets `handshake(ok = true)`: `judge` accepts only what is verified;
//  - a resumed session lets in a client whose certificate has expired since: `judge` looks at the dates again;
//  - an exception inside `handshake` lets data flow: it is caught and the socket is aborted;
//  - a bare FIN looks like a close_notify: the record framing of the ciphertext tells them apart;
//  - a record that does not decrypt is reported like an exception of a handler: it ends that connection, as a reset, and nothing else.

import type { X509Certificate } from "node:crypto";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import type { Socket, SocketHandler } from "bun";
import { assert } from "../../base/assert.ts";
import { type Clock, Timer } from "../../base/clock.ts";
import { codeOf, messageOf, ProxyError } from "../../base/errors.ts";
import type {
  CloseCode,
  ServerContext,
  ServerIdentity,
  SocketHandlers,
  StreamSocket,
  TerminateTlsOptions,
  TlsResult,
} from "../runtime.ts";
import { earliestNextUpdateMs } from "./crl-expiry.ts";
import { closeCode, reportDefect } from "./events.ts";
import { TlsRecords } from "./tls-records.ts";

// The suites of TLS 1.2 that have forward secrecy and an AEAD (RFC 9325, 4.2). Those of TLS 1.3 are all fit and not for us to choose.
const TLS12_AEAD_SUITES = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");
const SSL_OP_NO_TICKET = 0x4000;
const SSL_OP_CIPHER_SERVER_PREFERENCE = 0x400000;
const KEY_MISMATCH: readonly string[] = ["KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"];
/** Reasons for which BoringSSL ends a handshake before it verifies, and which are the fault of the client's certificate. */
const CERTIFICATE_FAULTS: readonly string[] = [
  "PEER_DID_NOT_RETURN_A_CERTIFICATE",
  "CANNOT_PARSE_LEAF_CERT",
  "KEY_USAGE_BIT_INCORRECT",
  "UNKNOWN_CERTIFICATE_TYPE",
  "WRONG_CERTIFICATE_TYPE",
];

/** Stands in `socket.data` of an accepted socket after its upgrade, when Bun goes on reporting its ciphertext. */
export class TlsTwin {
  readonly records = new TlsRecords();
}

/** A context with Bun's own handle to the built SSL_CTX. */
interface BunServerContext extends ServerContext {
  readonly secureContext: unknown;
  /** When the first of the CRLs goes out of date, in ms since the epoch. */
  readonly revocationEndsMs: number;
}

/** A Bun TLS socket with what is ours hung on it, because `data` is the caller's. */
interface TlsSocket extends Socket<unknown> {
  /** The framing that tells a truncated stream. */
  records?: TlsRecords;
  /** How it will have ended, where we know better than what Bun's `close` is going to say. The first cause counts. */
  fate?: CloseCode;
}

/** Whether a socket is one that `terminateTls` secured. */
export function isTls(socket: StreamSocket<unknown>): boolean {
  return (socket as unknown as TlsSocket).records !== undefined;
}

/** Builds and checks a context. See `Runtime.serverContext`. */
export function serverContext(identity: ServerIdentity): ServerContext {
  if (!identity.chainPem.includes("-----BEGIN CERTIFICATE-----")) throw badMaterial("there is no certificate");
  if (!identity.keyPem.includes("PRIVATE KEY-----")) throw badMaterial("there is no private key");
  if (identity.clientAuth !== "none" && identity.clientCaPem.length === 0) {
    throw badMaterial("clients are asked for a certificate, but there is no CA to verify it with");
  }
  // Bun drops what it cannot read beside a good one, and the second CRL of a text: without it, revoked clients would pass.
  if (!identity.clientCaPem.every((pem) => countOf(pem, "-----BEGIN CERTIFICATE-----") === 1))
    throw badMaterial("a client CA must be the PEM text of one certificate");
  if (!identity.clientCrlPem.every((pem) => countOf(pem, "-----BEGIN X509 CRL-----") === 1))
    throw badMaterial("a CRL must be the PEM text of one list");
  const options: SecureContextOptions = {
    cert: identity.chainPem,
    key: identity.keyPem,
    minVersion: identity.minVersion === "1.3" ? "TLSv1.3" : "TLSv1.2",
    ciphers: TLS12_AEAD_SUITES,
    secureOptions: SSL_OP_CIPHER_SERVER_PREFERENCE | (identity.sessionTickets ? 0 : SSL_OP_NO_TICKET),
  };
  if (identity.clientCaPem.length > 0) options.ca = [...identity.clientCaPem];
  if (identity.clientCrlPem.length > 0) options.crl = [...identity.clientCrlPem];
  try {
    const context: BunServerContext = {
      identity,
      secureContext: createSecureContext(options).context,
      revocationEndsMs: earliestNextUpdateMs(identity.clientCrlPem),
    };
    return context;
  } catch (thrown) {
    throw badMaterial(
      KEY_MISMATCH.includes(reasonOf(thrown)) ? "the private key is not the certificate's" : messageOf(thrown),
    );
  }
}

/** Upgrades an accepted socket. See `Runtime.terminateTls`. */
export function terminateTls<S>(
  clock: Clock,
  socket: StreamSocket<unknown>,
  options: TerminateTlsOptions<S>,
): Promise<TlsResult<S>> {
  const { identity, secureContext } = options.context as BunServerContext;
  // Bun takes an upgrade without a context for one without TLS.
  assert(typeof secureContext === "object" && secureContext !== null, "the context was built by this runtime");
  const securing = new Securing(clock, options);
  const twin = new TlsTwin();
  twin.records.feed(options.initialData);
  securing.records = twin.records;
  const plain = socket as unknown as Socket<unknown>;
  plain.data = twin;
  // `isServer` and `initialData` are real but not in Bun's types (RUNTIME-FACTS: TLS on Bun).
  const upgrade = {
    isServer: true,
    initialData: options.initialData,
    data: securing,
    socket: tlsHandler(options.handlers),
    tls: {
      secureContext,
      requestCert: identity.clientAuth !== "none",
      rejectUnauthorized: identity.clientAuth === "required",
      ...(identity.alpn.length > 0 && { ALPNProtocols: alpnWireFormat(identity.alpn) }),
    },
  } as unknown as Parameters<Socket<unknown>["upgradeTLS"]>[0];
  if (plain.readyState < 1) {
    // It closed while the caller made up its mind, and `close` has been told to the caller already.
    securing.fail("closed", "");
    return securing.result;
  }
  securing.start();
  try {
    const [raw, secured] = plain.upgradeTLS(upgrade);
    raw.data = twin;
    securing.opened(secured);
  } catch (thrown) {
    securing.fail("handshake", messageOf(thrown));
    plain.terminate();
  }
  return securing.result;
}

/** Stands in `socket.data` of the TLS socket until the handshake has been judged. */
class Securing<S> {
  readonly result: Promise<TlsResult<S>>;
  records: TlsRecords | null = null;
  readonly #resolve: (result: TlsResult<S>) => void;
  readonly #options: TerminateTlsOptions<S>;
  readonly #clock: Clock;
  readonly #deadline: Timer;
  #socket: Socket<unknown> | null = null;
  #settled = false;

  constructor(clock: Clock, options: TerminateTlsOptions<S>) {
    const { promise, resolve } = Promise.withResolvers<TlsResult<S>>();
    this.result = promise;
    this.#resolve = resolve;
    this.#options = options;
    this.#clock = clock;
    this.#deadline = new Timer(() => {
      this.fail("timeout", "");
      this.#socket?.terminate();
    });
  }

  start(): void {
    this.#clock.arm(this.#deadline, this.#options.timeoutMs);
  }

  opened(socket: Socket<unknown>): void {
    this.#socket = socket;
  }

  /** Decides on a finished handshake. From here on the socket is the caller's or it is dead. */
  judge(socket: TlsSocket, completed: boolean, error: unknown): void {
    if (this.#settled) return;
    if (!completed) {
      const detail = reasonOf(error);
      this.fail(CERTIFICATE_FAULTS.includes(detail) ? "certificate" : "handshake", detail);
      // An orderly close, so that the alert which says why can reach the client.
      socket.close();
      return;
    }
    const { clientAuth } = this.#options.context.identity;
    const certificate = clientAuth === "none" ? undefined : socket.getPeerX509Certificate();
    const verified = certificate !== undefined && (error === undefined || error === null) && socket.authorized === true;
    const acceptable = clientAuth === "none" || verified || (clientAuth === "optional" && certificate === undefined);
    if (!acceptable) {
      this.fail("certificate", reasonOf(error), certificate?.raw ?? null);
      socket.terminate();
      return;
    }
    const fault = certificate === undefined || !socket.isSessionReused() ? "" : this.#staleness(certificate);
    if (fault !== "") {
      this.fail("certificate", fault, certificate?.raw ?? null);
      socket.terminate();
      return;
    }
    this.#succeed(socket, certificate?.raw ?? null);
  }

  /**
   * The reason to refuse a resumed session, or "". A ticket carries the verdict of the first handshake, and nobody looks at dates again. (An
   * intermediate that has expired since is not seen: Bun shows only the leaf. A new context makes all tickets void.)
   */
  #staleness(certificate: X509Certificate): string {
    const nowMs = Date.now();
    // "Invalid Date" compares as false, so ask in the way that then refuses.
    if (!(Date.parse(certificate.validTo) > nowMs)) return "CERT_HAS_EXPIRED";
    const { revocationEndsMs } = this.#options.context as BunServerContext;
    return revocationEndsMs > nowMs ? "" : "CRL_HAS_EXPIRED";
  }

  fail(
    failure: "certificate" | "handshake" | "timeout" | "closed",
    detail: string,
    peerCertificate: Uint8Array | null = null,
  ): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#clock.disarm(this.#deadline);
    this.#resolve({ ok: false, failure, detail, peerCertificate });
  }

  #succeed(socket: TlsSocket, peerCertificate: Uint8Array | null): void {
    const alpn = socket.alpnProtocol;
    const result: TlsResult<S> = {
      ok: true,
      socket: socket as unknown as StreamSocket<S>,
      peerCertificate,
      version: interned(socket.getTLSVersion()),
      cipher: interned((socket.getCipher() as { name: string }).name),
      resumed: socket.isSessionReused(),
      alpn: typeof alpn === "string" ? alpn : "",
    };
    // From here on nothing can throw: a promise must not be left hanging behind `settled`.
    this.#settled = true;
    this.#clock.disarm(this.#deadline);
    if (this.records !== null) socket.records = this.records;
    socket.terminate = terminateByUs;
    socket.data = this.#options.data;
    this.#resolve(result);
  }
}

// Bun makes a new string for each of the few names there are, and every connection keeps them.
const internedNames = new Map<string, string>();

function interned(name: string): string {
  const known = internedNames.get(name);
  if (known !== undefined) return known;
  internedNames.set(name, name);
  return name;
}

const handlerCache = new WeakMap<object, SocketHandler<unknown>>();

function tlsHandler<S>(handlers: SocketHandlers<S>): SocketHandler<unknown> {
  let handler = handlerCache.get(handlers);
  if (handler === undefined) {
    handler = createTlsHandler(handlers);
    handlerCache.set(handlers, handler);
  }
  return handler;
}

function createTlsHandler<S>(handlers: SocketHandlers<S>): SocketHandler<unknown> {
  // Bun's socket has every member of StreamSocket; its `data` is S once the handshake has been accepted.
  const asStream = (socket: Socket<unknown>): StreamSocket<S> => socket as unknown as StreamSocket<S>;
  return {
    binaryType: "uint8array",
    open(socket) {
      if (socket.data instanceof Securing) socket.data.opened(socket);
    },
    handshake(socket, completed, error) {
      const securing = socket.data;
      if (!(securing instanceof Securing)) return;
      try {
        securing.judge(socket as TlsSocket, completed, error);
      } catch (thrown) {
        securing.fail("handshake", messageOf(thrown));
        socket.terminate();
      }
    },
    data(socket, bytes) {
      // What a refused client still managed to send is dropped here.
      if (!(socket.data instanceof Securing)) handlers.data(asStream(socket), bytes);
    },
    drain(socket) {
      if (!(socket.data instanceof Securing)) handlers.drain(asStream(socket));
    },
    end(socket) {
      if (socket.data instanceof Securing) return;
      const secured = socket as TlsSocket;
      if (secured.records?.endsInAlert === true) handlers.end(asStream(socket));
      else {
        abort(secured, "truncated");
      }
    },
    close(socket, error) {
      if (socket.data instanceof Securing) {
        socket.data.fail("closed", "");
        return;
      }
      const secured = socket as TlsSocket;
      let code = secured.fate ?? closeCode(error);
      // After our own shutdown a bare FIN brings no `end`, only this.
      if (secured.fate === undefined && code === "clean" && secured.records?.endsInAlert !== true) code = "truncated";
      handlers.close(asStream(socket), code);
    },
    error(socket, thrown) {
      // Bun reports here, too, that a record could not be decrypted. That is the peer's doing, or somebody's on the path, and no defect; and
      // it must not pass for an end in order, though the forged record may have the shape of an alert.
      if (isTlsFailure(thrown)) {
        if (socket.data instanceof Securing) socket.data.fail("handshake", reasonOf(thrown));
        abort(socket as TlsSocket, "reset");
        return;
      }
      socket.terminate();
      reportDefect(thrown);
    },
  };
}

/** What callers get as `terminate`: Bun's `close` cannot tell an abort of ours from a bare FIN of the peer. */
function terminateByUs(this: TlsSocket): void {
  abort(this, "clean");
}

function abort(socket: TlsSocket, fate: CloseCode): void {
  socket.fate ??= fate;
  // Bun's own, which `terminateByUs` stands in front of.
  (Object.getPrototypeOf(socket) as TlsSocket).terminate.call(socket);
}

/** Whether an error comes from the TLS library rather than from a handler that threw. */
function isTlsFailure(thrown: unknown): boolean {
  return codeOf(thrown) === "EPROTO" && messageOf(thrown).includes(":SSL routines:");
}

/** Protocol names, each behind a byte that tells its length (RFC 7301, 3.1), as the text that Bun takes. */
function alpnWireFormat(protocols: readonly string[]): string {
  return protocols.map((name) => String.fromCharCode(name.length) + name).join("");
}

/** `CERT_HAS_EXPIRED`, or the last part of BoringSSL's `error:100000c0:SSL routines:OPENSSL_internal:REASON`. */
function reasonOf(error: unknown): string {
  if (typeof error !== "object" || error === null) return "";
  const { code, message } = error as { code?: unknown; message?: unknown };
  const reason = typeof message === "string" ? /OPENSSL_internal:(\w+)/.exec(message)?.[1] : undefined;
  if (reason !== undefined) return reason;
  return typeof code === "string" ? code : "";
}

function countOf(text: string, what: string): number {
  return text.split(what).length - 1;
}

function badMaterial(what: string): ProxyError {
  return new ProxyError("BAD_TLS_MATERIAL", what);
}
