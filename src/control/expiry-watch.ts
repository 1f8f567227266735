// Says ahead of time that a certificate or a revocation list is about to expire: when its renewal is due and when it is overdue (a week and a day
// before, or less for one with a short life), and when it has expired. Of one that lives for months it tells a month before, too.

import type { Log } from "../telemetry/log.ts";
import type { Expiring } from "./findings.ts";
import { DAY_MS, dueAheadMs, overdueAheadMs, type Validity } from "./renewal.ts";

const MONTH_MS = 30 * DAY_MS;

/** Logs each certificate once for each stage that it has reached. */
export class ExpiryWatch {
  readonly #log: Pick<Log, "warn" | "error">;
  #expiring: readonly Expiring[] = [];
  readonly #told = new Map<string, number>();

  constructor(log: Pick<Log, "warn" | "error">) {
    this.#log = log;
  }

  /** Watches these instead of those before. */
  replace(expiring: readonly Expiring[]): void {
    this.#expiring = expiring;
    const keys = new Set(expiring.map(keyOf));
    for (const key of [...this.#told.keys()]) if (!keys.has(key)) this.#told.delete(key);
  }

  /** Says what is new at this moment (ms since 1970). */
  look(nowMs: number): void {
    for (const one of this.#expiring) {
      const leftMs = one.notAfterMs - nowMs;
      const stage = stagesOf(one).find((aheadMs) => leftMs <= aheadMs);
      const key = keyOf(one);
      if (stage === undefined || (this.#told.get(key) ?? Number.POSITIVE_INFINITY) <= stage) continue;
      this.#told.set(key, stage);
      const { what, file, subject, notAfterMs } = one;
      const fields = { file, subject, not_after: new Date(notAfterMs).toISOString() };
      if (leftMs <= 0) this.#log.error(fields, `${what} has expired`);
      else this.#log.warn({ ...fields, days_left: Math.floor((leftMs / DAY_MS) * 10) / 10 }, `${what} expires soon`);
    }
  }
}

/** How long before the end to tell, the latest moment first. */
function stagesOf(validity: Validity): readonly number[] {
  const isLong = validity.notAfterMs - validity.notBeforeMs >= 2 * MONTH_MS;
  return [0, overdueAheadMs(validity), dueAheadMs(validity), ...(isLong ? [MONTH_MS] : [])];
}

function keyOf({ what, file, subject, notAfterMs }: Expiring): string {
  return `${what} ${file} ${subject} ${notAfterMs}`;
}
