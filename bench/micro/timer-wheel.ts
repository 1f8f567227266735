// What deadlines cost: arming one and disarming it, moving one, and a tick of the wheel with 20,000 armed, of which none fires.
//
// On an Intel Xeon with two CPUs that others used too (Bun 1.4.5), medians in ns: 8, 16 and 46.
import { Clock, TICK_MS, Timer } from "../../src/base/clock.ts";
import type { Micro } from "./micro.ts";

const TIMERS = 20_000;
const FAR_MS = 3_600_000;

const clock = new Clock(1);
const timers = Array.from({ length: TIMERS }, () => new Timer(() => {}));
for (const [index, timer] of timers.entries()) clock.arm(timer, FAR_MS + index);
const other = new Timer(() => {});
let turn = 0;

/** See micro.ts. */
export const MICRO: readonly Micro[] = [
  {
    name: "timer wheel: arm and disarm",
    budget: 60,
    call: () => {
      clock.arm(other, 30_000);
      clock.disarm(other);
    },
  },
  {
    name: `timer wheel: move one of ${TIMERS.toLocaleString("en")}`,
    budget: 150,
    call: () => {
      turn = (turn + 1) % TIMERS;
      clock.arm(timers[turn] as Timer, FAR_MS + turn);
    },
  },
  {
    name: `timer wheel: a tick with ${TIMERS.toLocaleString("en")} armed`,
    budget: 300,
    call: () => {
      // Those that have come near are moved away, as traffic does; so none ever fires.
      turn = (turn + 1) % TIMERS;
      clock.arm(timers[turn] as Timer, FAR_MS);
      clock.advance(clock.nowMs + TICK_MS);
    },
  },
];
