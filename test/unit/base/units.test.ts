import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatDuration, parseDuration } from "../../../src/base/units.ts";

test.each([
  ["250ms", 250],
  ["10s", 10_000],
  ["1.5m", 90_000],
  ["24h", 86_400_000],
  ["7d", 604_800_000],
  ["0s", 0],
  [" 5s ", 5000],
])("the duration %p is %p ms", (text, ms) => expect(parseDuration(text)).toBe(ms));

test.each(["", "5", "s", "-1s", "1 s", "1S", "1e3s", ".5s", "1,5s", "5s5s", "0.4ms", `${"9".repeat(400)}h`])(
  "%p is no duration",
  (text) => expect(parseDuration(text)).toBeNull(),
);

test.each([
  [0, "0s"],
  [250, "250ms"],
  [5000, "5s"],
  [90_000, "90s"],
  [3_600_000, "1h"],
])("%p ms reads %p", (ms, text) => expect(formatDuration(ms)).toBe(text));

test("what is formatted is read back exactly", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.nat(10_000),
        fc.nat(100).map((n) => n * 60_000),
        fc.nat(),
      ),
      (n) => {
        expect(parseDuration(formatDuration(n))).toBe(n);
      },
    ),
  );
});
