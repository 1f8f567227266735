// The report as a page: what each number means, how it was measured, where bunnel loses and why. Text only; charts.ts draws.
import { isBusy, NOISE_RULE } from "./noise.ts";
import {
  bestPeer,
  type Curve,
  type FigureResult,
  type MicroResult,
  type Run,
  ratiosOf,
  standings,
  summarise,
  type WorkloadResult,
} from "./results.ts";
import { OURS, renderFacts, renderFailures, renderProfiles, renderRanks, renderTable, renderValues } from "./tables.ts";
import type { Workload } from "./workloads/workload.ts";

const INTRODUCTION = `# What bunnel costs, beside its peers

Made by the lab of this repository: \`npm run bench -- --write-report\`. Nothing here is written by hand but the words that explain a number, and those
stand beside the code that measures it (\`bench/workloads/\`). How to run it yourself is in [bench/README.md](../README.md).

## How to read it

**CPU time of the proxy** is the first figure of nearly every workload: user and system time of its whole process tree, threads and processes that
have ended included, from the kernel, divided by what was done. Speed is given too, but on few CPUs the load is often the bottleneck, and then speed says little
about the proxy; *proxy busy* tells which it was.

The **best peer** of a row is the program with the best median among those that people run instead (in grey); the floors (\`c-minimal\`, \`bun-minimal\`, pale)
are no proxies that anybody would run, and tell what the work costs at least. A **ratio** is bunnel's value over the best peer's of the *same round*; below 1 is
better than any of them, but where more is better. ✓ and ✗ tell whether its median reaches what this project set itself. Values are medians, with
the least and the greatest in parentheses. Compare rows of one table only: a ratio travels better than a number, and neither travels far.`;

const PROFILE_WORDS =
  "Where that goes, by `perf` during one more load of bunnel, of the floors and of the best peer: the share of its samples times the median above.";

/** The page. `workloads` are those of the lab, for their words; `setups` are names of contenders whose configuration is kept beside it. */
export function renderPage(run: Run, workloads: readonly Workload[], setups: readonly string[]): string {
  const busy = run.workloads.filter(({ noise }) => isBusy(noise)).map(({ name }) => `\`${name}\``);
  const wordsOf = (name: string): Workload | undefined => workloads.find((workload) => workload.name === name);
  const losses = run.workloads.flatMap((result) => lossesOf(run, result, wordsOf(result.name)));
  const parts = [
    INTRODUCTION,
    ...(busy.length === 0
      ? []
      : [`> ⚠ **Measured on a busy machine**: ${busy.join(", ")}. ${NOISE_RULE}. Do not rely on these rows.`]),
    "## At a glance",
    renderRanks(run),
    "## Where bunnel loses, and why",
    losses.length === 0 ? "Nowhere in this run." : losses.join("\n"),
    "## Each workload",
    ...run.workloads.flatMap((result) => section(run, result, wordsOf(result.name))),
    ...(run.curves === undefined ? [] : ["## Costs as they grow", ...run.curves.flatMap(renderCurve)]),
    ...(run.micro === undefined ? [] : ["## Without sockets", renderMicro(run.micro)]),
    "## How it was measured",
    renderFacts(run),
    `Noise: ${NOISE_RULE}.`,
    `How each contender was set up: ${setups.map((name) => `[${name}](configs/${name}.txt)`).join(", ")}.`,
    ...(run.failures.length === 0 ? [] : ["## What failed", ...renderFailures(run)]),
  ];
  return `${parts.join("\n\n")}\n`;
}

/** File name of a chart beside the page. */
export function chartName(name: string): string {
  return `${name.replace(/\W+/g, "-")}.svg`;
}

function section(run: Run, result: WorkloadResult, words: Workload | undefined): string[] {
  const profiles = renderProfiles(result);
  const isMeasured = result.figures.some(({ contenders }) => contenders.length > 0);
  return [
    `### ${result.name}`,
    `${capital(result.about)}. ${words?.meaning ?? ""}`.trim(),
    ...(isMeasured ? [`![${result.name}](${chartName(result.name)})`] : []),
    renderValues(run, [result]),
    ...(profiles === "" ? [] : [PROFILE_WORDS, profiles]),
  ];
}

/** A line for the compared figures of a workload by which the best peer is ahead, or a goal is missed; with the reason. */
function lossesOf(run: Run, result: WorkloadResult, words: Workload | undefined): string[] {
  const said = result.figures.filter(({ compared }) => compared).flatMap((figure) => lossOf(run, figure));
  if (said.length === 0) return [];
  return [`- **${result.name}**: ${said.join("; ")}. ${words?.why ?? "Not explained yet."}`];
}

function lossOf(run: Run, figure: FigureResult): string[] {
  const peer = bestPeer(run, figure);
  const ratio = peer === undefined ? undefined : summarise(ratiosOf(figure, OURS, peer));
  const isBehind = ratio !== undefined && (figure.better === "more" ? ratio.median < 1 : ratio.median > 1);
  const missed = standings(run, figure, OURS).filter(({ reached, isReached }) => reached !== undefined && !isReached);
  if (!isBehind && missed.length === 0) return [];
  const sign = figure.better === "more" ? "≥" : "≤";
  const goals = missed.map(
    ({ goal, to, reached }) =>
      `${reached?.median.toFixed(2)} of ${to ?? "its own"} where ${sign} ${goal.limit} was to be reached`,
  );
  const rank = isBehind && !missed.some(({ to }) => to === peer) ? [`${ratio.median.toFixed(2)} of ${peer}`] : [];
  return [`${figure.label} ${[...rank, ...goals].join(", ")}`];
}

function renderCurve(curve: Curve): string[] {
  const rows = curve.points.map(({ size, cpu, memory }) => {
    const { median = 0, min = 0, max = 0 } = summarise(cpu) ?? {};
    return [
      size.toLocaleString("en"),
      "",
      `${median.toFixed(1)} (${min.toFixed(1)}..${max.toFixed(1)})`,
      memory.toFixed(1),
    ];
  });
  const head = [curve.name, "", "CPU µs per new connection", "MiB of the process"];
  const table = renderTable(head, rows).replaceAll(" |  |", " |").replace(" | --- |", " |");
  return [
    `### By number of ${curve.name}`,
    capital(curve.about),
    `![${curve.name}](${chartName(`curve-${curve.name}`)})`,
    table,
    curve.why,
  ];
}

function renderMicro(results: readonly MicroResult[]): string {
  const rows = results.map(({ name, budget, median, min, max }) => [
    name,
    `≤ ${budget} ns ${median <= budget ? "✓" : "✗"}`,
    `${median.toFixed(1)} (${min.toFixed(1)}..${max.toFixed(1)})`,
  ]);
  return `\`npm run bench:micro\`; each budget stands in the file that measures it, for a CPU that nobody shares. Where many are missed at once, by pieces that have nothing in common, it is the machine: measure an older commit beside it before looking for a cause.\n\n${renderTable(["what", "budget", "ns"], rows)}`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
