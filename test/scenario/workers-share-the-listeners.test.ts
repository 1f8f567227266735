// Worker processes serve the same listeners, and status and readiness tell how they are. Their number can be changed by a reload without a cut connection. Signals go to the
// supervisor, whoever else gets them; it ends when all have finished, with 0 if none was cut, and nothing is left of it: no process and no socket file.

import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Peer } from "../conformance/peers.ts";
import { eventually } from "../support/eventually.ts";
import { unusedPort } from "../support/servers.ts";
import { type Supervised, startSupervised } from "../support/supervised.ts";
import { type Endpoint, startEndpoint, talking } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { clientPortsHeldBy } from "../support/worker-processes.ts";

/** With a listener on a port and one on a socket file. */
interface Setup {
  readonly port: number;
  readonly socketPath: string;
  config(workers: number, more?: string): string;
}

async function setup(endpoint: Endpoint): Promise<Setup> {
  const port = await unusedPort();
  const socketPath = join(temporaryDirectory("bunnel-workers-"), "in.sock");
  return {
    port,
    socketPath,
    config: (workers, more = "drain_timeout: 1m") => `
workers: ${workers}
${more}
listeners:
  - { name: tcp, address: "127.0.0.1:${port}", backend: echo }
  - { name: file, address: "unix:${socketPath}", backend: echo }
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`,
  };
}

/** Clients that stay, until each of so many workers has some. */
async function talkingToAll(running: Supervised, port: number, workers: number): Promise<Peer[]> {
  const peers: Peer[] = [];
  await eventually(
    () => `${workers} workers had clients: ${running.daemon.child.story}`,
    async () => {
      peers.push(await talking(`127.0.0.1:${port}`));
      return running.workers.filter((pid) => clientPortsHeldBy(pid, port).length > 0).length >= workers;
    },
  );
  return peers;
}

async function goesOn(peers: readonly Peer[]): Promise<void> {
  for (const [index, peer] of peers.entries()) {
    expect([index, peer.closed, peer.errorCode]).toEqual([index, false, ""]);
    const before = peer.text;
    peer.socket.write("b");
    await eventually(`client ${index} was answered`, () => peer.text === `${before}b`);
  }
}

async function endInOrder(peers: readonly Peer[]): Promise<void> {
  for (const peer of peers) peer.socket.end();
  for (const peer of peers)
    await eventually("it ended in order", () => peer.closed && peer.ended && peer.errorCode === "");
}

test("each worker serves each listener; status, readiness and records tell who", async () => {
  await using endpoint = await startEndpoint();
  const { port, socketPath, config } = await setup(endpoint);
  await using running = await startSupervised(config(2));
  const status = await running.untilServing(2);
  expect(status).toMatchObject({ state: "serving", pid: running.pid, worker_restarts: 0, generation: 1 });
  expect(status.workers.map(({ worker, pid }) => [worker, pid])).toEqual(
    running.workers.map((pid, at) => [at + 1, pid]),
  );
  expect(await running.readiness()).toMatchObject({ ready: true, generation: 1, reasons: [] });
  const peers = [...(await talkingToAll(running, port, 2)), await talking(`unix:${socketPath}`)];
  const busy = await running.status();
  expect(busy.connections).toBe(peers.length);
  expect(busy.workers.map(({ connections }) => connections).reduce((sum, each) => sum + each)).toBe(peers.length);
  await endInOrder(peers);
  const records = await running.daemon.recorded(peers.length);
  const by = records.map((record) => (record as unknown as { worker: number }).worker);
  expect([...new Set(by)].sort()).toEqual([1, 2]);
  expect(await running.daemon.stop()).toBe(0);
  await running.untilAllGone();
  expect([existsSync(socketPath), existsSync(running.adminPath)]).toEqual([false, false]);
}, 15_000);

test("two workers become three and then one, and nobody is cut", async () => {
  await using endpoint = await startEndpoint();
  const { port, config } = await setup(endpoint);
  await using running = await startSupervised(config(2));
  const peers = await talkingToAll(running, port, 2);
  expect((await running.reload(config(3))).exitCode).toBe(0);
  await running.untilServing(3);
  peers.push(...(await talkingToAll(running, port, 3)));
  expect((await running.reload(config(1))).exitCode).toBe(0);
  const status = await running.untilServing(1);
  // The others finish what they have; whoever comes now is served as before.
  expect(status.workers.map(({ worker, state }) => [worker, state])).toEqual([
    [1, "serving"],
    [2, "draining"],
    [3, "draining"],
  ]);
  expect(await running.readiness()).toMatchObject({ ready: true, reasons: [] });
  await goesOn(peers);
  const more = await Promise.all(Array.from({ length: 20 }, () => talking(`127.0.0.1:${port}`)));
  const [first] = running.workers;
  expect(clientPortsHeldBy(first as number, port)).toEqual(
    expect.arrayContaining(more.map(({ socket }) => socket.localPort as number)),
  );
  await endInOrder([...peers, ...more]);
  await eventually("the two had ended", () => running.workers.length === 1);
  expect(running.told("a worker has ended")).toEqual([]);
  // To none is another program: it says so, and goes on with one.
  const none = await running.reload(config(0));
  expect(none.exitCode).toBe(0);
  expect(running.daemon.child.stderr).toContain("takes a restart");
  expect(running.workers).toHaveLength(1);
  await endInOrder([await talking(`127.0.0.1:${port}`)]);
  expect(await running.daemon.stop()).toBe(0);
  await running.untilAllGone();
}, 20_000);

describe("signals", () => {
  test("Ctrl-C reaches every process: the workers leave it to the supervisor, which drains once", async () => {
    await using endpoint = await startEndpoint();
    const { port, config } = await setup(endpoint);
    await using running = await startSupervised(config(2));
    const peers = await talkingToAll(running, port, 2);
    // In the order in which it does most harm.
    for (const pid of [...running.workers, running.pid]) process.kill(pid, "SIGINT");
    await running.says("draining");
    await goesOn(peers);
    expect(running.told("a worker was told to end; another takes its place")).toEqual([]);
    await endInOrder(peers);
    expect(await running.daemon.exitCode()).toBe(0);
    await running.untilAllGone();
  }, 15_000);

  test("SIGTERM to every process at once, as some service managers do, cuts nobody and ends all of it", async () => {
    await using endpoint = await startEndpoint();
    const { port, config } = await setup(endpoint);
    await using running = await startSupervised(config(2));
    const peers = await talkingToAll(running, port, 2);
    for (const pid of [...running.workers, running.pid]) process.kill(pid, "SIGTERM");
    await running.says("draining");
    await goesOn(peers);
    await endInOrder(peers);
    expect(await running.daemon.exitCode()).toBe(0);
    await running.untilAllGone();
  }, 15_000);

  test("SIGTERM to one worker: another is there at once, and it finishes what it has", async () => {
    await using endpoint = await startEndpoint();
    const { port, config } = await setup(endpoint);
    await using running = await startSupervised(config(2));
    const peers = await talkingToAll(running, port, 2);
    const [victim] = running.workers as [number];
    process.kill(victim, "SIGTERM");
    await running.says("a worker was told to end; another takes its place");
    const status = await running.untilServing(2);
    expect(status.workers.find(({ pid }) => pid === victim)?.state).toBe("draining");
    await goesOn(peers);
    await endInOrder(peers);
    await eventually("it had ended", () => !running.workers.includes(victim));
    // Nothing went wrong.
    expect(running.told("a worker has ended")).toEqual([]);
    expect((await running.status()).worker_restarts).toBe(0);
    expect(await running.daemon.stop()).toBe(0);
    await running.untilAllGone();
  }, 15_000);

  test("a second SIGTERM does not wait: exit 1, and each of them has its record", async () => {
    await using endpoint = await startEndpoint();
    const { port, socketPath, config } = await setup(endpoint);
    await using running = await startSupervised(config(2));
    const peers = await talkingToAll(running, port, 2);
    running.daemon.child.signal("SIGTERM");
    await running.says("draining");
    running.daemon.child.signal("SIGTERM");
    expect(await running.daemon.exitCode()).toBe(1);
    await running.untilAllGone();
    const records = await running.daemon.recorded(peers.length);
    expect(new Set(records.map(({ close_reason }) => close_reason))).toEqual(new Set(["drain_timeout"]));
    expect(existsSync(socketPath)).toBe(false);
  }, 15_000);

  test("the drain time-out ends what is left: exit 1", async () => {
    await using endpoint = await startEndpoint();
    const { port, config } = await setup(endpoint);
    await using running = await startSupervised(config(2, "drain_timeout: 1s"));
    await talkingToAll(running, port, 2);
    expect(await running.daemon.stop()).toBe(1);
    await running.untilAllGone();
  }, 15_000);
});
