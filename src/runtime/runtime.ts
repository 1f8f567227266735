// The seam: all that the proxy asks of a platform, and the contract that every implementation keeps. The shape is that of the fastest
// runtime, so that on Bun it costs nothing: events are pushed to shared handlers, `write` returns a count.
//
// Contract (test/conformance has a test for each line):
//  1. Handlers are one shared object for many sockets; what belongs to one socket hangs on `socket.data`.
//  2. `write(bytes)` returns the count taken, 0..n, or -1 when the socket is broken. Fewer than n means that the caller keeps
//     the rest, and a `drain` follows. After -1 the code of `close` may be wrong: the caller should treat it as a reset.
//  3. Half-open always: the peer's end never closes our write side.
//  4. Bytes that were peeked and handed to `terminateTls` are delivered again.
//  5. `terminateTls` and `originateTls` answer once: secured, with a verified certificate or (`terminateTls`) with none if none was asked
//     for; or failed with a code. Nothing that is refused reaches `data`.
//  6. `close` is the last event, once, with a code from CloseCode. A FIN, a RST and a TLS stream without close_notify are told apart.
//  7. Dialling has a deadline, can be cancelled, and its error codes are the system's. The same is true of `reach`.
//  8. An option that a runtime cannot honour is refused when the socket is opened, never ignored.
//  9. Nothing of ours, our certificate included on TLS 1.3, is sent to a server that is refused. No common-name fallback: the chain is
//     the runtime's to verify, the name is `accept`'s.
// 10. An HTTP address (http.ts) is shared with a successor only, and a socket file of somebody else is never removed.

import type { Address, ListenAddress } from "../base/address.ts";
import type { Clock } from "../base/clock.ts";
import type { Files } from "./files.ts";
import type { Http } from "./http.ts";
import type { LogFile, LogSink } from "./logs.ts";
import type { Reach, ReachOptions } from "./reach.ts";
import type { Refusal } from "./refusals.ts";
import type { SocketState } from "./socket-state.ts";

/**
 * How a socket ended. `clean`: both directions ended in order, or we closed it. `reset`: the peer sent RST or the connection broke.
 * `timed_out`: the kernel gave up on a peer that no longer answers. `truncated`: a TLS stream ended by a bare FIN, so its
 * last bytes may be missing (RFC 8446, 6.1); the socket has been aborted.
 */
export type CloseCode = "clean" | "reset" | "timed_out" | "truncated";

/** A connected stream. Structurally a subset of Bun's own socket. `S` is the caller's per-socket state. */
export interface StreamSocket<S> {
  data: S;
  /** The peer's IP (mapped IPv4 as ::ffff:a.b.c.d on a dual-stack listener); undefined on a unix socket. Read it before `close`. */
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  readonly localAddress: string | undefined;
  readonly localPort: number | undefined;
  /** Contract, line 2. Never keeps a reference to `bytes`. */
  write(bytes: Uint8Array): number;
  /** Ends our direction after what was written: FIN, for TLS close_notify and FIN. Reading goes on. */
  shutdown(): void;
  /**
   * Only on a plain socket whose peer has ended: ends our direction as `shutdown` does, without waiting to be told that both have. `close`
   * follows, perhaps before this returns.
   */
  close(): void;
  /** RST: both directions end at once, and nothing that waits is sent. `close` follows, perhaps before this returns. */
  terminate(): void;
  /** Stops `data` and `end`. Chunks that were already read or decrypted may still come. A reset is seen all the same. */
  pause(): void;
  resume(): void;
}

/** Shared by all sockets of a listener or of the dialler. None of them may throw. */
export interface SocketHandlers<S> {
  /** `bytes` is the callee's to keep. */
  data(socket: StreamSocket<S>, bytes: Uint8Array): void;
  /** There may be room to write again. Also comes when nothing was refused. */
  drain(socket: StreamSocket<S>): void;
  /** The peer ended its direction in order. Not called when `close` says so at the same time. */
  end(socket: StreamSocket<S>): void;
  /** Contract, line 6. Addresses can no longer be read here. */
  close(socket: StreamSocket<S>, code: CloseCode): void;
}

/**
 * A listening socket with its accept queue. Several descriptors, in several processes, may refer to it: it lives until the last of them is closed,
 * and then the connections that still wait in it are reset.
 */
export interface BoundSocket {
  /** As bound: the port is the true one when 0 was asked for. */
  readonly address: Address;
  /** Another descriptor for the same socket. Throws ProxyError (EMFILE …). */
  share(): BoundSocket;
  /**
   * Lets nobody join the queue any more; who is in it, or completing a handshake, can still be accepted. A new connection gets no answer until the
   * last hold is given up, and is refused then. A socket file is removed, unless another one has taken its place.
   */
  turnAway(): void;
  /** Gives up this hold. A socket file stays: see `turnAway`. */
  close(): void;
}

export interface ListenOptions<S> {
  /** Whose queue to accept from. From now on it is the listening socket's to close. */
  readonly socket: BoundSocket;
  readonly handlers: SocketHandlers<S>;
  /** Called once for each accepted socket, before any other event. Must set `socket.data`, and do so before anything else. */
  accept(socket: StreamSocket<S>): void;
}

/** Accepts from a bound socket. */
export interface ListeningSocket {
  readonly address: Address;
  /** Stops accepting; new connections wait in the kernel's queue. May be called from `accept`. */
  pause(): void;
  /** Accepts again. Throws ProxyError (EMFILE …) when the platform has no descriptor for it; it stays paused then. */
  resume(): void;
  /** Whether someone waits in the queue. */
  hasWaiting(): boolean;
  /** Accepts no more and gives up its hold on the queue. Accepted sockets live on. */
  close(): void;
}

export interface DialOptions<S> {
  /** A "tcp" host must be an IP literal. */
  readonly address: Address;
  readonly handlers: SocketHandlers<S>;
  readonly data: S;
  readonly timeoutMs: number;
  /** As if `endOrderly` had been called at once: nobody minds if what is said on it is cut. Default false. */
  readonly endsOrderly?: boolean;
}

/** A dial under way. */
export interface Dial<S> {
  readonly result: Promise<DialResult<S>>;
  /** Gives up: `result` becomes a failure with code "CANCELLED". Harmless once it is settled. */
  cancel(): void;
}

/** `code` is the errno's name (ECONNREFUSED, EHOSTUNREACH, EMFILE …), ETIMEDOUT for our deadline as for the kernel's, or CANCELLED. */
export type DialResult<S> =
  | { readonly ok: true; readonly socket: StreamSocket<S> }
  | { readonly ok: false; readonly code: string };

/** What a terminating listener presents and demands, as PEM texts. */
export interface ServerIdentity {
  readonly chainPem: string;
  readonly keyPem: string;
  readonly clientAuth: "required" | "optional" | "none";
  /** One certificate each. Must not be empty unless clientAuth is "none". */
  readonly clientCaPem: readonly string[];
  /** One CRL each; when given, every CA in a client's chain must have one (BoringSSL). */
  readonly clientCrlPem: readonly string[];
  readonly minVersion: "1.2" | "1.3";
  readonly alpn: readonly string[];
  readonly sessionTickets: boolean;
}

/** A built TLS context. Opaque: only the runtime that made it can use it. */
export interface ServerContext {
  readonly identity: ServerIdentity;
}

export interface TerminateTlsOptions<S> {
  readonly context: ServerContext;
  /** What has been read from the socket so far, from the first byte of the ClientHello. */
  readonly initialData: Uint8Array;
  readonly handlers: SocketHandlers<S>;
  readonly data: S;
  readonly timeoutMs: number;
}

/** What an originating leg presents and demands, as PEM texts. */
export interface ClientIdentity {
  /** Both "" when we present no certificate. */
  readonly chainPem: string;
  readonly keyPem: string;
  /** One certificate each. Never empty: the public roots are not meant here. */
  readonly serverCaPem: readonly string[];
  /** One CRL each; when given, every CA in a server's chain must have one (BoringSSL). */
  readonly serverCrlPem: readonly string[];
  readonly minVersion: "1.2" | "1.3";
  /** Offered in this order; none when empty. A server that chooses none of them is refused (`handshake`, `NO_APPLICATION_PROTOCOL`). */
  readonly alpn: readonly string[];
}

/** A built TLS context. Opaque: only the runtime that made it can use it. */
export interface ClientContext {
  readonly identity: ClientIdentity;
}

export interface OriginateTlsOptions<S> {
  readonly context: ClientContext;
  /** A DNS name to be sent as SNI, "" for none. It is not what is verified. */
  readonly serverName: string;
  /**
   * Judges the leaf (DER) whose chain has verified, before anything of ours is sent: "" accepts, anything else is the reason to refuse. Must
   * not throw; if it does, that is a refusal. On TLS 1.3 our certificate has not been sent by then. On TLS 1.2 it has, also to a server whose
   * chain does not verify, and what is held back is all that comes after the handshake: who must not be known to strangers asks for 1.3.
   */
  accept(leaf: Uint8Array): string;
  readonly handlers: SocketHandlers<S>;
  readonly data: S;
  readonly timeoutMs: number;
}

/**
 * Contract, line 5. On failure the socket has been aborted, and none of `handlers` is or will be called. Until there is a result, `terminate` of the
 * plain socket aborts the handshake (`closed`); afterwards the plain socket is dead.
 */
export type TlsResult<S> =
  | {
      readonly ok: true;
      readonly socket: StreamSocket<S>;
      /** DER of the verified leaf; null when a client sent none and none was required. */
      readonly peerCertificate: Uint8Array | null;
      /** `TLSv1.3`, `TLSv1.2`. */
      readonly version: string;
      /** OpenSSL's name of the suite. */
      readonly cipher: string;
      /** Never for `originateTls`: each of its handshakes verifies the server anew. */
      readonly resumed: boolean;
      /** The protocol agreed on, "" when none was. */
      readonly alpn: string;
    }
  | {
      readonly ok: false;
      /** `certificate`: the peer's was refused. That a peer refuses ours shows as `handshake`, or later, on TLS 1.3, as a reset. */
      readonly failure: "certificate" | "handshake" | "timeout" | "closed";
      /** The X.509 reason (`CERT_HAS_EXPIRED`), what `accept` said, the library's error, `SPOKE_FIRST`, or "". */
      readonly detail: string;
      /** DER of the leaf that was refused, where the platform still shows it. */
      readonly peerCertificate: Uint8Array | null;
    };

/** What a call of `transfer` did. One object is reused for all calls. */
export interface TransferOutcome {
  /** Bytes that `to` has taken. */
  movedBytes: number;
  rest: Uint8Array | null;
  /** The socket that turned out to be broken: it may seem to end in order from now on, and must not be believed. */
  broken: "" | "from" | "to";
}

/** Memory that several processes have mapped. */
export interface SharedMemory {
  readonly bytes: number;
  /** Maps a part of it. `offset` is a multiple of 4096. What is mapped counts as memory of this process's heap. */
  map(offset: number, bytes: number): ArrayBufferLike;
}

/** What can go to another process beside a message. The sender keeps its own hold. */
export type Passable = BoundSocket | SharedMemory | LogFile;

/** What came beside a message, by its position. Each is to be taken once. */
export interface Passed {
  socket(index: number, address: Address): BoundSocket;
  memory(index: number): SharedMemory;
  logFile(index: number): LogFile;
}

export interface ChannelHandlers {
  /** A value that `JSON.stringify` could write. */
  message(message: unknown, passed: Passed): void;
  /** The other process has ended or closed, or we have. Once, and the last event. */
  end(): void;
}

/** Messages between a process and one that it started, in order, each arriving once or never because the other has ended. */
export interface Channel {
  /** Never blocks: messages that the other side has not read are buffered. */
  send(message: object, passes?: readonly Passable[]): void;
  /** Delivers messages to the handlers, those that have arrived before included. To be called once. */
  listen(handlers: ChannelHandlers): void;
  close(): void;
}

/** A process that we started. Exit code and signal are null where they cannot be known. */
export interface ChildProcess {
  readonly pid: number;
  readonly channel: Channel;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: string | null }>;
  kill(signal: "SIGTERM" | "SIGKILL"): void;
}

/** Processes of the same program. */
export interface Processes {
  readonly pid: number;
  /** Processors that this process may use. */
  readonly processors: number;
  /** Starts the program that is on the disk now, with these arguments. It inherits standard output and error, and the environment with `more` added. */
  start(args: readonly string[], more?: Readonly<Record<string, string>>): ChildProcess;
  /**
   * The same, but the process is orphaned, so that a service manager, which watches its own children only, adopts it. Its exit cannot be known
   * then: code and signal are null.
   */
  startOrphan(args: readonly string[], more: Readonly<Record<string, string>>): ChildProcess;
  /** Whether this process was started by one of these. */
  readonly isChild: boolean;
  /** The channel to the process that started this one. To be called once. */
  parent(): Channel;
  /** Memory that reads as zero. */
  shareMemory(bytes: number): SharedMemory;
  isAlive(pid: number): boolean;
  /** Sends it a signal; whether it was there. */
  signal(pid: number, name: "SIGTERM" | "SIGINT" | "SIGHUP" | "SIGUSR1" | "SIGUSR2"): boolean;
}

/** The service manager that has started and supervises us, such as systemd. */
export interface ServiceManager {
  /** Our PID, to be sent as MAINPID. */
  readonly pid: number;
  /** Without a WATCHDOG=1 for this long the manager considers us dead; 0 = there is no watchdog. */
  readonly watchdogMs: number;
  /** The variables by which a successor that this process starts finds the manager. They are no longer in the environment. */
  readonly environment: Readonly<Record<string, string>>;
  /** Sends lines of NAME=value (sd_notify(3)). Blocks for a second at most. Returns "", or the errno's name when sending failed. */
  notify(state: string): string;
  /** CLOCK_MONOTONIC, for MONOTONIC_USEC. */
  monotonicMicroseconds(): bigint;
}

/** A platform. */
export interface Runtime {
  readonly name: string;
  /** Contract, line 8: a config that asks for one of these is refused. */
  readonly refusals: readonly Refusal[];
  readonly files: Files;
  readonly http: Http;
  /** Coarse time, advanced by the runtime while timers are armed or sockets are open. */
  readonly clock: Clock;
  /** Returns memory that only the start has needed to the system. Blocks the event loop for some milliseconds. */
  giveBackMemory(): void;
  /** Milliseconds with a fraction, monotonic: for measuring, not for deadlines. */
  preciseNowMs(): number;
  /** SHA-256 in lower-case hexadecimal. */
  sha256(bytes: Uint8Array): string;
  /** Descriptors that this process may have open. */
  descriptorLimit(): number;
  /**
   * Binds an address and listens. `ours` are sockets that this program holds already: they cause no EADDRINUSE, even where one is bound to all
   * addresses of the host and the other to one of them. Throws ProxyError (EADDRINUSE, EACCES, EADDRNOTAVAIL …) with a
   * message that names the address. Of `systemd:NAME` it gives another hold on what was passed; throws ENOTPASSED when nothing of that name was.
   */
  bind(address: ListenAddress, ours?: readonly BoundSocket[]): BoundSocket;
  /** Begins paused. */
  listen<S>(options: ListenOptions<S>): ListeningSocket;
  dial<S>(options: DialOptions<S>): Dial<S>;
  /**
   * Finds out whether an address takes connections, and takes back the one it makes before the program that listens there has seen it, as far as the
   * kernel of that host does so. Null where the platform cannot: one dials then.
   */
  readonly reach: ((options: ReachOptions) => Reach) | null;
  /** Throws ProxyError `BAD_TLS_MATERIAL` naming what does not fit: no key, a key of another certificate, no CA to verify clients. */
  serverContext(identity: ServerIdentity): ServerContext;
  terminateTls<S>(socket: StreamSocket<unknown>, options: TerminateTlsOptions<S>): Promise<TlsResult<S>>;
  /** Throws ProxyError `BAD_TLS_MATERIAL` naming what does not fit: no CA to verify servers, a certificate without its key. */
  clientContext(identity: ClientIdentity): ClientContext;
  /**
   * Secures a dialled socket to which all that was written has been taken. Refused (`handshake`, `SPOKE_FIRST`) when the server has sent
   * anything before: such bytes are not part of the secured stream.
   */
  originateTls<S>(socket: StreamSocket<unknown>, options: OriginateTlsOptions<S>): Promise<TlsResult<S>>;
  /**
   * To be called before `shutdown` or `close` of a socket. Until then the end of this process, however it comes, resets the connection: a
   * stream that was cut must not look like one that has ended. Where the platform cannot do so it does nothing.
   */
  endOrderly(socket: StreamSocket<unknown>): void;
  /** DER of the verified leaf of a secured socket that is open; null for a plain one, for one that is closed, and where there is none. */
  peerCertificate(socket: StreamSocket<unknown>): Uint8Array | null;
  /** Whether the key of `issuer` signed `certificate` (both DER). Nothing else is looked at; false when either cannot be read. */
  isSignedBy(certificate: Uint8Array, issuer: Uint8Array): boolean;
  /** Bytes written to the socket that its peer has not acknowledged yet; 0 where the platform cannot tell. */
  unsentBytes(socket: StreamSocket<unknown>): number;
  /**
   * Moves what is ready on a plain socket straight to another socket, up to about `limitBytes`, as far as neither has to wait. What was taken
   * from `from` and not by `to` is the caller's to write (`outcome.rest`). Null where the platform has no better way than `data`.
   */
  readonly transfer:
    | ((from: StreamSocket<unknown>, to: StreamSocket<unknown>, limitBytes: number, outcome: TransferOutcome) => void)
    | null;
  /** What the kernel says of a TCP connection; null for a unix socket and for one that is closed. Null where the platform cannot ask it. */
  readonly socketState: ((socket: StreamSocket<unknown>) => SocketState | null) | null;
  /** Null when there is none. Its variables are removed from the environment at the first access. */
  readonly serviceManager: ServiceManager | null;
  /**
   * The listening sockets that the service manager has opened for us, by name; it goes on listening there when we end, so `turnAway` is not for
   * them. The variables that tell of them are taken out of the environment at the first call. Throws ProxyError BAD_INHERITED_SOCKET when one of
   * them is no listening stream socket or two have the same name.
   */
  inheritedSockets(): ReadonlyMap<string, BoundSocket>;
  /** Whether the host has a user of that name. */
  userExists(user: string): boolean;
  /**
   * Switches all threads of this process to that user and its groups, irreversibly, and sets no_new_privs. Open descriptors stay open. Throws
   * ProxyError when there is no such user (EUSER) or we may not become it (EPERM): the process must then exit. Where it already
   * runs as that user, only no_new_privs is set.
   */
  dropPrivileges(user: string): void;
  /** The command line of a living process, with its arguments apart; empty when there is none of that id, or it may not be seen. */
  commandLine(pid: number): readonly string[];
  /** Null where processes cannot share listening sockets and memory. */
  readonly processes: Processes | null;
  /** The address of a host name, IPv4 where there is one. Throws ProxyError (ENOTFOUND, EAI_AGAIN …) when it has none. */
  resolve(name: string): Promise<string>;
  /** Opens where log lines go: `stdout`, `stderr` or a file that is appended to. Throws ProxyError when the file cannot be opened. */
  openLogSink(target: string): LogSink;
  /** Opens a file to be appended to, and makes it if there is none. Throws ProxyError when that cannot be. Never waits for the reader of a FIFO. */
  openLogFile(path: string): LogFile;
}
