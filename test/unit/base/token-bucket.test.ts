// The arithmetic of rates: what comes in a second, what is saved up, and who waits how long for a debt.

import { describe, expect, test } from "bun:test";
import { TokenBucket } from "../../../src/base/token-bucket.ts";

describe("a bucket of one second at 10 per second", () => {
  test("begins full, holds ten, and gives one every 100 ms after that", () => {
    const bucket = new TokenBucket(1000);
    for (let taken = 0; taken < 10; taken++) {
      expect(bucket.waitMs(1, 10, 5000)).toBe(0);
      bucket.take(1, 10, 5000);
    }
    expect(bucket.available(10, 5000)).toBe(0);
    expect(bucket.waitMs(1, 10, 5000)).toBe(100);
    expect(bucket.waitMs(1, 10, 5060)).toBe(40);
    expect(bucket.waitMs(1, 10, 5100)).toBe(0);
  });

  test("never holds more than ten, however long nothing is taken", () => {
    const bucket = new TokenBucket(1000);
    bucket.take(1, 10, 0);
    expect(bucket.available(10, 3_600_000)).toBe(10);
  });

  test("gives the rate and one burst over any time", () => {
    const bucket = new TokenBucket(1000);
    let taken = 0;
    for (let nowMs = 0; nowMs <= 60_000; nowMs += 7) {
      if (bucket.waitMs(1, 10, nowMs) > 0) continue;
      bucket.take(1, 10, nowMs);
      taken++;
    }
    expect(taken).toBeGreaterThanOrEqual(605);
    expect(taken).toBeLessThanOrEqual(610);
  });
});

test("a debt is paid in its turn: who took first waits no longer because others took after", () => {
  const bucket = new TokenBucket(100);
  bucket.take(1100, 1000, 0);
  expect(bucket.waitMs(0, 1000, 0)).toBe(1000);
  bucket.take(500, 1000, 0);
  expect(bucket.waitMs(0, 1000, 0)).toBe(1500);
  expect(bucket.available(1000, 1000)).toBe(0);
  expect(bucket.waitMs(0, 1000, 1500)).toBe(0);
  expect(bucket.available(1000, 1550)).toBe(50);
});

test("a bucket goes on where another one was left", () => {
  const first = new TokenBucket(1000);
  first.take(10, 10, 0);
  expect(new TokenBucket(1000, first.fullMs).waitMs(1, 10, 0)).toBe(100);
});
