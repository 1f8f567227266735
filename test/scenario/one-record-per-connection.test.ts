// Every connection is one line in the access log, no more and no less, however it went; ids are unique; and the bytes it reports are exactly
// those that both sides sent, which arrive unchanged: megabytes both ways at once, over plain TCP and TLS, by SHA-256.

import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { once } from "node:events";
import type net from "node:net";
import tls from "node:tls";
import { testPki } from "../support/certificates.ts";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { unusedPort } from "../support/servers.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";

const TRANSFER_BYTES = 12_345_678;

/** Bytes that differ from transfer to transfer, and do not repeat. */
function content(seed: string): Buffer {
  return createHash("shake256", { outputLength: TRANSFER_BYTES }).update(seed).digest();
}

function digest(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Sends `bytes` and the end, and gives the digest of what comes until the other side's end. */
async function exchange(socket: net.Socket, bytes: Buffer): Promise<string> {
  const hash = createHash("sha256");
  socket.on("data", (chunk: Buffer) => hash.update(chunk));
  const ended = once(socket, "end");
  socket.end(bytes);
  await ended;
  return hash.digest("hex");
}

test("big transfers both ways at once arrive unchanged and are counted exactly", async () => {
  const pki = await testPki();
  const answer = content("down");
  const arrived: string[] = [];
  await using endpoint = await startEndpoint((peer) => {
    void exchange(peer.socket, answer).then((hash) => arrived.push(hash));
  });
  await using daemon = await startDaemon(`
listeners:
  - { name: tcp, address: 127.0.0.1:0, backend: all }
  - name: tls
    address: 127.0.0.1:0
    tls: { certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }], client_auth: none }
    routes: [{ name: all, tls: terminate, backend: all }]
backends: { all: { endpoints: ["${endpoint.address}"] } }
`);
  const secure = tls.connect({
    host: "127.0.0.1",
    port: await daemon.port("tls"),
    servername: "localhost",
    ca: pki.authority.certificatePem,
  });
  secure.allowHalfOpen = true;
  await once(secure, "secureConnect");
  const plain = (await connectTo(await daemon.address("tcp"))).socket;
  const received = await Promise.all([exchange(plain, content("up 1")), exchange(secure, content("up 2"))]);
  expect(received).toEqual([digest(answer), digest(answer)]);
  await eventually("both arrived", () => arrived.length === 2);
  expect(arrived.sort()).toEqual([digest(content("up 1")), digest(content("up 2"))].sort());
  const records = await daemon.recorded(2);
  expect(records.map(({ bytes_up, bytes_down, close_reason }) => [bytes_up, bytes_down, close_reason])).toEqual([
    [TRANSFER_BYTES, TRANSFER_BYTES, "completed"],
    [TRANSFER_BYTES, TRANSFER_BYTES, "completed"],
  ]);
}, 20_000);

test("many connections of every kind: exactly as many lines", async () => {
  const pki = await testPki();
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(`
listeners:
  - { name: tcp, address: 127.0.0.1:0, backend: all }
  - { name: nowhere, address: 127.0.0.1:0, backend: nowhere }
  - name: impatient
    address: 127.0.0.1:0
    peek_timeout: 200ms
    routes: [{ name: all, tls: passthrough, backend: all }]
  - name: tls
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
      client_auth: optional
    routes: [{ name: all, tls: terminate, policy: any, backend: all }]
backends:
  all: { endpoints: ["${endpoint.address}"] }
  nowhere: { endpoints: ["127.0.0.1:${await unusedPort()}"] }
`);
  const to = {
    tcp: await daemon.address("tcp"),
    nowhere: await daemon.address("nowhere"),
    impatient: await daemon.address("impatient"),
    tls: await daemon.address("tls"),
  };
  const port = await daemon.port("tls");
  const kinds: readonly (() => Promise<void>)[] = [
    async () => {
      const peer = await connectTo(to.tcp);
      peer.socket.end("in order");
      await eventually("it ended", () => peer.ended);
    },
    async () => {
      const peer = await connectTo(to.tcp);
      peer.socket.write("reset");
      await eventually("it was echoed", () => peer.text === "reset");
      peer.socket.resetAndDestroy();
    },
    async () => {
      (await connectTo(to.tcp)).socket.destroy();
    },
    async () => {
      const peer = await connectTo(to.nowhere);
      await eventually("it was reset", () => peer.closed);
    },
    async () => {
      const peer = await connectTo(to.tls);
      peer.socket.write("no TLS at all, and long enough to see that");
      await eventually("it was reset", () => peer.closed);
    },
    async () => {
      const peer = await connectTo(to.impatient);
      await eventually("it was reset", () => peer.closed);
    },
    async () => {
      const socket = tls.connect({
        host: "127.0.0.1",
        port,
        servername: "localhost",
        ca: pki.authority.certificatePem,
      });
      await once(socket, "secureConnect");
      const ended = once(socket, "end");
      socket.resume().end("in order");
      await ended;
    },
  ];
  const rounds = 30;
  await Promise.all(Array.from({ length: rounds }, () => Promise.all(kinds.map((kind) => kind()))));
  await daemon.recorded(rounds * kinds.length);
  // Whatever there was in addition would be written by the end.
  expect(await daemon.stop()).toBe(0);
  expect(daemon.records).toHaveLength(rounds * kinds.length);
  expect(new Set(daemon.records.map(({ id }) => id)).size).toBe(rounds * kinds.length);
  const counts = Object.groupBy(daemon.records, ({ close_reason }) => close_reason);
  expect(counts.completed?.length).toBeGreaterThanOrEqual(2 * rounds);
  expect(counts.connect_refused).toHaveLength(rounds);
  expect(counts.not_tls).toHaveLength(rounds);
  expect(counts.peek_timeout).toHaveLength(rounds);
  expect(counts.downstream_reset).toHaveLength(rounds);
});
