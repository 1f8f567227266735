import { afterEach, beforeEach, expect, jest, test } from "bun:test";
import { watchLoopLag } from "../../../src/telemetry/loop-lag.ts";

beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

test("the longest delay is told at once, and for 10 to 20 seconds", () => {
  let now = 0;
  let told = -1;
  let looks = 0;
  const stop = watchLoopLag(
    () => now,
    (ms) => {
      told = ms;
      looks++;
    },
  );
  const pass = (ms: number): void => {
    for (let step = 0; step < ms; step += 100) {
      now += 100;
      jest.advanceTimersByTime(100);
    }
  };
  pass(1000);
  expect([told, looks]).toEqual([0, 10]);
  now += 250;
  pass(100);
  expect(told).toBe(250);
  now += 40;
  pass(100);
  expect(told).toBe(250);
  // Up to the end of the next window, at the longest.
  pass(9000);
  expect(told).toBe(250);
  pass(11_000);
  expect(told).toBe(0);
  // A host that was suspended has no windows in between.
  now += 100_000;
  pass(100);
  expect(told).toBe(100_000);
  stop();
  const before = looks;
  pass(1000);
  expect(looks).toBe(before);
});
