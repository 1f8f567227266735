// A backend that is at its limit lets clients wait for a while, in order, and they are served by places that other workers leave, too. The limit holds for all
// workers together, and what is beyond the queue is reset at once.

import { expect, test } from "bun:test";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";

const CLIENTS = 40;
const MOST = 4;

test("forty clients at four places, from three workers: all are served, never more than four at once", async () => {
  let open = 0;
  let peak = 0;
  await using endpoint = await startEndpoint(({ socket }) => {
    peak = Math.max(peak, ++open);
    socket.on("close", () => open--);
    socket.once("data", (bytes) => setTimeout(() => socket.end(bytes), 20));
  });
  await using daemon = await startDaemon(`
workers: 3
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: small }]
backends:
  small: { max_connections: ${MOST}, queue: { size: ${CLIENTS}, timeout: 20s }, endpoints: ["${endpoint.address}"] }
`);
  const address = await daemon.address("tcp");
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => connectTo(address)));
  for (const [index, { socket }] of clients.entries()) socket.end(`client ${index}`);
  await eventually("everyone had an answer", () => clients.every(({ ended, closed }) => ended || closed), 15_000);
  expect(clients.map(({ text }) => text)).toEqual(clients.map((_, index) => `client ${index}`));
  const records = await daemon.recorded(CLIENTS);
  expect(new Set(records.map(({ close_reason }) => close_reason))).toEqual(new Set(["completed"]));
  expect(peak).toBeLessThanOrEqual(MOST);
}, 30_000);

test("who waits too long, or finds the queue full, is reset and told apart in the log", async () => {
  await using endpoint = await startEndpoint(() => {});
  await using daemon = await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: small }]
backends:
  small: { max_connections: 1, queue: { size: 1, timeout: 300ms }, endpoints: ["${endpoint.address}"] }
`);
  const address = await daemon.address("tcp");
  const first = await connectTo(address);
  await endpoint.nth(0);
  const others = [await connectTo(address), await connectTo(address)];
  await eventually("both were reset", () => others.every(({ errorCode }) => errorCode === "ECONNRESET"));
  const records = await daemon.recorded(2);
  expect(records.map(({ close_reason, detail }) => [close_reason, detail])).toEqual([
    ["backend_overload", "small: 1 are waiting already"],
    ["backend_overload", "small: no room within 300ms"],
  ]);
  expect(first.closed).toBe(false);
  first.socket.destroy();
});
