// Many small exchanges: keep-alive requests and one-request connections by wrk, and full mTLS handshakes by openssl s_time.
// nginx's own count of accepted connections tells whether "one connection per request" was true.
import { httpBackendStatus, SMALL_BODY, SMALL_PATH, TLS13_SUITE } from "../backends.ts";
import { SERVER_NAME } from "../certificates.ts";
import { LabError } from "../processes.ts";
import { parseCurlSizes } from "./bulk.ts";
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
const DURATION_SECONDS = 2;
const LIMIT_SECONDS = 60;
/** Of each client, of a passthrough workload. */
const CURL_CONNECTIONS = 1000;
/** s_time waits for each answer and spends as much CPU as a proxy does, so it takes more than one to keep a proxy busy. */
const HANDSHAKE_CLIENTS = 3;

const WHY_HANDSHAKE =
  "Envoy has the same TLS library as the runtime, and `bun-minimal` is where Envoy is: bunnel is ahead of all that have OpenSSL, and behind Envoy by what it does around the " +
  "handshake. By the profile some 60 % of that are in the program itself, which is where JavaScript runs as long as it is interpreted: at a few hundred handshakes a second much of it " +
  "still is, and it is fewer microseconds in a process that has seen more of them. The rest is compiled JavaScript, and the threads that compile it and collect garbage.";

/** Requests over connections that stay open. */
export const keepAlive: Workload = {
  name: "keep-alive",
  about: `HTTP requests over ${WRK_CONNECTIONS} open connections: wrk, one thread, nginx, body of ${SMALL_BODY.length} bytes`,
  meaning:
    "CPU time of the proxy for each request and answer, both below one segment, over connections that are open already: two chunks " +
    "relayed, and the wake-ups for them.",
  why:
    "Each chunk crosses from the event loop into JavaScript and back, some 8 ns of relay and the engine's own path for a socket's data; reading and " +
    "writing are one system call each, as they are for the peers.",
  figures: unitFigures("request", 0.95),
  programs: ["wrk", "nginx"],
  direct: true,
  listeners: ["http"],
  measure: async (subject, bench) => {
    const { figures } = await measureWrk(subject, bench, { listener: "http", headers: [] });
    return figures;
  },
};

/** One connection for every request. */
export const shortConnections: Workload = {
  name: "short",
  about: `a new connection for every request, ${WRK_CONNECTIONS} at a time: wrk with "Connection: close", nginx`,
  meaning:
    "CPU time of the proxy for a connection that is accepted, dialled on, carries one request and is closed on both sides. With the access log there " +
    "is a line for each.",
  why:
    "`strace -c` tells of eleven system calls more than `bun-minimal` makes: four `fcntl` with which the runtime adopts a dialled descriptor (the price of true " +
    "error codes and of a dial that can be cancelled), two `setsockopt` for a reset when the process is killed, `shutdown`, one more read and one more " +
    "`epoll_ctl` for a half-close that is passed on instead of being cut short, and two `getpeername`. They are cheap: most of the difference is the time of our " +
    "JavaScript between them. `bench/studies/README.md` has the calls beside HAProxy's, and what was tried.",
  figures: unitFigures("connection", 0.95),
  programs: ["wrk", "nginx"],
  direct: true,
  listeners: ["http"],
  extraContenders: ["bunnel+log"],
  measure: (subject, bench) => measureShort(subject, bench, "http"),
};

/** One connection for every request, each of which costs the proxy a handshake with the endpoint. */
export const originateHandshakes: Workload = {
  name: "originate-handshake",
  about:
    `the same through originated mTLS: a full handshake with nginx for each (P-256, TLS 1.3, ${TLS13_SUITE}, no resumption), ` +
    "with a client certificate",
  meaning:
    "CPU time of the proxy for a connection of which it makes a full mTLS handshake with the endpoint, as the client of it.",
  figures: unitFigures("connection"),
  programs: ["wrk", "nginx"],
  listeners: ["originate"],
  rare: true,
  measure: (subject, bench) => measureShort(subject, bench, "originate"),
};

/** Full handshakes with a client certificate, each followed by one small request, so that it must have been accepted. */
export const handshakes: Workload = {
  name: "handshake",
  about:
    `full mTLS handshakes (P-256, TLS 1.3, no resumption), one small request on each: openssl s_time -new, ` +
    `${HANDSHAKE_CLIENTS} at a time`,
  meaning:
    "CPU time of the proxy for a full TLS 1.3 handshake in which the client's certificate is verified, a dial to the endpoint and one small request. " +
    "Signing with P-256 and verifying the client's chain are most of it.",
  why: WHY_HANDSHAKE,
  figures: unitFigures("handshake", 0.7),
  programs: ["openssl", "nginx"],
  listeners: ["mtls"],
  measure: (subject, bench) => measureHandshakes(subject, bench, { listener: "mtls", resumed: false }),
};

/** The same when the client brings a session ticket. */
export const resumedHandshakes: Workload = {
  name: "handshake-resumed",
  about:
    `TLS 1.3 handshakes that resume a session of a client with a certificate, one small request on each: openssl s_time -reuse, ` +
    `${HANDSHAKE_CLIENTS} at a time; session tickets are on here only`,
  meaning:
    "CPU time of the proxy for a handshake without certificates, a dial and one small request. A contender that did not resume each of them fails here.",
  why: `As for full handshakes, and without a signature and a chain to verify what stands around them weighs more. ${WHY_HANDSHAKE}`,
  figures: unitFigures("handshake"),
  programs: ["openssl", "nginx"],
  listeners: ["mtls-tickets"],
  measure: (subject, bench) => measureHandshakes(subject, bench, { listener: "mtls-tickets", resumed: true }),
};

/** TLS that goes through untouched, chosen by its server name. */
export const passthrough: Workload = {
  name: "passthrough",
  about: `TLS connections that go through by their SNI, one small request on each: curl, ${HANDSHAKE_CLIENTS} at a time, nginx ends the TLS`,
  meaning:
    "CPU time of the proxy for a connection whose first message it reads for the server name, and then relays untouched: the handshake itself " +
    "is the endpoint's.",
  why:
    "At this rate the proxy sleeps between any two of a connection's dozen steps, and finds its caches cold at each: that costs every contender several times what a short connection does " +
    "under load, and one whose steps are JavaScript the most, as the profile has it in all its rows. As for short connections; and the ClientHello is collected and parsed in JavaScript, a turn of the event loop before the dial can begin. Each of these connections " +
    "carries some eight chunks, of the handshake in both directions.",
  figures: unitFigures("connection"),
  programs: ["curl", "nginx"],
  listeners: ["sni"],
  measure: measurePassthrough,
};

function unitFigures(unit: string, ratio?: number): readonly Figure[] {
  const goals = ratio === undefined ? {} : { goals: [{ to: "best peer", limit: ratio }] };
  return [
    { key: "cpu", label: `CPU µs per ${unit}`, digits: 1, compared: true, ...goals },
    { key: "rate", label: `${unit}s per second`, digits: 0, compared: false, better: "more" },
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
  /** Default: 32. */
  readonly connections?: number;
}

async function measureWrk(subject: Subject, bench: Bench, options: WrkOptions) {
  const cost = await costOf(subject, () => wrkOf(subject, bench, options));
  return { figures: costFigures(cost, cost.result.requests, 1e6), requests: cost.result.requests };
}

/** Runs one wrk to its end and gives how many requests were answered. Fails when one was not. */
export async function wrkOf(
  subject: Subject,
  bench: Bench,
  { listener, headers, connections = WRK_CONNECTIONS }: WrkOptions,
): Promise<{ readonly requests: number }> {
  const seconds = wholeSeconds(DURATION_SECONDS, bench.scale);
  const url = `http://127.0.0.1:${subject.port(listener)}${SMALL_PATH}`;
  const extra = headers.flatMap((header) => ["--header", header]);
  const command = ["wrk", "-t", "1", "-c", String(connections), "-d", `${seconds}s`, ...extra, url];
  const { stdout } = await bench.processes.run(command, LIMIT_SECONDS);
  const report = parseWrk(stdout);
  if (report === undefined || report.failed > 0) throw new LabError("wrk saw failures", stdout);
  return report;
}

interface HandshakeOptions {
  readonly listener: "mtls" | "mtls-tickets";
  readonly resumed: boolean;
}

async function measureHandshakes(
  subject: Subject,
  bench: Bench,
  { listener, resumed }: HandshakeOptions,
): Promise<Figures> {
  const { caFile, clientCertificateFile, clientKeyFile } = bench.certificates;
  const seconds = wholeSeconds(DURATION_SECONDS, bench.scale);
  const tls = ["-CAfile", caFile, "-verify", "2", "-cert", clientCertificateFile, "-key", clientKeyFile, "-tls1_3"];
  const how = [resumed ? "-reuse" : "-new", "-www", SMALL_PATH, "-time", String(seconds), "-ciphersuites", TLS13_SUITE];
  const command = ["openssl", "s_time", "-connect", `127.0.0.1:${subject.port(listener)}`, ...tls, ...how];
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
    if (resumed && report.full > 0) throw new LabError(`${report.full} handshakes were full ones`, stdout.slice(-500));
    connections += report.connections;
  }
  return costFigures(cost, connections, 1e6);
}

async function measurePassthrough(subject: Subject, bench: Bench): Promise<Figures> {
  const each = Math.round(CURL_CONNECTIONS * bench.scale);
  const { caFile, clientCertificateFile: cert, clientKeyFile: key } = bench.certificates;
  const port = subject.port("sni");
  const tls = ["--cacert", caFile, "--cert", cert, "--key", key, "--no-sessionid"];
  const quiet = ["--silent", "--show-error", "--fail", "--http1.1", "--header", "Connection: close"];
  const to = [
    "--resolve",
    `${SERVER_NAME}:${port}:127.0.0.1`,
    `https://${SERVER_NAME}:${port}${SMALL_PATH}?[1-${each}]`,
  ];
  const said = ["--output", "/dev/null", "--write-out", "%{size_download} 0 %{num_connects}\n"];
  const command = ["curl", ...tls, ...quiet, ...said, ...to];
  const clients = Array.from({ length: HANDSHAKE_CLIENTS });
  const cost = await costOf(subject, () => Promise.all(clients.map(() => bench.processes.run(command, LIMIT_SECONDS))));
  const sums = cost.result.map(({ stdout }) => parseCurlSizes(stdout));
  const connections = sums.reduce((sum, one) => sum + one.connections, 0);
  const bytes = sums.reduce((sum, one) => sum + one.downloaded, 0);
  if (connections !== each * HANDSHAKE_CLIENTS || bytes !== connections * SMALL_BODY.length) {
    throw new LabError(`curl had ${bytes} bytes over ${connections} connections`);
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

/** What openssl s_time reports: its last line, and a "*" for each full handshake after the first one of each run. */
export function parseSessionTime(
  text: string,
): { connections: number; bytesPerConnection: number; full: number } | undefined {
  const match = /(\d+) connections in \d+ real seconds, (\d+) bytes read per connection/.exec(text);
  if (match === null) return undefined;
  const full = (/^[rt*]+$/m.exec(text)?.[0].match(/[*t]/g) ?? []).length;
  return { connections: Number(match[1]), bytesPerConnection: Number(match[2]), full };
}
