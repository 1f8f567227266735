// How long a reload holds the event loop of whoever relays, and what clients see of it: a daemon with N endpoints is reloaded again and again, with
// another weight of each of them, while a client plays ping-pong through it and new ones come. Rounds with reloads and rounds without take turns.
//
// Time in which a thread waits for a CPU says something about the machine and not about the reload, so it is told apart, by the kernel's account of
// each thread (/proc/PID/task/TID/schedstat). A loop is watched from within: this file is also the program of the daemon, with a timer of 1 ms in it. The
// supervisor has a CPU of its own; the worker and the client share the other one, for while one of them works the other waits for it.
//
//   bun bench/studies/reload-stall.ts [endpoints] [rounds] [balance] [workers: 1 or 0]     default 10000 10 least_connections 1

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Status } from "../../src/snapshot/status.ts";
import { nowMs, type Span, spread, TICK_MS, type Turn, turnsOf, waitedMs, watchLoop } from "./loop-turns.ts";

/** Reloads in a round. */
const RELOADS = 5;
/** After each, so that garbage is collected and old parts are gone before the next one. */
const PAUSE_MS = 400;
const NEWCOMER_MS = 20;
const BOUNDS_MS = [2, 5, 10, 20];
const START_LOOKS = 300;
const LOOK_MS = 100;

interface Seen {
  readonly roundTrips: readonly Span[];
  readonly turns: readonly Turn[];
}

/** A reload, or as long a time without one. */
interface Trial {
  readonly isReload: boolean;
  readonly fromMs: number;
  readonly toMs: number;
  readonly tookMs: number;
}

const [endpoints = 10_000, rounds = 10] = process.argv.slice(2, 4).map(Number);
const [balance = "least_connections", workers = "1"] = process.argv.slice(4);

if (process.argv[2] === "run" || process.argv[2] === "worker") {
  watchLoop();
  await import("../../src/main.ts");
} else {
  await measure();
  process.exit(0);
}

async function measure(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "bunnel-reload-stall-"));
  // All of 127.0.0.0/8 is here.
  const echo = Bun.listen({
    hostname: "0.0.0.0",
    port: 0,
    socket: { data: (socket, bytes) => void socket.write(bytes), end: (socket) => void socket.end() },
  });
  const file = join(directory, "bunnel.yaml");
  const admin = join(directory, "admin.sock");
  const write = (weight: number): void => writeFileSync(file, configOf(admin, echo.port, weight));
  write(1);
  const daemon = spawn(process.execPath, [import.meta.path, "run", "-c", file], { stdio: ["ignore", "pipe", "pipe"] });
  try {
    const turns = turnsOf(daemon.stdout);
    const { pid, port } = await startOf(daemon, admin);
    // Of the worker only the thread of its loop: those that help it go where there is room.
    if (pid !== daemon.pid) spawnSync("taskset", ["-acp", "1", String(daemon.pid)]);
    for (const each of [pid, process.pid]) spawnSync("taskset", ["-cp", "0", String(each)]);
    const roundTrips: Span[] = [];
    const stop = await pingPong(port, pid, roundTrips);
    const newcomers = setInterval(() => void visit(port), NEWCOMER_MS);
    const reload = async (): Promise<void> => {
      const answer = await ask(admin, "/api/v1/reload", "POST");
      if (!answer.ok) throw new Error(`the reload was refused: ${await answer.text()}`);
    };
    const trials: Trial[] = [];
    let weight = 1;
    // The first round warms up.
    for (let round = -1; round < rounds; round++) {
      for (let count = 0; count < RELOADS * 2; count++) {
        const isReload = count >= RELOADS;
        weight = isReload ? 3 - weight : weight;
        if (isReload) write(weight);
        const fromMs = nowMs();
        if (isReload) await reload();
        const tookMs = nowMs() - fromMs;
        await Bun.sleep(PAUSE_MS);
        if (round >= 0) trials.push({ isReload, fromMs, toMs: nowMs(), tookMs });
      }
    }
    clearInterval(newcomers);
    stop();
    report(trials, { roundTrips, turns: turns.filter((turn) => turn.pid === pid) });
  } finally {
    daemon.kill("SIGTERM");
    const tooLong = setTimeout(() => daemon.kill("SIGKILL"), 5000);
    if (daemon.exitCode === null && daemon.signalCode === null) await once(daemon, "exit");
    clearTimeout(tooLong);
    rmSync(directory, { recursive: true, force: true });
  }
}

function configOf(admin: string, port: number, weight: number): string {
  const lines = Array.from({ length: endpoints }, (_, index) => {
    const address = `127.${1 + (index >> 8)}.${index & 255}.1:${port}`;
    return `      - { address: "${address}", weight: ${weight} }\n`;
  });
  return `workers: ${workers}\ndrain_timeout: 1s\nadmin: { address: "unix:${admin}" }\naccess_log: { output: off }
listeners: [{ name: in, address: "127.0.0.1:0", backend: all }]
backends:\n  all:\n    balance: ${balance}\n    endpoints:\n${lines.join("")}`;
}

/** Who relays, and where. */
async function startOf(daemon: ChildProcess, admin: string): Promise<{ readonly pid: number; readonly port: number }> {
  let log = "";
  daemon.stderr?.on("data", (bytes: Buffer) => {
    log += bytes.toString().slice(0, 1000);
  });
  for (let looks = 0; looks < START_LOOKS && daemon.exitCode === null; looks++) {
    const status = await ask(admin, "/api/v1/status", "GET")
      .then(async (answer) => (await answer.json()) as Status)
      .catch(() => null);
    const port = Number(status?.listeners[0]?.address.split(":").at(-1));
    if (status?.state === "serving") return { pid: status.workers[0]?.pid ?? 0, port };
    await Bun.sleep(LOOK_MS);
  }
  throw new Error(`the daemon does not start: ${log}`);
}

async function ask(admin: string, path: string, method: string): Promise<Response> {
  return await fetch(`http://bunnel${path}`, { unix: admin, method, keepalive: false });
}

/** Round trips of 64 bytes, one after the other, until what this resolves with is called. */
async function pingPong(port: number, pid: number, roundTrips: Span[]): Promise<() => void> {
  const message = new Uint8Array(64);
  const waited = (): number => waitedMs(pid) + waitedMs(process.pid);
  let sentMs = 0;
  let waitedBefore = 0;
  let isOver = false;
  const ping = (): void => {
    waitedBefore = waited();
    sentMs = nowMs();
    socket.write(message);
  };
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data() {
        const atMs = nowMs();
        roundTrips.push({ atMs, wallMs: atMs - sentMs, waitMs: waited() - waitedBefore });
        setTimeout(ping, TICK_MS);
      },
      close() {
        if (!isOver) throw new Error("a reload has cut a connection");
      },
    },
  });
  ping();
  return () => {
    isOver = true;
    socket.end();
  };
}

/** A connection of its own: the first one after a reload is given an endpoint by what is new. */
async function visit(port: number): Promise<void> {
  await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: { open: (socket) => void socket.write("x"), data: (socket) => void socket.end() },
  });
}

function report(trials: readonly Trial[], { roundTrips, turns }: Seen): void {
  const took = trials.filter(({ isReload }) => isReload).map(({ tookMs }) => tookMs);
  console.log(`${endpoints} endpoints, ${balance}, workers: ${workers}; all in ms, as p50 / p90 / most`);
  console.log(`a reload is answered in   ${spread(took)}   (${took.length} of them)`);
  for (const isReload of [false, true]) {
    const own = trials.filter((trial) => trial.isReload === isReload);
    const within = <T extends Span>(all: readonly T[]): readonly (readonly T[])[] =>
      own.map(({ fromMs, toMs }) => all.filter(({ atMs, wallMs }) => atMs >= fromMs && atMs - wallMs <= toMs));
    const most = <T extends Span>(all: readonly T[], value: (each: T) => number): string =>
      spread(within(all).map((some) => Math.max(0, ...some.map(value))));
    const gaps = within(roundTrips).flat();
    const over = BOUNDS_MS.map((ms) => `${gaps.filter(({ wallMs }) => wallMs >= ms).length} of ${ms}`).join(", ");
    console.log(`\n${isReload ? "with a reload" : "without one"}: ${own.length} times`);
    console.log(`longest round trip        ${most(roundTrips, ({ wallMs }) => wallMs)}`);
    console.log(`  less waits for a CPU    ${most(roundTrips, ({ wallMs, waitMs }) => wallMs - waitMs)}`);
    console.log(`longest turn, on a CPU    ${most(turns, ({ cpuMs }) => cpuMs)}`);
    console.log(`longest wait for a CPU    ${most(turns, ({ waitMs }) => waitMs)}`);
    console.log(`of ${gaps.length} round trips   ${over} ms or more`);
  }
}
