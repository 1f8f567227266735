// What Deno's node:tls runs over: a stream of ours in front of a plain socket of the seam. Over a socket of node:net it would hide what has to be seen:
// bytes that were peeked, whether a stream that ends has said so (close_notify), resets while it is paused, and what a client says before it is
// known whether the server is the right one.

import { Duplex } from "node:stream";
import { TlsRecords } from "../node/tls-records.ts";
import type { CloseCode, SocketHandlers } from "../runtime.ts";
import type { DenoSocket } from "./socket.ts";

const HANDSHAKE = 22;
const HEADER_BYTES = 5;

/** Ciphertext in both directions. */
export class Carrier extends Duplex {
  /** Told once, when the plain socket has closed. */
  onClose: (code: CloseCode) => void = () => {};
  /** Told once, when the peer has ended its direction of the plain socket. */
  onEnd: () => void = () => {};
  readonly records = new TlsRecords();
  readonly wire: DenoSocket<Carrier>;
  /** With it Deno does not send `localhost` as SNI when there is no name to send: addresses never are one. Real, and in no documentation. */
  readonly _host = "127.0.0.1";
  /** What is held back until the server has been judged; null once nothing is. */
  #gated: Uint8Array[] | null;
  #isLeaving = false;
  #isHeldBack = false;
  #hasFinished = false;

  /** `isGated`: hold back all that a TLS 1.3 client says after its hellos, until `openGate`. */
  constructor(wire: DenoSocket<unknown>, { isGated }: { readonly isGated: boolean }) {
    super({ allowHalfOpen: true, emitClose: true });
    this.#gated = isGated ? [] : null;
    this.wire = wire.takeOver(WIRE_HANDLERS, this);
  }

  /** Bytes that have come from the peer. */
  receive(bytes: Uint8Array): void {
    // Nobody is left to read them; but the end of the plain socket has still to be seen.
    if (this.#isLeaving) return;
    this.records.feed(bytes);
    if (!this.push(bytes)) this.wire.pause();
  }

  /** Whether the peer has ended its direction. */
  get hasFinished(): boolean {
    return this.#hasFinished;
  }

  /** The reader has enough for now, or wants more again. */
  holdBack(stop: boolean): void {
    this.#isHeldBack = stop;
    if (stop) this.wire.pause();
    else this.wire.resume();
  }

  /** The peer has ended its direction. */
  finish(): void {
    this.#hasFinished = true;
    if (!this.#isLeaving) this.push(null);
  }

  openGate(): void {
    const gated = this.#gated ?? [];
    this.#gated = null;
    for (const bytes of gated) this.wire.raw.write(bytes);
  }

  /**
   * Whatever has been written goes out first, and a FIN behind it. That is begun later: of a handshake that has failed, the library writes its alert in
   * the microtasks after it has destroyed us, and of a stream that has ended its close_notify.
   */
  override destroy(error?: Error): this {
    if (this.#isLeaving) return this;
    this.#isLeaving = true;
    this.wire.resume();
    setImmediate(() => {
      // Of a stream that has ended, `end` would make an error, which costs more than all of this.
      if (this.wire.isDead || this.writableFinished) super.destroy(error);
      else this.end(() => super.destroy(error));
    });
    return this;
  }

  override _read(): void {
    if (!this.#isHeldBack) this.wire.resume();
  }

  override _write(bytes: Uint8Array, _: unknown, done: (error?: Error | null) => void): void {
    if (this.wire.isDead) done();
    else if (this.#gated === null) this.wire.raw.write(bytes, () => done());
    else {
      this.#gate(bytes);
      done();
    }
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.#gated === null) this.wire.shutdown();
    done();
  }

  /**
   * Lets handshake records pass: hellos, and the whole of a TLS 1.2 handshake, where its server has to answer before it can be judged. In TLS 1.3 all
   * after the hello is encrypted, and a record of another type.
   */
  #gate(bytes: Uint8Array): void {
    const gated = this.#gated ?? [];
    gated.push(bytes);
    const all = Buffer.concat(gated);
    let passed = 0;
    for (let at = 0; at + HEADER_BYTES <= all.length; ) {
      const end = at + HEADER_BYTES + all.readUInt16BE(at + 3);
      if (all[at] === HANDSHAKE) passed = end;
      at = end;
    }
    if (passed > 0) this.wire.raw.write(all.subarray(0, passed));
    this.#gated = passed < all.length ? [all.subarray(passed)] : [];
  }
}

const WIRE_HANDLERS: SocketHandlers<Carrier> = {
  data({ data: carrier }, bytes) {
    carrier.receive(bytes);
  },
  drain() {
    // Writes tell by themselves when they are done.
  },
  end({ data: carrier }) {
    carrier.finish();
    carrier.onEnd();
  },
  close({ data: carrier }, code) {
    // After our own shutdown a FIN is reported by this alone.
    if (code === "clean") carrier.finish();
    carrier.onClose(code);
  },
};
