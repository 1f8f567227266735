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

/** What a process that may open 20,000 descriptors can hold: two for each connection, and a few hundred of its own. */
const MANY = 9800;

/** Idle plain TCP connections. */
export const idlePlain = idleWorkload("http", MORE);
/** Idle connections whose mTLS ends in the proxy. */
export const idleMutualTls = idleWorkload("mtls", MORE);
/** As many as the usual limit of 20,000 descriptors lets a proxy have. */
export const idleMany = idleWorkload("http", MANY - FIRST);

function idleWorkload(listener: "http" | "mtls", more: number): Workload {
  const isTls = listener === "mtls";
  const kind = isTls ? "terminated mTLS" : "plain";
  const figures: readonly Figure[] = [
    {
      key: "memory",
      label: "KiB per connection",
      digits: 1,
      compared: true,
      goals: [{ to: "best peer", limit: isTls ? 0.6 : 1 }],
    },
    { key: "base", label: "MiB of the process before them", digits: 1, compared: false },
  ];
  return {
    name: `idle-${isTls ? "mtls" : "tcp"}${more === MORE ? "" : "-many"}`,
    about: `resident memory of an idle ${kind} connection, each after one request (${FIRST + more} of them)`,
    meaning:
      `The growth of resident memory over the last ${more} connections, in a fresh process, each after it has carried one request. The kernel's ` +
      "socket buffers are not in it. nginx allocates its connection table at start, so that part of its memory is in its base.",
    why:
      "The memory of the process before any connection is that of the JavaScript engine. Of a plain connection it is two sockets of the runtime, " +
      "the connection and its two legs as objects, and its place in the timer wheel and in the tables that commands look into.",
    figures,
    programs: ["nginx"],
    fresh: true,
    listeners: [listener],
    ...(isTls ? {} : { without: { socat: "it makes a process for each of thousands of connections" } }),
    ...(more === MORE ? {} : { rare: true, connections: MANY }),
    measure: (subject, bench) => measureIdle(subject, bench, { listener, more }),
  };
}

interface IdleOptions {
  readonly listener: "http" | "mtls";
  /** Connections after the first ones. */
  readonly more: number;
}

async function measureIdle(subject: Subject, bench: Bench, { listener, more: most }: IdleOptions): Promise<Figures> {
  const more = Math.max(FIRST, Math.round(most * bench.scale));
  return withHolder(subject, bench, listener, async (open) => {
    const base = await residentAtRest(subject);
    await open(FIRST);
    const first = await residentAtRest(subject);
    await open(more);
    const second = await residentAtRest(subject);
    return { memory: (second - first) / more / 1024, base: base / 1024 ** 2 };
  });
}

/** Runs `body` with a client that opens so many more idle connections whenever it is told to, and holds them until `body` ends. */
export async function withHolder<T>(
  subject: Subject,
  bench: Bench,
  listener: "http" | "mtls",
  body: (open: (count: number) => Promise<void>) => Promise<T>,
): Promise<T> {
  const { caFile, clientCertificateFile, clientKeyFile } = bench.certificates;
  const tls = listener === "mtls" ? { ca: caFile, cert: clientCertificateFile, key: clientKeyFile } : undefined;
  const options = JSON.stringify({ port: subject.port(listener), tls });
  const command = [process.execPath, join(import.meta.dir, "../hold-idle.ts"), options];
  const holder = bench.processes.start({ name: "hold-idle", command, stdin: "pipe" });
  let total = 0;
  try {
    return await body(async (count) => {
      total += count;
      holder.writeLine(String(count));
      const opened = (): boolean => holder.output().includes(`open ${total}\n`);
      await eventually(`${total} idle connections are open`, opened, { owner: holder, limitMs: OPEN_LIMIT_MS });
      const { active } = await httpBackendStatus(bench.ports);
      if (active < total) throw new LabError(`only ${active} of ${total} connections reached the backend`);
    });
  } finally {
    await holder.stop();
  }
}

/** Resident bytes of the subject once they have come to rest. */
export async function residentAtRest(subject: Subject): Promise<number> {
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
