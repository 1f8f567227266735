// A secured socket of the seam on Deno, in either direction. How its stream ended is derived from the records that came over the carrier, since Deno's node:tls
// takes a bare FIN for an end.

import type tls from "node:tls";
import type { CloseCode, SocketHandlers, StreamSocket } from "../runtime.ts";
import { boundedWrite } from "./bounded-write.ts";
import type { Carrier } from "./carrier.ts";
import { Inflow } from "./inflow.ts";

/** A connected TLS socket whose handshake has been judged. */
export class DenoTlsSocket<S> implements StreamSocket<S> {
  data: S;
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  readonly localAddress: string | undefined;
  readonly localPort: number | undefined;
  readonly #tls: tls.TLSSocket;
  readonly #carrier: Carrier;
  readonly #handlers: SocketHandlers<S>;
  readonly #leaf: Uint8Array | null;
  readonly #inflow: Inflow;
  #isShut = false;
  #hasEnded = false;
  /** Something in the stream was wrong. */
  #fault: CloseCode = "clean";
  #isDead = false;
  #wireClosed = false;

  constructor(secured: tls.TLSSocket, carrier: Carrier, more: SecuredOptions<S>) {
    const { wire } = carrier;
    this.data = more.data;
    this.remoteAddress = wire.remoteAddress;
    this.remotePort = wire.remotePort;
    this.localAddress = wire.localAddress;
    this.localPort = wire.localPort;
    this.#tls = secured;
    this.#carrier = carrier;
    this.#handlers = more.handlers;
    this.#leaf = more.leaf;
    carrier.onClose = (code) => this.#carrierClosed(code);
    this.#inflow = new Inflow({
      deliver: (bytes) => this.#handlers.data(this, bytes),
      tellEnd: () => this.#ended(),
      throttle: (stop) => carrier.holdBack(stop),
    });
    secured.on("data", (bytes: Uint8Array) => this.#inflow.take(bytes));
    secured.on("drain", () => {
      if (!this.#isDead && !this.#isShut) this.#handlers.drain(this);
    });
    secured.on("end", () => this.#inflow.end());
    // Deno says close_notify and leaves it at that.
    secured.once("finish", () => setImmediate(() => carrier.end()));
    // Deno forgets some ends of streams that were paused. Whatever the carrier has brought has been decrypted by now; an end that was told already is
    // not told twice.
    carrier.once("end", () => setImmediate(() => secured.push(null)));
    // A record that does not decrypt, or an alert: the peer's doing, or somebody's on the path. Or an end without close_notify.
    secured.on("error", () => {
      this.#fault = carrier.hasFinished ? "truncated" : "reset";
      if (carrier.hasFinished) this.#inflow.end();
      else this.#abort(this.#fault);
    });
  }

  /** DER of the verified leaf while it is open. */
  get leaf(): Uint8Array | null {
    return this.#isDead ? null : this.#leaf;
  }

  /** Bytes that the kernel has not taken yet. */
  get waitingBytes(): number {
    return this.#isDead ? 0 : this.#tls.writableLength;
  }

  write(bytes: Uint8Array): number {
    if (this.#isDead || this.#isShut) return -1;
    return boundedWrite(this.#tls, bytes);
  }

  shutdown(): void {
    if (this.#isDead || this.#isShut) return;
    this.#isShut = true;
    this.#tls.end();
  }

  close(): void {
    this.shutdown();
  }

  terminate(): void {
    this.#abort("clean");
  }

  pause(): void {
    this.#inflow.pause();
  }

  resume(): void {
    this.#inflow.resume();
  }

  /** The stream has been read to its end. */
  #ended(): void {
    if (this.#isDead || this.#hasEnded) return;
    if (this.#fault !== "clean" || !this.#carrier.records.endsInAlert) {
      this.#abort("truncated");
      return;
    }
    this.#hasEnded = true;
    if (this.#wireClosed) this.#close("clean");
    else if (!this.#isShut) this.#handlers.end(this);
  }

  #carrierClosed(code: CloseCode): void {
    this.#wireClosed = true;
    // What came in order is still to be delivered; then its end tells how it was.
    if (code !== "clean" || this.#hasEnded) this.#close(code);
  }

  #abort(code: CloseCode): void {
    if (this.#isDead) return;
    this.#isDead = true;
    this.#inflow.close();
    const { wire } = this.#carrier;
    const told = (): void => this.#handlers.close(this, code);
    this.#carrier.onClose = told;
    this.#tls.destroy();
    if (this.#wireClosed) setImmediate(told);
    else wire.terminate();
  }

  #close(code: CloseCode): void {
    if (this.#isDead) return;
    this.#isDead = true;
    this.#inflow.close();
    this.#tls.destroy();
    this.#handlers.close(this, code);
  }
}

/** What a secured socket is given. */
export interface SecuredOptions<S> {
  readonly handlers: SocketHandlers<S>;
  readonly data: S;
  readonly leaf: Uint8Array | null;
}
