// Accepting on Bun. The bound descriptor is kept; Bun only ever gets duplicates of it. That buys a pause, for which `Bun.listen` has no
// option: closing the duplicate stops accepting, while the kept descriptor keeps the queue, so nobody who waits in it is reset.

import type { Socket, SocketHandler, SocketListener } from "bun";
import type { Address } from "../../base/address.ts";
import { codeOf, messageOf } from "../../base/errors.ts";
import { refresh } from "../node/clock.ts";
import type { ListeningSocket, ListenOptions, StreamSocket } from "../runtime.ts";
import { type BunBoundSocket, cannotListen } from "./bound.ts";
import { closeCode, reportDefect } from "./events.ts";
import { closeDescriptor, isReadable } from "./libc.ts";
import { TlsTwin } from "./tls-upgrade.ts";

/** See `Runtime.listen`. */
export function listen<S>(options: ListenOptions<S>): ListeningSocket {
  return new BunListeningSocket(options);
}

class BunListeningSocket<S> implements ListeningSocket {
  readonly address: Address;
  readonly #bound: BunBoundSocket;
  readonly #handler: SocketHandler<S>;
  #listener: SocketListener<S> | null = null;
  #closed = false;

  constructor(options: ListenOptions<S>) {
    this.#bound = options.socket as BunBoundSocket;
    this.#handler = acceptHandler(options);
    this.address = this.#bound.address;
  }

  pause(): void {
    this.#listener?.stop(false);
    this.#listener = null;
  }

  resume(): void {
    if (this.#listener !== null || this.#closed) return;
    const copy = this.#bound.share().descriptor;
    // `fd` is real but not in Bun's types (RUNTIME-FACTS: Descriptors).
    const options = { fd: copy, allowHalfOpen: true, socket: this.#handler };
    try {
      this.#listener = Bun.listen(options as unknown as Parameters<typeof Bun.listen<S>>[0]) as SocketListener<S>;
    } catch (thrown) {
      closeDescriptor(copy);
      throw cannotListen(this.address, codeOf(thrown) || messageOf(thrown));
    }
    this.#bound.restoreQueue();
  }

  hasWaiting(): boolean {
    return !this.#closed && isReadable(this.#bound.descriptor);
  }

  close(): void {
    this.#closed = true;
    this.pause();
    this.#bound.close();
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
