// The order of names is where they are counted in memory that a successor of another version takes over: it may only grow at its end.

import { expect, test } from "bun:test";
import { ENDPOINT_METERS, LISTENER_METERS } from "../../../src/snapshot/meters.ts";
import { CLOSE_REASONS } from "../../../src/telemetry/close-reason.ts";
import {
  CLOSE_REASON_NAMES,
  CONNECT_FAILURES,
  closeReasonPlace,
  connectFailurePlace,
  failedHandshake,
  HANDSHAKE_RESULTS,
  handshakePlace,
} from "../../../src/telemetry/outcomes.ts";

/** As they were when LAYOUT of snapshot/counts.ts was last changed. */
const REASONS_THEN = [
  "completed",
  "limit_reached",
  "source_denied",
  "peek_timeout",
  "malformed_header",
  "not_tls",
  "no_route",
  "handshake_timeout",
  "handshake_failed",
  "handshake_overload",
  "certificate_rejected",
  "policy_denied",
  "no_endpoint",
  "backend_overload",
  "connect_refused",
  "connect_timeout",
  "upstream_handshake_timeout",
  "upstream_handshake_failed",
  "upstream_certificate_rejected",
  "downstream_left",
  "downstream_reset",
  "upstream_reset",
  "downstream_truncated",
  "upstream_truncated",
  "policy_revoked",
  "certificate_revoked",
  "certificate_expired",
  "endpoint_down",
  "idle_timeout",
  "lifetime_exceeded",
  "admin_closed",
  "drain_idle",
  "drain_timeout",
  "internal_error",
];
const RESULTS_THEN = ["ok", "failed", "timeout", "certificate_rejected", "overload", "abandoned"];
const FAILURES_THEN = [
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
];

test("new names stand behind those that there were, or else LAYOUT is to be changed, and this list with it", () => {
  expect<string[]>(CLOSE_REASON_NAMES.slice(0, REASONS_THEN.length)).toEqual(REASONS_THEN);
  expect<string[]>([...HANDSHAKE_RESULTS].slice(0, RESULTS_THEN.length)).toEqual(RESULTS_THEN);
  expect<string[]>([...CONNECT_FAILURES].slice(0, FAILURES_THEN.length)).toEqual(FAILURES_THEN);
});

test("each has a place of its own, within the room that there is", () => {
  expect(CLOSE_REASON_NAMES.map(closeReasonPlace)).toEqual([...CLOSE_REASON_NAMES.keys()]);
  expect(CLOSE_REASON_NAMES.length).toBeLessThanOrEqual(LISTENER_METERS.handshakes - LISTENER_METERS.closed);
  expect(HANDSHAKE_RESULTS.map(handshakePlace)).toEqual([...HANDSHAKE_RESULTS.keys()]);
  expect(HANDSHAKE_RESULTS.length).toBeLessThanOrEqual(LISTENER_METERS.handshakeSeconds - LISTENER_METERS.handshakes);
  expect(CONNECT_FAILURES.map(connectFailurePlace)).toEqual([...CONNECT_FAILURES.keys()]);
  expect(CONNECT_FAILURES.length).toBeLessThanOrEqual(16 - ENDPOINT_METERS.failures);
});

test("codes that nobody thought of are counted as other", () => {
  expect(CONNECT_FAILURES[connectFailurePlace("EPROTOTYPE")]).toBe("other");
});

test("every reason of the phase of handshakes has a result of its own, and the rest is abandoned", () => {
  const named = CLOSE_REASON_NAMES.filter((reason) => failedHandshake(reason) !== "abandoned");
  const ofHandshakes = Object.keys(CLOSE_REASONS).filter((reason) => /^(handshake_|certificate_rejected)/.test(reason));
  expect<string[]>([...named]).toEqual(ofHandshakes);
  expect(failedHandshake("drain_timeout")).toBe("abandoned");
});
