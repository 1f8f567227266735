// Reloads and upgrades of a real daemon while a steady load goes through it, for the scenario and, at full size, for test/soak/changes.ts. Everything about the
// config changes from one reload to the next but the two listeners that the load goes to.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestPki } from "./certificates.ts";
import { type Daemon, startDaemon } from "./daemon.ts";
import { eventually } from "./eventually.ts";
import { unusedPort } from "./servers.ts";
import type { Summary } from "./steady-load/report.ts";
import { SteadyLoad, startEchoes } from "./steady-load.ts";
import { UPGRADED } from "./supervised.ts";
import { endNow, workersOf } from "./worker-processes.ts";

const ENDPOINTS = 4;
const RELOADED = "config reloaded";
/** How long one change may take. */
const CHANGE_MS = 15_000;

/** Bounds of a run. */
export interface ChangesOptions {
  readonly pki: TestPki;
  readonly workers: number;
  readonly perSecond: number;
  readonly streams: number;
  /** The load goes on for so long, and all changes are spread over that. */
  readonly seconds: number;
  readonly reloads: number;
  readonly upgrades: number;
}

/** What came of it. */
export interface ChangesOutcome {
  readonly summary: Summary;
  readonly reloaded: number;
  readonly upgraded: number;
  /** Of the last supervisor, when the load had ended. */
  readonly workers: readonly number[];
  /** From the signal until it was done, ms. */
  readonly reloadMs: readonly number[];
  readonly upgradeMs: readonly number[];
}

interface Places {
  readonly opaque: number;
  readonly mutual: number;
  readonly extra: number;
}

/** The config before the first change (0) and after each. */
function configText(index: number, places: Places, endpoints: readonly string[], options: ChangesOptions): string {
  const { pki, workers } = options;
  const entries = endpoints
    .filter((_, place) => place !== index % (ENDPOINTS + 1))
    .map((address, place) => `{ address: "${address}", weight: ${1 + ((index + place) % 3)} }`);
  const isOdd = index % 2 === 1;
  const hasExtra = index % 4 >= 2;
  return `
workers: ${workers}
admin: { address: off }
drain_timeout: 10m
listeners:
  - name: opaque-${index}
    address: 127.0.0.1:${places.opaque}
    max_connections: ${isOdd ? 20_000 : 0}
    routes: [{ name: all, tls: none, policy: ${isOdd ? "local" : "any"}, backend: echo }]
  - name: mutual
    address: 127.0.0.1:${places.mutual}
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
      min_version: "${isOdd ? "1.3" : "1.2"}"
    routes: [{ name: clients, tls: terminate, policy: clients, backend: echo }]
${hasExtra ? `  - { name: extra, address: "127.0.0.1:${places.extra}", backend: echo }` : ""}
policies:
  local: { rules: [{ action: allow, source: [127.0.0.0/8] }] }
  clients: { rules: [{ action: allow, uri: ["spiffe://bunnel.test/${isOdd ? "client" : "**"}"] }] }
backends: { echo: { endpoints: [${entries.join(", ")}] } }
`;
}

/** Runs the load, does the changes one after another, evenly spread, and gives what came of it. */
export async function changeUnderLoad(options: ChangesOptions): Promise<ChangesOutcome> {
  const { pki, reloads, upgrades, seconds, perSecond, streams } = options;
  await using echoes = await startEchoes(ENDPOINTS);
  const places = { opaque: await unusedPort(), mutual: await unusedPort(), extra: await unusedPort() };
  const text = (index: number): string => configText(index, places, echoes.addresses, options);
  await using daemon = await startDaemon(text(0));
  const tls = { ca: pki.authority.certificatePem, certificate: pki.client.certificatePem, key: pki.client.keyPem };
  // One in four is mutual TLS, which costs more than all the rest.
  const opaque = { address: `127.0.0.1:${places.opaque}` };
  const targets = [opaque, opaque, opaque, { address: `127.0.0.1:${places.mutual}`, tls }];
  await using load = new SteadyLoad({ targets, perSecond, streams, seconds: 2 * seconds + 60, streamPatienceMs: 8000 });
  const supervisors = [daemon.pid];
  try {
    await load.ready();
    const startedAt = performance.now();
    const [reloadMs, upgradeMs]: [number[], number[]] = [[], []];
    const changes = planned(reloads, upgrades);
    for (const [index, change] of changes.entries()) {
      const due = (index + 1) / (changes.length + 1);
      await until(startedAt + due * seconds * 1000);
      const from = performance.now();
      if (change === "reload") await reload(daemon, supervisors, text(index + 1));
      else await upgrade(daemon, supervisors);
      (change === "reload" ? reloadMs : upgradeMs).push(Math.round(performance.now() - from));
    }
    await until(startedAt + seconds * 1000);
    const summary = await load.stop();
    const workers = workersOf(supervisors.at(-1) as number);
    return { summary, reloaded: reloadMs.length, upgraded: upgradeMs.length, workers, reloadMs, upgradeMs };
  } finally {
    await endAll(supervisors, daemon);
  }
}

/** Upgrades stand evenly between the reloads. */
function planned(reloads: number, upgrades: number): readonly ("reload" | "upgrade")[] {
  const all = reloads + upgrades;
  const isUpgrade = (index: number): boolean =>
    Math.floor(((index + 1) * upgrades) / all) > Math.floor((index * upgrades) / all);
  return Array.from({ length: all }, (_, index) => (isUpgrade(index) ? "upgrade" : "reload"));
}

/** Lets the rest of the load's time pass. */
async function until(time: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, time - performance.now())));
}

function told(daemon: Daemon, message: string): readonly Record<string, unknown>[] {
  return daemon.log.filter(({ msg }) => msg === message);
}

async function reload(daemon: Daemon, supervisors: readonly number[], text: string): Promise<void> {
  const before = told(daemon, RELOADED).length;
  writeFileSync(join(daemon.directory, "bunnel.yaml"), `access_log: { output: ./access.log }\n${text}`);
  process.kill(supervisors.at(-1) as number, "SIGHUP");
  await eventually(
    () => `it was reloaded: ${daemon.child.story}`,
    () => told(daemon, RELOADED).length > before,
    CHANGE_MS,
  );
}

async function upgrade(daemon: Daemon, supervisors: number[]): Promise<void> {
  const before = told(daemon, UPGRADED).length;
  process.kill(supervisors.at(-1) as number, "SIGUSR2");
  const line = await eventually(
    () => `it was upgraded: ${daemon.child.story}`,
    () => told(daemon, UPGRADED)[before],
    CHANGE_MS,
  );
  supervisors.push(Number(line.pid));
}

/** Successors are no children of ours: they are ended by the pids that they were announced with. */
async function endAll(supervisors: readonly number[], daemon: Daemon): Promise<void> {
  const workers = supervisors.flatMap((pid) => workersOf(pid));
  for (const pid of [...supervisors, ...workers]) endNow(pid);
  await daemon.child.exited;
}
