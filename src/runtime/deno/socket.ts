// A plain socket of the seam on Deno, over node:net: what Deno's own `Conn` lacks is a reset (RST). What differs from the contract's shape is made up here:
//  - `write` of node:net keeps what the kernel does not take: here it takes as much as fits under a limit and copies it, since the caller's bytes
//    are the caller's;
//  - a paused node:net socket is deaf to a reset: here a paused one goes on reading into a store of its own (inflow.ts), and stops only when that is full.

import type net from "node:net";
import { codeOf } from "../../base/errors.ts";
import type { CloseCode, SocketHandlers, StreamSocket } from "../runtime.ts";
import { boundedWrite } from "./bounded-write.ts";
import { Inflow } from "./inflow.ts";

/** What `socket.data` is before its owner has set it. */
const NO_DATA: unknown = undefined;

/** A connected plain socket. */
export class DenoSocket<S> implements StreamSocket<S> {
  data: S = NO_DATA as S;
  readonly raw: net.Socket;
  /** What the peer was heard to do first. */
  heard: "" | "data" | "end" = "";
  #handlers: SocketHandlers<S>;
  readonly #inflow: Inflow;
  #isShut = false;
  /** Aborted by us or closed: no event but `close` is emitted any more. */
  #isDead = false;
  #hasClosed = false;
  #fate: CloseCode = "clean";

  /** `raw` is connected and paused, and allows half-open. It is read from at once. */
  constructor(raw: net.Socket, handlers: SocketHandlers<S>) {
    this.raw = raw;
    this.#handlers = handlers;
    this.#inflow = new Inflow({
      deliver: (bytes) => this.#handlers.data(this, bytes),
      tellEnd: () => this.#ended(),
      throttle: (stop) => (stop ? raw.pause() : raw.resume()),
    });
    raw.on("data", (bytes: Uint8Array) => this.receive(bytes));
    raw.on("end", () => {
      if (this.heard === "") this.heard = "end";
      this.#inflow.end();
    });
    raw.on("drain", () => {
      if (!this.#isDead && !this.#isShut) this.#handlers.drain(this);
    });
    raw.on("error", (error) => {
      if (!this.#isDead) this.#fate = codeOf(error) === "ETIMEDOUT" ? "timed_out" : "reset";
    });
    raw.on("close", () => this.#closed());
    raw.resume();
  }

  get remoteAddress(): string | undefined {
    return this.raw.remoteAddress || undefined;
  }

  get remotePort(): number | undefined {
    return this.raw.remotePort;
  }

  get localAddress(): string | undefined {
    return this.raw.localAddress || undefined;
  }

  get localPort(): number | undefined {
    return this.raw.localPort;
  }

  /** Whether nothing can be sent or received any more. */
  get isDead(): boolean {
    return this.#isDead;
  }

  /** Bytes that the kernel has not taken yet. */
  get waitingBytes(): number {
    return this.#isDead ? 0 : this.raw.writableLength;
  }

  /** Replaces the handlers. What a pause has held back goes to the new ones, once they resume. */
  takeOver<T>(handlers: SocketHandlers<T>, data: T): DenoSocket<T> {
    const taken = this as unknown as DenoSocket<T>;
    taken.#handlers = handlers;
    taken.data = data;
    return taken;
  }

  /** Bytes that have come, from now on its own. */
  receive(bytes: Uint8Array): void {
    if (this.heard === "") this.heard = "data";
    this.#inflow.take(bytes);
  }

  write(bytes: Uint8Array): number {
    if (this.#isDead || this.#isShut) return -1;
    return boundedWrite(this.raw, bytes);
  }

  shutdown(): void {
    if (this.#isDead || this.#isShut) return;
    this.#isShut = true;
    this.raw.end();
  }

  close(): void {
    this.shutdown();
  }

  terminate(): void {
    if (this.#isDead) return;
    this.#isDead = true;
    this.#fate = "clean";
    this.#inflow.close();
    this.raw.resetAndDestroy();
  }

  pause(): void {
    this.#inflow.pause();
  }

  resume(): void {
    this.#inflow.resume();
  }

  #ended(): void {
    if (this.#hasClosed) this.#tellClose();
    // After our own shutdown, `close` says it.
    else if (!this.#isShut) this.#handlers.end(this);
  }

  #closed(): void {
    this.#hasClosed = true;
    // What was received before both directions ended in order is still to be delivered.
    if (this.#isDead || this.#fate !== "clean" || !this.#inflow.isWaiting) this.#tellClose();
  }

  #tellClose(): void {
    this.#isDead = true;
    this.#inflow.close();
    this.#handlers.close(this, this.#fate);
  }
}
