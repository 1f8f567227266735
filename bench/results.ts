// From samples to what can be said of them: medians, ratios within a round, the best peer of a figure, and whether a goal is
// reached. No I/O and no text here.
import type { Noise } from "./noise.ts";
import type { Profile } from "./profile.ts";
import type { Figure, Goal } from "./workloads/workload.ts";

/** Middle, least and greatest of some samples. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** What one contender gave for one figure. */
export interface ContenderResult {
  readonly contender: string;
  /** The rounds that were measured, from 0; as long as `samples`. */
  readonly rounds: readonly number[];
  /** One value for each of `rounds`, in the figure's unit. */
  readonly samples: readonly number[];
}

/** One figure of one workload for every contender that was measured. */
export interface FigureResult extends Figure {
  readonly contenders: readonly ContenderResult[];
}

/** One workload's results. */
export interface WorkloadResult {
  readonly name: string;
  readonly about: string;
  readonly figures: readonly FigureResult[];
  /** What else the machine did, of each round. */
  readonly noise: readonly Noise[];
  /** Where the CPU time went, of some contenders; absent where nobody looked. */
  readonly profiles?: readonly Profile[];
}

/** A contender or workload that was left out, and why. */
export interface Skipped {
  readonly what: string;
  readonly why: string;
}

/** A measurement that did not succeed. Its contender has no value for that workload, never a zero. */
export interface Failure {
  readonly workload: string;
  readonly contender: string;
  readonly round: number;
  readonly message: string;
  readonly logTail: string;
}

/** What a contender is to the others: what is measured, a program that people use instead, or the least that the work costs. */
export type Role = "ours" | "peer" | "floor" | "none";

/** What a new connection costs, and what the process weighs, at one size. */
export interface CurvePoint {
  readonly size: number;
  /** CPU µs of each new connection; a value for each measurement. */
  readonly cpu: readonly number[];
  /** MiB of the process before the load. */
  readonly memory: number;
}

/** How costs grow with the number of something. */
export interface Curve {
  readonly name: string;
  /** What grows, and how it was measured. */
  readonly about: string;
  /** Why it is not flat, where it is not. */
  readonly why: string;
  readonly points: readonly CurvePoint[];
}

/** One measurement without sockets, in nanoseconds of each call. */
export interface MicroResult extends Summary {
  readonly name: string;
  readonly budget: number;
}

/** A whole run, as it is kept. */
export interface Run {
  readonly command: string;
  /** ISO 8601, to the minute, UTC. */
  readonly startedAt: string;
  readonly seconds: number;
  /** Abbreviated; with "+" when files differed from it. Empty where there is no repository. */
  readonly commit: string;
  /** The most rounds of any workload. */
  readonly rounds: number;
  /** Amounts and durations were multiplied by this: 1, or less for `--quick`. */
  readonly scale: number;
  readonly machine: Readonly<Record<string, string>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly contenders: readonly { readonly name: string; readonly about: string; readonly role: Role }[];
  readonly workloads: readonly WorkloadResult[];
  readonly skipped: readonly Skipped[];
  readonly failures: readonly Failure[];
  readonly curves?: readonly Curve[];
  readonly micro?: readonly MicroResult[];
}

/** Samples of one workload, by contender and round; a round that was not measured is absent. */
export type SamplesByContender = ReadonlyMap<string, ReadonlyMap<number, Readonly<Record<string, number>>>>;

/** Summarises samples; undefined when there are none. The median of an even count is the mean of the middle two. */
export function summarise(samples: readonly number[]): Summary | undefined {
  const sorted = [...samples].sort((a, b) => a - b);
  const min = sorted[0];
  const max = sorted.at(-1);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  if (min === undefined || max === undefined || upper === undefined || lower === undefined) return undefined;
  return { median: (upper + lower) / 2, min, max };
}

/** Gathers one figure over all contenders. */
export function gatherFigure(figure: Figure, samples: SamplesByContender): FigureResult {
  const contenders: ContenderResult[] = [];
  for (const [contender, byRound] of samples) {
    const rounds: number[] = [];
    const values: number[] = [];
    for (const [round, figures] of byRound) {
      const value = figures[figure.key];
      if (value === undefined) continue;
      rounds.push(round);
      values.push(value);
    }
    if (values.length > 0) contenders.push({ contender, rounds, samples: values });
  }
  return { ...figure, contenders };
}

/** What a contender gave; undefined when it was not measured. */
export function resultOf(figure: FigureResult, contender: string): ContenderResult | undefined {
  return figure.contenders.find((result) => result.contender === contender);
}

/** The values of a contender, summarised. */
export function summaryOf(figure: FigureResult, contender: string): Summary | undefined {
  return summarise(resultOf(figure, contender)?.samples ?? []);
}

/** One contender's values over another's of the SAME round, so that a slow minute of the machine touches both. */
export function ratiosOf(figure: FigureResult, contender: string, other: string): number[] {
  const result = resultOf(figure, contender);
  const base = resultOf(figure, other);
  const ratios: number[] = [];
  for (const [index, round] of (result?.rounds ?? []).entries()) {
    const below = base?.samples[base.rounds.indexOf(round)];
    const value = result?.samples[index];
    if (value !== undefined && below !== undefined && below > 0) ratios.push(value / below);
  }
  return ratios;
}

/** The peer with the best median, or undefined when no peer was measured. */
export function bestPeer(run: Pick<Run, "contenders">, figure: FigureResult): string | undefined {
  const sign = figure.better === "more" ? -1 : 1;
  const medianOf = (name: string): number =>
    sign * (summaryOf(figure, name)?.median ?? Number.POSITIVE_INFINITY * sign);
  const peers = run.contenders.filter(({ name, role }) => role === "peer" && resultOf(figure, name) !== undefined);
  return peers.map(({ name }) => name).sort((a, b) => medianOf(a) - medianOf(b))[0];
}

/** How a contender stands to a goal. */
export interface Standing {
  readonly goal: Goal;
  /** Whom the ratio is to; undefined when the goal is a value of its own. */
  readonly to: string | undefined;
  /** The ratio, or the value. Undefined: one of the two was not measured. */
  readonly reached: Summary | undefined;
  readonly isReached: boolean;
}

/** How `contender` stands to each goal of a figure. */
export function standings(run: Pick<Run, "contenders">, figure: FigureResult, contender: string): Standing[] {
  return (figure.goals ?? []).map((goal) => {
    const to = goal.to === "best peer" ? bestPeer(run, figure) : goal.to === "itself" ? undefined : goal.to;
    const ratios = to === undefined ? [] : ratiosOf(figure, contender, to);
    const reached = goal.to === "itself" ? summaryOf(figure, contender) : summarise(ratios);
    const isReached =
      reached !== undefined && (figure.better === "more" ? reached.median >= goal.limit : reached.median <= goal.limit);
    return { goal, to, reached, isReached };
  });
}
