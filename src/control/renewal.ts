// When a certificate or a revocation list should have been replaced by the next one. The log, the status and what shows it go by this, and
// config/alerts.yaml says the same in PromQL.

/** From when to when it is valid, in ms since 1970. */
export interface Validity {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** `due`: it should have been replaced by now. `overdue`: and its end is near, or past. */
export type Renewal = "in_time" | "due" | "overdue";

/** Milliseconds of a day. */
export const DAY_MS = 86_400_000;

/** How long before its end it is due: a quarter of its life, and a week at most. What lives for a day is replaced every few hours. */
export function dueAheadMs({ notBeforeMs, notAfterMs }: Validity): number {
  return Math.min((notAfterMs - notBeforeMs) / 4, 7 * DAY_MS);
}

/** How long before its end it is overdue: a tenth of its life, and a day at most. */
export function overdueAheadMs({ notBeforeMs, notAfterMs }: Validity): number {
  return Math.min((notAfterMs - notBeforeMs) / 10, DAY_MS);
}

/** How it stands with it at that moment (ms since 1970). */
export function renewalOf(validity: Validity, nowMs: number): Renewal {
  const leftMs = validity.notAfterMs - nowMs;
  if (leftMs < overdueAheadMs(validity)) return "overdue";
  return leftMs < dueAheadMs(validity) ? "due" : "in_time";
}
