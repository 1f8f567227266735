// Whoever started the daemon knows it by the id of its first process: a shell, a container, a script. That process stays through upgrades, passes signals
// on, and ends as the daemon ends.

import { describe, expect, test } from "bun:test";
import net from "node:net";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { isAlive } from "../support/worker-processes.ts";

for (const workers of [0, 2]) {
  describe(`workers: ${workers}`, () => {
    test("three upgrades, a reload and a drain, all by the same process id", async () => {
      await using endpoint = await startEndpoint();
      await using daemon = await startDaemon(config(workers, endpoint.port));
      const port = await daemon.port("a");
      const pids = [daemon.pid];
      for (let count = 1; count <= 3; count++) {
        pids.push(await upgraded(daemon, count));
        expect(await echoes(port)).toBe(true);
      }
      expect(new Set(pids).size).toBe(4);
      // Those in between have gone; the first one stays.
      await eventually(
        () => `${pids} have gone but the first and the last`,
        () => pids.slice(1, -1).every((pid) => !isAlive(pid)),
      );
      expect([isAlive(daemon.pid), isAlive(pids.at(-1) as number)]).toEqual([true, true]);
      daemon.child.signal("SIGHUP");
      await said(daemon, "config reloaded: nothing has changed", 1);
      expect(await daemon.stop()).toBe(0);
      expect(isAlive(pids.at(-1) as number)).toBe(false);
      expect(await echoes(port)).toBe(false);
    });

    test("a drain that had to cut someone ends both with 1", async () => {
      await using endpoint = await startEndpoint();
      await using daemon = await startDaemon(`${config(workers, endpoint.port)}\ndrain_timeout: 1s`);
      await upgraded(daemon, 1);
      const client = net.connect(await daemon.port("a"), "127.0.0.1");
      client.on("error", () => {});
      const talking = setInterval(() => client.write("x"), 20);
      await eventually(
        () => "the client is served",
        () => client.bytesRead > 0,
      );
      expect(await daemon.stop()).toBe(1);
      clearInterval(talking);
      client.destroy();
    });
  });
}

test("when the daemon is killed, it ends with 1", async () => {
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(config(0, endpoint.port));
  const successor = await upgraded(daemon, 1);
  process.kill(successor, "SIGKILL");
  expect(await daemon.exitCode()).toBe(1);
});

test("Ctrl-C in a terminal, which reaches every process at once, is one signal and no two", async () => {
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(config(0, endpoint.port));
  const successor = await upgraded(daemon, 1);
  for (const pid of [daemon.pid, successor]) process.kill(pid, "SIGINT");
  expect(await daemon.exitCode()).toBe(0);
  expect(daemon.log.filter(({ msg }) => String(msg).startsWith("second signal"))).toEqual([]);
});

function config(workers: number, endpointPort: number): string {
  return `
workers: ${workers}
listeners: [{ name: a, address: "127.0.0.1:0", backend: b }]
backends: { b: { endpoints: ["127.0.0.1:${endpointPort}"] } }`;
}

/** Signals the first process, and gives the id of the one that serves then. */
async function upgraded(daemon: Daemon, times: number): Promise<number> {
  daemon.child.signal("SIGUSR2");
  const lines = await said(daemon, "upgraded: another process serves now, and this one finishes what it has", times);
  return Number(lines.at(-1)?.pid);
}

function said(daemon: Daemon, message: string, times: number): Promise<readonly Record<string, unknown>[]> {
  return eventually(
    () => `"${message}" was said ${times} times: ${daemon.child.story}`,
    () => {
      const lines = daemon.log.filter(({ msg }) => msg === message);
      return lines.length >= times ? lines : undefined;
    },
  );
}

async function startEndpoint(): Promise<{ readonly port: number } & AsyncDisposable> {
  const server = net.createServer((socket) => void socket.on("error", () => {}).pipe(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  return { port, [Symbol.asyncDispose]: async () => void server.close() };
}

function echoes(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const client = net.connect(port, "127.0.0.1", () => client.write("hello"));
    client.on("data", () => {
      client.destroy();
      resolve(true);
    });
    client.on("error", () => resolve(false));
  });
}
