// How things come out, as far as that is counted by name: connections, handshakes, attempts to connect. The place of a name in its list is where it is counted
// in memory that a successor takes over, so new names go at the end, or else LAYOUT of snapshot/counts.ts is to be changed.

import { CLOSE_REASONS, type CloseReason } from "./close-reason.ts";

/** All close reasons, in the order of the table. */
export const CLOSE_REASON_NAMES = Object.keys(CLOSE_REASONS) as readonly CloseReason[];

/** What becomes of handshakes with clients; `abandoned`: the connection was ended meanwhile for a reason beside it. */
export const HANDSHAKE_RESULTS = ["ok", "failed", "timeout", "certificate_rejected", "overload", "abandoned"] as const;
export type HandshakeResult = (typeof HANDSHAKE_RESULTS)[number];

/** Why an endpoint could not be connected to: what the dial met with, or the close reason of what comes after it. */
export const CONNECT_FAILURES = [
  "ECONNREFUSED",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ECONNRESET",
  "EADDRNOTAVAIL",
  "ENOENT",
  "EACCES",
  "upstream_reset",
  "upstream_handshake_timeout",
  "upstream_handshake_failed",
  "upstream_certificate_rejected",
  "other",
] as const;

const REASON_PLACES = placesOf(CLOSE_REASON_NAMES);
const RESULT_PLACES = placesOf(HANDSHAKE_RESULTS);
const FAILURE_PLACES = placesOf(CONNECT_FAILURES);
const OTHER_FAILURE = CONNECT_FAILURES.indexOf("other");

const RESULT_OF: Partial<Record<CloseReason, HandshakeResult>> = {
  handshake_failed: "failed",
  handshake_timeout: "timeout",
  handshake_overload: "overload",
  certificate_rejected: "certificate_rejected",
};

/** The place of a reason in its list. */
export function closeReasonPlace(reason: CloseReason): number {
  return REASON_PLACES.get(reason) as number;
}

/** The place of a result in its list. */
export function handshakePlace(result: HandshakeResult): number {
  return RESULT_PLACES.get(result) as number;
}

/** What a handshake has come to during which a connection ended for this reason. */
export function failedHandshake(reason: CloseReason): HandshakeResult {
  return RESULT_OF[reason] ?? "abandoned";
}

/** The place of a code in its list; codes that are not there count as `other`. */
export function connectFailurePlace(code: string): number {
  return FAILURE_PLACES.get(code) ?? OTHER_FAILURE;
}

function placesOf(names: readonly string[]): ReadonlyMap<string, number> {
  return new Map(names.map((name, place) => [name, place]));
}
