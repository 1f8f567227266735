// Databases through the proxy, driven by their own tools: redis-benchmark and pgbench.
import { chmodSync, chownSync, existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { withRedis, withServer } from "../backends.ts";
import { LabError } from "../processes.ts";
import {
  type Bench,
  BUSY,
  costFigures,
  costOf,
  type Figure,
  type Figures,
  type Subject,
  type Workload,
  wholeSeconds,
} from "./workload.ts";

const REDIS_REQUESTS = 200_000;
const REDIS_CLIENTS = 50;
const PG_CLIENTS = 8;
const PG_SECONDS = 4;
const LIMIT_SECONDS = 60;

/** Small commands over open connections, one at a time on each. */
export const redis: Workload = {
  name: "redis",
  about: `GET of 3 bytes over ${REDIS_CLIENTS} connections: redis-benchmark, ${REDIS_REQUESTS} requests`,
  meaning:
    "CPU time of the proxy for each command and its answer. redis-server is on the load's CPU, so the speed is mostly its own.",
  figures: figuresOf("request"),
  programs: ["redis-server", "redis-benchmark"],
  rare: true,
  listeners: ["redis"],
  measure: (subject, bench) =>
    withRedis(bench.ports.redis, bench.processes, async () => {
      const requests = Math.round(REDIS_REQUESTS * bench.scale);
      const load = ["-c", String(REDIS_CLIENTS), "-n", String(requests), "-t", "get", "-q", "--csv"];
      const command = ["redis-benchmark", "-h", "127.0.0.1", "-p", String(subject.port("redis")), ...load];
      const cost = await costOf(subject, () => bench.processes.run(command, LIMIT_SECONDS));
      if (!/"GET","[\d.]+"/.test(cost.result.stdout))
        throw new LabError("redis-benchmark gave no figure", cost.result.stdout);
      return costFigures(cost, requests, 1e6);
    }),
};

/** Selects over open connections. */
export const postgres: Workload = {
  name: "postgres",
  about: `SELECT by primary key over ${PG_CLIENTS} connections: pgbench -S -M prepared, scale 1`,
  meaning:
    "CPU time of the proxy for each transaction of one query. PostgreSQL is on the load's CPU, so the speed is its own.",
  figures: figuresOf("transaction"),
  programs: ["postgres", "pgbench"],
  rare: true,
  listeners: ["postgres"],
  measure: (subject, bench) => withPostgres(bench, () => pgbench(subject, bench)),
};

function figuresOf(unit: string): readonly Figure[] {
  return [
    { key: "cpu", label: `CPU µs per ${unit}`, digits: 1, compared: true },
    { key: "rate", label: `${unit}s per second`, digits: 0, compared: false, better: "more" },
    BUSY,
  ];
}

async function pgbench(subject: Subject, bench: Bench): Promise<Figures> {
  const seconds = wholeSeconds(PG_SECONDS, bench.scale);
  const load = ["-n", "-S", "-M", "prepared", "-c", String(PG_CLIENTS), "-T", String(seconds)];
  const command = ["pgbench", ...pgArgs(subject.port("postgres")), ...load, "postgres"];
  const cost = await costOf(subject, () => bench.processes.run(command, seconds + LIMIT_SECONDS));
  const done = parsePgbench(cost.result.stdout);
  if (done === undefined) throw new LabError("pgbench saw failures", cost.result.stdout);
  return costFigures(cost, done, 1e6);
}

/** Transactions that pgbench made; undefined when some failed. */
export function parsePgbench(text: string): number | undefined {
  const done = /transactions actually processed: (\d+)/.exec(text)?.[1];
  const failed = /failed transactions: (\d+)/.exec(text)?.[1] ?? "0";
  return done === undefined || failed !== "0" ? undefined : Number(done);
}

/** A cluster of its own, made once for each run of the lab; root may not run PostgreSQL, so nobody does. */
async function withPostgres<T>(bench: Bench, body: () => Promise<T>): Promise<T> {
  const root = process.getuid?.() === 0;
  const as = root ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] : [];
  const program = Bun.which("postgres") ?? "postgres";
  const data = join(bench.folder, "postgres");
  const server = [...as, program, "-D", data, "-h", "127.0.0.1", "-p", String(bench.ports.postgres), "-k", ""];
  const isNew = !existsSync(data);
  if (isNew) {
    mkdirSync(data, { mode: 0o700 });
    if (root) {
      chownSync(data, 65534, 65534);
      // To get there; the keys in it stay unreadable.
      chmodSync(bench.folder, 0o711);
    }
    const initdb = Bun.which("initdb") ?? join(dirname(program), "initdb");
    await bench.processes.run([...as, initdb, "-D", data, "-U", "bench", "-A", "trust", "-N", "--locale=C"], 60);
  }
  const options = { name: "postgres", command: server, place: "load", ready: "ready to accept connections" } as const;
  return withServer(options, bench.processes, async () => {
    if (isNew) await bench.processes.run(["pgbench", "-i", "-q", ...pgArgs(bench.ports.postgres), "postgres"], 60);
    return await body();
  });
}

function pgArgs(port: number): string[] {
  return ["-h", "127.0.0.1", "-p", String(port), "-U", "bench"];
}
