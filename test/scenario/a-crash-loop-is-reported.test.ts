// A worker that dies at its start, again and again, is started less and less often, and the log and the status say so. The others serve all along, and it serves again as soon as
// it can. At the very first start there is nobody to serve: the daemon says why and ends.

import { expect, test } from "bun:test";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../support/child.ts";
import { bunnel } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { unusedPort } from "../support/servers.ts";
import { startSupervised } from "../support/supervised.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { childrenOf, descriptorsOf, endNow } from "../support/worker-processes.ts";

test("it is waited for, said, and survived", async () => {
  await using endpoint = await startEndpoint();
  const to = `127.0.0.1:${await unusedPort()}`;
  await using running = await startSupervised(`
workers: 2
drain_timeout: 10s
listeners: [{ name: in, address: "${to}", backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
  const [first, steady] = running.workers as [number, number];
  // Nobody can open the access log anew; the one who has it goes on.
  const log = join(running.daemon.directory, "access.log");
  renameSync(log, `${log}.away`);
  mkdirSync(log);
  endNow(first);
  const loop = await running.says("a worker ends again and again");
  expect(loop).toMatchObject({ level: 50, worker: 1, wait_ms: 1600 });
  const [ended] = running.told("a worker has ended").slice(-1);
  expect(String(ended?.how)).toMatch(/^exit code 1: .*access\.log.*EISDIR/);
  const status = await running.status();
  expect(status.workers.map(({ state, pid }) => [state, pid])).toEqual([
    ["waiting to restart", 0],
    ["serving", steady],
  ]);
  expect(await running.readiness()).toMatchObject({ ready: false, reasons: ["worker 1 is waiting to restart"] });
  expect(status.worker_restarts).toBeGreaterThanOrEqual(5);
  for (let count = 0; count < 10; count++) {
    const client = await connectTo(to);
    client.socket.end("x");
    await eventually("it was served", () => client.text === "x" && client.closed);
  }
  // What it died of is over.
  renameSync(log, `${log}.was`);
  renameSync(`${log}.away`, log);
  const after = await running.untilServing(2);
  expect(after.workers[1]?.pid).toBe(steady);
  expect(await running.daemon.stop()).toBe(0);
  await running.untilAllGone();
}, 20_000);

test("a reload is not kept from the others by it", async () => {
  await using endpoint = await startEndpoint();
  const [to, also] = [`127.0.0.1:${await unusedPort()}`, `127.0.0.2:${await unusedPort("127.0.0.2")}`];
  const config = (more: string): string => `
workers: 2
drain_timeout: 10s
listeners:
  - { name: in, address: "${to}", backend: echo }
${more}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
  await using running = await startSupervised(config(""));
  const [first] = running.workers as [number];
  // Whoever is started is killed at once.
  let killing = true;
  const killer = (async () => {
    const [, steady] = running.workers;
    endNow(first);
    while (killing) {
      for (const pid of running.workers) if (pid !== steady) endNow(pid);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  })();
  await running.says("a worker has ended", 3);
  const { exitCode, stdout, stderr } = await running.reload(
    config(`  - { name: also, address: "${also}", backend: echo }`),
  );
  expect([exitCode, stderr]).toEqual([0, ""]);
  expect(stdout).toContain("generation 2 is served");
  const client = await connectTo(also);
  client.socket.end("x");
  await eventually("it was served", () => client.text === "x" && client.closed);
  killing = false;
  await killer;
  expect((await running.untilServing(2)).generation).toBe(2);
  expect(await running.daemon.stop()).toBe(0);
  await running.untilAllGone();
}, 20_000);

test("two dozen deaths leave no descriptor, no process and no count behind", async () => {
  await using endpoint = await startEndpoint();
  const to = `127.0.0.1:${await unusedPort()}`;
  await using running = await startSupervised(`
workers: 8
drain_timeout: 10s
listeners: [{ name: in, address: "${to}", backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
  await running.untilServing(8);
  const before = descriptorsOf(running.pid);
  for (let round = 1; round <= 3; round++) {
    const clients = await Promise.all(Array.from({ length: 20 }, () => connectTo(to)));
    await eventually("all were let in", async () => (await running.status()).connections === clients.length);
    for (const pid of running.workers) endNow(pid);
    await running.says("a worker was started anew", 8 * round);
    await running.untilServing(8);
    expect((await running.status()).connections).toBe(0);
  }
  expect(childrenOf(running.pid)).toEqual(running.workers);
  await eventually(
    () => `it had ${before} descriptors again, and not ${descriptorsOf(running.pid)}`,
    () => descriptorsOf(running.pid) <= before,
  );
  expect(await running.daemon.stop()).toBe(0);
  await running.untilAllGone();
}, 30_000);

test("at the very first start it is one message and exit 1, and nothing is left", async () => {
  const directory = temporaryDirectory("bunnel-first-start-");
  const socket = join(directory, "in.sock");
  // Opened by workers only.
  mkdirSync(join(directory, "access.log"));
  const path = join(directory, "bunnel.yaml");
  writeFileSync(
    path,
    `
workers: 2
admin: { address: off }
access_log: { output: ./access.log }
listeners: [{ name: in, address: "unix:${socket}", backend: echo }]
backends: { echo: { endpoints: ["127.0.0.1:9"] } }
`,
  );
  const { exitCode, stdout, stderr } = await run(bunnel("run", "-c", path));
  expect([exitCode, stdout]).toEqual([1, ""]);
  expect(stderr.trim().split("\n")).toEqual([expect.stringMatching(/^a worker does not start: .*access\.log.*EISDIR/)]);
  await expect(connectTo(`unix:${socket}`)).rejects.toThrow("ENOENT");
});
