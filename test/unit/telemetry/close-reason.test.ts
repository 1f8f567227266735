import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CLOSE_REASONS, type CloseReason, type Phase, terminationOf } from "../../../src/telemetry/close-reason.ts";

const PROXY = join(import.meta.dir, "../../../src/proxy");
const REASONS = Object.keys(CLOSE_REASONS) as CloseReason[];

describe("terminationOf", () => {
  const cases: readonly [CloseReason, Phase, string][] = [
    ["completed", "relay", "--"],
    ["downstream_reset", "peek", "CR"],
    ["downstream_reset", "handshake", "CR"],
    ["downstream_reset", "connect", "CC"],
    ["downstream_reset", "relay", "CD"],
    ["upstream_reset", "connect", "SC"],
    ["upstream_reset", "relay", "SD"],
    ["drain_timeout", "peek", "KR"],
    ["drain_timeout", "connect", "KC"],
    ["drain_timeout", "relay", "KD"],
    ["idle_timeout", "relay", "cD"],
    ["connect_timeout", "connect", "sC"],
    ["connect_refused", "connect", "SC"],
    ["peek_timeout", "peek", "cR"],
    ["policy_denied", "handshake", "PR"],
  ];
  for (const [reason, phase, characters] of cases) {
    test(`${reason} in phase ${phase} is ${characters}`, () => {
      expect(terminationOf(reason, phase)).toBe(characters);
    });
  }

  test("is always two of HAProxy's characters", () => {
    for (const reason of REASONS) {
      for (const phase of ["accept", "peek", "handshake", "connect", "relay"] as const)
        expect(terminationOf(reason, phase)).toMatch(/^(--|[CSPLRIDUKcs][RQCHDLT])$/);
    }
  });
});

describe("the table", () => {
  test("every reason is a sentence to be shown", () => {
    for (const reason of REASONS) expect(CLOSE_REASONS[reason].meaning).toMatch(/^[A-Z].*\.$/);
  });

  test("every reason is given somewhere in the data plane", () => {
    const names = readdirSync(PROXY, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
    const sources = names.map((name) => readFileSync(join(PROXY, name), "utf8"));
    const given = (reason: string): boolean => sources.some((source) => source.includes(`"${reason}"`));
    expect(REASONS.filter((reason) => !given(reason))).toEqual([]);
  });
});
