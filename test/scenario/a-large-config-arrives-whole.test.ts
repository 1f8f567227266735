// A config with thousands of endpoints goes to a worker in many short messages, so that no relay waits for the whole of it. Every endpoint arrives, at the start and with a
// reload that replaces all of them, and a stream that is open meanwhile goes on.

import { expect, test } from "bun:test";
import { once } from "node:events";
import net from "node:net";
import { eventually } from "../support/eventually.ts";
import { startSupervised } from "../support/supervised.ts";
import { connectTo, endInOrder, startEndpoint, talking } from "../support/tcp.ts";

const ENDPOINTS = 1500;

/** A server on all loopback addresses that tells whoever comes which of them it has reached. */
async function startTeller(): Promise<AsyncDisposable & { readonly port: number }> {
  const server = net.createServer((socket) => void socket.on("error", () => {}).end(String(socket.localAddress)));
  await once(server.listen(0, "0.0.0.0"), "listening");
  return {
    port: (server.address() as net.AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.close();
    },
  };
}

/** The loopback addresses that many connections, one after the other, have reached. */
async function reached(listener: string, connections: number): Promise<readonly string[]> {
  const found: string[] = [];
  for (let count = 0; count < connections; count++) {
    const peer = await connectTo(listener);
    if (!peer.ended) await once(peer.socket, "end");
    peer.socket.end();
    found.push(peer.text);
  }
  return found;
}

test("every endpoint is there, and a stream goes on", async () => {
  await using teller = await startTeller();
  await using echo = await startEndpoint();
  const hosts = (net: number): string[] =>
    Array.from({ length: ENDPOINTS }, (_, index) => `127.${net + (index >> 8)}.${index & 255}.1`);
  const config = (net: number): string => {
    const endpoints = JSON.stringify(hosts(net).map((host) => `${host}:${teller.port}`));
    return `
workers: 1
listeners:
  - { name: each, address: "127.0.0.1:0", backend: each }
  - { name: hashed, address: "127.0.0.1:0", backend: hashed }
  - { name: echo, address: "127.0.0.1:0", backend: echo }
backends:
  each: { balance: round_robin, endpoints: ${endpoints} }
  hashed: { balance: source_hash, endpoints: ${endpoints} }
  echo: { endpoints: ["${echo.address}"] }
`;
  };
  await using running = await startSupervised(config(10));
  const stream = await talking(await running.daemon.address("echo"));
  for (const net of [10, 60]) {
    if (net !== 10) expect((await running.reload(config(net))).exitCode).toBe(0);
    const [each, hashed] = [await running.daemon.address("each"), await running.daemon.address("hashed")];
    expect([...(await reached(each, ENDPOINTS))].sort()).toEqual(hosts(net).sort());
    // One source, one endpoint.
    const [first = "", ...others] = await reached(hashed, 3);
    expect(hosts(net)).toContain(first);
    expect(others).toEqual([first, first]);
  }
  await endInOrder(stream);
  await eventually("all had ended", async () => (await running.status()).connections === 0);
}, 30_000);
