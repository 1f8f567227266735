// An endpoint that speaks TLS (node:tls), with a wire in front of it that writes down every byte it is sent and can be cut: what an endpoint that
// is refused was told of us shows there, whatever the endpoint itself made of it.

import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import type { KeyPair } from "../../src/tls-tools/tls-tools.ts";
import { Peer } from "../conformance/peers.ts";
import { WireLink } from "../conformance/tls-peers.ts";
import { eventually } from "./eventually.ts";

/** TLS record types (RFC 8446, 5.1). On TLS 1.3 a client's certificate, and all that is encrypted, is APPLICATION_DATA. */
export const RECORD = { CHANGE_CIPHER_SPEC: 20, ALERT: 21, HANDSHAKE: 22, APPLICATION_DATA: 23 } as const;

export interface TlsEndpointOptions {
  /** The only version it speaks. Default: 1.2 and 1.3. */
  readonly version?: "TLSv1.2" | "TLSv1.3";
  readonly alpn?: readonly string[];
  /** PEM of the authority that clients must have a certificate of. Default: it asks for a certificate and takes any, or none. */
  readonly clientCa?: string;
  /** Instead of a port of 127.0.0.1: the path of a unix socket. */
  readonly path?: string;
  /** Instead of 127.0.0.1. */
  readonly host?: string;
  /** What it does with a connection; nothing by default. */
  readonly onConnection?: (session: TlsSession) => void;
}

/** A connection whose handshake the endpoint takes for done. */
export interface TlsSession extends Peer {
  readonly tls: tls.TLSSocket;
  /** The common name of the certificate that it was shown; "" for none. */
  readonly shown: string;
  readonly sni: string;
  readonly alpn: string;
  readonly version: string;
}

/** To be declared with `await using`. */
export interface TlsEndpoint extends AsyncDisposable {
  /** Of the wire, for a config: `127.0.0.1:PORT` or `unix:/PATH`. */
  readonly address: string;
  /** Behind the wire, which is no fast one: `127.0.0.1:PORT`. */
  readonly directAddress: string;
  readonly port: number;
  readonly links: readonly WireLink[];
  readonly sessions: readonly TlsSession[];
  session(index: number): Promise<TlsSession>;
}

/** Listens with a certificate and its key. */
export async function startTlsEndpoint(shown: KeyPair, options: TlsEndpointOptions = {}): Promise<TlsEndpoint> {
  const { version, alpn, clientCa, path, host = "127.0.0.1", onConnection } = options;
  const sessions: TlsSession[] = [];
  const links: WireLink[] = [];
  const server = tls.createServer(
    {
      cert: shown.certificatePem,
      key: shown.keyPem,
      requestCert: true,
      rejectUnauthorized: clientCa !== undefined,
      allowHalfOpen: true,
      ...(clientCa !== undefined && { ca: clientCa }),
      ...(version !== undefined && { minVersion: version, maxVersion: version }),
      ...(alpn !== undefined && { ALPNProtocols: [...alpn] }),
    } as tls.TlsOptions,
    (socket) => {
      const session: TlsSession = Object.assign(new Peer(socket), {
        tls: socket,
        shown: String(socket.getPeerCertificate()?.subject?.CN ?? ""),
        sni: (socket as unknown as { servername?: string | false }).servername || "",
        alpn: socket.alpnProtocol || "",
        version: socket.getProtocol() ?? "",
      });
      sessions.push(session);
      onConnection?.(session);
    },
  );
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port: behind } = server.address() as net.AddressInfo;
  const wire = net.createServer({ allowHalfOpen: true }, (client) => {
    links.push(new WireLink(client, net.connect({ host: "127.0.0.1", port: behind, allowHalfOpen: true })));
  });
  wire.listen(path === undefined ? { host, port: 0 } : { path });
  await once(wire, "listening");
  const port = path === undefined ? (wire.address() as net.AddressInfo).port : 0;
  return {
    address: path === undefined ? `${host.includes(":") ? `[${host}]` : host}:${port}` : `unix:${path}`,
    directAddress: `127.0.0.1:${behind}`,
    port,
    links,
    sessions,
    async session(index) {
      await eventually(`the endpoint has secured connection ${index}`, () => sessions.length > index);
      return sessions[index] as TlsSession;
    },
    async [Symbol.asyncDispose]() {
      wire.close();
      server.close();
      for (const link of links) {
        link.client.destroy();
        link.server.destroy();
      }
      for (const { socket } of sessions) socket.destroy();
    },
  };
}

/** The types of the TLS records that went over a wire towards the endpoint, in order. */
export function recordTypes({ sent }: WireLink): number[] {
  const bytes = Buffer.concat(sent);
  const types: number[] = [];
  for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) types.push(bytes[at] as number);
  return types;
}
