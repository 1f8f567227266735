// Many small exchanges: keep-alive requests and one-request connections by wrk, and full mTLS handshakes by openssl s_time.
// nginx's own count of accepted connections tells whether "one connection per request" was true.
import { httpBackendStatus, SMALL_BODY, SMALL_PATH, TLS13_SUITE } from "../backends.ts";
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

const WRK_CONNECTIONS = 32;
const DURATION_SECONDS = 4;
const LIMIT_SECONDS = 60;
/** s_time waits for each answer and spends as much CPU as a proxy does, so it takes more than one to keep a proxy busy. */
const HANDSHAKE_CLIENTS = 3;

/** Requests over connections that stay open. */
export const keepAlive: Workload = {
  name: "keep-alive",
  about: `HTTP requests over ${WRK_CONNECTIONS} open connections: wrk, one thread, nginx, body of ${SMALL_BODY.length} bytes`,
  figures: unitFigures("request", 1.05),
  programs: ["wrk", "nginx"],
  direct: true,
  fresh: false,
  topology: "one",
  extraContenders: [],
  measure: async (subject, bench) => {
    const { figures } = await measureWrk(subject, bench, { listener: "http", headers: [] });
    return figures;
  },
};

/** One connection for every request. */
export const shortConnections: Workload = {
  name: "short",
  about: `a new connection for every request, ${WRK_CONNECTIONS} at a time: wrk with "Connection: close", nginx`,
  figures: unitFigures("connection", 1.1),
  programs: ["wrk", "nginx"],
  direct: true,
  fresh: false,
  topology: "one",
  extraContenders: ["bunnel+log"],
  measure: (subject, bench) => measureShort(subject, bench, "http"),
};

/** One connection for every request, each of which costs the proxy a handshake with the endpoint. */
export const originateHandshakes: Workload = {
  name: "originate-handshake",
  about:
    `the same through originated mTLS: a full handshake with nginx for each (P-256, TLS 1.3, ${TLS13_SUITE}, no resumption), ` +
    "with a client certificate",
  figures: unitFigures("connection"),
  programs: ["wrk", "nginx"],
  direct: false,
  fresh: false,
  topology: "originate",
  extraContenders: [],
  measure: (subject, bench) => measureShort(subject, bench, "originate"),
};

/** Full handshakes with a client certificate, each followed by one small request, so that it must have been accepted. */
export const handshakes: Workload = {
  name: "handshake",
  about:
    `full mTLS handshakes (P-256, TLS 1.3, no resumption), one small request on each: openssl s_time -new, ` +
    `${HANDSHAKE_CLIENTS} at a time`,
  figures: unitFigures("handshake", 0.85),
  programs: ["openssl", "nginx"],
  direct: false,
  fresh: false,
  topology: "one",
  extraContenders: [],
  measure: measureHandshakes,
};

function unitFigures(unit: string, ratio?: number): readonly Figure[] {
  const toReach = ratio === undefined ? {} : { toReach: { kind: "ratio", atMost: ratio } as const };
  return [
    { key: "cpu", label: `CPU µs per ${unit}`, digits: 1, compared: true, ...toReach },
    { key: "rate", label: `${unit}s per second`, digits: 0, compared: false },
    BUSY,
  ];
}

/** wrk with a connection for each request; fails unless nginx has counted as many. */
async function measureShort(subject: Subject, bench: Bench, listener: WrkOptions["listener"]): Promise<Figures> {
  const before = await httpBackendStatus(bench.ports);
  const { figures, requests } = await measureWrk(subject, bench, { listener, headers: ["Connection: close"] });
  const after = await httpBackendStatus(bench.ports);
  const accepted = after.accepted - before.accepted;
  if (accepted < requests) throw new LabError(`${requests} requests used only ${accepted} connections`);
  return figures;
}

interface WrkOptions {
  readonly listener: "http" | "originate";
  readonly headers: readonly string[];
}

async function measureWrk(subject: Subject, bench: Bench, { listener, headers }: WrkOptions) {
  const seconds = wholeSeconds(DURATION_SECONDS, bench.scale);
  const url = `http://127.0.0.1:${subject.port(listener)}${SMALL_PATH}`;
  const extra = headers.flatMap((header) => ["--header", header]);
  const command = ["wrk", "-t", "1", "-c", String(WRK_CONNECTIONS), "-d", `${seconds}s`, ...extra, url];
  const cost = await costOf(subject, () => bench.processes.run(command, LIMIT_SECONDS));
  const report = parseWrk(cost.result.stdout);
  if (report === undefined || report.failed > 0) throw new LabError("wrk saw failures", cost.result.stdout);
  return { figures: costFigures(cost, report.requests, 1e6), requests: report.requests };
}

async function measureHandshakes(subject: Subject, bench: Bench): Promise<Figures> {
  const { caFile, clientCertificateFile, clientKeyFile } = bench.certificates;
  const seconds = wholeSeconds(DURATION_SECONDS, bench.scale);
  const tls = ["-CAfile", caFile, "-verify", "2", "-cert", clientCertificateFile, "-key", clientKeyFile, "-tls1_3"];
  const load = ["-new", "-www", SMALL_PATH, "-time", String(seconds), "-ciphersuites", TLS13_SUITE];
  const command = ["openssl", "s_time", "-connect", `127.0.0.1:${subject.port("mtls")}`, ...tls, ...load];
  const clients = Array.from({ length: HANDSHAKE_CLIENTS });
  const cost = await costOf(subject, () =>
    Promise.all(clients.map(() => bench.processes.run(command, seconds + LIMIT_SECONDS))),
  );
  let connections = 0;
  for (const { stdout } of cost.result) {
    const report = parseSessionTime(stdout);
    // Every answer is the same size, so the mean is below the body's size as soon as some were cut.
    if (report === undefined || report.bytesPerConnection < SMALL_BODY.length) {
      throw new LabError("openssl s_time did not get its answers", stdout);
    }
    connections += report.connections;
  }
  return costFigures(cost, connections, 1e6);
}

/** What wrk reports: requests answered, and everything it calls an error or a status that is not 2xx or 3xx. */
export function parseWrk(text: string): { requests: number; failed: number } | undefined {
  const requests = /^\s*(\d+) requests in /m.exec(text)?.[1];
  if (requests === undefined) return undefined;
  const refused = Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0);
  const socketErrors = /Socket errors: (.*)/.exec(text)?.[1]?.match(/\d+/g) ?? [];
  return { requests: Number(requests), failed: socketErrors.reduce((sum, count) => sum + Number(count), refused) };
}

/** What openssl s_time reports in its last line. */
export function parseSessionTime(text: string): { connections: number; bytesPerConnection: number } | undefined {
  const match = /(\d+) connections in \d+ real seconds, (\d+) bytes read per connection/.exec(text);
  if (match === null) return undefined;
  return { connections: Number(match[1]), bytesPerConnection: Number(match[2]) };
}
