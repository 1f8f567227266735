// When an operator is told that a certificate is about to expire: early enough, once for each stage, and never again for one that was renewed.

import { beforeEach, describe, expect, test } from "bun:test";
import { ExpiryWatch } from "../../../src/control/expiry-watch.ts";
import type { Expiring } from "../../../src/control/findings.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const END_MS = Date.UTC(2030, 0, 1);

interface Line {
  readonly level: "warn" | "error";
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

let lines: Line[];
let watch: ExpiryWatch;

beforeEach(() => {
  lines = [];
  const at =
    (level: Line["level"]) =>
    (fields: object, message: string): void =>
      void lines.push({ level, message, fields: { ...fields } });
  // pino's own type has many forms; the watch uses this one.
  watch = new ExpiryWatch({ warn: at("warn"), error: at("error") } as unknown as ConstructorParameters<
    typeof ExpiryWatch
  >[0]);
});

/** A certificate that ends at END_MS. */
function certificate(lifetimeMs: number, overrides: Partial<Expiring> = {}): Expiring {
  const validity = { notBeforeMs: END_MS - lifetimeMs, notAfterMs: END_MS };
  const which = {
    what: "a certificate",
    role: "certificate",
    file: "edge.pem",
    subject: "CN=edge",
    names: [],
  } as const;
  return { ...which, ...validity, ...overrides };
}

/** How long before the end something was said, looking every hour (or `stepMs`) over the last `fromMs`. */
function toldAt(fromMs: number, stepMs = HOUR_MS): number[] {
  const moments: number[] = [];
  for (let leftMs = fromMs; leftMs >= -fromMs; leftMs -= stepMs) {
    const before = lines.length;
    watch.look(END_MS - leftMs);
    watch.look(END_MS - leftMs);
    for (let count = before; count < lines.length; count++) moments.push(leftMs);
  }
  return moments;
}

describe("a certificate is told of", () => {
  test("30, 7 and 1 days ahead and at its end, once each, however often it is looked at", () => {
    watch.replace([certificate(365 * DAY_MS)]);
    expect(toldAt(40 * DAY_MS)).toEqual([30 * DAY_MS, 7 * DAY_MS, DAY_MS, 0]);
    expect(lines.map(({ level, message }) => [level, message])).toEqual([
      ["warn", "a certificate expires soon"],
      ["warn", "a certificate expires soon"],
      ["warn", "a certificate expires soon"],
      ["error", "a certificate has expired"],
    ]);
    const end = new Date(END_MS).toISOString();
    expect(lines[0]?.fields).toEqual({ file: "edge.pem", subject: "CN=edge", not_after: end, days_left: 30 });
    expect(lines[3]?.fields).toEqual({ file: "edge.pem", subject: "CN=edge", not_after: end });
  });

  test("only from 7 days on when it lives for 45: at 30 days it would be new", () => {
    watch.replace([certificate(45 * DAY_MS)]);
    expect(toldAt(44 * DAY_MS)).toEqual([7 * DAY_MS, DAY_MS, 0]);
  });

  test("when a quarter and a tenth of its life are left, where it lives for hours", () => {
    watch.replace([certificate(20 * HOUR_MS)]);
    expect(toldAt(19 * HOUR_MS)).toEqual([5 * HOUR_MS, 2 * HOUR_MS, 0]);
    expect(lines[0]?.fields.days_left).toBe(0.2);
  });

  test("once, for the stage that has come, when several have passed unseen", () => {
    watch.replace([certificate(365 * DAY_MS)]);
    watch.look(END_MS - 3 * DAY_MS);
    expect(lines.map(({ fields }) => fields.days_left)).toEqual([3]);
    watch.look(END_MS - 2 * DAY_MS);
    expect(lines).toHaveLength(1);
  });

  test("as an error at once when it has expired already", () => {
    watch.replace([certificate(365 * DAY_MS)]);
    watch.look(END_MS + 400 * DAY_MS);
    watch.look(END_MS + 401 * DAY_MS);
    expect(lines.map(({ level }) => level)).toEqual(["error"]);
  });
});

test("a revocation list is told of as one, also beside a certificate that is named alike", () => {
  watch.replace([certificate(365 * DAY_MS), certificate(365 * DAY_MS, { what: "a revocation list" })]);
  watch.look(END_MS - 2 * DAY_MS);
  watch.look(END_MS + 1);
  expect(lines.map(({ message }) => message)).toEqual([
    "a certificate expires soon",
    "a revocation list expires soon",
    "a certificate has expired",
    "a revocation list has expired",
  ]);
});

describe("replacing", () => {
  const soonMs = END_MS - 2 * DAY_MS;

  test("the same set again says nothing again", () => {
    watch.replace([certificate(365 * DAY_MS)]);
    watch.look(soonMs);
    watch.replace([certificate(365 * DAY_MS)]);
    watch.look(soonMs);
    expect(lines).toHaveLength(1);
  });

  test("a renewed certificate is told of anew when its own time comes, and the old one no more", () => {
    watch.replace([certificate(365 * DAY_MS)]);
    watch.look(soonMs);
    watch.replace([certificate(365 * DAY_MS, { notAfterMs: END_MS + 90 * DAY_MS })]);
    watch.look(soonMs);
    watch.look(END_MS + DAY_MS);
    expect(lines).toHaveLength(1);
    watch.look(END_MS + 85 * DAY_MS);
    expect(lines.map(({ fields }) => fields.days_left)).toEqual([2, 5]);
  });

  test("one that went and came back is told of again", () => {
    watch.replace([certificate(365 * DAY_MS)]);
    watch.look(soonMs);
    watch.replace([]);
    watch.look(soonMs);
    watch.replace([certificate(365 * DAY_MS)]);
    watch.look(soonMs);
    expect(lines).toHaveLength(2);
  });

  test("each file is told of by itself", () => {
    watch.replace([certificate(365 * DAY_MS), certificate(365 * DAY_MS, { file: "other.pem" })]);
    watch.look(soonMs);
    expect(lines.map(({ fields }) => fields.file)).toEqual(["edge.pem", "other.pem"]);
  });
});
