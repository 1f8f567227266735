// Round trips of 64 bytes, by sockperf: alone, and beside an iperf3 stream that saturates the same proxy. The second is
// where fairness between connections shows. "direct" tells how much of it is only the wait for a turn on the load's CPU. Latencies are full round trips, in microseconds.
import { withIperfServer, withPingServer } from "../backends.ts";
import { LabError } from "../processes.ts";
import { parseIperf } from "./bulk.ts";
import { type Bench, type Figure, type Figures, type Subject, type Workload, wholeSeconds } from "./workload.ts";

const MESSAGE_BYTES = 64;
const ALONE_SECONDS = 2;
const BESIDE_SECONDS = 3;
/** sockperf warms up for less than this; the stream must outlast it on both sides. */
const STREAM_MARGIN_SECONDS = 2;
const LIMIT_SECONDS = 60;
/** Less than the slowest of the contenders can carry. */
const STEADY_GIGABITS = 10;

/** Ping-pong on an idle proxy. */
export const pingAlone: Workload = {
  name: "ping",
  about: `ping-pong of ${MESSAGE_BYTES} bytes over TCP, alone: sockperf`,
  meaning:
    "A full round trip of 64 bytes through the proxy and back on an otherwise idle machine: the wake-up and the work for two small " +
    "chunks. `direct` is what the load and the kernel take by themselves.",
  why:
    "One round trip in a hundred or a thousand waits for something else that wants the CPU: another program, or the engine's garbage collection. " +
    "`bun-minimal`, which has nothing but the engine, tells how much is the runtime's.",
  figures: latencyFigures(1.0),
  programs: ["sockperf"],
  direct: true,
  listeners: ["ping"],
  measure: (subject, bench) =>
    withPingServer(bench.ports.ping, bench.processes, () => ping(subject, bench, ALONE_SECONDS)),
};

/** Ping-pong beside a saturated stream. */
export const pingBeside = besideIperf({
  name: "ping-beside-stream",
  about: "the same beside a saturated iperf3 stream from client to endpoint through the same proxy",
  meaning:
    "How long a small message waits while a saturated stream goes through the same proxy: whether it is fair. `direct` tells how much " +
    "of it is only the wait for a turn on the load's CPU. A proxy that makes a process or a thread for each connection leaves fairness to the kernel.",
  why:
    "Most of it is no wait for the proxy: the more bytes a proxy moves, the busier is the CPU of those who send and receive them, which the ping shares with them. With turns of the " +
    "event loop bounded to 256 KiB of the stream nothing changed, and where all carry the same stream (`ping-beside-10g`) they are close together.",
  limit: 0.5,
});

/** Ping-pong beside a stream that is the same through every contender. */
export const pingBesideSteady = besideIperf({
  name: "ping-beside-10g",
  about: `the same beside an iperf3 stream of ${STEADY_GIGABITS} Gbit/s`,
  meaning:
    "The same with a stream of which all can carry as much. Beside a saturated one the best proxy has the busiest neighbours: those who send and receive the stream " +
    "have one CPU with the ping.",
  why:
    "Those that relay all connections in one process are close together. socat has a process for each connection: its ping waits for nobody but the kernel's scheduler, and its stream, of " +
    "which it does not carry all, for the CPU.",
  gigabits: STEADY_GIGABITS,
});

interface BesideIperf extends Pick<Workload, "name" | "about" | "meaning" | "why"> {
  /** Of the p99, to the best peer. Default: compared without a goal. */
  readonly limit?: number;
  /** Default: as much as can be. */
  readonly gigabits?: number;
}

function besideIperf({ limit, gigabits, ...texts }: BesideIperf): Workload {
  return {
    ...texts,
    figures: [
      ...latencyFigures(limit),
      { key: "streamRate", label: "stream beside it, GiB per second", digits: 2, compared: false },
    ],
    programs: ["sockperf", "iperf3"],
    direct: true,
    listeners: ["ping", "iperf"],
    measure: (subject, bench) =>
      withIperfServer({ port: bench.ports.iperf }, bench.processes, () =>
        withPingServer(bench.ports.ping, bench.processes, () => pingBesideStream(subject, bench, gigabits)),
      ),
  };
}

function latencyFigures(limit?: number): readonly Figure[] {
  return [
    { key: "p50", label: "p50, µs", digits: 0, compared: true },
    { key: "p99", label: "p99, µs", digits: 0, compared: true, ...(limit && { goals: [{ to: "best peer", limit }] }) },
    { key: "p999", label: "p99.9, µs", digits: 0, compared: true },
  ];
}

async function pingBesideStream(subject: Subject, bench: Bench, gigabits?: number): Promise<Figures> {
  const seconds = wholeSeconds(BESIDE_SECONDS, bench.scale) + STREAM_MARGIN_SECONDS;
  const to = ["-c", "127.0.0.1", "-p", String(subject.port("iperf"))];
  const bound = gigabits === undefined ? [] : ["-b", `${gigabits}G`];
  const stream = bench.processes.run(["iperf3", ...to, "-t", String(seconds), ...bound, "--json"], LIMIT_SECONDS);
  // A failure of the stream must not go unhandled while the ping still runs; it is thrown below.
  stream.catch(() => {});
  await Bun.sleep(500);
  const figures = await ping(subject, bench, BESIDE_SECONDS);
  // The stream ends by itself: an iperf3 client that is killed leaves its server in the middle of a test.
  const report = parseIperf((await stream).stdout);
  if (report === undefined) throw new LabError("the iperf3 stream did not end well");
  return { ...figures, streamRate: report.bytesPerSecond / 1024 ** 3 };
}

async function ping(subject: Subject, bench: Bench, duration: number): Promise<Figures> {
  const seconds = wholeSeconds(duration, bench.scale);
  const to = ["--tcp", "-i", "127.0.0.1", "-p", String(subject.port("ping"))];
  const command = ["sockperf", "ping-pong", ...to, "-m", String(MESSAGE_BYTES), "-t", String(seconds), "--full-rtt"];
  const { stdout } = await bench.processes.run(command, LIMIT_SECONDS);
  const report = parseSockperf(stdout);
  if (report === undefined) throw new LabError("sockperf gave no percentiles", stdout);
  return report;
}

/** The 50th, 99th and 99.9th percentile of sockperf's report, in the unit it used (µs). */
export function parseSockperf(text: string): { p50: number; p99: number; p999: number } | undefined {
  const [p50, p99, p999] = ["50\\.000", "99\\.000", "99\\.900"].map((name) =>
    Number(new RegExp(`percentile ${name} =\\s+([\\d.]+)`).exec(text)?.[1]),
  );
  if (p50 === undefined || p99 === undefined || p999 === undefined || Number.isNaN(p50 + p99 + p999)) return undefined;
  return { p50, p99, p999 };
}
