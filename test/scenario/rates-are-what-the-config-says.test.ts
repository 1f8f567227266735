// Limits of bandwidth and of new connections per second, with the real daemon and real bytes: the rate is what the config says, within 15 %, every byte arrives in its
// order, and an end that waited behind the bytes arrives too. New connections beyond their rate wait and are served; those beyond the rate of their source are reset.

import { describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";
import { testPki } from "../support/certificates.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { startSupervised } from "../support/supervised.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";

const MIB = 2 ** 20;
const TOLERANCE = 0.15;
const BLOCK = randomBytes(MIB);

interface Received {
  readonly sha256: string;
  readonly bytes: number;
  readonly perSecond: number;
}

/** Reads to the end of the stream. */
async function received(socket: net.Socket): Promise<Received> {
  const hash = createHash("sha256");
  let bytes = 0;
  let firstMs = 0;
  socket.on("data", (chunk: Buffer) => {
    if (bytes === 0) firstMs = performance.now();
    bytes += chunk.length;
    hash.update(chunk);
  });
  await once(socket, "end");
  return { sha256: hash.digest("hex"), bytes, perSecond: (bytes * 1000) / (performance.now() - firstMs) };
}

/** Sends so many MiB and the end; gives the digest of what was sent. */
function sendAll(socket: net.Socket, mebibytes: number): string {
  const hash = createHash("sha256");
  for (let sent = 0; sent < mebibytes; sent++) {
    hash.update(BLOCK);
    socket.write(BLOCK);
  }
  socket.end();
  return hash.digest("hex");
}

async function dial(address: string): Promise<net.Socket> {
  const [host, port] = address.split(":");
  const socket = net.connect({ host: host as string, port: Number(port), allowHalfOpen: true });
  await once(socket, "connect");
  return socket;
}

function expectRate({ perSecond }: Received, wantedPerSecond: number): void {
  expect(perSecond).toBeGreaterThan(wantedPerSecond * (1 - TOLERANCE));
  expect(perSecond).toBeLessThan(wantedPerSecond * (1 + TOLERANCE));
}

async function limitedDaemon(endpointAddress: string, fields: string): Promise<Daemon> {
  return await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: bulk }]
backends: { bulk: { endpoints: ["${endpointAddress}"], idle_timeout: 1s, ${fields} } }
`);
}

describe("bandwidth", () => {
  test("of a connection, up and down at once, is max_bandwidth", async () => {
    const arrived: Promise<Received>[] = [];
    let answerSha256 = "";
    await using endpoint = await startEndpoint(({ socket }) => {
      arrived.push(received(socket));
      answerSha256 = sendAll(socket, 10);
    });
    await using daemon = await limitedDaemon(endpoint.address, "max_bandwidth: 5MiB");
    const client = await dial(await daemon.address("tcp"));
    const answer = received(client);
    const requestSha256 = sendAll(client, 10);
    const down = await answer;
    const up = (await Promise.all(arrived))[0] as Received;
    expect([down.sha256, up.sha256]).toEqual([answerSha256, requestSha256]);
    expectRate(down, 5 * MIB);
    expectRate(up, 5 * MIB);
    const [record] = await daemon.recorded(1);
    expect(record).toMatchObject({ close_reason: "completed", bytes_up: 10 * MIB, bytes_down: 10 * MIB });
  });

  test("a long answer to a client that has ended already arrives whole, though its sender closed long before", async () => {
    let answerSha256 = "";
    await using endpoint = await startEndpoint(({ socket }) => {
      socket.resume();
      socket.once("end", () => {
        answerSha256 = sendAll(socket, 6);
      });
    });
    await using daemon = await limitedDaemon(endpoint.address, "max_bandwidth: 3MiB");
    const client = await dial(await daemon.address("tcp"));
    client.end("?");
    const down = await received(client);
    expect(down.sha256).toBe(answerSha256);
    expectRate(down, 3 * MIB);
    expect((await daemon.recorded(1))[0]?.close_reason).toBe("completed");
  });

  test("holds where TLS ends too: what is counted is what is in it", async () => {
    const pki = await testPki();
    const arrived: Promise<Received>[] = [];
    let answerSha256 = "";
    await using endpoint = await startEndpoint(({ socket }) => {
      arrived.push(received(socket));
      answerSha256 = sendAll(socket, 10);
    });
    await using daemon = await startDaemon(`
listeners:
  - name: tls
    address: 127.0.0.1:0
    tls: { certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }], client_auth: none }
    routes: [{ name: all, tls: terminate, backend: bulk }]
backends: { bulk: { endpoints: ["${endpoint.address}"], max_bandwidth: 5MiB } }
`);
    const client = tls.connect({
      ...{ host: "127.0.0.1", port: await daemon.port("tls"), servername: "localhost" },
      ...{ ca: pki.authority.certificatePem, allowHalfOpen: true },
    });
    await once(client, "secureConnect");
    const answer = received(client);
    const requestSha256 = sendAll(client, 10);
    const down = await answer;
    const up = (await Promise.all(arrived))[0] as Received;
    expect([down.sha256, up.sha256]).toEqual([answerSha256, requestSha256]);
    expectRate(down, 5 * MIB);
    expectRate(up, 5 * MIB);
    expect((await daemon.recorded(1))[0]?.close_reason).toBe("completed");
  });

  test("of three connections is max_backend_bandwidth together, in fair parts", async () => {
    await using endpoint = await startEndpoint(({ socket }) => {
      socket.resume();
      sendAll(socket, 4);
    });
    await using daemon = await limitedDaemon(endpoint.address, "max_backend_bandwidth: 5MiB");
    const address = await daemon.address("tcp");
    const clients = await Promise.all([dial(address), dial(address), dial(address)]);
    const begunMs = performance.now();
    const all = await Promise.all(clients.map(received));
    const perSecond = (12 * MIB * 1000) / (performance.now() - begunMs);
    expectRate({ sha256: "", bytes: 0, perSecond }, 5 * MIB);
    for (const each of all) {
      expect(each.bytes).toBe(4 * MIB);
      expect(each.perSecond).toBeLessThan((5 * MIB) / 2);
    }
    for (const client of clients) client.end();
    await daemon.recorded(3);
  });

  test("a reset is passed on at once, whatever is owed", async () => {
    await using endpoint = await startEndpoint(({ socket }) => void socket.on("data", () => {}));
    await using daemon = await limitedDaemon(endpoint.address, "max_bandwidth: 16KiB");
    const client = await dial(await daemon.address("tcp"));
    client.write(BLOCK);
    await eventually("the endpoint got some", () => endpoint.peers.some((peer) => peer.socket.bytesRead > 0));
    client.resetAndDestroy();
    await eventually("the endpoint was reset", () => endpoint.peers[0]?.closed === true);
    expect((await daemon.recorded(1))[0]?.close_reason).toBe("downstream_reset");
  });
});

describe("new connections", () => {
  test("beyond max_connections_per_second wait, and are served at that rate by all workers together", async () => {
    await using endpoint = await startEndpoint();
    await using running = await startSupervised(`
workers: 2
listeners: [{ name: tcp, address: 127.0.0.1:0, max_connections_per_second: 20, backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
    const address = await running.daemon.address("tcp");
    const clients = await Promise.all(Array.from({ length: 60 }, () => connectTo(address)));
    const begunMs = performance.now();
    for (const client of clients) client.socket.write("a");
    await eventually("all were served", () => clients.every(({ text }) => text === "a"));
    const seconds = (performance.now() - begunMs) / 1000;
    // A second's worth came at once.
    expect(seconds).toBeGreaterThan((40 / 20) * (1 - TOLERANCE));
    expect(seconds).toBeLessThan((40 / 20) * (1 + TOLERANCE) + 0.5);
    for (const client of clients) client.socket.end();
  });

  test("of a source beyond max_connections_per_second_per_source are reset, and another source is served", async () => {
    await using endpoint = await startEndpoint();
    await using daemon = await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, max_connections_per_second_per_source: 3, backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
    const address = await daemon.address("tcp");
    const burst = await Promise.all(Array.from({ length: 10 }, () => connectTo(address, "127.0.0.2")));
    const other = await connectTo(address, "127.0.0.3");
    other.socket.write("other");
    await eventually("the other source is served", () => other.text === "other");
    await eventually("the others were reset", () => burst.filter(({ closed }) => closed).length >= 6);
    const open = burst.filter(({ closed }) => !closed);
    expect(open.length).toBeGreaterThanOrEqual(3);
    expect(open.length).toBeLessThanOrEqual(4);
    const record = await daemon.record(({ close_reason }) => close_reason === "limit_reached");
    expect(record.detail).toBe("max_connections_per_second_per_source 3");
    await eventually("it is let in again", async () => {
      const again = await connectTo(address, "127.0.0.2");
      again.socket.write("again");
      await eventually("an answer or a reset", () => again.closed || again.text === "again");
      return again.text === "again";
    });
  });
});
