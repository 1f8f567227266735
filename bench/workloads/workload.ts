// What a workload is: one kind of load, run through one or two listeners of one contender, giving a few named figures. The lab
// (lab.ts) decides which contender, when and how often; a workload only drives load and reads what it cost.
import type { BackendPorts } from "../backends.ts";
import type { Certificates } from "../certificates.ts";
import type { ListenerName } from "../contenders/contender.ts";
import { LabError, type Processes } from "../processes.ts";

/** What this project set itself for bunnel. */
export interface Goal {
  /** What its figure is divided by: that of the best peer of the run, or of one contender. "itself": the figure's own unit. */
  readonly to: "best peer" | "itself" | (string & {});
  /** The most, or the least where more is better. */
  readonly limit: number;
}

/** One number that a workload reports. */
export interface Figure {
  /** Key in the JSON report. */
  readonly key: string;
  /** For the table, unit included: "CPU µs per request". */
  readonly label: string;
  /** Digits after the point in the table. */
  readonly digits: number;
  /** True: bunnel is compared with the best peer by it. False: context only. */
  readonly compared: boolean;
  /** Default: less. */
  readonly better?: "more";
  readonly goals?: readonly Goal[];
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
  /** For files of the measurement. */
  readonly folder: string;
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
  /** For the report: what the figures tell, and what they do not. */
  readonly meaning: string;
  /** For the report: why bunnel loses here, or misses its goal, where it does. */
  readonly why?: string;
  readonly figures: readonly Figure[];
  /** What the contender listens for; "two-hop" makes it two processes in a row. The load may use only these. */
  readonly listeners: readonly ListenerName[];
  /** Programs that it runs; when one is missing the workload is skipped by name. */
  readonly programs: readonly string[];
  /** True: also run without a proxy, for context. */
  readonly direct?: boolean;
  /** True: a new process for every measurement (memory). Default: one process for all rounds, warmed up once. */
  readonly fresh?: boolean;
  /** True: run only when asked for, by name or with --all. */
  readonly rare?: boolean;
  /** The most connections at once, where they are more than USUAL_CONNECTIONS. */
  readonly connections?: number;
  /** Contenders that are run here only. */
  readonly extraContenders?: readonly string[];
  /** Contenders that are not run here, and why. */
  readonly without?: Readonly<Record<string, string>>;
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
