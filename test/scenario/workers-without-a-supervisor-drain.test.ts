// The supervisor is killed with -9. Its workers let in those who wait in the queue and nobody afterwards, so that the addresses are free for the next daemon at once; they finish
// their connections, and end by themselves: when these have ended, or at the drain time-out.

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { unusedPort } from "../support/servers.ts";
import { type Supervised, startSupervised } from "../support/supervised.ts";
import { connectTo, startEndpoint, talking } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const CLIENTS = 30;
/** As issue 4 has it. */
const FREE_WITHIN_MS = 1000;

function configFor(endpoint: string, listeners: readonly string[], drainTimeout: string): string {
  return `
workers: 2
drain_timeout: ${drainTimeout}
listeners:
${listeners.map((text) => `  - { ${text}, backend: echo }`).join("\n")}
backends: { echo: { endpoints: ["${endpoint}"] } }
`;
}

/** Whether another program could listen there. */
function isFree(port: number): Promise<boolean> {
  const server = net.createServer();
  return new Promise((resolve) => {
    server.on("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

async function killSupervisor(running: Supervised): Promise<readonly number[]> {
  const { workers } = running;
  running.daemon.child.signal("SIGKILL");
  await eventually("it was gone", () => running.daemon.child.hasExited);
  return workers;
}

test("they finish, and the next daemon has the addresses within a second", async () => {
  await using endpoint = await startEndpoint();
  const port = await unusedPort();
  const to = `127.0.0.1:${port}`;
  const path = join(temporaryDirectory("bunnel-orphans-"), "in.sock");
  const file = `unix:${path}`;
  const config = configFor(endpoint.address, [`name: tcp, address: "${to}"`, `name: file, address: "${file}"`], "1m");
  await using running = await startSupervised(config);
  const peers = await Promise.all(Array.from({ length: CLIENTS }, (_, index) => talking(index % 3 === 0 ? file : to)));
  await killSupervisor(running);
  await running.says("the supervisor is gone: this worker finishes what it has, and ends", 2);
  await eventually("both addresses were free", async () => !existsSync(path) && (await isFree(port)), FREE_WITHIN_MS);
  await using next = await startSupervised(config);
  const newcomer = await talking(to);
  for (const peer of peers) peer.socket.end("b");
  for (const peer of peers)
    await eventually("it was finished in order", () => peer.text === "ab" && peer.ended && peer.errorCode === "");
  await running.untilAllGone();
  // Those of the dead one have not taken the file of the new one with them.
  newcomer.socket.end();
  for (const address of [to, file]) (await talking(address)).socket.end();
  expect(await next.daemon.stop()).toBe(0);
  await next.untilAllGone();
}, 20_000);

test("those who wait in a queue beyond a limit are let in", async () => {
  await using endpoint = await startEndpoint();
  const to = `127.0.0.1:${await unusedPort()}`;
  await using running = await startSupervised(
    configFor(endpoint.address, [`name: in, address: "${to}", max_connections: 2`], "1m"),
  );
  const inside = [await talking(to), await talking(to)];
  const waiting = await Promise.all(
    Array.from({ length: 8 }, async (_, index) => {
      const peer = await connectTo(to);
      peer.socket.end(`waiting ${index}`);
      return peer;
    }),
  );
  await killSupervisor(running);
  await running.says("the supervisor is gone: this worker finishes what it has, and ends", 2);
  // Newcomers get no answer at all until the queue is empty.
  const late = connectTo(to).then(
    () => "accepted",
    () => "refused",
  );
  expect(await Promise.race([late, new Promise((resolve) => setTimeout(resolve, 300, "waiting"))])).toBe("waiting");
  expect(waiting.map(({ text }) => text).join("")).toBe("");
  for (const peer of inside) peer.socket.end();
  for (const [index, peer] of waiting.entries())
    await eventually(
      () => `${index} was served, and not "${peer.text}" and ${peer.errorCode}`,
      () => peer.text === `waiting ${index}` && peer.ended,
    );
  expect(await late).toBe("refused");
  await running.untilAllGone();
}, 20_000);

test("at the drain time-out the rest is ended, and so are they", async () => {
  await using endpoint = await startEndpoint();
  const to = `127.0.0.1:${await unusedPort()}`;
  await using running = await startSupervised(configFor(endpoint.address, [`name: in, address: "${to}"`], "1s"));
  const peers = await Promise.all(Array.from({ length: 6 }, () => talking(to)));
  await killSupervisor(running);
  await running.untilAllGone(3000);
  const records = await running.daemon.recorded(peers.length);
  expect(new Set(records.map(({ close_reason }) => close_reason))).toEqual(new Set(["drain_timeout"]));
  for (const peer of peers) await eventually("it was reset", () => peer.errorCode === "ECONNRESET");
}, 20_000);

test("a worker that has lost its supervisor takes SIGTERM for what it does already", async () => {
  await using endpoint = await startEndpoint();
  const to = `127.0.0.1:${await unusedPort()}`;
  const file = join(temporaryDirectory("bunnel-orphans-"), "in.sock");
  await using running = await startSupervised(
    configFor(endpoint.address, [`name: in, address: "${to}"`, `name: file, address: "unix:${file}"`], "1m"),
  );
  const peer = await talking(to);
  const workers = await killSupervisor(running);
  await running.says("the supervisor is gone: this worker finishes what it has, and ends", 2);
  for (const pid of workers) {
    try {
      process.kill(pid, "SIGTERM");
    } catch {
      // It had nothing to finish.
    }
  }
  peer.socket.end("b");
  await eventually("it was finished", () => peer.text === "ab" && peer.ended);
  await running.untilAllGone();
  expect(existsSync(file)).toBe(false);
}, 20_000);
