import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Clock, TICK_MS, Timer } from "../../../src/base/clock.ts";

const ROUND_MS = TICK_MS * 2048;

describe("Clock", () => {
  test("fires a timer once, when its deadline has passed, and not before", () => {
    const clock = new Clock();
    const fired = timers(clock, 1);
    clock.arm(fired.timers[0] as Timer, 100);
    clock.advance(99);
    expect(fired.log).toEqual([]);
    clock.advance(100);
    expect(fired.log).toEqual([0]);
    expect(clock.armed).toBe(0);
    clock.advance(10 * ROUND_MS);
    expect(fired.log).toEqual([0]);
  });

  test("a delay of zero at time zero is armed, fires at the next tick and can be disarmed", () => {
    const clock = new Clock();
    const {
      timers: [first, second],
      log,
    } = timers(clock, 2);
    clock.arm(first as Timer, 0);
    clock.arm(second as Timer, 0);
    expect(clock.armed).toBe(2);
    clock.disarm(first as Timer);
    expect(clock.armed).toBe(1);
    clock.advance(TICK_MS);
    expect(log).toEqual([1]);
  });

  test("arming an armed timer moves it", () => {
    const clock = new Clock(1000);
    const {
      timers: [timer],
      log,
    } = timers(clock, 1);
    clock.arm(timer as Timer, 50);
    clock.arm(timer as Timer, 500);
    expect(clock.armed).toBe(1);
    clock.advance(1400);
    expect(log).toEqual([]);
    clock.advance(1500);
    expect(log).toEqual([0]);
  });

  test("a deadline of a later round is passed over until its own", () => {
    const clock = new Clock();
    const {
      timers: [timer],
      log,
    } = timers(clock, 1);
    clock.arm(timer as Timer, 3 * ROUND_MS + 100);
    for (let now = 0; now < 3 * ROUND_MS + 100; now += 1000) clock.advance(now);
    expect(log).toEqual([]);
    clock.advance(3 * ROUND_MS + 100);
    expect(log).toEqual([0]);
  });

  test("time does not go backwards", () => {
    const clock = new Clock(500);
    clock.advance(400);
    expect(clock.nowMs).toBe(500);
  });

  test("a handler may disarm a timer that is due in the same tick, and arm itself again", () => {
    const clock = new Clock();
    const log: string[] = [];
    const victim = new Timer(() => log.push("victim"));
    const killer: Timer = new Timer(() => {
      log.push("killer");
      clock.disarm(victim);
      if (log.length < 3) clock.arm(killer, 0);
    });
    clock.arm(killer, 10);
    clock.arm(victim, 10);
    clock.advance(TICK_MS);
    expect(log).toEqual(["killer"]);
    clock.advance(2 * TICK_MS);
    clock.advance(3 * TICK_MS);
    clock.advance(4 * TICK_MS);
    expect(log).toEqual(["killer", "killer", "killer"]);
    expect(clock.armed).toBe(0);
  });

  test("a handler that throws does not cost the others their deadlines", () => {
    const clock = new Clock();
    const log: string[] = [];
    const broken = new Timer(() => {
      throw new Error("defect");
    });
    const first = new Timer(() => log.push("first"));
    const second = new Timer(() => log.push("second"));
    for (const timer of [broken, first, second]) clock.arm(timer, 10);
    expect(() => clock.advance(TICK_MS)).toThrow("defect");
    clock.disarm(second);
    clock.advance(2 * TICK_MS);
    expect(log).toEqual(["first"]);
    expect(clock.armed).toBe(0);
  });

  test("refuses a delay that is no number of ms", () => {
    const clock = new Clock();
    const timer = new Timer(() => {});
    for (const delay of [-1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => clock.arm(timer, delay)).toThrow("finite");
    expect(clock.armed).toBe(0);
  });

  test("agrees with a list that is searched through, whatever is armed, disarmed and advanced", () => {
    const step = fc.oneof(
      fc.record({
        do: fc.constant("arm" as const),
        timer: fc.nat(7),
        ms: fc.oneof(fc.nat(200), fc.nat(3 * ROUND_MS), fc.double({ min: 0, max: 500, noNaN: true })),
      }),
      fc.record({ do: fc.constant("disarm" as const), timer: fc.nat(7) }),
      fc.record({
        do: fc.constant("advance" as const),
        ms: fc.oneof(fc.nat(60), fc.nat(ROUND_MS), fc.nat(4 * ROUND_MS), fc.constant(TICK_MS)),
      }),
    );
    fc.assert(
      fc.property(fc.nat(2 * ROUND_MS), fc.array(step, { maxLength: 60 }), (startMs, steps) => {
        const clock = new Clock(startMs);
        const { timers: all, log } = timers(clock, 8);
        // The model: timer → the first tick at which it may fire.
        const dueTick = new Map<number, number>();
        for (const action of steps) {
          if (action.do === "arm") {
            clock.arm(all[action.timer] as Timer, action.ms);
            const now = Math.floor(clock.nowMs / TICK_MS);
            dueTick.set(action.timer, Math.max(now + 1, Math.ceil((clock.nowMs + action.ms) / TICK_MS)));
          } else if (action.do === "disarm") {
            clock.disarm(all[action.timer] as Timer);
            dueTick.delete(action.timer);
          } else {
            const before = Math.floor(clock.nowMs / TICK_MS);
            log.length = 0;
            clock.advance(clock.nowMs + action.ms);
            const now = Math.floor(clock.nowMs / TICK_MS);
            const expected = [...dueTick].filter(([, tick]) => tick <= now).map(([timer]) => timer);
            expect([...log].sort()).toEqual(expected.sort());
            if (now - before <= 2048) {
              const ticks = log.map((timer) => dueTick.get(timer) ?? -1);
              expect(ticks).toEqual([...ticks].sort((a, b) => a - b));
            }
            for (const timer of expected) dueTick.delete(timer);
          }
          expect(clock.armed).toBe(dueTick.size);
          for (const [index, timer] of all.entries()) expect(timer.deadlineMs !== 0).toBe(dueTick.has(index));
        }
      }),
      { numRuns: 500 },
    );
  });
});

test("who drives a clock is told when it must, and may set it right first", () => {
  const told: number[] = [];
  const clock: Clock = new Clock(1000, () => {
    told.push(clock.armed);
    clock.advance(5000);
  });
  const fired: number[] = [];
  const timer = new Timer(() => fired.push(clock.nowMs));
  clock.arm(timer, 100);
  clock.arm(new Timer(() => {}), 500);
  expect(told).toEqual([0]);
  // A clock that had stood still for hours must not make a deadline of a moment pass at once.
  expect(timer.deadlineMs).toBe(5100);
  clock.advance(5050);
  expect(fired).toEqual([]);
  clock.advance(5125);
  expect(fired).toEqual([5125]);
});

/** Timers that note their index in `log` when they fire. */
function timers(clock: Clock, count: number): { timers: Timer[]; log: number[] } {
  const log: number[] = [];
  const all = Array.from({ length: count }, (_, index) => new Timer(() => log.push(index)));
  expect(clock.armed).toBe(0);
  return { timers: all, log };
}
