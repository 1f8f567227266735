// An upgrade that does not come about changes nothing: whatever happens to the successor before it serves, and whatever else is asked of the daemon meanwhile, newcomers are served,
// connections go on, the counts are right, and the next upgrade works.

import { describe, expect, test } from "bun:test";
import type { Peer } from "../conformance/peers.ts";
import { eventually } from "../support/eventually.ts";
import { unusedPort } from "../support/servers.ts";
import { type Supervised, startSupervised } from "../support/supervised.ts";
import { connectTo, type Endpoint, endInOrder, startEndpoint, talking } from "../support/tcp.ts";
import { childrenOf, clientPortsHeldBy, endNow, isAlive, workersOf } from "../support/worker-processes.ts";

const ABANDONED = "upgrade abandoned: the running program serves on";
/** For a worker to start, where many others want the processor. */
const START_MS = 15_000;

interface Setup {
  readonly port: number;
  readonly to: string;
  config(more?: string): string;
}

async function setup(endpoint: Endpoint): Promise<Setup> {
  const port = await unusedPort();
  const to = `127.0.0.1:${port}`;
  return {
    port,
    to,
    config: (more = "") => `
workers: 2
drain_timeout: 1m
listeners:
  - { name: in, address: "${to}", backend: echo }
${more}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`,
  };
}

/** Newcomers are served by the daemon as it was, and nobody else is counted. */
async function servesOn(running: Supervised, to: string, held: readonly Peer[]): Promise<void> {
  const newcomers = await Promise.all(Array.from({ length: 10 }, () => talking(to)));
  const status = await running.status();
  expect([status.pid, status.state]).toEqual([running.pid, "serving"]);
  expect(status.connections).toBe(held.length + newcomers.length);
  for (const peer of newcomers) await endInOrder(peer);
  expect(held.filter(({ closed }) => closed)).toEqual([]);
  await eventually(
    "only those who stay were counted",
    async () => (await running.status()).connections === held.length,
  );
}

/** The successor that is being started, and one of its workers, which has been stopped: so it does not come to serve until the test lets it. */
async function startUpgrade(running: Supervised): Promise<{ readonly heir: number; readonly stopped: number }> {
  const before = childrenOf(running.pid);
  process.kill(running.pid, "SIGUSR2");
  const heir = await eventually("a successor was started", () =>
    childrenOf(running.pid).find((pid) => !before.includes(pid)),
  );
  const stopped = await eventually(
    () => `it started a worker: ${running.daemon.child.story}`,
    () => workersOf(heir)[0],
  );
  process.kill(stopped, "SIGSTOP");
  await eventually("it started both", () => workersOf(heir).length === 2);
  return { heir, stopped };
}

test("a config that is wrong: the log says what, and once it is right the upgrade works", async () => {
  await using endpoint = await startEndpoint();
  await using another = await startEndpoint();
  const { to, config } = await setup(endpoint);
  await using running = await startSupervised(config());
  const held = [await talking(to)];
  for (const [index, [text, reason]] of (
    [
      [`${config()}\nnonsense: true`, /bunnel\.yaml:\d+:\d+: .*nonsense/],
      ["listeners: [{{{", /bunnel\.yaml:\d+:\d+: /],
      [config(`  - { name: taken, address: "${another.address}", backend: echo }`), /cannot listen on .*EADDRINUSE/],
    ] as const
  ).entries()) {
    running.write(text);
    process.kill(running.pid, "SIGUSR2");
    const line = await running.says(ABANDONED, index + 1);
    expect(String(line.problem)).toMatch(reason);
    await servesOn(running, to, held);
  }
  running.write(config());
  const old = running.pid;
  await running.upgrade();
  await running.untilServing(2);
  expect((await running.status()).pid).not.toBe(old);
  for (const peer of held) await endInOrder(peer);
  await eventually("the old one had ended", () => running.told("stopped").length > 0);
  process.kill(running.pid, "SIGTERM");
  await running.untilAllGone();
}, 30_000);

test("a successor that is killed, at whatever moment, leaves the queues as they are", async () => {
  await using endpoint = await startEndpoint();
  const { to, config } = await setup(endpoint);
  await using running = await startSupervised(config());
  const held = [await talking(to)];
  const { length } = running.told(ABANDONED);
  let killed = 0;
  for (let delayMs = 0; delayMs <= 120; delayMs += 20) {
    const before = childrenOf(running.pid);
    process.kill(running.pid, "SIGUSR2");
    const heir = await eventually("a successor was started", () =>
      childrenOf(running.pid).find((pid) => !before.includes(pid)),
    );
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    endNow(heir);
    const line = await running.says(ABANDONED, length + ++killed);
    expect(line.problem).toBe("it was ended by SIGKILL");
    await servesOn(running, to, held);
  }
  await running.upgrade();
  for (const peer of held) await endInOrder(peer);
  process.kill(running.pid, "SIGTERM");
  await running.untilAllGone();
}, 30_000);

test("a successor that is killed when a worker of it has clients already: these go on, and newcomers are the old one's", async () => {
  await using endpoint = await startEndpoint();
  const { port, to, config } = await setup(endpoint);
  await using running = await startSupervised(config());
  const held = [await talking(to)];
  const { heir, stopped } = await startUpgrade(running);
  const theirs = workersOf(heir);
  const [other] = theirs.filter((pid) => pid !== stopped) as [number];
  const theirsToo = await eventually(
    "a worker of the successor had a client",
    async () => {
      const peer = await talking(to);
      if (clientPortsHeldBy(other, port).length > 0) return peer;
      // Not kept: on a busy machine it takes hundreds until then.
      await endInOrder(peer);
      return null;
    },
    START_MS,
  );
  held.push(theirsToo);
  endNow(heir);
  endNow(stopped);
  await running.says(ABANDONED);
  await servesOn(running, to, held);
  // As one that has lost its supervisor does, the worker ends when its clients do.
  for (const peer of held) await endInOrder(peer);
  await eventually("the successor's workers had ended", () => !theirs.some(isAlive));
  expect((await running.status()).connections).toBe(0);
  await running.upgrade();
  await servesOn(running, to, []);
  process.kill(running.pid, "SIGTERM");
  await running.untilAllGone();
}, 30_000);

test("a successor whose predecessor is killed goes on alone, and those of the dead one finish", async () => {
  await using endpoint = await startEndpoint();
  const { to, config } = await setup(endpoint);
  await using running = await startSupervised(config());
  const held = await Promise.all(Array.from({ length: 10 }, () => talking(to)));
  const { heir, stopped } = await startUpgrade(running);
  process.kill(running.pid, "SIGKILL");
  await running.says("the supervisor is gone: this worker finishes what it has, and ends", 2);
  process.kill(stopped, "SIGCONT");
  running.supervisors.push(heir);
  await running.untilServing(2);
  await servesOn(running, to, held);
  for (const peer of held) await endInOrder(peer);
  process.kill(heir, "SIGTERM");
  await running.untilAllGone();
}, 30_000);

describe("meanwhile", () => {
  test("SIGTERM ends all of it in order, the successor too", async () => {
    await using endpoint = await startEndpoint();
    const { to, config } = await setup(endpoint);
    await using running = await startSupervised(config());
    const held = await talking(to);
    const { heir, stopped } = await startUpgrade(running);
    const theirs = workersOf(heir);
    process.kill(running.pid, "SIGTERM");
    await running.says("draining");
    await eventually("the successor was ended", () => !isAlive(heir));
    process.kill(stopped, "SIGCONT");
    await endInOrder(held);
    expect(await running.daemon.exitCode()).toBe(0);
    await running.untilAllGone();
    await eventually("so were its workers", () => !theirs.some(isAlive));
    expect(running.told(ABANDONED)).toEqual([]);
  }, 15_000);

  test("a reload is refused and told why, and a second SIGUSR2 changes nothing", async () => {
    await using endpoint = await startEndpoint();
    const { to, config } = await setup(endpoint);
    await using running = await startSupervised(config());
    const { heir, stopped } = await startUpgrade(running);
    const { exitCode, stderr } = await running.command("reload");
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining("an upgrade is under way")]);
    process.kill(running.pid, "SIGHUP");
    await running.says("an upgrade is under way, which reads the config anew", 2);
    process.kill(running.pid, "SIGUSR2");
    await running.says("no upgrade: the daemon is draining, or is being upgraded already");
    process.kill(stopped, "SIGCONT");
    expect(await running.upgraded(0)).toBe(heir);
    await servesOn(running, to, []);
    expect((await running.reload(config())).exitCode).toBe(0);
    process.kill(running.pid, "SIGTERM");
    await running.untilAllGone();
  }, 15_000);

  test("a reload that is under way is done first: the successor gets all of it", async () => {
    await using endpoint = await startEndpoint();
    const { to, config } = await setup(endpoint);
    await using running = await startSupervised(config());
    const also = `127.0.0.2:${await unusedPort("127.0.0.2")}`;
    running.write(config(`  - { name: also, address: "${also}", backend: echo }`));
    // It cannot be done as long as a worker does not answer.
    const { workers, pid } = running;
    const [slow] = workers as [number];
    process.kill(slow, "SIGSTOP");
    process.kill(pid, "SIGHUP");
    // It is under way as soon as the new queue is there.
    const early = await eventually("the queue was opened", () => connectTo(also).catch(() => null));
    process.kill(pid, "SIGUSR2");
    await running.says("upgrading: the program on the disk is started beside this one");
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(childrenOf(pid)).toEqual(workers);
    process.kill(slow, "SIGCONT");
    await running.says("config reloaded");
    await running.upgraded(0);
    expect(running.told("config reloaded")).toHaveLength(1);
    expect(running.told(ABANDONED)).toEqual([]);
    await servesOn(running, to, [early]);
    early.socket.end("early");
    await eventually("who waited was served", () => early.text === "early" && early.ended);
    await servesOn(running, also, []);
    process.kill(running.pid, "SIGTERM");
    await running.untilAllGone();
  }, 15_000);
});
