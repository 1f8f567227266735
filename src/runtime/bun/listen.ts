// Listening on Bun. The descriptor is bound here and kept; Bun only ever gets duplicates of it. That buys three things that `Bun.listen`
// has no option for: the true errno when an address cannot be had, an accept queue longer than 512, and a pause: closing the
// duplicate stops accepting, while the kept descriptor keeps the queue, so nobody who waits in it is reset.

import { lstatSync, unlinkSync } from "node:fs";
import type { Socket, SocketHandler, SocketListener } from "bun";
import { type Address, formatAddress } from "../../base/address.ts";
import { codeOf, messageOf, ProxyError } from "../../base/errors.ts";
import type { ListeningSocket, ListenOptions, StreamSocket } from "../runtime.ts";
import { refresh } from "./clock.ts";
import { closeCode, reportDefect } from "./events.ts";
import {
  boundAddress,
  closeDescriptor,
  descriptorLimit,
  duplicate,
  listenOn,
  openBound,
  openConnecting,
  socketAddress,
} from "./libc.ts";
import { TlsTwin } from "./tls-upgrade.ts";

/** Asked for; the kernel caps it at net.core.somaxconn, 4096 since Linux 5.4. */
const BACKLOG = 4096;

/** What to do about an errno of bind(2), for the message. */
const ADVICE: Readonly<Record<string, string>> = {
  EADDRINUSE: "another program listens there: stop it or choose another address",
  EACCES: "not permitted: ports below 1024 need root or CAP_NET_BIND_SERVICE, a socket file a writable directory",
  EADDRNOTAVAIL: "no interface of this host has that address",
  ENOENT: "the directory of the socket file does not exist",
  EAFNOSUPPORT: "this host has IPv6 switched off",
};

/** Opens a listening socket. See `Runtime.listen`. */
export function listen<S>(options: ListenOptions<S>): ListeningSocket {
  const descriptor = bindOrThrow(options.address);
  const failure = listenOn(descriptor, BACKLOG);
  const socket = new BunListeningSocket(descriptor, options);
  try {
    if (failure !== "") throw cannotListen(options.address, failure);
    socket.resume();
  } catch (thrown) {
    socket.close();
    throw thrown;
  }
  return socket;
}

class BunListeningSocket<S> implements ListeningSocket {
  readonly address: Address;
  readonly #descriptor: number;
  readonly #handler: SocketHandler<S>;
  /** Device and inode of the socket file, "" where there is none: `close` must not remove a file that a successor put there. */
  readonly #file: string;
  #listener: SocketListener<S> | null = null;
  #closed = false;

  constructor(descriptor: number, options: ListenOptions<S>) {
    this.#descriptor = descriptor;
    this.#handler = acceptHandler(options);
    this.address = options.address.kind === "tcp" ? boundAddress(descriptor) : options.address;
    this.#file = fileOf(this.address);
  }

  pause(): void {
    this.#listener?.stop(false);
    this.#listener = null;
  }

  resume(): void {
    if (this.#listener !== null || this.#closed) return;
    const copy = duplicate(this.#descriptor);
    if (typeof copy === "string") throw cannotListen(this.address, copy);
    // `fd` is real but not in Bun's types (RUNTIME-FACTS: Descriptors).
    const options = { fd: copy, allowHalfOpen: true, socket: this.#handler };
    try {
      this.#listener = Bun.listen(options as unknown as Parameters<typeof Bun.listen<S>>[0]) as SocketListener<S>;
    } catch (thrown) {
      closeDescriptor(copy);
      throw cannotListen(this.address, codeOf(thrown) || messageOf(thrown));
    }
    // Adoption shortened the queue to 511.
    listenOn(this.#descriptor, BACKLOG);
  }

  close(): void {
    // A second close would hit whoever has been given the descriptor's number since.
    if (this.#closed) return;
    this.#closed = true;
    this.pause();
    // First the file: once the descriptor is closed, a successor may have taken it for stale and put its own there.
    if (this.address.kind === "unix" && this.#file !== "" && fileOf(this.address) === this.#file)
      unlinkQuietly(this.address.path);
    closeDescriptor(this.#descriptor);
  }
}

function acceptHandler<S>(options: ListenOptions<S>): SocketHandler<S> {
  const { handlers } = options;
  // After an upgrade to TLS the accepted socket lives on as a twin that sees ciphertext; its events are not the caller's.
  return {
    binaryType: "uint8array",
    open(socket) {
      refresh();
      options.accept(asStream(socket));
    },
    data(socket, bytes) {
      const state: unknown = socket.data;
      if (state instanceof TlsTwin) state.feed(bytes);
      else handlers.data(asStream(socket), bytes);
    },
    drain(socket) {
      if (!((socket.data as unknown) instanceof TlsTwin)) handlers.drain(asStream(socket));
    },
    end(socket) {
      if (!((socket.data as unknown) instanceof TlsTwin)) handlers.end(asStream(socket));
    },
    close(socket, error) {
      if (!((socket.data as unknown) instanceof TlsTwin)) handlers.close(asStream(socket), closeCode(error));
    },
    error(socket, thrown) {
      socket.terminate();
      reportDefect(thrown);
    },
  };
}

// Bun's socket has every member of StreamSocket with the same meaning; its declared types differ in details (`Buffer`, overloads).
function asStream<S>(socket: Socket<S>): StreamSocket<S> {
  return socket as unknown as StreamSocket<S>;
}

function bindOrThrow(address: Address): number {
  const first = openBound(address);
  if (typeof first === "number") return first;
  // connect(2) calls a file that is no socket ECONNREFUSED as well, and such a file may be precious.
  if (first === "EADDRINUSE" && address.kind === "unix" && fileOf(address) !== "" && isStale(address)) {
    unlinkQuietly(address.path);
    const second = openBound(address);
    if (typeof second === "number") return second;
  }
  throw cannotListen(address, first);
}

/** Device and inode of the socket file at a unix address; "" when there is none, or something that is no socket. */
function fileOf(address: Address): string {
  if (address.kind !== "unix" || address.path.startsWith("@")) return "";
  const file = lstatSync(address.path, { throwIfNoEntry: false });
  return file?.isSocket() ? `${file.dev}:${file.ino}` : "";
}

/** Whether a socket file was left behind by a program that is gone: nobody answers there. */
function isStale(address: Address): boolean {
  const probe = openConnecting(socketAddress(address));
  if (typeof probe === "number") closeDescriptor(probe);
  return probe === "ECONNREFUSED";
}

function cannotListen(address: Address, code: string): ProxyError {
  const advice = code === "EMFILE" ? `the limit of ${descriptorLimit()} descriptors is used up` : ADVICE[code];
  return new ProxyError(
    code,
    `cannot listen on ${formatAddress(address)}: ${code}${advice === undefined ? "" : `: ${advice}`}`,
  );
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Already gone, which is all that was wanted.
  }
}
