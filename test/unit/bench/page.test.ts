// The report: what it says where bunnel loses, what it marks, and that its charts are drawn without a browser.
import { expect, test } from "bun:test";
import { curveChart, workloadChart } from "../../../bench/charts.ts";
import { renderPage } from "../../../bench/page.ts";
import type { Curve, WorkloadResult } from "../../../bench/results.ts";
import { WORKLOADS } from "../../../bench/workloads/all.ts";
import { quiet, runOf } from "./made-up.ts";

const words = { name: "tcp-up", meaning: "The price of a byte.", why: "It looks at each byte twice." } as never;
const curve: Curve = {
  name: "endpoints",
  about: "one backend",
  why: "It is flat.",
  points: [
    { size: 1, cpu: [40, 41], memory: 60 },
    { size: 1000, cpu: [42, 43], memory: 61 },
  ],
};

test("where it wins nothing is explained; where it loses or misses a goal the reason stands", () => {
  expect(renderPage(runOf({ bunnel: [0.5], haproxy: [1] }), [words], [])).toContain("Nowhere in this run.");
  const missed = renderPage(runOf({ bunnel: [0.8], haproxy: [1] }), [words], []);
  expect(missed).toContain("0.80 of haproxy where ≤ 0.6 was to be reached. It looks at each byte twice.");
  expect(renderPage(runOf({ bunnel: [2], haproxy: [1] }), [], [])).toContain("Not explained yet.");
});

test("it says what the numbers mean, how each was set up, and which rows came from a busy machine", () => {
  const page = renderPage(runOf({ bunnel: [1], haproxy: [1] }), [words], ["bunnel", "haproxy"]);
  expect(page).toContain("The price of a byte.");
  expect(page).toContain("![tcp-up](tcp-up.svg)");
  expect(page).toContain("[haproxy](configs/haproxy.txt)");
  expect(page).not.toContain("busy machine**");
  const noise = [{ ...quiet, others: 0.5 }];
  expect(renderPage(runOf({ bunnel: [1] }, { noise }), [words], [])).toContain(
    "Measured on a busy machine**: `tcp-up`",
  );
});

test("a failure shows its log", () => {
  const failures = [{ workload: "tcp-up", contender: "nginx", round: 0, message: "gone", logTail: "no memory" }];
  expect(renderPage({ ...runOf({ bunnel: [1] }), failures }, [words], [])).toContain(
    "warm-up: gone\n\n```text\nno memory",
  );
});

test("curves are shown with their reason, and micro-benchmarks with their budget", () => {
  const micro = [{ name: "a pick", budget: 10, median: 12, min: 11, max: 13 }];
  const page = renderPage({ ...runOf({ bunnel: [1] }), curves: [curve], micro }, [words], []);
  expect(page).toContain("### By number of endpoints");
  expect(page).toContain("| 1,000 | 42.5 (42.0..43.0) | 61.0 |");
  expect(page).toContain("It is flat.");
  expect(page).toContain("| a pick | ≤ 10 ns ✗ | 12.0 (11.0..13.0) |");
});

test("charts are SVG, and name every contender", async () => {
  const run = runOf({ bunnel: [1, 2], haproxy: [3] });
  const svg = await workloadChart(run, run.workloads[0] as WorkloadResult);
  expect(svg).toStartWith("<svg");
  for (const name of ["bunnel", "haproxy", "CPU seconds per GiB"]) expect(svg).toContain(name);
  expect(svg).not.toContain("NaN");
  expect(await curveChart(curve)).toContain("MiB of the process");
});

test("every workload says what its number means", () => {
  for (const { name, meaning } of WORKLOADS) expect([name, meaning.length > 40]).toEqual([name, true]);
  expect(new Set(WORKLOADS.map(({ name }) => name)).size).toBe(WORKLOADS.length);
});
