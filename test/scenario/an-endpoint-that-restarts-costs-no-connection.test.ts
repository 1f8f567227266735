// The only endpoint of a backend restarts: connections that come meanwhile are tried again after a moment, within the retry budget, and none of them fails.

import { expect, test } from "bun:test";
import net from "node:net";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { unusedPort } from "../support/servers.ts";
import { connectTo } from "../support/tcp.ts";

test("three clients wait for it to be back; more than the budget are told at once", async () => {
  const port = await unusedPort();
  await using daemon = await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: only }]
backends:
  only: { connect_attempts: 32, retry_budget: 0%, endpoints: ["127.0.0.1:${port}"] }
`);
  const address = await daemon.address("tcp");
  const clients = await Promise.all(Array.from({ length: 5 }, () => connectTo(address)));
  for (const { socket } of clients) socket.write("hello");
  const refused = await daemon.recorded(2);
  expect(refused.map(({ close_reason, detail }) => [close_reason, detail?.includes("retry_budget")])).toEqual(
    Array(2).fill(["connect_refused", true]),
  );
  const server = net.createServer((socket) => void socket.on("error", () => {}).pipe(socket));
  server.listen(port, "127.0.0.1");
  try {
    await eventually("three were served", () => clients.filter(({ text }) => text === "hello").length === 3);
    expect(daemon.records).toHaveLength(2);
  } finally {
    for (const { socket } of clients) socket.destroy();
    server.close();
  }
});
