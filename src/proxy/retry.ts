// When a connection may try all endpoints once more after each has failed. Going on to another endpoint is no retry in this sense: that happens at once and needs no budget.

import type { Ending } from "./ending.ts";

/** The first wait is at most this long, and each one after it may be twice as long as the one before. */
const FIRST_BACK_OFF_MS = 50;
const LONGEST_BACK_OFF_MS = 1000;
/** This many may retry in any case, however few connections there are. */
const LEAST_RETRIES = 3;

/** How long to wait before all endpoints are tried again, for the `round`th time (from 1): full jitter, so that those that failed together do not come together. */
export function backOffMs(round: number, random: () => number): number {
  return random() * Math.min(LONGEST_BACK_OFF_MS, FIRST_BACK_OFF_MS * 2 ** (round - 1));
}

/** How many connections may retry at once, of so many in all. */
export function retriesWithin(budget: number, connections: number): number {
  return Math.max(LEAST_RETRIES, Math.floor(connections * budget));
}

/** Whether a moment may make a difference. A certificate, or another version of TLS, does not get better by asking for it again. */
export function mayPass({ reason }: Ending): boolean {
  return reason !== "upstream_certificate_rejected" && reason !== "upstream_handshake_failed";
}
