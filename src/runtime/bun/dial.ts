// Dialling on Bun. `Bun.connect` reports ETIMEDOUT, ENETUNREACH and EMFILE all as ECONNREFUSED, has no time-out and cannot be cancelled.
// So the socket is made and its connect started through libc, and Bun adopts the descriptor: the first writable event says that it is
// connected, a close says why it is not.

import type { Socket, SocketHandler } from "bun";
import { type Clock, Timer } from "../../base/clock.ts";
import type { Dial, DialOptions, DialResult, SocketHandlers, StreamSocket } from "../runtime.ts";
import { closeCode, reportDefect } from "./events.ts";
import { closeDescriptor, kernelAddress, openConnecting } from "./libc.ts";
import { TlsTwin } from "./tls-upgrade.ts";

/** A dialled plain socket with what is ours hung on it, because `data` is the caller's. */
interface DialledSocket extends Socket<unknown> {
  /** What the peer was heard to do first. */
  heard?: "data" | "end";
}

/** Stands in `socket.data` until the dial is settled. Its own deadline. */
class Dialing<S> extends Timer implements Dial<S> {
  readonly result: Promise<DialResult<S>>;
  readonly #resolve: (result: DialResult<S>) => void;
  readonly #options: DialOptions<S>;
  readonly #clock: Clock;
  #socket: Socket<unknown> | null = null;
  #settled = false;

  constructor(clock: Clock, options: DialOptions<S>) {
    super(tookTooLong);
    const { promise, resolve } = Promise.withResolvers<DialResult<S>>();
    this.result = promise;
    this.#resolve = resolve;
    this.#options = options;
    this.#clock = clock;
  }

  start(): void {
    const { address, endsOrderly } = this.#options;
    const descriptor = openConnecting(kernelAddress(address), { endsOrderly });
    if (typeof descriptor === "string") {
      this.failed(descriptor);
      return;
    }
    this.#clock.arm(this, this.#options.timeoutMs);
    // `fd` is real but not in Bun's types. `open` runs inside the call; the promise says nothing that the events do not.
    const adoption = {
      fd: descriptor,
      allowHalfOpen: true,
      data: this,
      socket: dialHandler(this.#options.handlers),
    } as unknown as Parameters<typeof Bun.connect<unknown>>[0];
    Bun.connect(adoption).catch(() => {
      if (this.#settled) return;
      closeDescriptor(descriptor);
      this.failed("EMFILE");
    });
  }

  opened(socket: Socket<unknown>): void {
    this.#socket = socket;
  }

  connected(socket: Socket<unknown>): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#clock.disarm(this);
    socket.data = this.#options.data;
    this.#resolve({ ok: true, socket: socket as unknown as StreamSocket<S> });
  }

  failed(code: string): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#clock.disarm(this);
    this.#resolve({ ok: false, code });
  }

  cancel(): void {
    this.giveUp("CANCELLED");
  }

  giveUp(code: string): void {
    if (this.#settled) return;
    this.failed(code);
    this.#socket?.terminate();
  }
}

function tookTooLong(timer: Timer): void {
  (timer as Dialing<unknown>).giveUp("ETIMEDOUT");
}

/** Starts a dial. See `Runtime.dial`. */
export function dial<S>(clock: Clock, options: DialOptions<S>): Dial<S> {
  const dialing = new Dialing(clock, options);
  dialing.start();
  return dialing;
}

/** Whether the peer of a dialled plain socket has sent data, or ended its direction without. */
export function heardBefore(socket: StreamSocket<unknown>): "" | "data" | "end" {
  return (socket as unknown as DialledSocket).heard ?? "";
}

// Bun's own handler objects, one for each set of the caller's.
const handlerCache = new WeakMap<object, SocketHandler<unknown>>();

function dialHandler<S>(handlers: SocketHandlers<S>): SocketHandler<unknown> {
  let handler = handlerCache.get(handlers);
  if (handler === undefined) {
    handler = createDialHandler(handlers);
    handlerCache.set(handlers, handler);
  }
  return handler;
}

function createDialHandler<S>(handlers: SocketHandlers<S>): SocketHandler<unknown> {
  // Bun's socket has every member of StreamSocket; its `data` is S from `connected` on, until TLS makes a twin of it that sees ciphertext.
  const asStream = (socket: Socket<unknown>): StreamSocket<S> => socket as unknown as StreamSocket<S>;
  return {
    binaryType: "uint8array",
    open(socket) {
      if (socket.data instanceof Dialing) socket.data.opened(socket);
    },
    data(socket: DialledSocket, bytes) {
      const state = socket.data;
      if (state instanceof TlsTwin) {
        state.feed(bytes);
        return;
      }
      // A server that speaks first can be heard in the same turn in which the socket became writable.
      if (state instanceof Dialing) state.connected(socket);
      socket.heard ??= "data";
      handlers.data(asStream(socket), bytes);
    },
    drain(socket) {
      if (socket.data instanceof Dialing) socket.data.connected(socket);
      else if (!(socket.data instanceof TlsTwin)) handlers.drain(asStream(socket));
    },
    end(socket: DialledSocket) {
      if (socket.data instanceof TlsTwin) return;
      if (socket.data instanceof Dialing) socket.data.connected(socket);
      socket.heard ??= "end";
      handlers.end(asStream(socket));
    },
    close(socket, error) {
      if (socket.data instanceof Dialing) socket.data.failed(errnoOf(error));
      else if (!(socket.data instanceof TlsTwin)) handlers.close(asStream(socket), closeCode(error));
    },
    error(socket, thrown) {
      socket.terminate();
      reportDefect(thrown);
    },
  };
}

function errnoOf(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : "ECONNRESET";
}
