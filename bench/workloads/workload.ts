// What a workload is: one kind of load, run through one listener of one contender, giving a few named figures. The lab
// (bench.ts) decides which contender, when and how often; a workload only drives load and reads what it cost.
import type { BackendPorts } from "../backends.ts";
import type { Certificates } from "../certificates.ts";
import type { ListenerName } from "../contenders.ts";
import type { Topology } from "../hops.ts";
import { LabError, type Processes } from "../processes.ts";

/** One number that a workload reports. */
export interface Figure {
  /** Key in the JSON report. */
  readonly key: string;
  /** For the table, unit included: "CPU µs per request". */
  readonly label: string;
  /** Digits after the point in the table. */
  readonly digits: number;
  /** True: the ratio to the reference is reported; lower is better, unless `toReach` says "at least". False: context only. */
  readonly compared: boolean;
  /** What bunnel is to reach: a ratio to the reference, or a value in the figure's own unit. */
  readonly toReach?:
    | { readonly kind: "ratio" | "value"; readonly atMost: number }
    | { readonly kind: "ratio"; readonly atLeast: number };
}

/** What one measurement gave, by figure key. A key that does not apply ("direct" has no proxy CPU) is absent. */
export type Figures = Readonly<Record<string, number>>;

/** The contender of the moment, as a workload sees it. */
export interface Subject {
  readonly name: string;
  /** Where load for this listener goes, on 127.0.0.1. */
  readonly port: (listener: ListenerName) => number;
  /** CPU seconds of its process tree so far; undefined when there is no proxy ("direct"). */
  readonly cpuSeconds: () => number | undefined;
  /** Resident bytes of its process tree; undefined when there is no proxy. */
  readonly residentBytes: () => number | undefined;
}

/** What the lab lends to a workload. */
export interface Bench {
  readonly processes: Processes;
  readonly ports: BackendPorts;
  readonly certificates: Certificates;
  /** The large file that clients send. */
  readonly largeFile: string;
  /** 1 for a measurement, less for a warm-up or a quick run: amounts and durations are multiplied by it. */
  readonly scale: number;
}

/** One kind of load. */
export interface Workload {
  readonly name: string;
  /** One sentence: what is driven, by which tool. */
  readonly about: string;
  readonly figures: readonly Figure[];
  /** How a contender is set up for it. */
  readonly topology: Topology;
  /** Programs that it runs; when one is missing the workload is skipped by name. */
  readonly programs: readonly string[];
  /** True: also run without a proxy, for context. */
  readonly direct: boolean;
  /** True: a new process for every measurement (memory); false: one process for all rounds, warmed up once. */
  readonly fresh: boolean;
  /** Contenders that are run here only. */
  readonly extraContenders: readonly string[];
  readonly measure: (subject: Subject, bench: Bench) => Promise<Figures>;
}

/** What some load cost. */
export interface Cost<T> {
  readonly result: T;
  readonly wallSeconds: number;
  /** CPU seconds of the contender; undefined for "direct". */
  readonly cpuSeconds: number | undefined;
}

/** After the tool has ended the proxy still closes what it left open; that belongs to the load. */
const SETTLE_MS = 150;

/** Runs `load` and gives what it cost the subject. */
export async function costOf<T>(subject: Subject, load: () => Promise<T>): Promise<Cost<T>> {
  const cpuBefore = subject.cpuSeconds();
  const startedAt = performance.now();
  const result = await load();
  const wallSeconds = (performance.now() - startedAt) / 1000;
  await Bun.sleep(SETTLE_MS);
  const cpuAfter = subject.cpuSeconds();
  const cpuSeconds = cpuBefore === undefined || cpuAfter === undefined ? undefined : cpuAfter - cpuBefore;
  return { result, wallSeconds, cpuSeconds };
}

/** The usual three figures: cost of a unit (in `perUnit` parts of a second), units a second, and how busy the proxy was. */
export function costFigures(cost: Cost<unknown>, units: number, perUnit = 1): Figures {
  if (units <= 0) throw new LabError("the load did no work");
  const rate = units / cost.wallSeconds;
  if (cost.cpuSeconds === undefined) return { rate };
  // `busy` tells whether the proxy or the load was the bottleneck.
  return { cpu: (cost.cpuSeconds * perUnit) / units, rate, busy: (100 * cost.cpuSeconds) / cost.wallSeconds };
}

/** The figure that goes with `costFigures`: how much of one CPU the proxy used. */
export const BUSY: Figure = { key: "busy", label: "proxy busy, % of one CPU", digits: 0, compared: false };

/** `seconds` scaled, as a whole number of at least 1: some tools take no fractions. */
export function wholeSeconds(seconds: number, scale: number): number {
  return Math.max(1, Math.round(seconds * scale));
}
