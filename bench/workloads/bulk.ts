// Bulk copying in both directions: opaque TCP by iperf3, and terminated mTLS by curl, which downloads from and uploads to
// nginx with a client certificate. The amount of bytes is fixed, so that CPU per GiB does not depend on the speed reached.
import { LARGE_BYTES, LARGE_PATH, SINK_PATH, withIperfServer } from "../backends.ts";
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
} from "./workload.ts";

const GIB = 1024 ** 3;
const TCP_GIB = 6;
const TLS_GIB = 2;
const LIMIT_SECONDS = 120;

/** One suite for all: an OpenSSL client's own first choice, which BoringSSL alone would replace by a cheaper one. */
export const TLS13_SUITE = "TLS_AES_256_GCM_SHA384";

/** Bulk TCP from client to endpoint ("up") and back ("down"). */
export const tcpUp: Workload = {
  ...tcpWorkload("tcp-up", "client to endpoint"),
  measure: (s, b) => measureTcp(s, b, []),
};
export const tcpDown: Workload = {
  ...tcpWorkload("tcp-down", "endpoint to client"),
  measure: (subject, bench) => measureTcp(subject, bench, ["--reverse"]),
};

/** Bulk through terminated mTLS from client to endpoint ("up") and back ("down"). */
export const mtlsUp: Workload = { ...tlsWorkload("mtls-up", "upload to"), measure: (s, b) => measureTls(s, b, "up") };
export const mtlsDown: Workload = {
  ...tlsWorkload("mtls-down", "download from"),
  measure: (subject, bench) => measureTls(subject, bench, "down"),
};

function tcpWorkload(name: string, direction: string): Omit<Workload, "measure"> {
  return {
    name,
    about: `bulk TCP, ${direction}: iperf3, one stream, ${TCP_GIB} GiB`,
    figures: bulkFigures(0.6),
    programs: ["iperf3"],
    direct: true,
    fresh: false,
    extraContenders: ["haproxy+splice"],
  };
}

function tlsWorkload(name: string, verb: string): Omit<Workload, "measure"> {
  return {
    name,
    about: `bulk through terminated mTLS (TLS 1.3, ${TLS13_SUITE}): curl, one connection, ${verb} nginx, ${TLS_GIB} GiB`,
    figures: bulkFigures(0.65),
    programs: ["curl", "nginx"],
    direct: false,
    fresh: false,
    extraContenders: [],
  };
}

function bulkFigures(ratio: number): readonly Figure[] {
  const toReach = { kind: "ratio", atMost: ratio } as const;
  return [
    { key: "cpu", label: "CPU seconds per GiB", digits: 3, compared: true, toReach },
    { key: "rate", label: "GiB per second", digits: 2, compared: false },
    BUSY,
  ];
}

async function measureTcp(subject: Subject, bench: Bench, extra: readonly string[]): Promise<Figures> {
  return withIperfServer(bench.ports.iperf, bench.processes, async () => {
    const bytes = Math.round(TCP_GIB * GIB * bench.scale);
    const to = ["-c", "127.0.0.1", "-p", String(subject.port("iperf"))];
    const command = ["iperf3", ...to, "-n", String(bytes), "--json", ...extra];
    const cost = await costOf(subject, () => bench.processes.run(command, LIMIT_SECONDS));
    const report = parseIperf(cost.result.stdout);
    if (report === undefined || report.receivedBytes < bytes * 0.95)
      throw new LabError("iperf3 lost data", cost.result.stdout);
    return { ...costFigures(cost, report.receivedBytes / GIB), rate: report.bytesPerSecond / GIB };
  });
}

async function measureTls(subject: Subject, bench: Bench, direction: "up" | "down"): Promise<Figures> {
  const transfers = Math.max(1, Math.round((TLS_GIB * GIB * bench.scale) / LARGE_BYTES));
  const { caFile, clientCertificateFile, clientKeyFile } = bench.certificates;
  const tls = [
    "--cacert",
    caFile,
    "--cert",
    clientCertificateFile,
    "--key",
    clientKeyFile,
    "--tls13-ciphers",
    TLS13_SUITE,
  ];
  const quiet = ["--silent", "--show-error", "--fail", "--http1.1", "--output", "/dev/null", "--header", "Expect:"];
  const path = direction === "up" ? SINK_PATH : LARGE_PATH;
  const upload = direction === "up" ? ["--upload-file", bench.largeFile] : [];
  const said = ["--write-out", "%{size_download} %{size_upload} %{num_connects}\n"];
  // curl repeats the URL for every number of the range, over one connection.
  const url = `https://127.0.0.1:${subject.port("mtls")}${path}?[1-${transfers}]`;
  const command = ["curl", ...tls, ...quiet, ...upload, ...said, url];
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
