// Whoever reads the access log has stopped reading: connections are served as before, and as fast; lines beyond what is kept are dropped, counted in the
// status and said once; and the daemon still ends in time.

import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import type { Status } from "../../src/snapshot/status.ts";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { endInOrder, startEndpoint, talking } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";

/** Lines of some 500 bytes: more than the 4 MiB that a process keeps and the 64 KiB of the pipe. */
const REFUSED = 12_000;
const AT_ONCE = 64;
/** More than a connection takes, by far, and less than any wait for the reader would. */
const SERVED_MS = 1000;

/** Connects and waits to be turned away, so many times. */
async function beRefused(port: number, times: number): Promise<void> {
  for (let count = 0; count < times; count++) {
    await new Promise<void>((resolve) => {
      const socket = net.connect(port, "127.0.0.1");
      socket.on("error", () => {});
      socket.on("close", () => resolve());
    });
  }
}

test("a FIFO that nobody reads", async () => {
  const directory = temporaryDirectory("bunnel-stalled-");
  const fifo = join(directory, "fifo");
  const admin = join(directory, "admin.sock");
  expect(spawnSync("mkfifo", [fifo]).status, "mkfifo").toBe(0);
  const reader = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
  await using endpoint = await startEndpoint();
  const long = "a-listener-whose-name-is-as-long-as-a-name-may-be-in-this-place";
  await using daemon = await startDaemon(`
admin: { address: "unix:${admin}" }
access_log: { output: ${fifo} }
listeners:
  - { name: ${long}, address: 127.0.0.1:0, allow_sources: [192.0.2.0/24], backend: web }
  - { name: in, address: 127.0.0.1:0, backend: web }
backends: { web: { endpoints: ["${endpoint.address}"] } }
`);
  const status = async (): Promise<Status> =>
    (await (await fetch("http://localhost/api/v1/status", { unix: admin })).json()) as Status;
  expect((await status()).access_log.dropped_lines_total).toBe(0);
  const port = await daemon.port(long);
  await Promise.all(Array.from({ length: AT_ONCE }, () => beRefused(port, Math.ceil(REFUSED / AT_ONCE))));
  const warnings = (): number => daemon.log.filter(({ msg }) => String(msg).includes("lines are being dropped")).length;
  await eventually("it was said", () => warnings() > 0);
  const startedMs = performance.now();
  await endInOrder(await talking(await daemon.address("in")));
  expect(performance.now() - startedMs).toBeLessThan(SERVED_MS);
  let dropped = 0;
  await eventually("it was counted", async () => {
    dropped = (await status()).access_log.dropped_lines_total;
    return dropped > 0;
  });
  expect(dropped).toBeLessThan(REFUSED);
  expect(warnings()).toBe(1);
  expect(await daemon.stop()).toBe(0);
  closeSync(reader);
}, 30_000);
