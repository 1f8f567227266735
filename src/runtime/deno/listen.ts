// Binding and accepting on Deno, by node:net. Its server cannot stop accepting, so connections that arrive while accepting is paused are
// kept here, unread, as the kernel would keep them in the accept queue. It also binds late, and reports errors late. So it is given a handle that is
// bound already: Node documents that, but not how to get one (`process.binding`). The errno of an address that cannot be bound is
// found by Deno's own listener.

import { accessSync, constants, lstatSync, renameSync, unlinkSync } from "node:fs";
import net from "node:net";
import { dirname } from "node:path";
import process from "node:process";
import type { Address, ListenAddress } from "../../base/address.ts";
import { formatAddress } from "../../base/address.ts";
import { codeOf, messageOf, ProxyError } from "../../base/errors.ts";
import { refresh } from "../node/clock.ts";
import { cannotListen as cannotListenAt, temporarySocketPath } from "../node/listening.ts";
import type { BoundSocket, ListeningSocket, ListenOptions } from "../runtime.ts";
import { deno } from "./deno-api.ts";
import { DenoSocket } from "./socket.ts";

/** As long as the accept queue of Bun's listeners; when it is full, new connections are reset. */
const WAITING_LIMIT = 4096;

/** Binding is synchronous, and there is no synchronous way here to find out whether somebody still listens on a socket file. */
const FILE_IN_THE_WAY = "a file is there: if the program that made it is gone, remove it";

/** See `Runtime.bind`. */
export function bind(address: ListenAddress): BoundSocket {
  if (address.kind === "systemd")
    throw new ProxyError("ENOTSUP", `cannot listen on ${formatAddress(address)}: Deno cannot adopt descriptors`);
  return new DenoBoundSocket(new Queue(address));
}

/** The error of an address that cannot be listened on, with what to do about it. */
export function cannotListen(address: Address, code: string): ProxyError {
  const isFile = code === "EADDRINUSE" && address.kind === "unix" && !address.path.startsWith("@");
  return isFile ? cannotListenAt(address, code, FILE_IN_THE_WAY) : cannotListenAt(address, code);
}

/** Whether an address can be had: as it will be bound, the port chosen when 0 was asked for. Throws ProxyError when not. */
export function probe(address: Address): Address {
  if (address.kind === "unix") return probeFile(address);
  try {
    const listener = deno.listen({ hostname: address.host, port: address.port });
    const { port } = listener.addr;
    listener.close();
    return { ...address, port };
  } catch (thrown) {
    // Deno has no code for what it does not permit, but good advice.
    if (codeOf(thrown) === "")
      throw new ProxyError("EACCES", `cannot listen on ${formatAddress(address)}: ${messageOf(thrown)}`);
    throw cannotListen(address, codeOf(thrown));
  }
}

function probeFile(address: Extract<Address, { kind: "unix" }>): Address {
  const { path } = address;
  if (path.startsWith("@")) return address;
  if (fileAt(path) !== "") throw cannotListen(address, "EADDRINUSE");
  try {
    accessSync(dirname(path), constants.W_OK);
  } catch (thrown) {
    throw cannotListen(address, codeOf(thrown));
  }
  return address;
}

/** Whatever is there, as device and inode; "" when nothing is, or the address is no file's. */
export function fileAt(path: string): string {
  if (path.startsWith("@")) return "";
  const file = lstatSync(path, { throwIfNoEntry: false });
  return file === undefined ? "" : `${file.dev}:${file.ino}`;
}

/** The path of a socket as node:net takes it. */
export function socketPath(path: string): string {
  return path.startsWith("@") ? `\0${path.slice(1)}` : path;
}

/** Binds a socket file by `listenAt` at a temporary path and renames it: node:net later removes the path that it has bound, even if another process owns it by then. */
function placeFile(path: string, listenAt: (path: string) => void): string {
  if (path.startsWith("@")) {
    listenAt(socketPath(path));
    return "";
  }
  const temporary = temporarySocketPath(path, deno.pid);
  listenAt(temporary);
  renameSync(temporary, path);
  return fileAt(path);
}

/** Node's own handle of a socket, as far as it is used here. */
interface TcpHandle {
  bind(host: string, port: number): number;
  bind6(host: string, port: number, flags: number): number;
  close(): void;
}

/** A handle bound to an address, or null when it could not be. */
function boundHandle({ host, port }: Extract<Address, { kind: "tcp" }>): TcpHandle | null {
  // Not in the types, and all there is of these handles.
  const { TCP, constants } = (process as unknown as BindingHost).binding("tcp_wrap");
  const handle = new TCP(constants.SERVER);
  try {
    // Without flags "::" takes IPv4 as well.
    const failure = host.includes(":") ? handle.bind6(host, port, 0) : handle.bind(host, port);
    if (failure === 0) return handle;
  } catch {
    // Not permitted by Deno: its own listener says so too, and how to permit it.
  }
  handle.close();
  return null;
}

interface BindingHost {
  binding(name: "tcp_wrap"): {
    readonly TCP: new (kind: number) => TcpHandle;
    readonly constants: { readonly SERVER: number };
  };
}

/** A bound address with those who wait for being accepted. */
class Queue {
  readonly address: Address;
  readonly #server: net.Server;
  readonly #waiting: net.Socket[] = [];
  readonly #file: string;
  #holds = 0;
  #taker: ((raw: net.Socket) => void) | null = null;
  #isClosed = false;

  constructor(address: Address) {
    this.#server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
    this.#server.on("connection", (raw) => this.#arrived(raw));
    // What goes wrong is seen at once, below; this comes later.
    this.#server.on("error", ignore);
    if (address.kind === "unix") {
      probe(address);
      this.#file = placeFile(address.path, (path) => this.#server.listen({ path, backlog: WAITING_LIMIT }));
      this.address = address;
    } else {
      this.#file = "";
      const handle = boundHandle(address);
      if (handle !== null) this.#server.listen(handle, WAITING_LIMIT);
      const bound = this.#server.address();
      if (bound === null || typeof bound === "string") {
        probe(address);
        throw cannotListen(address, "EADDRINUSE");
      }
      this.address = { ...address, port: bound.port };
    }
  }

  get hasWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  hold(): void {
    this.#holds++;
  }

  release(): void {
    this.#holds--;
    if (this.#holds > 0) return;
    this.#stop();
    for (const raw of this.#waiting.splice(0)) raw.resetAndDestroy();
  }

  turnAway(): void {
    this.#stop();
    const { address } = this;
    if (this.#file !== "" && address.kind === "unix" && fileAt(address.path) === this.#file)
      unlinkQuietly(address.path);
  }

  /** Passes the connections that wait, then new ones, to `taker`, one at a time and until another taker is set. */
  serve(taker: (raw: net.Socket) => void): void {
    this.#taker = taker;
    if (this.#waiting.length > 0) setImmediate(() => this.#serveWaiting(taker));
  }

  leave(taker: (raw: net.Socket) => void): void {
    if (this.#taker === taker) this.#taker = null;
  }

  #serveWaiting(taker: (raw: net.Socket) => void): void {
    while (this.#taker === taker) {
      const raw = this.#waiting.shift();
      if (raw === undefined) return;
      taker(raw);
    }
  }

  #arrived(raw: net.Socket): void {
    if (this.#taker !== null && this.#waiting.length === 0) this.#taker(raw);
    else if (this.#holds > 0 && this.#waiting.length < WAITING_LIMIT) {
      raw.on("error", ignore);
      this.#waiting.push(raw);
    } else raw.resetAndDestroy();
  }

  #stop(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#server.close();
  }
}

class DenoBoundSocket implements BoundSocket {
  readonly address: Address;
  readonly queue: Queue;
  #isClosed = false;

  constructor(queue: Queue) {
    this.queue = queue;
    this.address = queue.address;
    queue.hold();
  }

  share(): BoundSocket {
    return new DenoBoundSocket(this.queue);
  }

  turnAway(): void {
    if (!this.#isClosed) this.queue.turnAway();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.queue.release();
  }
}

/** See `Runtime.listen`. */
export function listen<S>(options: ListenOptions<S>): ListeningSocket {
  const bound = options.socket as DenoBoundSocket;
  const { queue, address } = bound;
  let isClosed = false;
  const take = (raw: net.Socket): void => {
    refresh();
    options.accept(new DenoSocket<S>(raw, options.handlers));
  };
  const pause = (): void => queue.leave(take);
  return {
    address,
    pause,
    resume() {
      if (!isClosed) queue.serve(take);
    },
    hasWaiting: () => !isClosed && queue.hasWaiting,
    close() {
      isClosed = true;
      pause();
      bound.close();
    },
  };
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Already gone, which is all that was wanted.
  }
}

function ignore(): void {
  // An error of a connection that waits unread, or of a server whose failure has been reported already.
}
