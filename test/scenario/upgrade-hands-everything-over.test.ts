// SIGUSR2: the program on the disk takes over, by the config on the disk. Whoever is connected stays with the old one until the drain time-out; whoever waits in a queue is served, by the
// new one or, where that does not listen any more, by the old one; and what the old one still holds counts in the new one.

import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Status } from "../../src/snapshot/status.ts";
import type { Peer } from "../conformance/peers.ts";
import { eventually } from "../support/eventually.ts";
import { unusedPort } from "../support/servers.ts";
import { startEchoes } from "../support/steady-load.ts";
import { type Supervised, startSupervised } from "../support/supervised.ts";
import { connectTo, endInOrder, startEndpoint, talking } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { endNow, isAlive, workersOf } from "../support/worker-processes.ts";

function configFor(endpoints: readonly string[], listeners: readonly string[], more: string): string {
  return `
${more}
listeners:
${listeners.map((text) => `  - { ${text}, backend: echo }`).join("\n")}
backends: { echo: { endpoints: [${endpoints.map((address) => `"${address}"`).join(", ")}] } }
`;
}

async function served(to: string, count = 10): Promise<void> {
  for (const peer of await Promise.all(Array.from({ length: count }, () => talking(to)))) await endInOrder(peer);
}

async function connections(running: Supervised, count: number): Promise<void> {
  await eventually(`${count} connections were counted`, async () => (await running.status()).connections === count);
}

async function stop(running: Supervised): Promise<void> {
  process.kill(running.pid, "SIGTERM");
  await running.untilAllGone();
}

describe("a listener that the new config", () => {
  test("drops: whoever waits in its queue is served by the old one, and nobody joins; one that it adds is the new one's", async () => {
    await using endpoint = await startEndpoint();
    const [stays, goes, comes] = [await unusedPort(), await unusedPort("127.0.0.2"), await unusedPort("127.0.0.3")];
    const path = join(temporaryDirectory("bunnel-upgrade-"), "in.sock");
    const [kept, dropped, added] = [`127.0.0.1:${stays}`, `127.0.0.2:${goes}`, `127.0.0.3:${comes}`];
    const keptSpec = `name: stays, address: "${kept}"`;
    const more = "workers: 2\ndrain_timeout: 1m";
    const before = [
      keptSpec,
      `name: goes, address: "${dropped}", max_connections: 1`,
      `name: file, address: "unix:${path}"`,
    ];
    await using running = await startSupervised(configFor([endpoint.address], before, more));
    const first = await talking(dropped);
    const waiting = await Promise.all(
      Array.from({ length: 8 }, async (_, index) => {
        const peer = await connectTo(dropped);
        peer.socket.end(`waiting ${index}`);
        return peer;
      }),
    );
    running.write(configFor([endpoint.address], [keptSpec, `name: comes, address: "${added}"`], more));
    await running.upgrade();
    await served(kept);
    await served(added);
    expect(waiting.map(({ text, closed }) => [text, closed])).toEqual(Array(8).fill(["", false]));
    await endInOrder(first);
    for (const [index, peer] of waiting.entries())
      await eventually(
        () => `${index} was served, and not "${peer.text}" and ${peer.errorCode}`,
        () => peer.text === `waiting ${index}` && peer.ended && peer.errorCode === "",
      );
    await eventually("its address is free", async () => {
      try {
        (await connectTo(dropped)).socket.destroy();
        return false;
      } catch (thrown) {
        return String(thrown).includes("ECONNREFUSED");
      }
    });
    expect(existsSync(path)).toBe(false);
    await eventually("the old one had ended", () => running.told("stopped").length > 0);
    await served(kept);
    await stop(running);
  }, 20_000);

  test("moves between all addresses and one of them is the new one's there", async () => {
    await using endpoint = await startEndpoint();
    const port = await unusedPort("0.0.0.0");
    const spec = (host: string): string =>
      configFor(
        [endpoint.address],
        [`name: in, allow_plaintext: true, address: "${host}:${port}"`],
        "workers: 2\ndrain_timeout: 1m",
      );
    await using running = await startSupervised(spec("0.0.0.0"));
    const held = await talking(`127.0.0.2:${port}`);
    running.write(spec("127.0.0.1"));
    await running.upgrade();
    await served(`127.0.0.1:${port}`);
    await endInOrder(held);
    await eventually("the old one had ended", () => running.told("stopped").length > 0);
    await expect(connectTo(`127.0.0.2:${port}`)).rejects.toThrow("ECONNREFUSED");
    await served(`127.0.0.1:${port}`);
    // And back, by a reload.
    expect((await running.reload(spec("0.0.0.0"))).exitCode).toBe(0);
    await served(`127.0.0.2:${port}`);
    await served(`127.0.0.1:${port}`);
    await stop(running);
  }, 20_000);
});

test("another number of workers, none too, and back: nobody is cut", async () => {
  await using endpoint = await startEndpoint();
  const to = `127.0.0.1:${await unusedPort()}`;
  const file = `unix:${join(temporaryDirectory("bunnel-upgrade-"), "in.sock")}`;
  const config = (workers: number): string =>
    configFor(
      [endpoint.address],
      [`name: in, address: "${to}"`, `name: file, address: "${file}"`],
      `workers: ${workers}\ndrain_timeout: 1m`,
    );
  await using running = await startSupervised(config(0));
  const held: Peer[] = [];
  for (const workers of [2, 0, 3, 1]) {
    held.push(await talking(to), await talking(file));
    running.write(config(workers));
    await running.upgrade();
    await running.untilServing(Math.max(1, workers));
    expect(workersOf(running.pid)).toHaveLength(workers);
    await served(to);
    await served(file);
    await connections(running, held.length);
  }
  for (const peer of held) await endInOrder(peer);
  await connections(running, 0);
  await running.says("stopped", 4);
  await served(to);
  await stop(running);
}, 30_000);

test("the admin API answers all along, and from some moment on it is the new one that does", async () => {
  await using endpoint = await startEndpoint();
  const to = `127.0.0.1:${await unusedPort()}`;
  await using running = await startSupervised(
    configFor([endpoint.address], [`name: in, address: "${to}"`], "workers: 2\ndrain_timeout: 1m"),
  );
  const old = running.pid;
  const held = await talking(to);
  const answers: Status[] = [];
  let asking = true;
  const asker = (async () => {
    while (asking) answers.push(await running.status());
  })();
  await running.upgrade();
  const seen = answers.length;
  await eventually("it was asked some more", () => answers.length > seen + 20);
  asking = false;
  await asker;
  const pids = answers.map(({ pid }) => pid);
  expect([...new Set(pids)]).toEqual([old, running.pid]);
  // Never the old one again.
  expect(pids.lastIndexOf(old)).toBeLessThan(pids.indexOf(running.pid));
  expect(answers.at(-1)).toMatchObject({ state: "serving", connections: 1 });
  expect(await running.readiness()).toMatchObject({ ready: true });
  await endInOrder(held);
  await eventually(
    () => `the old one had ended: ${running.daemon.child.story}`,
    () => running.told("stopped").length > 0,
  );
  // It has not taken the socket of the new one with it.
  expect((await running.status()).pid).toBe(running.pid);
  await stop(running);
  expect(existsSync(running.adminPath)).toBe(false);
}, 20_000);

test("an admin API on a port is the new one's, too, once it has taken over", async () => {
  await using endpoint = await startEndpoint();
  const [to, admin] = [`127.0.0.1:${await unusedPort()}`, `127.0.0.1:${await unusedPort()}`];
  const config = configFor([endpoint.address], [`name: in, address: "${to}"`], "workers: 2\ndrain_timeout: 1m");
  await using running = await startSupervised(config, { admin });
  const held = await talking(to);
  for (let count = 0; count < 2; count++) {
    const pid = await running.upgrade();
    for (let question = 0; question < 50; question++) expect((await running.status()).pid).toBe(pid);
  }
  await endInOrder(held);
  await stop(running);
}, 20_000);

test("SIGTERM to all of a service while the old one drains ends it in order; the old one is not told twice", async () => {
  await using endpoint = await startEndpoint();
  const to = `127.0.0.1:${await unusedPort()}`;
  await using running = await startSupervised(
    configFor([endpoint.address], [`name: in, address: "${to}"`], "workers: 2\ndrain_timeout: 1m"),
  );
  const [old, theirs] = [running.pid, running.workers];
  const held = await Promise.all(Array.from({ length: 10 }, () => talking(to)));
  await running.upgrade();
  held.push(await talking(to));
  const ours = running.workers;
  for (const pid of [...theirs, ...ours, old, running.pid].filter(isAlive)) process.kill(pid, "SIGTERM");
  await running.says("draining already");
  await running.says("draining");
  for (const peer of held) await endInOrder(peer);
  await running.untilAllGone();
  expect(await running.daemon.exitCode()).toBe(0);
}, 20_000);

describe("what the old one holds", () => {
  test("counts for least_connections and for max_connections", async () => {
    await using echoes = await startEchoes(2);
    const to = `127.0.0.1:${await unusedPort()}`;
    const config = (endpoints: readonly string[]): string =>
      configFor(endpoints, [`name: in, address: "${to}", max_connections: 20`], "workers: 2\ndrain_timeout: 1m");
    await using running = await startSupervised(config(echoes.addresses.slice(0, 1)));
    const held: Peer[] = [];
    for (let count = 0; count < 8; count++) held.push(await talking(to));
    // The second endpoint is empty, and filled first: it has as many as the first when eight have come.
    running.write(config(echoes.addresses));
    await running.upgrade();
    const more: Peer[] = [];
    for (let count = 0; count < 8; count++) more.push(await talking(to));
    expect(await echoes.open()).toEqual([8, 8]);
    for (let count = 0; count < 4; count++) more.push(await talking(to));
    expect(await echoes.open()).toEqual([10, 10]);
    const status = await running.status();
    expect(status.listeners[0]?.connections).toBe(20);
    expect([status.connections, status.connections_elsewhere]).toEqual([20, 8]);
    const listed = await running.command("connections");
    expect(listed.stderr).toContain("8 connections of processes from before an upgrade cannot be shown");
    expect(status.backends[0]?.endpoints.map((each) => each.connections)).toEqual([10, 10]);
    // Full: the next one waits until one of the old one's has gone.
    const waits = await connectTo(to);
    waits.socket.write("w");
    const isServed = eventually("it was let in", () => waits.text === "w", 9000);
    expect(await Promise.race([isServed, new Promise((resolve) => setTimeout(resolve, 300, "waits"))])).toBe("waits");
    await endInOrder(held[0] as Peer);
    await isServed;
    for (const peer of [...held.slice(1), ...more, waits]) await endInOrder(peer);
    await connections(running, 0);
    await stop(running);
  }, 20_000);

  test("is given back when all of the old one is killed while it drains", async () => {
    await using echoes = await startEchoes(2);
    const to = `127.0.0.1:${await unusedPort()}`;
    await using running = await startSupervised(
      configFor(echoes.addresses, [`name: in, address: "${to}"`], "workers: 2\ndrain_timeout: 1m"),
    );
    const [old, theirs] = [running.pid, running.workers];
    for (let count = 0; count < 10; count++) await talking(to);
    await running.upgrade();
    const held = [await talking(to), await talking(to)];
    await connections(running, 12);
    endNow(old);
    // Its workers finish what they have.
    await eventually("it was gone", () => !isAlive(old));
    expect(theirs.filter(isAlive).length).toBeGreaterThan(0);
    await connections(running, 12);
    for (const pid of theirs) endNow(pid);
    await connections(running, 2);
    expect((await running.status()).backends[0]?.endpoints.map((each) => each.connections)).toEqual([1, 1]);
    await served(to);
    for (const peer of held) await endInOrder(peer);
    await stop(running);
  }, 20_000);

  test("is given back also when another upgrade lies between", async () => {
    await using endpoint = await startEndpoint();
    const to = `127.0.0.1:${await unusedPort()}`;
    await using running = await startSupervised(
      configFor([endpoint.address], [`name: in, address: "${to}"`], "workers: 2\ndrain_timeout: 1m"),
    );
    const [first, theirs] = [running.pid, running.workers];
    for (let count = 0; count < 10; count++) await talking(to);
    const second = await running.upgrade();
    await running.upgrade();
    await eventually("the second had nothing to finish", () => !isAlive(second));
    await connections(running, 10);
    for (const pid of [first, ...theirs]) endNow(pid);
    await connections(running, 0);
    await served(to);
    await stop(running);
  }, 20_000);
});

test("three upgrades in a row: streams of the first process live until its drain time-out, and newcomers are served all along", async () => {
  await using endpoint = await startEndpoint();
  const to = `127.0.0.1:${await unusedPort()}`;
  // Time enough for three upgrades.
  await using running = await startSupervised(
    configFor([endpoint.address], [`name: in, address: "${to}"`], "workers: 2\ndrain_timeout: 6s"),
  );
  const streams = await Promise.all(Array.from({ length: 20 }, () => talking(to)));
  let sent = 1;
  const beat = setInterval(() => {
    sent++;
    for (const { socket, closed } of streams) if (!closed) socket.write("a");
  }, 100);
  const startedMs = performance.now();
  try {
    for (let count = 0; count < 3; count++) {
      await running.upgrade();
      await served(to);
      expect(streams.filter(({ closed }) => closed)).toEqual([]);
      await connections(running, streams.length);
    }
    expect(performance.now() - startedMs).toBeLessThan(6000);
    await eventually("the time was over", () => streams.every(({ closed }) => closed), 9000);
    expect(performance.now() - startedMs).toBeGreaterThan(5900);
    for (const { errorCode, text } of streams) {
      expect(errorCode).toBe("ECONNRESET");
      expect(text.length).toBeGreaterThan(sent - 5);
    }
  } finally {
    clearInterval(beat);
  }
  await connections(running, 0);
  await running.says("stopped", 3);
  await served(to);
  await stop(running);
  const aborted = running.told("stopped").map((line) => Number(line.aborted));
  expect(aborted.sort()).toEqual([0, 0, 0, streams.length].sort());
}, 30_000);
