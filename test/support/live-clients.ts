// TLS clients and an endpoint of this process (node:tls) for scenarios in which something changes while connections are open: they tell whom they
// met, and whether bytes still flow both ways.

import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import type { KeyPair } from "../../src/tls-tools/tls-tools.ts";
import { eventually } from "./eventually.ts";

/** What tells a certificate from every other, as clients and the endpoint here report it. */
export function fingerprintOf({ certificatePem }: Pick<KeyPair, "certificatePem">): string {
  return new X509Certificate(certificatePem).fingerprint256;
}

export interface LiveClientOptions {
  /** `127.0.0.1:PORT`. */
  readonly to: string;
  /** Authorities that the server's certificate has to verify against; plain TCP without. */
  readonly ca?: string;
  readonly certificate?: KeyPair;
  readonly session?: Buffer;
}

/** A connection to something that sends everything back. */
export class LiveClient {
  readonly socket: net.Socket;
  received = "";
  /** How it ended: "" while it is open, `end` for a FIN, or the error's code. */
  ending = "";
  session: Buffer | null = null;
  #messages = 0;

  constructor({ to, ca, certificate, session }: LiveClientOptions) {
    const colon = to.lastIndexOf(":");
    const target = { host: to.slice(0, colon), port: Number(to.slice(colon + 1)) };
    this.socket =
      ca === undefined
        ? net.connect(target)
        : tls.connect({
            ...target,
            servername: "localhost",
            ca,
            rejectUnauthorized: true,
            ...(certificate && { cert: certificate.certificatePem, key: certificate.keyPem }),
            ...(session && { session }),
          });
    this.socket.on("data", (bytes: Buffer) => {
      this.received += bytes.toString("latin1");
    });
    this.socket.on("error", (error: Error & { code?: string }) => {
      this.ending ||= error.code ?? error.message;
    });
    this.socket.on("end", () => {
      this.ending ||= "end";
    });
    this.socket.on("close", () => {
      this.ending ||= "closed";
    });
    this.socket.on("session", (given: Buffer) => {
      this.session = given;
    });
  }

  get isOpen(): boolean {
    return this.ending === "";
  }

  get resumed(): boolean {
    return this.socket instanceof tls.TLSSocket && this.socket.isSessionReused();
  }

  /** Sends something, and waits until exactly that has come back behind all that came before. Throws when it does not. */
  async echo(): Promise<this> {
    const before = this.received;
    const text = `message ${this.#messages++} ${"x".repeat(this.#messages % 97)};`;
    this.socket.write(text);
    await eventually(
      () => `"${text}" came back; since then came "${this.received.slice(before.length)}", ended: "${this.ending}"`,
      () => this.received.length >= before.length + text.length || !this.isOpen,
    );
    if (this.received !== before + text)
      throw new Error(`"${text}" was sent, "${this.received.slice(before.length)}" came back, ended: "${this.ending}"`);
    return this;
  }

  /** Of the certificate that the server showed. */
  get peer(): string {
    return this.socket instanceof tls.TLSSocket ? this.socket.getPeerCertificate().fingerprint256 : "";
  }

  close(): void {
    this.socket.destroy();
  }
}

/** Connects, and is served. */
export function connected(options: LiveClientOptions): Promise<LiveClient> {
  return new LiveClient(options).echo();
}

/** One full connection: gives the fingerprint that the server showed. */
export async function shakeHands(options: LiveClientOptions): Promise<string> {
  const client = await connected(options);
  const { peer } = client;
  client.close();
  return peer;
}

/** A TLS server that demands a certificate of `ca` and sends everything back. To be declared with `await using`. */
export interface SecureEcho extends AsyncDisposable {
  readonly address: string;
  /** Of the client of each connection, oldest first. */
  readonly clients: readonly string[];
}

export async function startSecureEcho(identity: KeyPair, ca: string): Promise<SecureEcho> {
  const clients: string[] = [];
  const sockets = new Set<tls.TLSSocket>();
  const options = { cert: identity.certificatePem, key: identity.keyPem, ca, requestCert: true };
  const server = tls.createServer({ ...options, rejectUnauthorized: true }, (socket) => {
    clients.push(socket.getPeerCertificate().fingerprint256);
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: `127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    clients,
    async [Symbol.asyncDispose]() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
