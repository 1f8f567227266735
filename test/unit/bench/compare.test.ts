// Two runs beside each other: a verdict only beyond the noise, and none from a busy machine or from too few rounds.
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compareRuns, judge, renderComparison } from "../../../bench/compare.ts";
import { keepRun, readRun } from "../../../bench/history.ts";
import { isBusy, isBusyRound, noiseBetween } from "../../../bench/noise.ts";
import { CPU, quiet, runOf } from "./made-up.ts";

const of = (median: number, spread: number) => ({ median, min: median - spread / 2, max: median + spread / 2 });

test("medians that differ by more than both spreads are a verdict, others are not", () => {
  expect(judge(of(1, 0.1), of(1.3, 0.2))).toBe("worse");
  expect(judge(of(1, 0.1), of(0.7, 0.2))).toBe("better");
  expect(judge(of(1, 0.1), of(1.2, 0.2))).toBe("within the noise");
  expect(judge(of(1, 0.4), of(1.3, 0.1))).toBe("within the noise");
  expect(judge(of(1, 0.1), of(1.3, 0.2), true)).toBe("better");
});

test("spreads that are small by luck make no verdict of a small difference", () => {
  expect(judge(of(1, 0.001), of(1.02, 0.001))).toBe("within the noise");
  expect(judge(of(1, 0.001), of(1.04, 0.001))).toBe("worse");
});

test("what slows down with the reference has not changed", () => {
  const before = runOf({ bunnel: [0.5, 0.5, 0.5], haproxy: [1, 1, 1] });
  const slower = runOf({ bunnel: [1, 1.01, 1.02], haproxy: [2, 2.02, 2.04] });
  expect(compareRuns(before, slower)).toMatchObject([
    { contender: "bunnel", isRatio: true, verdict: "within the noise" },
  ]);
  const worse = runOf({ bunnel: [1, 1.01, 1.02], haproxy: [1, 1, 1] });
  expect(compareRuns(before, worse)).toMatchObject([{ verdict: "worse" }]);
  expect(renderComparison(before, worse, compareRuns(before, worse))).toContain("+102.0 % | worse |");
});

test("without the reference the value itself is compared", () => {
  const before = runOf({ bunnel: [1, 1, 1] });
  const after = runOf({ bunnel: [0.5, 0.5, 0.5], haproxy: [1, 1, 1] });
  expect(compareRuns(before, after)).toMatchObject([{ isRatio: false, verdict: "better" }]);
});

test("too few rounds and a busy machine are no verdict", () => {
  const before = runOf({ bunnel: [1, 1, 1] });
  expect(compareRuns(before, runOf({ bunnel: [9, 9] }))).toMatchObject([{ verdict: "too few rounds" }]);
  const busy = runOf({ bunnel: [9, 9, 9] }, { noise: [{ ...quiet, drift: 0.4 }] });
  expect(compareRuns(before, busy)).toMatchObject([{ verdict: "busy machine" }]);
  expect(compareRuns(busy, before)).toMatchObject([{ verdict: "busy machine" }]);
});

test("what is context only, or not in both runs, is not compared", () => {
  const before = runOf({ bunnel: [1, 1, 1] });
  expect(compareRuns(before, runOf({ bunnel: [9, 9, 9] }, { figure: { ...CPU, compared: false } }))).toEqual([]);
  expect(compareRuns(before, { ...before, workloads: [] })).toEqual([]);
  expect(compareRuns(before, runOf({ nginx: [1, 1, 1] }))).toEqual([]);
});

test("another machine and another amount of work are said", () => {
  const before = runOf({ bunnel: [1] });
  const text = renderComparison(before, { ...before, machine: { machine: "two" }, scale: 0.25 }, []);
  expect(text).toContain("Not the same machine");
  expect(text).toContain("Not the same amounts of work");
});

test("a kept run is read as it was, and what is none is refused by name", async () => {
  const folder = mkdtempSync(join(tmpdir(), "bunnel-history-"));
  try {
    const run = runOf({ bunnel: [1, 2, 3.5], haproxy: [2] });
    const file = await keepRun(run, folder);
    expect(file).toEndWith("2026-01-01T0000-abc1234.json");
    expect(await readRun(file)).toEqual(run);
    await Bun.write(join(folder, "other.json"), "{}");
    expect(readRun(join(folder, "other.json"))).rejects.toThrow("other.json is no run of this lab");
    expect(readRun(join(folder, "none.json"))).rejects.toThrow("none.json cannot be read");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("other programs, stolen time and a yardstick that moves make a round busy; one of three busy rounds is bearable", () => {
  const mark = (busy: number, stolen: number, total: number, own: number) => ({
    machine: { busy, stolen, total },
    own,
  });
  const noise = noiseBetween(mark(0, 0, 0, 0), mark(60, 1, 100, 50), { first: 2, last: 2.1 });
  expect(noise).toMatchObject({ others: 0.1, stolen: 0.01 });
  expect(noise.drift).toBeCloseTo(0.05);
  expect(isBusyRound(noise)).toBe(true);
  for (const one of [{ stolen: 0.03 }, { drift: 0.2 }, { others: 0.06 }])
    expect(isBusyRound({ ...quiet, ...one })).toBe(true);
  expect(isBusyRound(quiet)).toBe(false);
  expect(isBusyRound({ others: 0, stolen: 0 })).toBe(false);
  expect([isBusy([quiet, quiet, noise]), isBusy([quiet, noise, noise]), isBusy([])]).toEqual([false, true, false]);
});
