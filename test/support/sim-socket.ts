// The proxy's handle on a simulated connection. It only passes on what is asked of it, and knows when it has been replaced by a TLS socket.

import type { StreamSocket } from "../../src/runtime/runtime.ts";
import type { SimLink } from "./sim-link.ts";

/** A socket of the simulated runtime. */
export class SimSocket implements StreamSocket<unknown> {
  data: unknown = undefined;
  /** Replaced by a TLS socket: bytes written here would go into the stream unencrypted. */
  detached = false;
  /** `endOrderly` was called, as it has to be before an orderly end. */
  endsOrderly = false;
  /** Of a TLS socket: DER of what the far end has shown. */
  peerCertificate: Uint8Array | null = null;
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  readonly localAddress = "127.0.0.1";
  readonly localPort = 1;
  readonly link: SimLink;

  constructor(link: SimLink, remoteAddress: string | undefined, remotePort: number | undefined) {
    this.link = link;
    this.remoteAddress = remoteAddress;
    this.remotePort = remotePort;
  }

  write(bytes: Uint8Array): number {
    this.#mustBeAttached("write");
    return this.link.write(bytes);
  }

  shutdown(): void {
    this.#mustBeAttached("shutdown");
    this.#mustEndOrderly("shutdown");
    this.link.shutdown();
  }

  close(): void {
    this.#mustBeAttached("close");
    this.#mustEndOrderly("close");
    this.link.close();
  }

  /** Of the plain twin of a finished handshake it does nothing: the TLS socket owns the link. */
  terminate(): void {
    if (!this.detached || !this.link.isSecured) this.link.terminate();
  }

  pause(): void {
    this.#mustBeAttached("pause");
    this.link.pause();
  }

  resume(): void {
    this.#mustBeAttached("resume");
    this.link.resume();
  }

  #mustEndOrderly(verb: string): void {
    if (!this.endsOrderly) this.link.schedule.violation(`${verb} without endOrderly`);
  }

  #mustBeAttached(verb: string): void {
    if (this.detached && !this.link.gone) this.link.schedule.violation(`${verb} on the plain twin of a TLS socket`);
  }
}
