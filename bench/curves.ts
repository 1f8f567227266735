// How bunnel's costs grow: a new connection and the process, with ever more connections held, endpoints in a backend, and routes with
// a policy each. Only bunnel: what is asked is whether a line is flat.
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SMALL_BODY, SMALL_PATH } from "./backends.ts";
import { bunnel } from "./contenders/bunnel.ts";
import { missingProgram } from "./contenders/contender.ts";
import { nginxPreamble } from "./contenders/nginx.ts";
import { cpuSeconds, residentBytes } from "./measure.ts";
import { accepts, eventually, freePorts, LabError, type Processes, type RunningProcess, tail } from "./processes.ts";
import type { Curve, CurvePoint, Failure, Skipped } from "./results.ts";
import { parseWrk } from "./workloads/requests.ts";

const MEASUREMENTS = 3;
const SECONDS = 1;
const WRK_CONNECTIONS = 16;
const LIMIT_SECONDS = 30;
const OPEN_LIMIT_MS = 60_000;
const START_LIMIT_MS = 60_000;
const ANSWER_LIMIT_MS = 30_000;
const SETTLE_MS = 200;
/** Descriptors that are not for held connections. */
const OWN_DESCRIPTORS = 400;
const MAIN = join(import.meta.dir, "../src/main.ts");

/** What the curves are made with. */
export interface CurveOptions {
  readonly folder: string;
  readonly processes: Processes;
  readonly progress: (line: string) => void;
  /** Sizes above it are left out: a test is quick. Default: all. */
  readonly most?: number;
}

interface Scene extends CurveOptions {
  readonly endpointPort: number;
}

/** What measuring the curves gave. */
export interface CurveResults {
  readonly curves: readonly Curve[];
  readonly skipped: readonly Skipped[];
  readonly failures: readonly Failure[];
}

/** Measures all curves, in some two minutes. What fails is a failure with its log, and its curve ends before it. */
export async function measureCurves(options: CurveOptions): Promise<CurveResults> {
  const missing = ["wrk", "nginx"].map(missingProgram).find((why) => why !== undefined);
  if (missing !== undefined) return { curves: [], skipped: [{ what: "curves", why: missing }], failures: [] };
  const [endpointPort = 0] = await freePorts(1);
  const scene = { ...options, endpointPort };
  const backend = await startBackend(scene);
  const curves: Curve[] = [];
  const failures: Failure[] = [];
  for (const { sizes, measure, ...words } of [CONNECTIONS, ENDPOINTS, ROUTES]) {
    options.progress(`curve of ${words.name}: ${words.about}`);
    const points: CurvePoint[] = [];
    const asked = sizes().filter((size) => size <= (options.most ?? Number.POSITIVE_INFINITY));
    try {
      await measure(scene, asked, (point) => {
        points.push(point);
        options.progress(
          `  ${point.size}: ${point.cpu.map((value) => value.toFixed(1)).join(", ")} CPU µs per new connection, ${point.memory.toFixed(1)} MiB`,
        );
      });
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const logTail = error instanceof LabError ? error.logTail : "";
      failures.push({
        workload: `curve of ${words.name}`,
        contender: bunnel.name,
        round: points.length + 1,
        message,
        logTail,
      });
      options.progress(`  FAILED: ${message}\n${logTail}`);
    }
    curves.push({ ...words, points });
  }
  await backend.stop();
  return { curves, skipped: [], failures };
}

interface CurvePlan extends Omit<Curve, "points"> {
  readonly sizes: () => number[];
  readonly measure: (scene: Scene, sizes: readonly number[], tell: (point: CurvePoint) => void) => Promise<void>;
}

const LOAD = `each point is the median of ${MEASUREMENTS} loads of ${SECONDS} s by wrk, ${WRK_CONNECTIONS} connections at a time with one request on each`;

const CONNECTIONS: CurvePlan = {
  name: "connections",
  about: `one process that holds ever more idle connections, each after one request; ${LOAD}`,
  why:
    "Memory grows by what a connection weighs; a new one costs what it did with ten. A connection is two descriptors, so the last point is as far as the limit of this " +
    "machine's processes lets one go: the 20,000 connections of two workers need twice the limit.",
  sizes: () => {
    const limit = Number(spawnSync("sh", ["-c", "ulimit -n"], { encoding: "utf8" }).stdout) || 1024;
    const most = Math.floor((limit - OWN_DESCRIPTORS) / 2);
    return [...[10, 100, 1000, 5000, 10_000, 20_000].filter((size) => size < most), Math.min(20_000, most)];
  },
  measure: async (scene, sizes, tell) => {
    const [port = 0] = await freePorts(1);
    const daemon = await startDaemon(scene, port, backendOf([`127.0.0.1:${scene.endpointPort}`], port));
    const holder = scene.processes.start({
      name: "hold-idle",
      command: [process.execPath, join(import.meta.dir, "hold-idle.ts"), JSON.stringify({ port })],
      stdin: "pipe",
    });
    await load(scene, daemon, port);
    let open = 0;
    for (const size of sizes) {
      holder.writeLine(String(size - open));
      open = size;
      const isOpen = (): boolean => holder.output().includes(`open ${size}\n`);
      await eventually(`${size} connections are open`, isOpen, { owner: holder, limitMs: OPEN_LIMIT_MS });
      tell(await pointOf(scene, { daemon, port, size }));
    }
    await holder.stop();
    await daemon.stop();
  },
};

const ENDPOINTS: CurvePlan = {
  name: "endpoints",
  about: `one backend with ever more endpoints, least_connections, a fresh process for each size; ${LOAD}`,
  why:
    "A pick takes 1 to 2 ns for each of a few thousand endpoints, which does not show beside the system calls of a connection; at 10,000 it is some 20 µs. Memory grows " +
    "by what an endpoint is in the config and in the table of counts.",
  sizes: () => [1, 10, 100, 1000, 10_000],
  measure: (scene, sizes, tell) =>
    freshEach(scene, sizes, {
      tell,
      configOf: (size, port) => {
        const addressOf = (index: number): string => `127.${1 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;
        const endpoints = Array.from({ length: size }, (_, index) => `${addressOf(index + 1)}:${scene.endpointPort}`);
        return backendOf(endpoints, port);
      },
    }),
};

const ROUTES: CurvePlan = {
  name: "routes and policies",
  about: `one listener with ever more routes by the client's address, of which only the last matches; a fresh process for each size; ${LOAD}`,
  why:
    "Routes are filed under what they match by (`src/proxy/router.ts`), so a connection of the last of 10,000 finds it in less than a microsecond; asked in order they took " +
    "400 µs. A policy is asked only on its own route, and its rules are filed in the same way. Memory grows by what a route and a policy are.",
  sizes: () => [1, 10, 100, 1000, 10_000],
  measure: (scene, sizes, tell) =>
    freshEach(scene, sizes, { tell, configOf: (size, port) => routesOf(size, port, scene.endpointPort) }),
};

function backendOf(endpoints: readonly string[], port: number): string[] {
  return [
    `listeners: [{ name: in, address: "127.0.0.1:${port}", backend: web }]`,
    "backends:",
    "  web:",
    "    balance: least_connections",
    "    endpoints:",
    ...endpoints.map((address) => `      - ${address}`),
  ];
}

function routesOf(size: number, port: number, endpointPort: number): string[] {
  const indexes = Array.from({ length: size }, (_, index) => index);
  const sourceOf = (index: number): string =>
    index === size - 1 ? "127.0.0.0/8" : `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`;
  return [
    "listeners:",
    "  - name: in",
    `    address: "127.0.0.1:${port}"`,
    "    routes:",
    ...indexes.flatMap((index) => [
      `      - { name: r${index}, match: { source: [${sourceOf(index)}] }, tls: none, policy: p${index}, backend: web }`,
    ]),
    "policies:",
    ...indexes.map((index) => `  p${index}: { rules: [{ action: allow, source: [${sourceOf(index)}] }] }`),
    "backends:",
    "  web:",
    `    endpoints: [127.0.0.1:${endpointPort}]`,
  ];
}

interface FreshOptions {
  readonly configOf: (size: number, port: number) => readonly string[];
  readonly tell: (point: CurvePoint) => void;
}

async function freshEach(scene: Scene, sizes: readonly number[], { configOf, tell }: FreshOptions): Promise<void> {
  for (const size of sizes) {
    const [port = 0] = await freePorts(1);
    const daemon = await startDaemon(scene, port, configOf(size, port));
    await load(scene, daemon, port);
    tell(await pointOf(scene, { daemon, port, size }));
    await daemon.stop();
  }
}

interface PointOptions {
  readonly daemon: RunningProcess;
  readonly port: number;
  readonly size: number;
}

async function pointOf(scene: Scene, { daemon, port, size }: PointOptions): Promise<CurvePoint> {
  const memory = residentBytes([daemon.pid]) / 1024 ** 2;
  const cpu: number[] = [];
  for (let count = 0; count < MEASUREMENTS; count += 1) cpu.push(await load(scene, daemon, port));
  return { size, cpu, memory };
}

/** CPU µs of the daemon for each new connection. */
async function load({ processes }: Scene, daemon: RunningProcess, port: number): Promise<number> {
  const before = cpuSeconds([daemon.pid]);
  const url = `http://127.0.0.1:${port}${SMALL_PATH}`;
  const how = ["-t", "1", "-c", String(WRK_CONNECTIONS), "-d", `${SECONDS}s`, "--header", "Connection: close"];
  const { stdout } = await processes.run(["wrk", ...how, url], LIMIT_SECONDS);
  await Bun.sleep(SETTLE_MS);
  const report = parseWrk(stdout);
  if (report === undefined || report.failed > 0 || report.requests === 0)
    throw new LabError("wrk saw failures", `${stdout}\n${tail(daemon.output())}`);
  return ((cpuSeconds([daemon.pid]) - before) * 1e6) / report.requests;
}

async function startDaemon(scene: Scene, port: number, lines: readonly string[]): Promise<RunningProcess> {
  const file = join(scene.folder, `curve-${port}.yaml`);
  const head = ["workers: 0", "admin: { address: off }", "access_log: { output: off }"];
  writeFileSync(file, `${[...head, ...lines].join("\n")}\n`);
  const command = [process.execPath, MAIN, "run", "-c", file];
  const daemon = scene.processes.start({ name: "bunnel-curve", command, place: "contender" });
  const limits = { owner: daemon, limitMs: START_LIMIT_MS };
  await eventually("bunnel listens", () => accepts(port), limits);
  // With many routes it listens a while before it has time for the first connection.
  await eventually("bunnel serves", () => answers(port), limits);
  return daemon;
}

async function answers(port: number): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(ANSWER_LIMIT_MS);
    const response = await fetch(`http://127.0.0.1:${port}${SMALL_PATH}`, { keepalive: false, signal });
    return (await response.text()) === SMALL_BODY;
  } catch {
    return false;
  }
}

/** An nginx on every address of 127.0.0.0/8, for as many endpoints as one likes; it answers to these addresses only. */
async function startBackend({ folder, processes, endpointPort }: Scene): Promise<RunningProcess> {
  const own = join(folder, "curve-backend");
  mkdirSync(own, { recursive: true });
  const lines = [
    ...nginxPreamble(own),
    "events { worker_connections 24000; }",
    "http {",
    "  access_log off;",
    "  keepalive_timeout 1h;",
    "  client_header_timeout 1h;",
    `  client_body_temp_path ${join(own, "body")};`,
    "  server {",
    `    listen 0.0.0.0:${endpointPort} backlog=4096;`,
    "    allow 127.0.0.0/8;",
    "    deny all;",
    `    location = ${SMALL_PATH} { default_type text/plain; return 200 "${SMALL_BODY}"; }`,
    "  }",
    "}",
  ];
  const config = join(own, "nginx.conf");
  writeFileSync(config, `${lines.join("\n")}\n`);
  const backend = processes.start({ name: "curve-nginx", command: ["nginx", "-p", own, "-c", config] });
  await eventually("the endpoints listen", () => accepts(endpointPort), { owner: backend });
  return backend;
}
