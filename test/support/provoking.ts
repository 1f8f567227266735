// Clients that bring a connection to its end in one way or another, for scenarios about what is then said of it.

import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import type { TestPki } from "./certificates.ts";
import { eventually } from "./eventually.ts";
import { opensslClient } from "./openssl.ts";
import { connectTo } from "./tcp.ts";

/** Connects, sends `bytes`, and waits until the daemon ends it. */
export async function send(address: string, bytes: string | Uint8Array = ""): Promise<void> {
  const peer = await connectTo(address);
  if (bytes.length > 0) peer.socket.write(bytes);
  await eventually("the connection was ended", () => peer.closed || peer.ended);
  peer.socket.destroy();
}

/** Has openssl try a TLS listener with this certificate, and waits until it has given up. */
export async function tryOpenssl(
  { authority }: TestPki,
  address: string,
  certificate: TestPki["client"] | undefined,
  ...extra: string[]
): Promise<void> {
  const to = { to: address, ca: authority.certificatePath, extra };
  await using client = opensslClient(certificate === undefined ? to : { ...to, certificate });
  await eventually(
    () => `openssl ended: ${client.story}`,
    () => client.hasExited,
  );
}

/** A ClientHello of this process's TLS library, whole. */
export async function clientHello(sni: string): Promise<Uint8Array> {
  const server = net.createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = tls.connect({
    host: "127.0.0.1",
    port: (server.address() as net.AddressInfo).port,
    servername: sni,
    rejectUnauthorized: false,
  });
  client.on("error", () => {});
  const [socket] = (await once(server, "connection")) as [net.Socket];
  const [bytes] = (await once(socket, "data")) as [Buffer];
  const length = 5 + bytes.readUInt16BE(3);
  const parts = [bytes];
  while (Buffer.concat(parts).length < length) parts.push(((await once(socket, "data")) as [Buffer])[0]);
  client.destroy();
  socket.destroy();
  server.close();
  return Buffer.concat(parts);
}
