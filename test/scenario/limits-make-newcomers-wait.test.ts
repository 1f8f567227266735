// At a connection limit newcomers are not turned away: they wait in the kernel's queue until somebody leaves, and are then served with every
// byte they had sent meanwhile. So it is for the limit of a listener and for that of the process; only the limit for one source resets.

import { describe, expect, test } from "bun:test";
import type { Peer } from "../conformance/peers.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connectTo, type Endpoint, startEndpoint } from "../support/tcp.ts";

/** Connects, sends, and waits for the echo. */
async function served(address: string, from?: string): Promise<Peer> {
  const client = await connectTo(address, from);
  client.socket.write("served");
  await eventually("the echo came", () => client.text === "served");
  return client;
}

/** Two clients are served; two more wait until those have left; then the next two, and so on. Never more than two at once. */
async function inTurns(daemon: Daemon, endpoint: Endpoint, addresses: readonly [string, string]): Promise<void> {
  const waiting: Peer[] = [];
  const present = [await served(addresses[0]), await served(addresses[1])];
  for (let index = 0; index < 6; index++) {
    const client = await connectTo(addresses[index % 2] as string);
    client.socket.write(`waited ${index}`);
    waiting.push(client);
  }
  const open = (): number => endpoint.peers.filter(({ closed }) => !closed).length;
  while (waiting.length > 0) {
    expect(open()).toBe(2);
    expect(waiting.every(({ text, closed }) => text === "" && !closed)).toBe(true);
    present.shift()?.socket.end();
    const next = await eventually("the next one was served", () => waiting.find(({ text }) => text !== ""));
    expect(next.text).toMatch(/^waited \d$/);
    waiting.splice(waiting.indexOf(next), 1);
    present.push(next);
  }
  for (const { socket } of present) socket.end();
  const records = await daemon.recorded(8);
  expect(records.map(({ close_reason }) => close_reason)).toEqual(Array(8).fill("completed"));
}

describe("newcomers wait at", () => {
  test("max_connections of a listener, and other listeners do not", async () => {
    await using endpoint = await startEndpoint();
    await using other = await startEndpoint();
    await using daemon = await startDaemon(`
listeners:
  - { name: two, address: 127.0.0.1:0, max_connections: 2, backend: echo }
  - { name: other, address: 127.0.0.1:0, backend: other }
backends: { echo: { endpoints: ["${endpoint.address}"] }, other: { endpoints: ["${other.address}"] } }
`);
    const address = await daemon.address("two");
    const bystander = await served(await daemon.address("other"));
    await inTurns(daemon, endpoint, [address, address]);
    bystander.socket.write(" still");
    await eventually("the other listener's client is served on", () => bystander.text === "served still");
  });

  test("max_connections of the process, whichever listener they came to", async () => {
    await using endpoint = await startEndpoint();
    await using daemon = await startDaemon(`
max_connections: 2
listeners:
  - { name: one, address: 127.0.0.1:0, backend: echo }
  - { name: another, address: 127.0.0.1:0, backend: echo }
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
    await inTurns(daemon, endpoint, [await daemon.address("one"), await daemon.address("another")]);
  });
});

test("a source at max_connections_per_source is reset, and others are served", async () => {
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, max_connections_per_source: 2, backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
  const address = await daemon.address("tcp");
  const greedy = [await served(address, "127.0.0.2"), await served(address, "127.0.0.2")];
  const third = await connectTo(address, "127.0.0.2");
  await eventually("the third was ended", () => third.closed);
  expect(third.errorCode).toBe("ECONNRESET");
  await served(address, "127.0.0.3");
  greedy[0]?.socket.end();
  await daemon.record(({ close_reason }) => close_reason === "completed");
  await served(address, "127.0.0.2");
});
