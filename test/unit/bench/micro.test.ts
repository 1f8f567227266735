// The runner of the micro-benchmarks: beyond its budget is a failure, and so is a file that cannot be measured.
import { expect, test } from "bun:test";
import { isWithin, lineOf, runMicro } from "../../../bench/micro/run.ts";

test("the median decides, and the line says so", () => {
  const result = { name: "a pick", budget: 100, median: 90.5, min: 80, max: 5000 };
  expect(isWithin(result)).toBe(true);
  expect(lineOf(result)).toMatch(/^a pick +≤ 100 ✓ 90\.5 \(80\.0\.\.5,000\)$/);
  expect(isWithin({ ...result, median: 101 })).toBe(false);
  expect(lineOf({ ...result, median: 101 })).toContain("✗ 101");
});

test("a file is measured in a process of its own, each thing beside its budget", async () => {
  const names: string[] = [];
  await runMicro(["timer-wheel.ts"], ({ name, budget, median }) => {
    names.push(name);
    expect([budget > 0, median > 0]).toEqual([true, true]);
  });
  expect(names).toContain("timer wheel: arm and disarm");
});

test("a file that fails is no success", async () => {
  expect(await runMicro(["none.ts"], () => {})).toBe(false);
});
