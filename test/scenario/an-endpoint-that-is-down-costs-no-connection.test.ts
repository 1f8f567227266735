// While one endpoint of a backend is down, or does not even answer, every client is still served, by another endpoint, with every byte it sent
// before that was found out. The record tells how many endpoints were tried.

import { expect, test } from "bun:test";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { unusedPort } from "../support/servers.ts";
import { connectTo, startEndpoint, startUnansweringEndpoint } from "../support/tcp.ts";

const CLIENTS = 30;

test("thirty clients, two bad endpoints, no failure", async () => {
  await using good = await startEndpoint();
  await using unanswering = await startUnansweringEndpoint();
  await using daemon = await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: all }]
backends:
  all:
    balance: round_robin
    connect_timeout: 100ms
    endpoints: ["127.0.0.1:${await unusedPort()}", "${unanswering.address}", "${good.address}"]
`);
  const address = await daemon.address("tcp");
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => connectTo(address)));
  for (const [index, { socket }] of clients.entries()) socket.end(`client ${index}`);
  await eventually("everyone had an answer", () => clients.every(({ ended }) => ended));
  expect(clients.map(({ text }) => text)).toEqual(clients.map((_, index) => `client ${index}`));

  const records = await daemon.recorded(CLIENTS);
  expect(records.every(({ close_reason, endpoint }) => close_reason === "completed" && endpoint === good.address)).toBe(
    true,
  );
  // Round robin sends a third of them to each endpoint first.
  expect(new Set(records.map(({ attempts }) => attempts))).toEqual(new Set([1, 2, 3]));
});

test("a backup endpoint takes over when all others are down, and only then", async () => {
  await using backup = await startEndpoint();
  await using regular = await startEndpoint();
  await using daemon = await startDaemon(`
listeners:
  - { name: sound, address: 127.0.0.1:0, backend: sound }
  - { name: down, address: 127.0.0.1:0, backend: down }
backends:
  sound: { endpoints: ["${regular.address}", { address: "${backup.address}", backup: true }] }
  down: { endpoints: ["127.0.0.1:${await unusedPort()}", { address: "${backup.address}", backup: true }] }
`);
  for (const [listener, endpoint] of [
    ["sound", regular.address],
    ["down", backup.address],
  ] as const) {
    for (let round = 0; round < 3; round++) {
      const client = await connectTo(await daemon.address(listener));
      client.socket.end("hello");
      await eventually(`an answer came through ${listener}`, () => client.ended && client.text === "hello");
    }
    await daemon.recorded(listener === "sound" ? 3 : 6);
    const served = daemon.records.filter((line) => line.listener === listener);
    expect(served.map((line) => line.endpoint)).toEqual([endpoint, endpoint, endpoint]);
  }
});
