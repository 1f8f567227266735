// Each side learns how the other one ended as if they were connected directly: an end in order arrives as one, after every byte before it and
// with the other direction still open; a reset arrives as a reset. Both ways, over plain TCP and over TLS towards the client.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { once } from "node:events";
import tls from "node:tls";
import type { Peer } from "../conformance/peers.ts";
import { testPki } from "../support/certificates.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connectTo, type Endpoint, hold, startEndpoint } from "../support/tcp.ts";

const BULK = Buffer.alloc(3_000_000, "bulk ");

let endpoint: Endpoint;
let daemon: Daemon;

beforeAll(async () => {
  const pki = await testPki();
  endpoint = await startEndpoint(hold);
  daemon = await startDaemon(`
listeners:
  - { name: tcp, address: 127.0.0.1:0, backend: hold }
  - name: tls
    address: 127.0.0.1:0
    tls: { certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }], client_auth: none }
    routes: [{ name: all, tls: terminate, backend: hold }]
backends: { hold: { endpoints: ["${endpoint.address}"] } }
`);
});

afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await endpoint?.[Symbol.asyncDispose]();
});

/** A client and the endpoint's side of its connection. */
async function connected(listener: string): Promise<[client: Peer, server: Peer]> {
  const before = endpoint.peers.length;
  const client = await connectTo(await daemon.address(listener));
  return [client, await endpoint.nth(before)];
}

const received = (peer: Peer): number => peer.chunks.reduce((sum, chunk) => sum + chunk.length, 0);

describe("plain TCP", () => {
  test("the client's FIN comes after its bytes, and the answer after the FIN still arrives", async () => {
    const [client, server] = await connected("tcp");
    client.socket.end(BULK);
    await eventually("the endpoint saw the end", () => server.ended);
    expect(received(server)).toBe(BULK.length);
    expect([client.ended, server.closed]).toEqual([false, false]);
    server.socket.end(BULK);
    await eventually("the client saw the end", () => client.ended);
    expect(received(client)).toBe(BULK.length);
    expect([client.errorCode, server.errorCode]).toEqual(["", ""]);
    const record = await daemon.record(({ bytes_down }) => bytes_down === BULK.length);
    expect([record.close_reason, record.close_side, record.bytes_up]).toEqual(["completed", "downstream", BULK.length]);
  });

  test("the endpoint's FIN comes after its bytes, and the client can still send", async () => {
    const [client, server] = await connected("tcp");
    server.socket.end("that is all from me");
    await eventually("the client saw the end", () => client.ended);
    expect(client.text).toBe("that is all from me");
    client.socket.end(BULK);
    await eventually("the endpoint saw the end", () => server.ended);
    expect(received(server)).toBe(BULK.length);
    const record = await daemon.record(({ bytes_down }) => bytes_down === 19);
    expect([record.close_reason, record.close_side]).toEqual(["completed", "upstream"]);
  });

  test("the client's RST becomes a RST", async () => {
    const [client, server] = await connected("tcp");
    client.socket.write("half a");
    await eventually("it arrived", () => server.text === "half a");
    client.socket.resetAndDestroy();
    await eventually("the endpoint's connection was gone", () => server.closed);
    expect([server.errorCode, server.ended]).toEqual(["ECONNRESET", false]);
  });

  test("the endpoint's RST becomes a RST", async () => {
    const [client, server] = await connected("tcp");
    server.socket.write("half an");
    await eventually("it arrived", () => client.text === "half an");
    server.socket.resetAndDestroy();
    await eventually("the client's connection was gone", () => client.closed);
    expect([client.errorCode, client.ended]).toEqual(["ECONNRESET", false]);
  });
});

describe("TLS towards the client", () => {
  async function secured(): Promise<[client: tls.TLSSocket, server: Peer]> {
    const before = endpoint.peers.length;
    const client = tls.connect({
      port: await daemon.port("tls"),
      host: "127.0.0.1",
      servername: "localhost",
      ca: (await testPki()).authority.certificatePem,
    });
    // The client's own end is to come later. node:tls takes this from the socket alone.
    client.allowHalfOpen = true;
    await once(client, "secureConnect");
    return [client, await endpoint.nth(before)];
  }

  test("an end in order becomes one, both ways", async () => {
    const [client, server] = await secured();
    let text = "";
    let ended = false;
    client.on("data", (bytes: Buffer) => {
      text += bytes.toString("latin1");
    });
    client.on("end", () => {
      ended = true;
    });
    client.write(BULK);
    await eventually("all arrived", () => received(server) === BULK.length);
    server.socket.end("the answer");
    await eventually("the client saw the end", () => ended);
    expect(text).toBe("the answer");
    client.end();
    await eventually("the endpoint saw the end", () => server.ended);
    expect(server.errorCode).toBe("");
  });

  test("an end behind bytes that the endpoint reads late is passed on, and the connection ends", async () => {
    // TLS can tell its end while the proxy has stopped reading for want of room: at which sizes, depends on the kernel's buffers.
    const sizes = Array.from({ length: 24 }, (_, index) => (index + 1) * 250_001);
    const pairs: (readonly [tls.TLSSocket, Peer])[] = [];
    for (const size of sizes) {
      const [client, server] = await secured();
      server.socket.pause();
      client.resume().end(Buffer.alloc(size, "x"));
      pairs.push([client, server]);
    }
    await eventually("the first ones had been sent", () => pairs[0]?.[0].writableFinished);
    for (const [, server] of pairs) server.socket.resume();
    await eventually("the endpoint saw all the ends", () => pairs.every(([, server]) => server.ended));
    for (const [, server] of pairs) server.socket.end();
    const records = await eventually("each has its record", () => {
      const found = daemon.records.filter(({ bytes_up }) => sizes.includes(bytes_up));
      return found.length >= sizes.length ? found : null;
    });
    expect(records).toHaveLength(sizes.length);
    expect(new Set(records.map(({ close_reason }) => close_reason))).toEqual(new Set(["completed"]));
  });

  test("the endpoint's RST is no end in order", async () => {
    const [client, server] = await secured();
    const outcome = new Promise<string>((resolve) => {
      client.on("end", () => resolve("an orderly end"));
      client.on("error", (error: Error & { code?: string }) => resolve(error.code ?? error.message));
      client.on("data", () => server.socket.resetAndDestroy());
    });
    server.socket.write("half an answer");
    expect(await outcome).toBe("ECONNRESET");
  });

  test("the client's RST becomes a RST", async () => {
    const before = endpoint.peers.length;
    const raw = await connectTo(await daemon.address("tls"));
    const client = tls.connect({
      socket: raw.socket,
      ca: (await testPki()).authority.certificatePem,
      servername: "localhost",
    });
    client.on("error", () => {});
    await once(client, "secureConnect");
    const server = await endpoint.nth(before);
    client.write("half a");
    await eventually("it arrived", () => server.text === "half a");
    raw.socket.resetAndDestroy();
    await eventually("the endpoint's connection was gone", () => server.closed);
    expect([server.errorCode, server.ended]).toEqual(["ECONNRESET", false]);
  });
});
