// From samples to tables: medians, ratios within a round, the best peer, goals, and cells that never turn a failure into a number.
import { expect, test } from "bun:test";
import { bestPeer, gatherFigure, type Run, ratiosOf, standings, summarise } from "../../../bench/results.ts";
import { renderRanks, renderRun, renderTable } from "../../../bench/tables.ts";
import { CPU, quiet, runOf } from "./made-up.ts";

test("the median of an odd and of an even count", () => {
  expect(summarise([3, 1, 10])).toEqual({ median: 3, min: 1, max: 10 });
  expect(summarise([4, 1, 2, 100])).toEqual({ median: 3, min: 1, max: 100 });
  expect(summarise([])).toBeUndefined();
});

test("a ratio is taken within each round, so drift that touches both cancels", () => {
  const run = runOf({ haproxy: [1, 2, 4], bunnel: [0.5, 1, 2] });
  const figure = run.workloads[0]?.figures[0] as never;
  expect(ratiosOf(figure, "bunnel", "haproxy")).toEqual([0.5, 0.5, 0.5]);
});

test("rounds that the other did not finish give no ratio", () => {
  const samples = new Map([
    ["haproxy", new Map([[1, { cpu: 2 }]])],
    [
      "bunnel",
      new Map([
        [0, { cpu: 5 }],
        [1, { cpu: 1 }],
      ]),
    ],
  ]);
  expect(ratiosOf(gatherFigure(CPU, samples), "bunnel", "haproxy")).toEqual([0.5]);
  expect(ratiosOf(gatherFigure(CPU, samples), "bunnel", "nginx")).toEqual([]);
});

test("a figure that does not apply has no entry", () => {
  expect(gatherFigure({ ...CPU, key: "rate" }, new Map([["haproxy", new Map([[0, { cpu: 1 }]])]])).contenders).toEqual(
    [],
  );
});

test("the best peer is the one with the best median; floors and ourselves are no peers", () => {
  const run = runOf({ bunnel: [1], haproxy: [3, 3, 9], nginx: [4, 4, 1], "bun-minimal": [0.1] });
  const figure = run.workloads[0]?.figures[0] as never;
  expect(bestPeer(run, figure)).toBe("haproxy");
  expect(bestPeer(run, { ...(figure as object), better: "more" } as never)).toBe("nginx");
  const alone = runOf({ bunnel: [1] });
  expect(bestPeer(alone, alone.workloads[0]?.figures[0] as never)).toBeUndefined();
});

test("a goal is reached by the median of the ratios, and one whose other half is missing is not", () => {
  const goals = [
    { to: "best peer", limit: 0.5 },
    { to: "nginx", limit: 2 },
    { to: "itself", limit: 1 },
  ];
  const run = runOf({ bunnel: [1, 1, 1], haproxy: [2, 2, 1] }, { figure: { ...CPU, goals } });
  const found = standings(run, run.workloads[0]?.figures[0] as never, "bunnel");
  expect(found.map(({ to, isReached }) => [to, isReached])).toEqual([
    ["haproxy", true],
    ["nginx", false],
    [undefined, true],
  ]);
  const missed = runOf({ bunnel: [3], haproxy: [2] }, { figure: { ...CPU, goals } });
  expect(renderRanks(missed)).toContain("≤ 0.50 ✗; ≤ 2.00 of nginx not measured; ≤ 1 CPU ✗");
});

test("where more is better the limit is a least", () => {
  const figure = { ...CPU, better: "more", goals: [{ to: "best peer", limit: 1.2 }] } as const;
  expect(renderRanks(runOf({ bunnel: [1.3], haproxy: [1] }, { figure }))).toContain("≥ 1.20 ✓");
  expect(renderRanks(runOf({ bunnel: [1.1], haproxy: [1] }, { figure }))).toContain("≥ 1.20 ✗");
});

test("a table has as many cells in each line", () => {
  expect(renderTable(["a", "b", "c"], [["1", "2", "3"]])).toBe("| a | b | c |\n| --- | --- | ---: |\n| 1 | 2 | 3 |");
});

test("a run says what was reached, what was skipped, and what failed with its log, never as a number", () => {
  const run: Run = {
    ...runOf({ bunnel: [0.5], haproxy: [1] }),
    skipped: [{ what: "envoy", why: "not there" }],
    failures: [{ workload: "tcp-up", contender: "nginx", round: 1, message: "exited with 1", logTail: "no such host" }],
  };
  const text = renderRun(run);
  expect(text).toContain("| tcp-up | CPU seconds per GiB | 0.50 | 1.00 haproxy | 0.50 | ≤ 0.60 ✓ |");
  expect(text).toContain("| tcp-up | CPU seconds per GiB | 0.50 | 1.00 | failed |");
  expect(text).toContain("skipped envoy: not there");
  expect(text).toContain("**failed** tcp-up, nginx, round 1: exited with 1\n\n```text\nno such host\n```");
});

test("a workload that was measured on a busy machine is marked", () => {
  const busy = { ...quiet, others: 0.3 };
  expect(renderRun(runOf({ bunnel: [1], haproxy: [1] }, { noise: [busy, busy, quiet] }))).toContain("| tcp-up ⚠ |");
  expect(renderRun(runOf({ bunnel: [1], haproxy: [1] }, { noise: [busy, quiet, quiet] }))).not.toContain("⚠");
});
