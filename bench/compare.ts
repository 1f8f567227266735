// Two runs beside each other: what is better or worse by more than chance, and what cannot be told. No I/O.
import { isBusy } from "./noise.ts";
import {
  type FigureResult,
  type Run,
  ratiosOf,
  resultOf,
  type Summary,
  summarise,
  type WorkloadResult,
} from "./results.ts";
import { renderTable } from "./tables.ts";

/** What can be said of a figure. */
export type Verdict = "better" | "worse" | "within the noise" | "too few rounds" | "busy machine";

/** The contender that values are divided by, so that a machine that became slower as a whole does not look like a change. */
const REFERENCE = "haproxy";
/** With fewer, least and greatest say nothing of the spread. */
const ROUNDS_NEEDED = 3;
/** Smaller differences of the medians are no verdict, however small the spreads are by luck. */
const LEAST_DIFFERENCE = 0.03;

/** The rule in words. */
const COMPARE_RULE =
  `Better or worse is said only when the medians differ by more than both spreads (greatest less least) and by more than ${100 * LEAST_DIFFERENCE} %, ` +
  `with at least ${ROUNDS_NEEDED} rounds on each side and neither workload marked as busy. A figure is compared by its ratio to ${REFERENCE} of the same ` +
  "round where both runs have one, and by itself otherwise.";

/** One figure of one contender in both runs. */
export interface Comparison {
  readonly workload: string;
  readonly figure: string;
  readonly contender: string;
  /** Whether before and after are ratios to REFERENCE. */
  readonly isRatio: boolean;
  readonly before: Summary;
  readonly after: Summary;
  readonly verdict: Verdict;
}

/** Compares each figure that both runs have, of the contenders that are ours unless named. */
export function compareRuns(before: Run, after: Run, names?: readonly string[]): Comparison[] {
  const contenders = names ?? after.contenders.filter(({ role }) => role === "ours").map(({ name }) => name);
  const comparisons: Comparison[] = [];
  for (const workload of after.workloads) {
    const earlier = before.workloads.find(({ name }) => name === workload.name);
    if (earlier === undefined) continue;
    for (const figure of workload.figures.filter(({ compared }) => compared)) {
      const earlierFigure = earlier.figures.find(({ key }) => key === figure.key);
      for (const contender of earlierFigure === undefined ? [] : contenders) {
        const sides = [
          { workload: earlier, figure: earlierFigure as FigureResult },
          { workload, figure },
        ] as const;
        const comparison = compareFigure(sides, contender);
        if (comparison !== undefined) comparisons.push(comparison);
      }
    }
  }
  return comparisons;
}

interface Side {
  readonly workload: WorkloadResult;
  readonly figure: FigureResult;
}

function compareFigure([before, after]: readonly [Side, Side], contender: string): Comparison | undefined {
  const ratios = [before, after].map(({ figure }) =>
    contender === REFERENCE ? [] : ratiosOf(figure, contender, REFERENCE),
  );
  const isRatio = ratios.every((values) => values.length > 0);
  const [samplesBefore = [], samplesAfter = []] = isRatio
    ? ratios
    : [before, after].map(({ figure }) => resultOf(figure, contender)?.samples ?? []);
  const [one, two] = [summarise(samplesBefore), summarise(samplesAfter)];
  if (one === undefined || two === undefined) return undefined;
  const isFew = Math.min(samplesBefore.length, samplesAfter.length) < ROUNDS_NEEDED;
  const isDisturbed = isBusy(before.workload.noise) || isBusy(after.workload.noise);
  const verdict = isDisturbed
    ? "busy machine"
    : isFew
      ? "too few rounds"
      : judge(one, two, after.figure.better === "more");
  return {
    workload: after.workload.name,
    figure: after.figure.label,
    contender,
    isRatio,
    before: one,
    after: two,
    verdict,
  };
}

/** The verdict on two summaries of enough rounds on a quiet machine. */
export function judge(before: Summary, after: Summary, isMoreBetter = false): Verdict {
  const difference = after.median - before.median;
  const spread = Math.max(before.max - before.min, after.max - after.min);
  const least = Math.abs(before.median) * LEAST_DIFFERENCE;
  if (Math.abs(difference) <= Math.max(spread, least)) return "within the noise";
  return difference > 0 === isMoreBetter ? "better" : "worse";
}

/** The comparisons as a Markdown table, with the rule and what makes the two runs hard to compare. */
export function renderComparison(before: Run, after: Run, comparisons: readonly Comparison[]): string {
  const cell = ({ median, min, max }: Summary): string => `${digits(median)} (${digits(min)}..${digits(max)})`;
  const rows = comparisons.map((one) => [
    one.workload,
    `${one.figure}${one.isRatio ? `, of ${REFERENCE}'s` : ""}`,
    one.contender,
    cell(one.before),
    cell(one.after),
    `${one.after.median >= one.before.median ? "+" : "−"}${Math.abs(100 * (one.after.median / one.before.median - 1)).toFixed(1)} %`,
    one.verdict,
  ]);
  const name = ({ commit, startedAt }: Run): string => `${commit || "no commit"}, ${startedAt}`;
  const parts = [
    `Before: ${name(before)}. After: ${name(after)}.`,
    rows.length === 0
      ? "The two runs have no figure in common."
      : renderTable(["workload", "figure", "contender", "before", "after", "change", "verdict"], rows),
    COMPARE_RULE,
  ];
  if (before.machine.machine !== after.machine.machine)
    parts.push("**Not the same machine**: only ratios can be compared, and they with care.");
  if (before.scale !== after.scale) parts.push("**Not the same amounts of work**: one of the runs was a quick one.");
  return `${parts.join("\n\n")}\n`;
}

function digits(value: number): string {
  return value.toPrecision(3).includes("e") ? value.toFixed(0) : value.toPrecision(3);
}
