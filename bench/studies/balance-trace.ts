// How evenly connections are spread: one trace of arrivals and durations, the same for every contender, over 100 endpoints of unequal weights and unequal
// speed. Each has its own count of each endpoint's connections, and each may choose by nothing else; what came of it is counted at the endpoints.
//
// The load of an endpoint is its open connections divided by its weight. A trace is told by its seed: arrivals by Poisson, durations by a bounded Pareto
// distribution (most are short, a few are 20 times as long), and each endpoint takes its own multiple of them, as a slower host would.
//
//   bun bench/studies/balance-trace.ts [seed] [arrivals per second] [seconds]     default 1 800 16; about half a minute for each contender

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mulberry32 } from "../../test/support/sim-schedule.ts";
import { missingProgram } from "../contenders/contender.ts";
import { NGINX_STREAM_MODULE, nginxPreamble } from "../contenders/nginx.ts";
import { eventually, freePorts, LabError, Processes, tail } from "../processes.ts";
import { renderTable } from "../tables.ts";

const MAIN = join(import.meta.dir, "../../src/main.ts");
const ENDPOINTS = 100;
const WEIGHTS = [1, 2, 3, 4] as const;
/** An endpoint takes between half of a connection's duration and twice as much. */
const SLOWEST = 2;
const SHORTEST_MS = 1000;
const LONGEST_MS = 20_000;
const PARETO_SHAPE = 1.5;
/** Nothing is measured before so much of the arrivals has come: the endpoints fill up. */
const WARM_UP = 0.4;
const SAMPLE_MS = 20;
const LISTEN_MS = 20_000;

interface Arrival {
  readonly atMs: number;
  readonly durationMs: number;
}

interface Endpoint {
  readonly address: string;
  readonly weight: number;
  /** Multiple of a connection's duration. */
  readonly slowness: number;
  open: number;
  /** Sum of the samples of `open`. */
  sum: number;
}

interface Contender {
  readonly name: string;
  readonly missing: () => string | undefined;
  /** Writes its configuration and gives its command line. */
  readonly prepare: (folder: string, port: number) => readonly string[];
}

/** Of one contender. */
interface Result {
  readonly served: number;
  readonly failed: number;
  /** Open at all endpoints together, on average. */
  readonly open: number;
  /** Max / mean of the endpoints' loads, each averaged over time. */
  readonly overTime: number;
  /** Max / mean of the loads of one moment: average and worst moment. */
  readonly atOnce: number;
  readonly worst: number;
}

const [seed = 1, perSecond = 800, seconds = 16] = process.argv.slice(2).map(Number);
const random = mulberry32(seed);
const trace = drawTrace();
const endpoints: Endpoint[] = [];
for (let index = 0; index < ENDPOINTS; index++) listen();

const CONTENDERS: readonly Contender[] = [
  { name: "bunnel, workers: 0", missing: () => undefined, prepare: (folder, port) => bunnel(folder, port, 0) },
  { name: "bunnel, workers: 2", missing: () => undefined, prepare: (folder, port) => bunnel(folder, port, 2) },
  { name: "haproxy leastconn", missing: () => missingProgram("haproxy"), prepare: haproxy },
  { name: "nginx least_conn", missing: () => missingProgram("nginx"), prepare: nginx },
];

const folder = mkdtempSync(join(tmpdir(), "bunnel-balance-"));
const processes = new Processes(folder);
try {
  const rows: string[][] = [];
  for (const [index, contender] of CONTENDERS.entries()) {
    const missing = contender.missing();
    if (missing !== undefined) {
      console.log(`${contender.name} is left out: ${missing}`);
      continue;
    }
    const own = join(folder, String(index));
    mkdirSync(own);
    const result = await measure(contender, own);
    const counts = [result.served, result.failed, Math.round(result.open)].map(String);
    rows.push([contender.name, ...counts, ...[result.overTime, result.atOnce, result.worst].map((n) => n.toFixed(3))]);
    console.log(rows.at(-1)?.join("  "));
  }
  const ratios = ["max/mean over time", "max/mean of a moment", "of the worst moment"];
  console.log(`\nseed ${seed}, ${perSecond} arrivals/s for ${seconds} s, ${ENDPOINTS} endpoints\n`);
  console.log(renderTable(["contender", "served", "failed", "open", ...ratios], rows));
} finally {
  await processes.close();
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);

function drawTrace(): readonly Arrival[] {
  const arrivals: Arrival[] = [];
  for (let atMs = 0; ; ) {
    atMs += (-Math.log(1 - random()) * 1000) / perSecond;
    if (atMs >= seconds * 1000) return arrivals;
    const bound = (SHORTEST_MS / LONGEST_MS) ** PARETO_SHAPE;
    const durationMs = SHORTEST_MS * (1 - random() * (1 - bound)) ** (-1 / PARETO_SHAPE);
    arrivals.push({ atMs, durationMs });
  }
}

/** One more endpoint: whoever connects says how long it would take, and is ended after the multiple of that. */
function listen(): void {
  const listener = Bun.listen<undefined>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open: () => void endpoint.open++,
      data(socket, bytes) {
        setTimeout(() => socket.end(), Number(bytes.toString()) * endpoint.slowness);
      },
      close: () => void endpoint.open--,
    },
  });
  const weight = WEIGHTS[endpoints.length % WEIGHTS.length] as number;
  const slowness = SLOWEST ** (2 * random() - 1);
  const endpoint: Endpoint = { address: `127.0.0.1:${listener.port}`, weight, slowness, open: 0, sum: 0 };
  endpoints.push(endpoint);
}

async function measure({ name, prepare }: Contender, own: string): Promise<Result> {
  const [port] = (await freePorts(1)) as [number];
  const program = processes.start({ name: name.replace(/\W+/g, "-"), command: prepare(own, port) });
  const client = new Clients(port);
  try {
    // No connection may come before the trace, so the socket is looked for and not dialled. Workers are behind a socket that is there before them.
    await eventually(`${name} listens`, () => isListening(port), { owner: program, limitMs: LISTEN_MS });
    if (name.startsWith("bunnel"))
      await eventually(`${name} listens`, () => program.output().includes('"msg":"listening"'), { owner: program });
    for (const endpoint of endpoints) endpoint.sum = 0;
    const result = await replay(client);
    await eventually("everybody is served", () => client.isDone, { limitMs: 3 * LONGEST_MS });
    if (program.exitCode() !== null) throw new LabError(`${name} ended`, tail(program.output()));
    return { served: client.served, failed: client.failed, ...result };
  } finally {
    await program.stop();
  }
}

/** Lets the arrivals come at their times, and looks at the endpoints. */
function replay(clients: Clients): Promise<Omit<Result, "served" | "failed">> {
  const startedMs = performance.now();
  let next = 0;
  let samples = 0;
  let atOnce = 0;
  let worst = 0;
  let nextSampleMs = seconds * 1000 * WARM_UP;
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      const nowMs = performance.now() - startedMs;
      for (let arrival = trace[next]; arrival !== undefined && arrival.atMs <= nowMs; arrival = trace[next]) {
        clients.come(arrival);
        next++;
      }
      if (nowMs >= nextSampleMs && nowMs < seconds * 1000) {
        nextSampleMs += SAMPLE_MS;
        samples++;
        for (const endpoint of endpoints) endpoint.sum += endpoint.open;
        const now = maxToMean(endpoints.map(({ open, weight }) => open / weight));
        atOnce += now;
        worst = Math.max(worst, now);
      }
      if (next < trace.length || nowMs < seconds * 1000) return;
      clearInterval(timer);
      const open = endpoints.reduce((sum, endpoint) => sum + endpoint.sum, 0) / samples;
      const overTime = maxToMean(endpoints.map(({ sum, weight }) => sum / weight));
      resolve({ open, overTime, atOnce: atOnce / samples, worst });
    }, 1);
  });
}

function maxToMean(loads: readonly number[]): number {
  return (Math.max(...loads) * loads.length) / loads.reduce((sum, load) => sum + load, 0);
}

function isListening(port: number): Promise<boolean> {
  // /proc/net/tcp: local address and port in hexadecimal, 0A = LISTEN.
  const entry = new RegExp(`:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A`);
  return Bun.file("/proc/net/tcp")
    .text()
    .then((text) => entry.test(text));
}

/** The clients of one replay. */
class Clients {
  readonly #port: number;
  #open = 0;
  served = 0;
  failed = 0;

  constructor(port: number) {
    this.#port = port;
  }

  get isDone(): boolean {
    return this.#open === 0;
  }

  /** A client connects, says how long it wants to be served, and waits for the end. */
  come({ durationMs }: Arrival): void {
    this.#open++;
    let error: unknown = null;
    const gone = (): void => {
      this.#open--;
      if (error === null) this.served++;
      else this.failed++;
    };
    const socket = {
      open: (opened: Bun.Socket) => void opened.write(durationMs.toFixed(0)),
      data() {},
      close(_: Bun.Socket, reason?: Error) {
        error = reason ?? null;
        gone();
      },
      connectError(_: Bun.Socket, reason: Error) {
        error = reason;
        gone();
      },
    };
    void Bun.connect({ hostname: "127.0.0.1", port: this.#port, socket }).catch(() => {});
  }
}

function bunnel(own: string, port: number, workers: number): readonly string[] {
  const config = join(own, "bunnel.yaml");
  const entries = endpoints.map(({ address, weight }) => `      - { address: "${address}", weight: ${weight} }`);
  writeFileSync(
    config,
    `workers: ${workers}
admin: { address: off }
access_log: { output: off }
listeners: [{ name: in, address: "127.0.0.1:${port}", backend: all }]
backends:
  all:
    balance: least_connections
    endpoints:
${entries.join("\n")}
`,
  );
  return [process.execPath, MAIN, "run", "-c", config];
}

function haproxy(own: string, port: number): readonly string[] {
  const config = join(own, "haproxy.cfg");
  const servers = endpoints.map(({ address, weight }, index) => `  server e${index} ${address} weight ${weight}`);
  writeFileSync(
    config,
    `global
  nbthread 1
  maxconn 8000
defaults
  mode tcp
  balance leastconn
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen in
  bind 127.0.0.1:${port}
${servers.join("\n")}
`,
  );
  return ["haproxy", "-db", "-f", config];
}

function nginx(own: string, port: number): readonly string[] {
  const config = join(own, "nginx.conf");
  const servers = endpoints.map(({ address, weight }) => `    server ${address} weight=${weight};`);
  writeFileSync(
    config,
    `load_module ${NGINX_STREAM_MODULE};
${nginxPreamble(own).join("\n")}
worker_rlimit_nofile 20000;
events { worker_connections 16000; }
stream {
  access_log off;
  proxy_timeout 1h;
  upstream all {
    least_conn;
${servers.join("\n")}
  }
  server { listen 127.0.0.1:${port}; proxy_pass all; }
}
`,
  );
  return ["nginx", "-p", own, "-c", config];
}
