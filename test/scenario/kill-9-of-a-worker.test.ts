// A worker is killed under load. Only the connections that it held end; every other goes on, no byte wrong. Newcomers wait in the queue that the workers share, and are not
// refused; a new worker serves within a second. What the dead one had in use is given back: the other workers balance and admit as if it had never been.

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { Status } from "../../src/snapshot/status.ts";
import type { Peer } from "../conformance/peers.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { type Echoes, SteadyLoad, startEchoes } from "../support/steady-load.ts";
import { connectTo } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { clientPortsHeldBy, isAlive, workersOf } from "../support/worker-processes.ts";

/** As the issue has them. */
const COUNTS_WITHIN_MS = 100;
const CAPACITY_WITHIN_MS = 1000;

function configFor(echoes: Echoes, more = ""): string {
  const endpoints = echoes.addresses.map((address) => `"${address}"`).join(", ");
  return `
workers: 2
drain_timeout: 10s
${more}
listeners: [{ name: in, address: "127.0.0.1:0", backend: echo }]
backends: { echo: { endpoints: [${endpoints}] } }
`;
}

/** Kills one of the two with the ports of its clients looked up just before. */
function killOne(daemon: Daemon, port: number): { readonly ports: readonly number[]; readonly pid: number } {
  const [pid] = workersOf(daemon.pid);
  if (pid === undefined) throw new Error(`there is no worker: ${daemon.child.story}`);
  const ports = clientPortsHeldBy(pid, port);
  process.kill(pid, "SIGKILL");
  return { ports, pid };
}

async function untilTwoRun(daemon: Daemon, without: number): Promise<void> {
  await eventually(
    () => `two workers ran: ${daemon.child.story}`,
    () => {
      const workers = workersOf(daemon.pid);
      return workers.length === 2 && !workers.includes(without);
    },
  );
}

describe("under load", () => {
  test("only its own connections end; newcomers are served by the others and by the one in its place", async () => {
    await using echoes = await startEchoes(4);
    await using daemon = await startDaemon(configFor(echoes));
    const port = await daemon.port("in");
    const targets = [{ address: `127.0.0.1:${port}` }];
    await using load = new SteadyLoad({ targets, perSecond: 250, streams: 50, seconds: 20 });
    const { streamPorts } = await load.ready();
    const killedMs = Date.now();
    const { ports, pid } = killOne(daemon, port);
    const lost = streamPorts.filter((streamPort) => ports.includes(streamPort));
    expect(lost.length).toBeGreaterThan(0);
    expect(lost.length).toBeLessThan(50);
    await untilTwoRun(daemon, pid);
    // The new one takes its share of those who come and stay.
    const peers: Peer[] = [];
    await eventually(
      () => `every worker held some: ${daemon.child.story}`,
      async () => {
        peers.push(...(await Promise.all(Array.from({ length: 10 }, () => connectTo(`127.0.0.1:${port}`)))));
        const counts = workersOf(daemon.pid).map((worker) => clientPortsHeldBy(worker, port).length);
        return counts.length === 2 && counts.every((count) => count > 0);
      },
    );
    // By the daemon's own clock: how soon it gets somebody then is a race with the other one, for the CPU too.
    const anew = daemon.log.find(({ msg }) => msg === "a worker was started anew");
    expect(Number(anew?.time) - killedMs).toBeLessThan(CAPACITY_WITHIN_MS);
    for (const { socket } of peers) socket.destroy();
    const summary = await load.stop();
    const streams = load.failures.filter(({ of }) => of === "stream");
    expect(streams.map(({ localPort }) => localPort).sort()).toEqual([...lost].sort());
    expect(summary.streamsOk).toBe(50 - lost.length);
    const exchanges = load.failures.filter(({ of }) => of === "exchange");
    // It may have accepted some in the instant between the look and the kill.
    for (const { startedMs } of exchanges) expect(startedMs).toBeLessThanOrEqual(killedMs + 100);
    for (const { kind } of load.failures) expect(kind).toBe("reset");
    expect(exchanges.length).toBeLessThan(50);
    expect(summary.ok).toBe(summary.attempted - exchanges.length);
    expect(isAlive(pid)).toBe(false);
    expect(await daemon.stop()).toBe(0);
  }, 20_000);
});

/** What the daemon says of itself. */
async function statusOf(adminSocket: string): Promise<Status> {
  const answer = await fetch("http://localhost/api/v1/status", { unix: adminSocket });
  return (await answer.json()) as Status;
}

/** Clients that have had an answer and stay. */
async function held(to: string, count: number): Promise<Peer[]> {
  const peers: Peer[] = [];
  for (let index = 0; index < count; index++) {
    const peer = await connectTo(to);
    peer.socket.write("x");
    await eventually("it was answered", () => peer.text === "x");
    peers.push(peer);
  }
  return peers;
}

describe("what it had in use is given back", () => {
  test("to least_connections: the endpoints that it leaves empty are filled first", async () => {
    await using echoes = await startEchoes(5);
    const adminSocket = join(temporaryDirectory("bunnel-admin-"), "sock");
    await using daemon = await startDaemon(configFor(echoes, `admin: { address: "unix:${adminSocket}" }`));
    const to = await daemon.address("in");
    const peers = await held(to, 60);
    expect(await echoes.open()).toEqual([12, 12, 12, 12, 12]);
    const { ports } = killOne(daemon, await daemon.port("in"));
    const exact = eventually(
      "the counts were without the dead one's",
      async () => {
        const status = await statusOf(adminSocket);
        return status.connections === 60 - ports.length ? status : null;
      },
      COUNTS_WITHIN_MS,
    );
    const gone = peers.filter(({ socket }) => ports.includes(socket.localPort ?? 0));
    await eventually("its clients were told", () => gone.every(({ closed, ended }) => closed || ended));
    const left = 60 - gone.length;
    await eventually("the endpoints were told", async () => sum(await echoes.open()) === left, COUNTS_WITHIN_MS);
    const { connections, backends } = await exact;
    expect({ connections, counted: backends[0]?.endpoints.map((endpoint) => endpoint.connections) }).toEqual({
      connections: left,
      counted: [...(await echoes.open())],
    });
    // Fills up what the dead one left: with counts that are exact, the spread is one at most again.
    await held(to, gone.length);
    expect(await echoes.open()).toEqual([12, 12, 12, 12, 12]);
  }, 20_000);

  test("to max_connections: as many newcomers are let in as it had clients, and no more", async () => {
    await using echoes = await startEchoes(2);
    await using daemon = await startDaemon(configFor(echoes, "max_connections: 20"));
    const to = await daemon.address("in");
    const peers = await held(to, 20);
    const waiting = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const peer = await connectTo(to);
        peer.socket.write("w");
        return peer;
      }),
    );
    expect(sum(await echoes.open())).toBe(20);
    const { ports } = killOne(daemon, await daemon.port("in"));
    // Those who wait unread in a worker, beyond the limit, end with it too: it has accepted them.
    const lost = peers.filter(({ socket }) => ports.includes(socket.localPort ?? 0)).length;
    expect(lost).toBeGreaterThan(0);
    const kept = waiting.filter(({ socket }) => !ports.includes(socket.localPort ?? 0));
    const served = Math.min(lost, kept.length);
    await eventually(
      () => `${served} were let in: ${daemon.child.story}`,
      () => kept.filter(({ text }) => text === "w").length >= served,
    );
    expect(kept.filter(({ text }) => text === "w")).toHaveLength(served);
    expect((await echoes.counts()).peakOfAll).toBeLessThanOrEqual(20);
  }, 20_000);
});

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
