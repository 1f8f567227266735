// The clock of the process. It ticks only while a timer is armed: a daemon without connections sleeps.

import { clearInterval, setInterval } from "node:timers";
import { Clock, TICK_MS } from "../../base/clock.ts";

let ticking: ReturnType<typeof setInterval> | null = null;

/** Stands still while no timer is armed; `refresh` it before reading it in a place where that may be so. */
export const clock = new Clock(performance.now(), () => {
  if (ticking !== null) return;
  clock.advance(performance.now());
  ticking = setInterval(tick, TICK_MS);
  // Does not keep the process alive by itself.
  ticking.unref();
});

/** Sets the clock right if it may have stood still. */
export function refresh(): void {
  if (ticking === null) clock.advance(performance.now());
}

function tick(): void {
  clock.advance(performance.now());
  if (clock.armed > 0 || ticking === null) return;
  clearInterval(ticking);
  ticking = null;
}
