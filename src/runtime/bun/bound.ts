// Binding on Bun, by libc: the true errno when an address cannot be had, an accept queue longer than 512, and descriptors that can be held
// more than once, by this process and by others.

import { lstatSync, unlinkSync } from "node:fs";
import type { Address } from "../../base/address.ts";
import type { ProxyError } from "../../base/errors.ts";
import { cannotListen as cannotListenAt } from "../node/listening.ts";
import type { BoundSocket } from "../runtime.ts";
import {
  allowSharing,
  boundAddress,
  closeDescriptor,
  descriptorLimit,
  dropNewcomers,
  duplicate,
  listenOn,
  openBound,
  openConnecting,
  socketAddress,
} from "./libc.ts";

/** Asked for; the kernel caps it at net.core.somaxconn, 4096 since Linux 5.4. */
const BACKLOG = 4096;

/** See `Runtime.bind`. */
export function bind(address: Address, ours: readonly BoundSocket[] = []): BoundSocket {
  const descriptor = bindOrThrow(address, ours as readonly BunBoundSocket[]);
  return new BunBoundSocket(descriptor, address.kind === "tcp" ? boundAddress(descriptor) : address);
}

/** A hold on a queue: a descriptor of its own. */
export class BunBoundSocket implements BoundSocket {
  readonly address: Address;
  readonly descriptor: number;
  /** Device and inode of the socket file, "" where there is none: never is a file removed that a successor put there. */
  readonly #file: string;
  #closed = false;

  /** Takes over a listening descriptor that is bound to that address. */
  constructor(descriptor: number, address: Address) {
    this.descriptor = descriptor;
    this.address = address;
    this.#file = fileOf(address);
  }

  share(): BunBoundSocket {
    const copy = duplicate(this.descriptor);
    if (typeof copy === "string") throw cannotListen(this.address, copy);
    return new BunBoundSocket(copy, this.address);
  }

  turnAway(): void {
    if (this.#closed) return;
    const { address } = this;
    if (address.kind === "tcp") {
      // Without the filter: a queue with room for one, so that nobody joins while somebody waits.
      if (dropNewcomers(this.descriptor) !== "") listenOn(this.descriptor, 0);
    } else if (this.#file !== "" && fileOf(address) === this.#file) unlinkQuietly(address.path);
  }

  /** Adoption by Bun shortens the accept queue to 511. */
  restoreQueue(): void {
    listenOn(this.descriptor, BACKLOG);
  }

  close(): void {
    // A second close would close whatever has got the same descriptor number since.
    if (this.#closed) return;
    this.#closed = true;
    closeDescriptor(this.descriptor);
  }
}

function bindOrThrow(address: Address, ours: readonly BunBoundSocket[]): number {
  const first = openListening(address);
  if (typeof first === "number") return first;
  const inTheWay = first === "EADDRINUSE" ? ours.filter((each) => overlaps(each.address, address)) : [];
  if (inTheWay.length > 0) {
    for (const { descriptor } of inTheWay) allowSharing(descriptor, true);
    const shared = openListening(address, true);
    for (const descriptor of [...inTheWay.map((each) => each.descriptor), shared])
      if (typeof descriptor === "number") allowSharing(descriptor, false);
    if (typeof shared === "number") return shared;
  }
  // connect(2) calls a file that is no socket ECONNREFUSED as well, and such a file may be precious.
  if (first === "EADDRINUSE" && address.kind === "unix" && fileOf(address) !== "" && isStale(address)) {
    unlinkQuietly(address.path);
    const second = openListening(address);
    if (typeof second === "number") return second;
  }
  throw cannotListen(address, first);
}

/** Binds and listens; returns the descriptor or the errno's name. listen(2) checks for conflicts again, so address sharing is set until then. */
function openListening(address: Address, shared = false): number | string {
  const descriptor = openBound(address, shared);
  if (typeof descriptor === "string") return descriptor;
  const failure = listenOn(descriptor, BACKLOG);
  if (failure === "") return descriptor;
  closeDescriptor(descriptor);
  return failure;
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

/** Whether both want a port, and one of them may want it on all addresses of the host. Two holders of the very same address are not meant. */
function overlaps(first: Address, second: Address): boolean {
  return first.kind === "tcp" && second.kind === "tcp" && first.port === second.port && first.host !== second.host;
}

/** The error of an address that cannot be listened on, with what to do about it. */
export function cannotListen(address: Address, code: string): ProxyError {
  if (code !== "EMFILE") return cannotListenAt(address, code);
  return cannotListenAt(address, code, `the limit of ${descriptorLimit()} descriptors is used up`);
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Already gone, which is all that was wanted.
  }
}
