// What an idle connection weighs: resident memory of a fresh process with 500 connections open, then with 2,000 more. The
// difference over 2,000 leaves out what the process weighs by itself and what its first connections make it load. Each
// connection has carried one request before it goes idle, as in life.
import { join } from "node:path";
import { httpBackendStatus } from "../backends.ts";
import { eventually, LabError } from "../processes.ts";
import type { Bench, Figure, Figures, Subject, Workload } from "./workload.ts";

const FIRST = 500;
const MORE = 2000;
const OPEN_LIMIT_MS = 60_000;
/** Memory is read when it has not moved by more than this for three looks in a row, or when it never comes to rest. */
const REST_BYTES = 64 * 1024;
const REST_LOOK_MS = 300;
const REST_LOOKS_MAX = 20;

/** Idle plain TCP connections. */
export const idlePlain: Workload = {
  ...idleWorkload("idle-tcp", `resident memory of an idle plain connection, each after one request (N = ${MORE})`, 5),
  measure: (subject, bench) => measureIdle(subject, bench, "http"),
};

/** Idle connections whose mTLS ends in the proxy. */
export const idleMutualTls: Workload = {
  ...idleWorkload("idle-mtls", `resident memory of an idle terminated mTLS connection, the same way (N = ${MORE})`, 16),
  measure: (subject, bench) => measureIdle(subject, bench, "mtls"),
};

function idleWorkload(name: string, about: string, kibibytes: number): Omit<Workload, "measure"> {
  const toReach = { kind: "value", atMost: kibibytes } as const;
  const figures: readonly Figure[] = [
    { key: "memory", label: "KiB per connection", digits: 1, compared: true, toReach },
    { key: "base", label: "MiB of the process before them", digits: 1, compared: false },
  ];
  return {
    name,
    about,
    figures,
    programs: ["nginx"],
    direct: false,
    fresh: true,
    topology: "one",
    extraContenders: [],
  };
}

async function measureIdle(subject: Subject, bench: Bench, listener: "http" | "mtls"): Promise<Figures> {
  const more = Math.max(FIRST, Math.round(MORE * bench.scale));
  const { caFile, clientCertificateFile, clientKeyFile } = bench.certificates;
  const tls = listener === "mtls" ? { ca: caFile, cert: clientCertificateFile, key: clientKeyFile } : undefined;
  const options = JSON.stringify({ port: subject.port(listener), tls });
  const command = [process.execPath, join(import.meta.dir, "../hold-idle.ts"), options];
  const holder = bench.processes.start({ name: "hold-idle", command, stdin: "pipe" });
  try {
    const open = async (count: number, total: number): Promise<number> => {
      holder.writeLine(String(count));
      const opened = (): boolean => holder.output().includes(`open ${total}\n`);
      await eventually(`${total} idle connections are open`, opened, { owner: holder, limitMs: OPEN_LIMIT_MS });
      const { active } = await httpBackendStatus(bench.ports);
      if (active < total) throw new LabError(`only ${active} of ${total} connections reached the backend`);
      return residentAtRest(subject);
    };
    const base = await residentAtRest(subject);
    const first = await open(FIRST, FIRST);
    const second = await open(more, FIRST + more);
    return { memory: (second - first) / more / 1024, base: base / 1024 ** 2 };
  } finally {
    await holder.stop();
  }
}

async function residentAtRest(subject: Subject): Promise<number> {
  const looks: number[] = [];
  for (let look = 0; look < REST_LOOKS_MAX; look += 1) {
    const now = subject.residentBytes();
    if (now === undefined) throw new LabError("there is no proxy to weigh");
    looks.push(now);
    const last = looks.slice(-3);
    if (last.length === 3 && Math.max(...last) - Math.min(...last) <= REST_BYTES) break;
    await Bun.sleep(REST_LOOK_MS);
  }
  return looks.at(-1) ?? 0;
}
