// Securing a plain socket on Bun, in either direction: the upgrade, the deadline, the one verdict, and the events of the TLS socket afterwards. Who
// is acceptable is the caller's to judge (tls.ts).
//
// What is unsafe in Bun's own behaviour and shut here, each with a test in test/conformance:
//  - an exception inside `handshake` lets data flow: it is caught and the socket is aborted;
//  - a bare FIN looks like a close_notify: the record framing of the ciphertext tells them apart;
//  - a record that does not decrypt is reported like an exception of a handler: it ends that connection, as a reset, and nothing else.

import type { Socket, SocketHandler } from "bun";
import { type Clock, Timer } from "../../base/clock.ts";
import { codeOf, messageOf } from "../../base/errors.ts";
import { TlsRecords } from "../node/tls-records.ts";
import type { CloseCode, SocketHandlers, StreamSocket, TlsResult } from "../runtime.ts";
import { closeCode, reportDefect } from "./events.ts";
import { resetAtClose } from "./libc.ts";
import { descriptorOf } from "./transfer.ts";

/** Stands in `socket.data` of a plain socket after its upgrade, when Bun goes on reporting its ciphertext. */
export class TlsTwin extends TlsRecords {}

/** A Bun TLS socket with what is ours hung on it, because `data` is the caller's. */
export interface TlsSocket extends Socket<unknown> {
  /** The framing that tells a truncated stream. */
  records?: TlsRecords;
  /** How it will have ended, where we know better than what Bun's `close` is going to say. The first cause counts. */
  fate?: CloseCode;
}

type Refused = Extract<TlsResult<unknown>, { ok: false }>;

/** What a handshake that has come to an end is worth. */
export interface Verdict {
  /** "" lets the peer in. */
  readonly failure: "" | Refused["failure"];
  readonly detail: string;
  /** DER of the peer's leaf, where it showed one. */
  readonly certificate: Uint8Array | null;
  /** Whether to end in order, so that the alert which says why can reach the peer; otherwise nothing more is sent. */
  readonly alerts: boolean;
}

/** What an upgrade takes, in either direction. */
export interface UpgradeOptions<S> {
  readonly handlers: SocketHandlers<S>;
  readonly data: S;
  readonly timeoutMs: number;
  /** What of the peer's first flight has been read already. */
  readonly initialData: Uint8Array | null;
  /** Bun's own options: the context and what has to stand beside it. */
  readonly tls: object;
  /** Decides on a handshake as Bun reports it. A throw is a refusal. */
  judge(socket: TlsSocket, completed: boolean, error: unknown): Verdict;
}

/** Whether a socket is one that was secured here. */
export function isTls(socket: StreamSocket<unknown>): boolean {
  return (socket as unknown as TlsSocket).records !== undefined;
}

/** Secures a plain socket: as the server when there is `initialData`, else as the client. */
export function upgrade<S>(
  clock: Clock,
  socket: StreamSocket<unknown>,
  options: UpgradeOptions<S>,
): Promise<TlsResult<S>> {
  const { initialData, tls } = options;
  const twin = silence(socket);
  const securing = new Securing(clock, options, twin);
  if (initialData !== null) twin.feed(initialData);
  const plain = socket as unknown as Socket<unknown>;
  if (plain.readyState < 1) {
    // It closed while the caller made up its mind, and `close` has been told to the caller already.
    securing.fail("closed", "");
    return securing.result;
  }
  // `isServer` and `initialData` are real but not in Bun's types (RUNTIME-FACTS: TLS on Bun).
  const upgradeOptions = {
    ...(initialData !== null && { isServer: true, initialData }),
    data: securing,
    socket: tlsHandler(options.handlers),
    tls,
  } as unknown as Parameters<Socket<unknown>["upgradeTLS"]>[0];
  securing.start();
  try {
    const [raw, secured] = plain.upgradeTLS(upgradeOptions);
    raw.data = twin;
    securing.opened(secured);
    // Bun has detached this one, and its own `terminate` does nothing any more.
    plain.terminate = () => securing.abort();
  } catch (thrown) {
    securing.fail("handshake", messageOf(thrown));
    plain.terminate();
  }
  return securing.result;
}

/** From here on the plain socket tells its handlers nothing. */
export function silence(socket: StreamSocket<unknown>): TlsTwin {
  const twin = new TlsTwin();
  socket.data = twin;
  return twin;
}

/** `CERT_HAS_EXPIRED`, or the last part of BoringSSL's `error:100000c0:SSL routines:OPENSSL_internal:REASON`. */
export function reasonOf(error: unknown): string {
  if (typeof error !== "object" || error === null) return "";
  const { code, message } = error as { code?: unknown; message?: unknown };
  const reason = typeof message === "string" ? /OPENSSL_internal:(\w+)/.exec(message)?.[1] : undefined;
  if (reason !== undefined) return reason;
  // Bun has no code for name constraints, but the words of BoringSSL.
  if (code === "UNSPECIFIED" && typeof message === "string" && /^[ -~]{1,80}$/.test(message)) return message;
  return typeof code === "string" ? code : "";
}

/** Stands in `socket.data` of the TLS socket until the handshake has been judged. */
class Securing<S> {
  readonly result: Promise<TlsResult<S>>;
  readonly #records: TlsRecords;
  readonly #resolve: (result: TlsResult<S>) => void;
  readonly #options: UpgradeOptions<S>;
  readonly #clock: Clock;
  readonly #deadline: Timer;
  #socket: Socket<unknown> | null = null;
  #settled = false;

  constructor(clock: Clock, options: UpgradeOptions<S>, records: TlsRecords) {
    const { promise, resolve } = Promise.withResolvers<TlsResult<S>>();
    this.result = promise;
    this.#records = records;
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
    const { failure, detail, certificate, alerts } = this.#options.judge(socket, completed, error);
    if (failure === "") {
      this.#succeed(socket, certificate);
      return;
    }
    this.fail(failure, detail, certificate);
    if (alerts) {
      // The alert has to arrive.
      resetAtClose(descriptorOf(socket), false);
      socket.close();
    } else socket.terminate();
  }

  abort(): void {
    if (this.#settled) return;
    this.fail("closed", "");
    this.#socket?.terminate();
  }

  fail(failure: Refused["failure"], detail: string, peerCertificate: Uint8Array | null = null): void {
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
    socket.records = this.#records;
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
      // What a refused peer still managed to send is dropped here.
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
