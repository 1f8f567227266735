// What a scrape of /metrics costs, and for how long it holds up whoever relays: a daemon with 200 listeners, 1,000 endpoints and N connections over them is
// scraped again and again, and as often is not. This file is also the program of the daemon, with a timer in it that tells of the long turns of its loops
// (loop-turns.ts). A tenth of the connections say something each second, so that there are bytes to be counted.
//
//   bun bench/studies/scrape-stall.ts [connections] [scrapes] [workers]     default 10000 20 2
// With workers: 0 a daemon may have half as many connections as descriptors (ulimit -n).

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Socket } from "bun";
import type { Status } from "../../src/snapshot/status.ts";
import { nowMs, spread, type Turn, turnsOf, watchLoop } from "./loop-turns.ts";

const LISTENERS = 200;
const BACKENDS = 20;
const ENDPOINTS_EACH = 50;
const OPENING_AT_ONCE = 50;
const PAUSE_MS = 1000;
const START_LOOKS = 300;
const LOOK_MS = 100;

const role = process.argv[2];
const [connections = 10_000, scrapes = 20, workers = 2] = process.argv.slice(2).map(Number);
if (role === "run" || role === "worker") {
  watchLoop();
  await import("../../src/main.ts");
} else if (role === "echo") listen();
else {
  await measure();
  process.exit(0);
}

/** The endpoints, in a process of their own: one does not have descriptors enough for both ends. */
function listen(): void {
  const server = Bun.listen({
    hostname: "0.0.0.0",
    port: 0,
    socket: { data: (socket, bytes) => void socket.write(bytes), end: (socket) => void socket.end() },
  });
  console.log(server.port);
}

async function measure(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "bunnel-scrape-stall-"));
  const [file, admin] = [join(directory, "bunnel.yaml"), join(directory, "admin.sock")];
  const echo = spawn(process.execPath, [import.meta.path, "echo"], { stdio: ["ignore", "pipe", "inherit"] });
  const [port] = (await once(createInterface(echo.stdout), "line")) as [string];
  writeFileSync(file, configOf(admin, Number(port)));
  const daemon = spawn(process.execPath, [import.meta.path, "run", "-c", file], { stdio: ["ignore", "pipe", "pipe"] });
  try {
    const turns = turnsOf(daemon.stdout);
    const { listeners } = await statusOf(daemon, admin);
    await openAll(listeners.map(({ address }) => Number(address.split(":").at(-1))));
    await Bun.sleep(3 * PAUSE_MS);
    const { workers: running } = await statusOf(daemon, admin);
    const relaying = new Set(running.map(({ pid }) => pid));
    const rounds: { readonly isScrape: boolean; readonly fromMs: number; toMs: number; tookMs: number }[] = [];
    let bytes = 0;
    for (let count = 0; count < scrapes * 2; count++) {
      const round = { isScrape: count % 2 === 0, fromMs: nowMs(), toMs: 0, tookMs: 0 };
      if (round.isScrape) bytes = (await (await ask(admin, "/metrics")).text()).length;
      round.tookMs = nowMs() - round.fromMs;
      await Bun.sleep(PAUSE_MS);
      round.toMs = nowMs();
      // The first ones warm up.
      if (count >= 4) rounds.push(round);
    }
    const took = rounds.filter(({ isScrape }) => isScrape).map(({ tookMs }) => tookMs);
    console.log(
      `${connections} connections, ${LISTENERS} listeners, ${BACKENDS * ENDPOINTS_EACH} endpoints, workers: ${workers}; in ms, as p50 / p90 / most`,
    );
    console.log(`a scrape of ${bytes} bytes is answered in   ${spread(took)}   (${took.length} of them)`);
    for (const isScrape of [true, false]) {
      const longest = (value: (turn: Turn) => number, isOf: (pid: number) => boolean): string =>
        spread(
          rounds
            .filter((round) => round.isScrape === isScrape)
            .map(({ fromMs, toMs, tookMs }) => {
              // With a scrape only as long as that takes: what comes after it is as without.
              const endMs = isScrape ? fromMs + tookMs : toMs;
              const own = turns.filter(
                ({ pid, atMs, wallMs }) => isOf(pid) && atMs >= fromMs && atMs - wallMs <= endMs,
              );
              return Math.max(0, ...own.map(value));
            }),
        );
      console.log(`${isScrape ? "during a scrape" : "without one"}, the longest turn on a CPU`);
      console.log(
        `  of those that relay   ${longest(
          ({ cpuMs }) => cpuMs,
          (pid) => relaying.has(pid),
        )}`,
      );
      if (workers > 0)
        console.log(
          `  of the supervisor     ${longest(
            ({ cpuMs }) => cpuMs,
            (pid) => pid === daemon.pid,
          )}`,
        );
    }
  } finally {
    for (const child of [daemon, echo]) {
      child.kill("SIGTERM");
      const tooLong = setTimeout(() => child.kill("SIGKILL"), 5000);
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
      clearTimeout(tooLong);
    }
    rmSync(directory, { recursive: true, force: true });
  }
}

function configOf(admin: string, port: number): string {
  const listeners = Array.from(
    { length: LISTENERS },
    (_, index) => `  - { name: l${index}, address: "127.0.0.1:0", backend: b${index % BACKENDS} }\n`,
  );
  const backends = Array.from({ length: BACKENDS }, (_, backend) => {
    const addresses = Array.from({ length: ENDPOINTS_EACH }, (__, index) => `"127.1.${backend}.${index + 1}:${port}"`);
    return `  b${backend}: { endpoints: [${addresses.join(", ")}] }\n`;
  });
  return `workers: ${workers}\ndrain_timeout: 1s\nadmin: { address: "unix:${admin}" }\naccess_log: { output: off }
listeners:\n${listeners.join("")}backends:\n${backends.join("")}`;
}

/** The status of a daemon that serves. */
async function statusOf(daemon: ChildProcess, admin: string): Promise<Status> {
  for (let looks = 0; looks < START_LOOKS && daemon.exitCode === null; looks++) {
    const status = await ask(admin, "/api/v1/status")
      .then(async (answer) => (await answer.json()) as Status)
      .catch(() => null);
    if (status?.state === "serving") return status;
    await Bun.sleep(LOOK_MS);
  }
  throw new Error("the daemon does not start");
}

async function ask(admin: string, path: string): Promise<Response> {
  return await fetch(`http://bunnel${path}`, { unix: admin, keepalive: false });
}

/** Opens all, spread over the ports, and lets a tenth of them say something each second. */
async function openAll(ports: readonly number[]): Promise<void> {
  const sockets: Socket[] = [];
  let next = 0;
  const opener = async (): Promise<void> => {
    while (next < connections) {
      const answered = Promise.withResolvers<void>();
      const port = ports[next++ % ports.length] as number;
      const socket = await Bun.connect({
        hostname: "127.0.0.1",
        port,
        socket: {
          data: () => answered.resolve(),
          close: () => answered.reject(new Error("a connection was closed")),
        },
      });
      socket.write("hello");
      await answered.promise;
      sockets.push(socket);
    }
  };
  await Promise.all(Array.from({ length: OPENING_AT_ONCE }, opener));
  let turn = 0;
  // One after the other, and not all at once: that would be a long turn of its own.
  setInterval(() => void sockets[(turn++ * 10) % sockets.length]?.write("x"), 1000 / (sockets.length / 10));
}
