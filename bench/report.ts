// From samples to what is read: medians, ratios to the reference, Markdown tables, and the section of bench/README.md
// between its markers. No I/O here.
import type { Figure } from "./workloads/workload.ts";

/** Middle, least and greatest of some samples. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** What one contender gave for one figure. */
export interface ContenderResult {
  readonly contender: string;
  /** One value per round that was measured, in the figure's unit. */
  readonly samples: readonly number[];
  readonly summary: Summary;
  /** Value over the reference's value of the SAME round, so that a slow minute of the machine touches both. */
  readonly ratio?: Summary;
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

/** A whole run, as written by `--json`. */
export interface Report {
  readonly command: string;
  readonly startedAt: string;
  readonly seconds: number;
  readonly rounds: number;
  /** Amounts and durations were multiplied by this: 1, or less for `--quick`. */
  readonly scale: number;
  readonly machine: Readonly<Record<string, string>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly reference: string;
  readonly contenders: readonly { readonly name: string; readonly about: string }[];
  readonly workloads: readonly WorkloadResult[];
  readonly skipped: readonly Skipped[];
  readonly failures: readonly Failure[];
}

/** Samples of one workload, by contender and round; a round that was not measured is absent. */
export type SamplesByContender = ReadonlyMap<string, ReadonlyMap<number, Readonly<Record<string, number>>>>;

/** The first and last line of the part of the README that `--write-readme` replaces. */
export const RESULTS_START = "<!-- results -->";
export const RESULTS_END = "<!-- /results -->";

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

/** Gathers one figure over all contenders, with ratios to `reference` where both were measured in the same round. */
export function gatherFigure(figure: Figure, samples: SamplesByContender, reference: string): FigureResult {
  const contenders: ContenderResult[] = [];
  const base = samples.get(reference);
  for (const [contender, rounds] of samples) {
    const values: number[] = [];
    const ratios: number[] = [];
    for (const [round, figures] of rounds) {
      const value = figures[figure.key];
      if (value === undefined) continue;
      values.push(value);
      const other = base?.get(round)?.[figure.key];
      if (figure.compared && other !== undefined && other > 0) ratios.push(value / other);
    }
    const summary = summarise(values);
    const ratio = summarise(ratios);
    if (summary !== undefined) {
      contenders.push({ contender, samples: values, summary, ...(ratio === undefined ? {} : { ratio }) });
    }
  }
  return { ...figure, contenders };
}

/** The report as Markdown: ratios first, then absolute values, then what they were measured on and what went wrong. */
export function renderMarkdown(report: Report): string {
  const names = report.contenders.map(({ name }) => name).filter((name) => tookPart(report, name));
  const parts = [
    `Ratios to ${report.reference} (less is better, but where ≥ is to be reached), median of ${report.rounds} rounds, min..max in parentheses.`,
    renderRatios(report, names),
    "Absolute values, median (min..max).",
    renderValues(report, names),
    renderFacts(report),
  ];
  return `${parts.join("\n\n")}\n`;
}

/** `text` with what stands between the markers replaced; undefined when it has no markers. */
export function replaceResults(text: string, results: string): string | undefined {
  const start = text.indexOf(RESULTS_START);
  const end = text.indexOf(RESULTS_END);
  if (start < 0 || end < start) return undefined;
  return `${text.slice(0, start + RESULTS_START.length)}\n\n${results.trim()}\n\n${text.slice(end)}`;
}

/** A Markdown table; every row as long as the head. Columns from the third on are numbers and align right. */
export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = head.map((_, column) => (column < 2 ? "---" : "---:"));
  return [head, rule, ...rows].map(line).join("\n");
}

function renderRatios(report: Report, names: readonly string[]): string {
  const columns = names.filter((name) => name !== report.reference);
  const rows: string[][] = [];
  for (const workload of report.workloads) {
    for (const figure of workload.figures) {
      if (!figure.compared) continue;
      const cells = columns.map((name) => ratioCell(report, workload, figure, name));
      rows.push([workload.name, figure.label, toReachCell(figure), ...cells]);
    }
  }
  return renderTable(["workload", "figure", "to reach", ...columns], rows);
}

function renderValues(report: Report, names: readonly string[]): string {
  const rows: string[][] = [];
  for (const workload of report.workloads) {
    for (const figure of workload.figures) {
      const cells = names.map((name) => {
        const found = resultOf(figure, name);
        return found === undefined ? absentCell(report, workload, name) : summaryCell(found.summary, figure.digits);
      });
      rows.push([workload.name, figure.label, ...cells]);
    }
  }
  return renderTable(["workload", "figure", ...names], rows);
}

function renderFacts(report: Report): string {
  const lines = [
    `Made by \`${report.command}\` in ${Math.round(report.seconds / 60)} minutes, ${report.startedAt}.`,
    ...Object.entries(report.machine).map(([name, value]) => `- ${name}: ${value}`),
    `- versions: ${Object.values(report.versions).join(" · ")}`,
    ...report.contenders.map(({ name, about }) => `- \`${name}\`: ${about}`),
    ...report.workloads.map(({ name, about }) => `- \`${name}\`: ${about}`),
    ...report.skipped.map(({ what, why }) => `- skipped ${what}: ${why}`),
    ...report.failures.map(({ workload, contender, message }) => `- **failed** ${workload}, ${contender}: ${message}`),
  ];
  if (report.scale !== 1) lines.push(`- a quick run: amounts and durations are ${report.scale} of the real ones`);
  return lines.join("\n");
}

function ratioCell(report: Report, workload: WorkloadResult, figure: FigureResult, name: string): string {
  const found = resultOf(figure, name);
  if (found?.ratio === undefined) return absentCell(report, workload, name);
  const cell = summaryCell(found.ratio, 2);
  // Only bunnel has something to reach.
  if (figure.toReach === undefined || !name.startsWith("bunnel")) return cell;
  const { toReach } = figure;
  const reached = toReach.kind === "ratio" ? found.ratio.median : found.summary.median;
  const isReached = "atLeast" in toReach ? reached >= toReach.atLeast : reached <= toReach.atMost;
  return `${cell} ${isReached ? "✓" : "✗"}`;
}

/** A column of nothing but dashes helps nobody. */
function tookPart(report: Report, contender: string): boolean {
  const measured = report.workloads.some(({ figures }) => figures.some((figure) => resultOf(figure, contender)));
  return measured || report.failures.some((failure) => failure.contender === contender);
}

function toReachCell(figure: Figure): string {
  if (figure.toReach === undefined) return "";
  if ("atLeast" in figure.toReach) return `≥ ${figure.toReach.atLeast.toFixed(2)}`;
  const { kind, atMost } = figure.toReach;
  return kind === "ratio" ? `≤ ${atMost.toFixed(2)}` : `≤ ${atMost} ${figure.label.split(" ")[0]}`;
}

function absentCell(report: Report, workload: WorkloadResult, contender: string): string {
  const failed = report.failures.some(
    (failure) => failure.workload === workload.name && failure.contender === contender,
  );
  return failed ? "failed" : "–";
}

function summaryCell({ median, min, max }: Summary, digits: number): string {
  const number = (value: number): string => value.toFixed(digits);
  return min === max ? number(median) : `${number(median)} (${number(min)}..${number(max)})`;
}

function resultOf(figure: FigureResult, contender: string): ContenderResult | undefined {
  return figure.contenders.find((result) => result.contender === contender);
}
