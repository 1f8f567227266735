import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DAY_MS, renewalOf } from "../../../src/control/renewal.ts";

test("a renewal is due and overdue when the alert rules tell of it", () => {
  const rules = readFileSync(join(import.meta.dir, "../../../config/alerts.yaml"), "utf8");
  const limits = [...rules.matchAll(/not_before_timestamp_seconds\) \/ (\d+), ([\d *]+)\)/g)].map(
    ([, part, seconds]) => ({
      part: 1 / Number(part),
      mostMs: (seconds ?? "").split("*").reduce((product, factor) => product * Number(factor), 1000),
    }),
  );
  expect(limits.length).toBe(2);
  for (const days of [1 / 24, 1, 7, 14, 90, 365]) {
    const validity = { notBeforeMs: 0, notAfterMs: days * DAY_MS };
    const [due = 0, overdue = 0] = limits.map(({ part, mostMs }) => Math.min(mostMs, validity.notAfterMs * part));
    const renewalAt = (leftMs: number) => renewalOf(validity, validity.notAfterMs - leftMs);
    const moments = [validity.notAfterMs, due, due - 1, overdue, overdue - 1, 0, -DAY_MS];
    expect(moments.map(renewalAt)).toEqual(["in_time", "in_time", "due", "due", "overdue", "overdue", "overdue"]);
  }
});
