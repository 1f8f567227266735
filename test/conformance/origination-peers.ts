// Origination for the conformance suite: servers on node:tls (and the openssl command as a second opinion) that a seam dials and secures, with
// certificates for every reason to refuse one, and what a server was shown of ours.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import { join } from "node:path";
import tls from "node:tls";
import type { Address } from "../../src/base/address.ts";
import type { ClientContext, ClientIdentity, Runtime } from "../../src/runtime/runtime.ts";
import { certificateSummaries, createRevocationList, issueCertificate } from "../../src/tls-tools/tls-tools.ts";
import type { CertificateFiles, TestPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { dialRecorded, newRecording, Peer, recordingHandlers } from "./peers.ts";
import type { Session } from "./tls-peers.ts";

export type Version = "TLSv1.2" | "TLSv1.3";
const DAY_MS = 86_400_000;

/** What a server presents. */
export interface Presented {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** A server that must be refused for its chain, and the X.509 reason. */
export interface BadServer {
  readonly name: string;
  readonly presented: Presented;
  readonly detail: RegExp;
  readonly identity?: Partial<ClientIdentity>;
}

/** Servers of every kind that is to be refused. All are for `localhost`, so that nothing but the chain is at fault. */
export async function badServers(pki: TestPki): Promise<readonly BadServer[]> {
  const issue = (options: object = {}, issuer = pki.authority): Promise<Presented> =>
    issueCertificate(issuer, { usage: "server", dns: ["localhost"], lifetimeMs: DAY_MS, ...options });
  const revoked = await issue();
  const [summary] = await certificateSummaries(revoked.certificatePem);
  assert(summary !== undefined);
  const crl = await createRevocationList(pki.authority, {
    revokedSerials: [summary.serial],
    nextUpdate: new Date(Date.now() + DAY_MS),
  });
  return [
    { name: "of a wrong CA", presented: await issue({}, pki.otherAuthority), detail: /^UNABLE_TO_|^SELF_SIGNED/ },
    {
      name: "whose certificate has expired",
      presented: await issue({ notBefore: new Date(Date.now() - 2 * DAY_MS) }),
      detail: /^CERT_HAS_EXPIRED$/,
    },
    {
      name: "whose certificate is not valid yet",
      presented: await issue({ notBefore: new Date(Date.now() + DAY_MS) }),
      detail: /^CERT_NOT_YET_VALID$/,
    },
    { name: "with a client's certificate", presented: await issue({ usage: "client" }), detail: /^INVALID_PURPOSE$/ },
    { name: "without its intermediate", presented: await issue({}, pki.intermediate), detail: /^UNABLE_TO_/ },
    {
      name: "beyond its authority's name constraint",
      // As issued to a client: which purpose is missing is told only after the constraint.
      presented: pki.constrained,
      detail: /./,
    },
    { name: "on the CRL", presented: revoked, identity: { serverCrlPem: [crl] }, detail: /^CERT_REVOKED$/ },
    {
      name: "that is good, but with an expired CRL",
      presented: pki.server,
      identity: { serverCrlPem: [pki.expiredRevocationList.pem] },
      detail: /^CRL_HAS_EXPIRED$/,
    },
    {
      name: "of an intermediate that has no CRL",
      presented: await throughIntermediate(pki),
      identity: { serverCrlPem: [pki.revocationList.pem] },
      detail: /^UNABLE_TO_GET_CRL$/,
    },
  ];
}

/** For `localhost`, with the intermediate that signed it. */
export async function throughIntermediate(pki: TestPki): Promise<Presented> {
  const options = { usage: "server", dns: ["localhost"], lifetimeMs: DAY_MS } as const;
  const leaf = await issueCertificate(pki.intermediate, options);
  return { ...leaf, certificatePem: leaf.certificatePem + pki.intermediate.certificatePem };
}

/** An identity that presents a certificate and trusts the PKI's root. */
export function originIdentity(pki: TestPki, overrides: Partial<ClientIdentity> = {}): ClientIdentity {
  return {
    chainPem: pki.client.certificatePem,
    keyPem: pki.client.keyPem,
    serverCaPem: [pki.authority.certificatePem],
    serverCrlPem: [],
    minVersion: "1.2",
    alpn: [],
    ...overrides,
  };
}

/** A secured connection as the server sees it. */
export interface ServerSide extends Peer {
  readonly tls: tls.TLSSocket;
  /** CN of our certificate, "" without one. */
  readonly shown: string;
  readonly sni: string;
  readonly alpn: string;
  readonly resumed: boolean;
}

export interface TlsListener {
  readonly address: Address;
  readonly port: number;
  readonly secured: ServerSide[];
  nth(index: number): Promise<ServerSide>;
  close(): void;
}

export interface TlsListenOptions {
  readonly version?: Version;
  readonly alpn?: readonly string[];
  readonly clientCaPem?: string;
  /** Instead of a port of 127.0.0.1. */
  readonly path?: string;
  /** Sent to each client as soon as it is secured. */
  readonly greeting?: string;
}

/** A server that asks for a certificate and takes any, or none. */
export async function listenTls(presented: Presented, options: TlsListenOptions = {}): Promise<TlsListener> {
  const secured: ServerSide[] = [];
  const raws: net.Socket[] = [];
  const server = tls.createServer(
    {
      cert: presented.certificatePem,
      key: presented.keyPem,
      requestCert: true,
      rejectUnauthorized: options.clientCaPem !== undefined,
      allowHalfOpen: true,
      ...(options.clientCaPem !== undefined && { ca: options.clientCaPem }),
      ...(options.version && { minVersion: options.version, maxVersion: options.version }),
      ...(options.alpn && { ALPNProtocols: [...options.alpn] }),
    } as tls.TlsOptions,
    (socket) => {
      const { subject } = socket.getPeerCertificate() ?? {};
      secured.push(
        Object.assign(new Peer(socket), {
          tls: socket,
          shown: String(subject?.CN ?? ""),
          sni: (socket as unknown as { servername?: string | false }).servername || "",
          alpn: socket.alpnProtocol || "",
          resumed: socket.isSessionReused(),
        }),
      );
      if (options.greeting !== undefined) socket.write(options.greeting);
    },
  );
  server.on("tlsClientError", () => {});
  // Not every runtime closes what was left in the middle of a handshake.
  server.on("connection", (raw: net.Socket) => raws.push(raw));
  server.listen(options.path === undefined ? { host: "127.0.0.1", port: 0 } : { path: options.path });
  await once(server, "listening");
  const port = options.path === undefined ? (server.address() as net.AddressInfo).port : 0;
  return {
    address: options.path === undefined ? loopback(port) : { kind: "unix", path: options.path },
    port,
    secured,
    async nth(index) {
      await eventually(`the server has secured connection ${index}`, () => secured.length > index);
      return secured[index] as ServerSide;
    },
    close() {
      server.close();
      for (const { socket } of secured) socket.destroy();
      for (const raw of raws) raw.destroy();
    },
  };
}

export function loopback(port: number): Address {
  return { kind: "tcp", host: "127.0.0.1", port };
}

export interface OriginateOptions {
  readonly address: Address;
  readonly context: ClientContext;
  /** Default: `localhost`. */
  readonly serverName?: string;
  /** Default: everybody. */
  accept?(leaf: Uint8Array): string;
  readonly timeoutMs?: number;
  /** Runs when the plain socket is there, before `originateTls`. */
  onDialled?(session: Session): unknown;
  /** Runs when `originateTls` has been called. */
  onStarted?(session: Session): void;
}

/** Dials and secures, and comes back with the verdict. */
export async function originate(runtime: Runtime, options: OriginateOptions): Promise<Session> {
  const plain = newRecording();
  const session: Session = { secured: newRecording(), plain, plainEvents: 0, result: null, results: 0 };
  await dialRecorded(runtime, options.address, plain);
  await options.onDialled?.(session);
  const eventsBefore = plainEvents(session);
  const originated = runtime.originateTls(plain.live, {
    context: options.context,
    serverName: options.serverName ?? "localhost",
    accept: options.accept ?? (() => ""),
    handlers: recordingHandlers,
    data: session.secured,
    timeoutMs: options.timeoutMs ?? 5_000,
  });
  options.onStarted?.(session);
  const result = await originated;
  session.result = result;
  session.results++;
  if (result.ok) session.secured.socket = result.socket;
  session.plainEvents = plainEvents(session) - eventsBefore;
  return session;
}

function plainEvents({ plain }: Session): number {
  return plain.receivedBytes + plain.drains + plain.ends + plain.closes.length;
}

/** An `openssl s_server`, telling every message of the handshakes that it sees. */
export interface OpensslServer {
  readonly port: number;
  /** Both outputs so far. */
  readonly output: string;
  /** A line for its standard input, where "r" means to begin the handshake anew. */
  write(line: string): void;
  close(): Promise<void>;
}

/** A server that demands a certificate of ours and prints what it is sent. */
export async function opensslServer(files: CertificateFiles, args: readonly string[]): Promise<OpensslServer> {
  const certificate = ["-cert", files.certificatePath, "-key", files.keyPath, "-Verify", "3"];
  const child = spawn("openssl", ["s_server", "-accept", "127.0.0.1:0", "-msg", ...certificate, ...args], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (bytes: Buffer) => {
      output += bytes.toString("latin1");
    });
  }
  const port = (): string | undefined => /ACCEPT [\d.]+:(\d+)/.exec(output)?.[1];
  await eventually("openssl listens", () => port() !== undefined);
  return {
    port: Number(port()),
    get output() {
      return output;
    },
    write: (line) => void child.stdin.write(line),
    async close() {
      child.kill("SIGKILL");
      if (child.exitCode === null && child.signalCode === null) await once(child, "close");
    },
  };
}

/** A path for a socket file that is not there yet. */
export function socketPath(pki: TestPki, name: string): string {
  return join(pki.directory, `${name}-${process.pid}.sock`);
}

/** A plain listener that does `answer` once it has been sent something. */
export async function listenPlain(answer: (socket: net.Socket) => void): Promise<{ port: number; close(): void }> {
  const sockets: net.Socket[] = [];
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.once("data", () => answer(socket));
  });
  server.listen({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
  return {
    port: (server.address() as net.AddressInfo).port,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
