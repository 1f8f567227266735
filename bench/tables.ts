// A run as Markdown tables, for the terminal and for the report. No I/O.
import { isBusy, NOISE_RULE } from "./noise.ts";
import { PROFILE_KINDS, type ProfileKind } from "./profile.ts";
import {
  bestPeer,
  type FigureResult,
  type Run,
  ratiosOf,
  resultOf,
  type Standing,
  type Summary,
  standings,
  summarise,
  summaryOf,
  type WorkloadResult,
} from "./results.ts";

/** The contender whose goals and rank are told. */
export const OURS = "bunnel";
const BUSY_MARK = " ⚠";

/** The whole run: bunnel beside the best peer, absolute values, then what they were measured on and what went wrong. */
export function renderRun(run: Run): string {
  const notes = run.workloads.some(({ noise }) => isBusy(noise))
    ? [`⚠ measured on a busy machine: ${NOISE_RULE}.`]
    : [];
  const profiles = run.workloads.map((workload) => ({ name: workload.name, table: renderProfiles(workload) }));
  const seen = profiles.filter(({ table }) => table !== "").map(({ name, table }) => `${name}, by perf:\n\n${table}`);
  return `${[renderRanks(run), renderValues(run), ...seen, ...notes, renderFacts(run), ...renderFailures(run)].join("\n\n")}\n`;
}

/** The same for a terminal, without what the names stand for. */
export function renderPlain(run: Run): string {
  const [head = [], ...rows] = rankRows(run, run.workloads);
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((cells) => (cells[column] ?? "").length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join("  ");
  const isBusyRun = run.workloads.some(({ noise }) => isBusy(noise));
  const notes = [
    `ratio: ${OURS}'s value over the best peer's of the same round; below 1 is better, but where more is better`,
    ...(isBusyRun ? [`⚠ measured on a busy machine: ${NOISE_RULE}`] : []),
    ...run.skipped.map(({ what, why }) => `skipped ${what}: ${why}`),
    ...run.failures.map(
      ({ workload, contender, message, logTail }) => `FAILED ${workload}, ${contender}: ${message}\n${logTail}`,
    ),
  ];
  return `${[...all.map((cells) => line(cells).trimEnd()), "", ...notes].join("\n")}\n`;
}

/** bunnel beside the best peer, one row for each compared figure. */
export function renderRanks(run: Run, workloads: readonly WorkloadResult[] = run.workloads): string {
  const [head = [], ...rows] = rankRows(run, workloads);
  return renderTable(head, rows);
}

/** The head first. */
function rankRows(run: Run, workloads: readonly WorkloadResult[]): string[][] {
  const rows = [["workload", "figure", OURS, "best peer", "ratio", "to reach"]];
  for (const workload of workloads) {
    for (const figure of workload.figures.filter(({ compared }) => compared)) {
      const peer = bestPeer(run, figure);
      const ours = summaryOf(figure, OURS);
      const theirs = peer === undefined ? undefined : summaryOf(figure, peer);
      const ratio = peer === undefined ? undefined : summarise(ratiosOf(figure, OURS, peer));
      if (ours === undefined && theirs === undefined) continue;
      rows.push([
        `${workload.name}${isBusy(workload.noise) ? BUSY_MARK : ""}`,
        figure.better === "more" ? `${figure.label} (more is better)` : figure.label,
        ours === undefined ? absentCell(run, workload, OURS) : summaryCell(ours, figure.digits),
        theirs === undefined ? "–" : `${theirs.median.toFixed(figure.digits)} ${peer}`,
        ratio === undefined ? "–" : summaryCell(ratio, 2),
        standings(run, figure, OURS)
          .map((standing) => goalCell(figure, standing))
          .join("; "),
      ]);
    }
  }
  return rows;
}

/** Every contender's own values, those of one workload or of all. */
export function renderValues(run: Run, workloads: readonly WorkloadResult[] = run.workloads): string {
  const names = run.contenders.map(({ name }) => name).filter((name) => tookPart(run, workloads, name));
  const rows: string[][] = [];
  for (const workload of workloads) {
    for (const figure of workload.figures) {
      const cells = names.map((name) => {
        const found = summaryOf(figure, name);
        return found === undefined ? absentCell(run, workload, name) : summaryCell(found, figure.digits);
      });
      rows.push([`${workload.name}${isBusy(workload.noise) ? BUSY_MARK : ""}`, figure.label, ...cells]);
    }
  }
  return renderTable(["workload", "figure", ...names], rows);
}

/**
 * Where the CPU time of a workload goes: the share of each kind by the profile, times the median of its first figure, in that figure's unit. "" where there is
 * no profile.
 */
export function renderProfiles({ figures, profiles = [] }: WorkloadResult): string {
  const [figure] = figures;
  if (figure === undefined || profiles.length === 0) return "";
  const digits = figure.digits;
  const rows = Object.entries(PROFILE_KINDS).map(([kind, label]) => {
    const cells = profiles.map(({ contender, shares }) => {
      const share = shares[kind as ProfileKind];
      const value = summaryOf(figure, contender)?.median ?? 0;
      return share === 0 ? "–" : `${(share * value).toFixed(digits)} (${(100 * share).toFixed(0)} %)`;
    });
    return [label, figure.label, ...cells];
  });
  const isSeen = (cells: readonly string[]): boolean => cells.slice(2).some((cell) => cell !== "–");
  return renderTable(["where it goes", "figure", ...profiles.map(({ contender }) => contender)], rows.filter(isSeen));
}

/** What it was measured on, what each name stands for, what was skipped and what failed. */
export function renderFacts(run: Run): string {
  const rounds = run.workloads.map(({ noise }) => noise.length);
  const lines = [
    `Made by \`${run.command}\` in ${Math.max(1, Math.round(run.seconds / 60))} minutes, ${run.startedAt}, at ${run.commit || "no commit"}. ` +
      `Medians of ${Math.min(...rounds)} to ${Math.max(...rounds)} rounds, least..greatest in parentheses.`,
    ...Object.entries(run.machine).map(([name, value]) => `- ${name}: ${value}`),
    `- versions: ${Object.values(run.versions).join(" · ")}`,
    ...run.contenders
      .filter(({ name }) => tookPart(run, run.workloads, name))
      .map(({ name, about }) => `- \`${name}\`: ${about}`),
    ...run.workloads.map(({ name, about }) => `- \`${name}\`: ${about}`),
    ...run.skipped.map(({ what, why }) => `- skipped ${what}: ${why}`),
  ];
  if (run.scale !== 1) lines.push(`- a quick run: amounts and durations are ${run.scale} of the real ones`);
  return lines.join("\n");
}

/** Each failure with the end of its log, as a paragraph; none when nothing failed. */
export function renderFailures(run: Run): string[] {
  return run.failures.map(
    ({ workload, contender, round, message, logTail }) =>
      `**failed** ${workload}, ${contender}, ${round === 0 ? "warm-up" : `round ${round}`}: ${message}\n\n\`\`\`text\n${logTail || "(it said nothing)"}\n\`\`\``,
  );
}

/** A Markdown table; every row as long as the head. Columns from the third on are numbers and align right. */
export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const rule = head.map((_, column) => (column < 2 ? "---" : "---:"));
  return [head, rule, ...rows].map(line).join("\n");
}

/** A goal, and whether it is reached: `≤ 0.50 of haproxy ✓`. */
function goalCell(figure: FigureResult, { goal, to, reached, isReached }: Standing): string {
  const sign = figure.better === "more" ? "≥" : "≤";
  const what = goal.to === "itself" ? `${goal.limit} ${figure.label.split(" ")[0]}` : goal.limit.toFixed(2);
  const whom = to === undefined || goal.to === "best peer" ? "" : ` of ${to}`;
  const mark = reached === undefined ? "not measured" : isReached ? "✓" : "✗";
  // The ratio to the best peer stands in the row already.
  const value = reached === undefined || whom === "" ? "" : `: ${reached.median.toFixed(2)}`;
  return `${sign} ${what}${whom}${value} ${mark}`;
}

/** A column of nothing but dashes helps nobody. */
function tookPart(run: Run, workloads: readonly WorkloadResult[], contender: string): boolean {
  const isMeasured = workloads.some(({ figures }) => figures.some((figure) => resultOf(figure, contender)));
  const names = workloads.map(({ name }) => name);
  return isMeasured || run.failures.some((one) => one.contender === contender && names.includes(one.workload));
}

function absentCell(run: Run, workload: WorkloadResult, contender: string): string {
  const hasFailed = run.failures.some((one) => one.workload === workload.name && one.contender === contender);
  return hasFailed ? "failed" : "–";
}

function summaryCell({ median, min, max }: Summary, digits: number): string {
  const number = (value: number): string => value.toFixed(digits);
  return min === max ? number(median) : `${number(median)} (${number(min)}..${number(max)})`;
}
