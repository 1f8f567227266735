// Bulk copying in both directions: opaque TCP by iperf3, over one stream or many, mTLS that the proxy ends or begins by curl against nginx, and two
// daemons in a row by iperf3. The amount of bytes is fixed, so that CPU per GiB does not depend on the speed reached.
import { LARGE_BYTES, LARGE_PATH, SINK_PATH, TLS13_SUITE, withIperfServer } from "../backends.ts";
import { TWO_HOP_SUITE } from "../hops.ts";
import { LabError, type Placement } from "../processes.ts";
import {
  type Bench,
  BUSY,
  costFigures,
  costOf,
  type Figure,
  type Figures,
  type Goal,
  type Subject,
  type Workload,
  wholeSeconds,
} from "./workload.ts";

const GIB = 1024 ** 3;
const TCP_GIB = 3;
/** Several streams run for a time: what is under way on each at its end is not received any more, whatever the amount. */
const MANY_SECONDS = 3;
const TLS_GIB = 1.5;
const LIMIT_SECONDS = 120;

type Direction = "up" | "down";
const WAYS = { up: "client to endpoint", down: "endpoint to client" } as const;

const PER_GIB = "CPU time of the proxy, all its threads and processes, for each GiB that the other end received.";
const WHY_DECRYPTING =
  "The profile has the reason: the kernel and the cipher cost every contender the same, and copying in the process costs bunnel several times what it costs Envoy. Three of " +
  "these copies are the runtime's: from its read buffer into the TLS library, out of it, and into the chunk that JavaScript gets. The fourth is that of the ciphertext, " +
  "whose framing is how a stream that was cut is told from one that ended (`src/runtime/node/tls-records.ts`). A native TLS listener of the runtime (`bun-minimal`) spares " +
  "that one, and cannot tell the two apart: neither its events nor their order differ, so it is not an option. Twice less than another program with the same cipher is out of reach of " +
  "anybody here: it is about what the cipher and the kernel take by themselves.";
const WHY_ENCRYPTING =
  "The floor of the runtime (`bun-minimal`) is in the same place, so it is not what bunnel adds: it is AES-256-GCM, and the kernel's TCP on both sides.";

/** Bulk TCP from client to endpoint ("up") and back ("down"). */
export const tcpUp = tcpWorkload("up", 1);
export const tcpDown = tcpWorkload("down", 1);

/** The same over several connections at once. */
export const tcpMany: readonly Workload[] = [8, 64].flatMap((streams) => [
  tcpWorkload("up", streams),
  tcpWorkload("down", streams),
]);

/** Bulk through mTLS that ends in the proxy. */
export const mtlsUp = terminateWorkload("up");
export const mtlsDown = terminateWorkload("down");

/** Bulk through mTLS that begins in the proxy. */
export const originateUp = originateWorkload("up");
export const originateDown = originateWorkload("down");

/** Bulk through two daemons, with mTLS between them. */
export const twoHopUp = twoHopWorkload("up");
export const twoHopDown = twoHopWorkload("down");

function tcpWorkload(direction: Direction, streams: number): Workload {
  const how = streams === 1 ? "one stream" : `${streams} streams at once`;
  const amount = streams === 1 ? `${TCP_GIB} GiB` : `${MANY_SECONDS} s`;
  return {
    name: `tcp-${direction}${streams === 1 ? "" : `-${streams}`}`,
    about: `bulk TCP, ${WAYS[direction]}: iperf3, ${how}, ${amount}`,
    meaning:
      `${PER_GIB} Nothing is decrypted, so it is the price of moving bytes between two sockets, and of the kernel's TCP on both. ` +
      "bunnel splices: bytes do not leave the kernel. `c-minimal` copies them through user space with a buffer of the same size.",
    figures: bulkFigures({
      cpu: [
        { to: "haproxy", limit: 0.5 },
        { to: "c-minimal", limit: 1.3 },
      ],
    }),
    programs: ["iperf3"],
    direct: true,
    listeners: ["iperf"],
    rare: streams > 1,
    extraContenders: ["haproxy+splice", "c-minimal"],
    measure: (subject, bench) => measureIperf(subject, bench, { listener: "iperf", gib: TCP_GIB, direction, streams }),
  };
}

function terminateWorkload(direction: Direction): Workload {
  return {
    name: `mtls-${direction}`,
    about: `bulk through terminated mTLS (TLS 1.3, ${TLS13_SUITE}): ${curlAbout(direction)}`,
    meaning: `${PER_GIB} ${direction === "up" ? "It decrypts" : "It encrypts"} them with the same suite, key type and record sizes as every other contender.`,
    why: direction === "up" ? WHY_DECRYPTING : WHY_ENCRYPTING,
    figures: bulkFigures({ cpu: [{ to: "best peer", limit: 0.5 }] }),
    programs: ["curl", "nginx"],
    listeners: ["mtls"],
    measure: (subject, bench) => measureCurl(subject, bench, { listener: "mtls", direction }),
  };
}

function originateWorkload(direction: Direction): Workload {
  return {
    name: `originate-${direction}`,
    about: `bulk through originated mTLS (plaintext in, TLS 1.3 out, ${TLS13_SUITE}): ${curlAbout(direction)}`,
    meaning: `${PER_GIB} The client speaks plaintext, and the proxy is the TLS client of nginx, to which it shows a certificate.`,
    ...(direction === "down" && { why: WHY_DECRYPTING }),
    figures: bulkFigures({}),
    programs: ["curl", "nginx"],
    listeners: ["originate"],
    rare: true,
    measure: (subject, bench) => measureCurl(subject, bench, { listener: "originate", direction }),
  };
}

function twoHopWorkload(direction: Direction): Workload {
  return {
    name: `two-hop-${direction}`,
    about: `plaintext through two daemons with mTLS between them (TLS 1.3, ${TWO_HOP_SUITE}), ${WAYS[direction]}: iperf3, one stream, ${TLS_GIB} GiB; CPU is that of both`,
    meaning:
      "As between two hosts with one CPU each: client and first daemon on one, second daemon and endpoint on the other. The slower " +
      "one sets the speed. It is no network: loopback loses nothing, has segments of 64 KiB, and the sender's CPU does the receiver's TCP work.",
    why: `One of the two daemons decrypts. ${WHY_DECRYPTING}`,
    figures: bulkFigures({ cpu: [{ to: "best peer", limit: 0.75 }], rate: [{ to: "best peer", limit: 1.2 }] }),
    programs: ["iperf3"],
    listeners: ["two-hop"],
    // As on two hosts: the client beside the first daemon, the endpoint beside the second.
    measure: (subject, bench) =>
      measureIperf(subject, bench, {
        listener: "two-hop",
        gib: TLS_GIB,
        direction,
        clientPlace: "contender",
        serverPlace: "far",
      }),
  };
}

function curlAbout(direction: Direction): string {
  return `curl, one connection, ${direction === "up" ? "upload to" : "download from"} nginx, ${TLS_GIB} GiB`;
}

interface BulkGoals {
  readonly cpu?: readonly Goal[];
  /** Present: the speed is compared too. */
  readonly rate?: readonly Goal[];
}

function bulkFigures({ cpu, rate }: BulkGoals): readonly Figure[] {
  const speed = { key: "rate", label: "GiB per second", digits: 2, better: "more" } as const;
  return [
    { key: "cpu", label: "CPU seconds per GiB", digits: 3, compared: true, ...(cpu && { goals: cpu }) },
    { ...speed, compared: rate !== undefined, ...(rate && { goals: rate }) },
    BUSY,
  ];
}

interface IperfOptions {
  readonly listener: "iperf" | "two-hop";
  readonly gib: number;
  readonly direction: Direction;
  /** Default: 1. */
  readonly streams?: number;
  readonly clientPlace?: keyof Placement;
  readonly serverPlace?: keyof Placement;
}

async function measureIperf(subject: Subject, bench: Bench, options: IperfOptions): Promise<Figures> {
  const { listener, gib, direction, streams = 1, clientPlace = "load", serverPlace = "load" } = options;
  return withIperfServer({ port: bench.ports.iperf, place: serverPlace }, bench.processes, async () => {
    const bytes = Math.round(gib * GIB * bench.scale);
    const to = ["-c", "127.0.0.1", "-p", String(subject.port(listener))];
    const seconds = String(wholeSeconds(MANY_SECONDS, bench.scale));
    const amount = streams === 1 ? ["-n", String(bytes)] : ["-P", String(streams), "-t", seconds];
    const command = ["iperf3", ...to, ...amount, "--json", ...(direction === "down" ? ["--reverse"] : [])];
    const cost = await costOf(subject, () => bench.processes.run(command, LIMIT_SECONDS, { place: clientPlace }));
    const report = parseIperf(cost.result.stdout);
    if (report === undefined || (streams === 1 && report.receivedBytes < bytes * 0.95))
      throw new LabError("iperf3 lost data", cost.result.stdout);
    return { ...costFigures(cost, report.receivedBytes / GIB), rate: report.bytesPerSecond / GIB };
  });
}

interface CurlOptions {
  readonly listener: "mtls" | "originate";
  readonly direction: Direction;
}

async function measureCurl(subject: Subject, bench: Bench, { listener, direction }: CurlOptions): Promise<Figures> {
  const transfers = Math.max(1, Math.round((TLS_GIB * GIB * bench.scale) / LARGE_BYTES));
  const { caFile, clientCertificateFile: cert, clientKeyFile: key } = bench.certificates;
  const mutual = ["--cacert", caFile, "--cert", cert, "--key", key, "--tls13-ciphers", TLS13_SUITE];
  const quiet = ["--silent", "--show-error", "--fail", "--http1.1", "--output", "/dev/null", "--header", "Expect:"];
  const upload = direction === "up" ? ["--upload-file", bench.largeFile] : [];
  const said = ["--write-out", "%{size_download} %{size_upload} %{num_connects}\n"];
  // curl repeats the URL for every number of the range, over one connection.
  const origin = `${listener === "mtls" ? "https" : "http"}://127.0.0.1:${subject.port(listener)}`;
  const url = `${origin}${direction === "up" ? SINK_PATH : LARGE_PATH}?[1-${transfers}]`;
  const command = ["curl", ...(listener === "mtls" ? mutual : []), ...quiet, ...upload, ...said, url];
  const cost = await costOf(subject, () => bench.processes.run(command, LIMIT_SECONDS));
  const moved = parseCurlSizes(cost.result.stdout);
  const bytes = direction === "up" ? moved.uploaded : moved.downloaded;
  if (bytes !== transfers * LARGE_BYTES || moved.connections !== 1) {
    throw new LabError(`curl moved ${bytes} bytes over ${moved.connections} connections`, cost.result.stdout);
  }
  return costFigures(cost, bytes / GIB);
}

/** The receiver's total of iperf3's JSON report; undefined when the test did not end well. */
export function parseIperf(json: string): { receivedBytes: number; bytesPerSecond: number } | undefined {
  const report: { end?: { sum_received?: { bytes?: number; bits_per_second?: number } } } = JSON.parse(json);
  const { bytes, bits_per_second: bits } = report.end?.sum_received ?? {};
  return bytes === undefined || bits === undefined ? undefined : { receivedBytes: bytes, bytesPerSecond: bits / 8 };
}

/** Sums curl's lines of "bytes downloaded, bytes uploaded, connections opened". */
export function parseCurlSizes(text: string): { downloaded: number; uploaded: number; connections: number } {
  const sum = { downloaded: 0, uploaded: 0, connections: 0 };
  for (const line of text.trim().split("\n")) {
    const [downloaded = 0, uploaded = 0, connections = 0] = line.split(" ").map(Number);
    sum.downloaded += downloaded;
    sum.uploaded += uploaded;
    sum.connections += connections;
  }
  return sum;
}
