// TLS for the conformance suite: a listener that terminates and records, clients (node:tls, and the openssl command as a second opinion), and
// a wire between them on which a test can hold, cut and forge bytes as an attacker on the path could.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import type { Runtime, ServerContext, ServerIdentity, TlsResult } from "../../src/runtime/runtime.ts";
import type { CertificateFiles, TestPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import {
  newRecording,
  openDescriptors,
  Peer,
  quiet,
  type Recording,
  recordingHandlers,
  type Server,
  serve,
} from "./peers.ts";

/** A strict identity for mTLS that `overrides` can loosen. */
export function identityOf(pki: TestPki, overrides: Partial<ServerIdentity> = {}): ServerIdentity {
  return {
    chainPem: pki.server.certificatePem,
    keyPem: pki.server.keyPem,
    clientAuth: "required",
    clientCaPem: [pki.authority.certificatePem],
    clientCrlPem: [],
    minVersion: "1.2",
    alpn: [],
    sessionTickets: false,
    ...overrides,
  };
}

/** One accepted socket on its way through `terminateTls`. */
export interface Session {
  /** Of the TLS socket. */
  readonly secured: Recording;
  /** Of the plain socket, which must fall silent once `terminateTls` has been called. */
  readonly plain: Recording;
  /** Events of `plain` after that call: the contract allows none. */
  plainEvents: number;
  result: TlsResult<Recording> | null;
  /** How many times the result came. */
  results: number;
}

export interface TlsServer extends Server {
  readonly sessions: Session[];
  /** The n-th session, as soon as its result is there. */
  settled(index: number): Promise<Session>;
}

export interface TlsServeOptions {
  readonly timeoutMs?: number;
  /** Bytes of the hello to collect before `terminateTls` is called. */
  readonly peekBytes?: number;
  /** Runs when `terminateTls` has been called. */
  onStarted?(session: Session): void;
}

/** Listens, peeks and terminates TLS with `context()`, which may change from connection to connection. */
export function serveTls(runtime: Runtime, context: () => ServerContext, options: TlsServeOptions = {}): TlsServer {
  const sessions: Session[] = [];
  const server = serve(runtime, {
    onAccept(plain) {
      plain.onData = (bytes) => {
        plain.chunks.push(bytes);
        if (plain.receivedBytes < (options.peekBytes ?? 1)) return;
        plain.onData = null;
        const session: Session = { secured: newRecording(), plain, plainEvents: 0, result: null, results: 0 };
        sessions.push(session);
        const terminated = runtime.terminateTls(plain.live, {
          context: context(),
          initialData: Buffer.concat(plain.chunks),
          handlers: recordingHandlers,
          data: session.secured,
          timeoutMs: options.timeoutMs ?? 5_000,
        });
        const bytesBefore = plain.receivedBytes;
        void terminated.then((result) => {
          session.result = result;
          session.results++;
          if (result.ok) session.secured.socket = result.socket;
          session.plainEvents = plain.receivedBytes - bytesBefore + plain.drains + plain.ends + plain.closes.length;
        });
        options.onStarted?.(session);
      };
    },
  });
  return {
    ...server,
    sessions,
    async settled(index) {
      await eventually(`session ${index} was settled`, () => (sessions[index]?.results ?? 0) > 0);
      return sessions[index] as Session;
    },
    close() {
      server.listener.close();
      for (const { secured } of sessions) if (secured.closes.length === 0) secured.socket?.terminate();
    },
  };
}

/** Asserts that a session was accepted, and gives its result. */
export function accepted(session: Session): Extract<TlsResult<Recording>, { ok: true }> {
  assert(session.result !== null);
  assert(session.result.ok, `accepted, but: ${session.result.ok || JSON.stringify(session.result)}`);
  return session.result;
}

/** Asserts line 5 of the contract for a refused session, and gives its result. */
export function refused(session: Session): Extract<TlsResult<Recording>, { ok: false }> {
  assert(session.result !== null);
  assert(!session.result.ok, "refused, but it was accepted");
  const { secured, plainEvents, results } = session;
  assert.deepEqual([secured.receivedBytes, secured.drains, secured.ends, secured.closes], [0, 0, 0, []]);
  assert.deepEqual([plainEvents, results], [0, 1]);
  return session.result;
}

export interface TlsClientOptions {
  readonly certificate?: CertificateFiles;
  readonly version?: "TLSv1.2" | "TLSv1.3";
  readonly alpn?: readonly string[];
  readonly session?: Buffer;
  /** Sent as soon as the client takes itself for connected. */
  readonly greeting?: string;
}

/** A client on node:tls that trusts anybody: it is the server's judgement that is tested. Resolves at once, connected or not. */
export function tlsClient(port: number, options: TlsClientOptions = {}): Peer & { readonly tls: tls.TLSSocket } {
  const socket = tls.connect({
    host: "127.0.0.1",
    port,
    servername: "localhost",
    rejectUnauthorized: false,
    allowHalfOpen: true,
    minVersion: options.version ?? "TLSv1.2",
    maxVersion: options.version ?? "TLSv1.3",
    ...(options.certificate && { cert: options.certificate.certificatePem, key: options.certificate.keyPem }),
    ...(options.alpn && { ALPNProtocols: [...options.alpn] }),
    ...(options.session && { session: options.session }),
  } as tls.ConnectionOptions);
  const peer = new Peer(socket);
  if (options.greeting !== undefined) socket.once("secureConnect", () => socket.write(options.greeting as string));
  return Object.assign(peer, { tls: socket });
}

export interface VerdictClient {
  readonly certificate?: CertificateFiles | undefined;
  readonly version?: "TLSv1.2" | "TLSv1.3";
  readonly alpn?: readonly string[];
}

/**
 * One connection to a seam with `identity`, up to its verdict and gone again, down to the last descriptor and timer. The client speaks as soon
 * as it takes itself for connected, which in TLS 1.3 is before the verdict.
 */
export async function connectForVerdict(
  runtime: Runtime,
  identity: ServerIdentity,
  client: VerdictClient,
): Promise<Session> {
  const context = runtime.serverContext(identity);
  const descriptors = openDescriptors();
  const server = serveTls(runtime, () => context);
  const { certificate, ...rest } = client;
  const peer = tlsClient(server.port, { ...rest, ...(certificate && { certificate }), greeting: "must not pass" });
  const session = await server.settled(0);
  if (session.result?.ok === true) {
    await eventually("the greeting arrived", () => session.secured.text === "must not pass");
  } else {
    await eventually("the client was sent away", () => peer.closed || peer.ended);
    await quiet(20);
    refused(session);
  }
  peer.socket.destroy();
  server.close();
  await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
  assert.equal(runtime.clock.armed, 0);
  return session;
}

/** What the openssl command said, on both outputs. */
export async function openssl(args: readonly string[], input = ""): Promise<string> {
  const child = spawn("openssl", args, { stdio: ["pipe", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (bytes: Buffer) => {
    output += bytes.toString("latin1");
  });
  child.stderr.on("data", (bytes: Buffer) => {
    output += bytes.toString("latin1");
  });
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  await once(child, "close");
  return output;
}

/** One connection on the wire. */
export class WireLink {
  readonly client: net.Socket;
  readonly server: net.Socket;
  /** What the client has sent and the test holds back; null while everything passes. */
  held: Buffer[] | null = null;
  /** All that the client has sent. */
  readonly sent: Buffer[] = [];

  constructor(client: net.Socket, server: net.Socket) {
    this.client = client;
    this.server = server;
    client.on("data", (bytes: Buffer) => {
      this.sent.push(bytes);
      if (this.held === null) server.write(bytes);
      else this.held.push(bytes);
    });
    server.on("data", (bytes: Buffer) => client.write(bytes));
    client.on("end", () => {
      if (this.held === null) server.end();
    });
    server.on("end", () => client.end());
    client.on("error", () => server.resetAndDestroy());
    server.on("error", () => client.resetAndDestroy());
  }

  /** From now on nothing that the client sends reaches the server. */
  hold(): void {
    this.held ??= [];
  }

  /** Lets through what is held, and goes on holding what comes after. */
  releaseHeld(): void {
    const bytes = this.heldBytes;
    this.held = [];
    this.server.write(bytes);
  }

  get heldBytes(): Buffer {
    return Buffer.concat(this.held ?? []);
  }
}

export interface Wire {
  readonly port: number;
  readonly links: WireLink[];
  close(): void;
}

/** Puts a wire in front of `target`. With `holding` each link begins by holding what the client sends. */
export async function openWire(target: number, holding = false): Promise<Wire> {
  const links: WireLink[] = [];
  const server = net.createServer({ allowHalfOpen: true }, (client) => {
    const link = new WireLink(client, net.connect({ host: "127.0.0.1", port: target, allowHalfOpen: true }));
    if (holding) link.hold();
    links.push(link);
  });
  server.listen({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
  return {
    port: (server.address() as net.AddressInfo).port,
    links,
    close() {
      server.close();
      for (const link of links) {
        link.client.destroy();
        link.server.destroy();
      }
    },
  };
}
