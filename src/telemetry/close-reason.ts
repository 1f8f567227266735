// The table of close reasons: every way a connection can end, in one place. The names are public (access log, metrics).
// A record carries exactly one of them, the side that brought it about, and HAProxy's two characters so that existing dashboards
// and habits keep working.

/** Who ended the connection. `proxy` is bunnel itself, by its configuration or its operator. */
export type CloseSide = "downstream" | "upstream" | "proxy";

/** How far a connection had come when it ended. */
export type Phase = "accept" | "peek" | "handshake" | "connect" | "relay";

interface ReasonEntry {
  readonly side: CloseSide;
  /**
   * HAProxy's termination state (configuration manual, 8.5): who (C client, S server, P proxy, R resource, K admin, I internal, D down,
   * c/s a time-out on that side) and in which phase (R request, C connect, D data, - after a normal end).
   */
  readonly termination: string;
  /** `info`: nobody has to look at it. `warn`: the connection failed, was refused, or was cut. */
  readonly level: "info" | "warn";
  /** One sentence for documentation and dashboards. */
  readonly meaning: string;
}

/** The table. */
export const CLOSE_REASONS = {
  completed: { side: "downstream", termination: "--", level: "info", meaning: "Both directions ended in order." },
  limit_reached: {
    side: "proxy",
    termination: "RC",
    level: "warn",
    meaning:
      "A connection limit (process, listener or source) or the rate of a source was reached at accept, or descriptors ran out.",
  },
  source_denied: {
    side: "proxy",
    termination: "PR",
    level: "warn",
    meaning: "The source address is not in allow_sources or trusted_sources.",
  },
  peek_timeout: {
    side: "downstream",
    termination: "cR",
    level: "warn",
    meaning: "The first bytes did not arrive within peek_timeout.",
  },
  malformed_header: {
    side: "downstream",
    termination: "PR",
    level: "warn",
    meaning: "The required PROXY protocol header was absent or malformed.",
  },
  not_tls: {
    side: "downstream",
    termination: "PR",
    level: "warn",
    meaning: "No route takes plain bytes, and the first bytes are no TLS ClientHello.",
  },
  no_route: { side: "proxy", termination: "PR", level: "warn", meaning: "No route matches the SNI, ALPN and source." },
  handshake_timeout: {
    side: "downstream",
    termination: "cR",
    level: "warn",
    meaning: "The TLS handshake did not end within handshake_timeout.",
  },
  handshake_failed: {
    side: "downstream",
    termination: "PR",
    level: "warn",
    meaning: "The TLS handshake failed for another reason than the client's certificate.",
  },
  handshake_overload: {
    side: "proxy",
    termination: "RR",
    level: "warn",
    meaning: "The client had not ended its handshake yet, and others were waiting for the place.",
  },
  certificate_rejected: {
    side: "downstream",
    termination: "PR",
    level: "warn",
    meaning: "The client's certificate was absent or did not verify.",
  },
  policy_denied: {
    side: "proxy",
    termination: "PR",
    level: "warn",
    meaning: "The policy of the route denied the identity or source.",
  },
  no_endpoint: {
    side: "upstream",
    termination: "SC",
    level: "warn",
    meaning: "The backend had no endpoint that may take another connection.",
  },
  backend_overload: {
    side: "proxy",
    termination: "sQ",
    level: "warn",
    meaning:
      "The backend was at its limits, and there was no place in its queue or no room within the queue's timeout.",
  },
  connect_refused: {
    side: "upstream",
    termination: "SC",
    level: "warn",
    meaning: "Every endpoint tried refused the connection or was unreachable.",
  },
  connect_timeout: {
    side: "upstream",
    termination: "sC",
    level: "warn",
    meaning: "Every endpoint tried failed, the last by not answering within connect_timeout.",
  },
  upstream_handshake_timeout: {
    side: "upstream",
    termination: "sC",
    level: "warn",
    meaning: "Every endpoint tried failed, the last by not ending its TLS handshake within connect_timeout.",
  },
  upstream_handshake_failed: {
    side: "upstream",
    termination: "SC",
    level: "warn",
    meaning: "Every endpoint tried failed, the last in its TLS handshake for another reason than its certificate.",
  },
  upstream_certificate_rejected: {
    side: "upstream",
    termination: "SC",
    level: "warn",
    meaning: "Every endpoint tried failed, the last because its certificate did not verify or was for somebody else.",
  },
  downstream_left: {
    side: "downstream",
    termination: "CR",
    level: "info",
    meaning: "The client went away before it had been routed.",
  },
  downstream_reset: {
    side: "downstream",
    termination: "CD",
    level: "warn",
    meaning: "The client reset the connection, or vanished.",
  },
  upstream_reset: {
    side: "upstream",
    termination: "SD",
    level: "warn",
    meaning: "The endpoint reset the connection, or vanished.",
  },
  downstream_truncated: {
    side: "downstream",
    termination: "CD",
    level: "warn",
    meaning: "The client's TLS stream ended without close_notify: it may have been cut.",
  },
  upstream_truncated: {
    side: "upstream",
    termination: "SD",
    level: "warn",
    meaning: "The endpoint's TLS stream ended without close_notify: it may have been cut.",
  },
  policy_revoked: {
    side: "proxy",
    termination: "KD",
    level: "warn",
    meaning: "The policy of the route was changed and now denies the identity or source.",
  },
  certificate_revoked: {
    side: "proxy",
    termination: "KD",
    level: "warn",
    meaning: "Authorities or revocation lists were changed, and the peer's certificate no longer verifies.",
  },
  certificate_expired: {
    side: "proxy",
    termination: "KD",
    level: "warn",
    meaning: "The peer's certificate expired while connected, and on_expiry is close.",
  },
  endpoint_down: {
    side: "upstream",
    termination: "DD",
    level: "warn",
    meaning: "Probes found the endpoint to be down, and on_down is close.",
  },
  idle_timeout: {
    side: "proxy",
    termination: "cD",
    level: "info",
    meaning: "No byte moved for idle_timeout, or half_close_idle_timeout after one direction had ended.",
  },
  lifetime_exceeded: {
    side: "proxy",
    termination: "PD",
    level: "info",
    meaning: "The connection reached max_lifetime.",
  },
  admin_closed: {
    side: "proxy",
    termination: "KD",
    level: "warn",
    meaning: "An operator closed the connection through the admin API.",
  },
  drain_idle: {
    side: "proxy",
    termination: "KD",
    level: "info",
    meaning: "The process was stopped, or the listener removed, and no byte had moved since then and for some seconds.",
  },
  drain_timeout: {
    side: "proxy",
    termination: "KD",
    level: "warn",
    meaning: "The process was stopped and drain_timeout passed.",
  },
  internal_error: {
    side: "proxy",
    termination: "ID",
    level: "warn",
    meaning: "A defect in bunnel; the detail names it. Please report it.",
  },
} as const satisfies Readonly<Record<string, ReasonEntry>>;

/** A name from the table. */
export type CloseReason = keyof typeof CLOSE_REASONS;

/** HAProxy's characters for a reason, in the phase the connection had come to: a reset is CR before routing, CC while dialling, CD after. */
export function terminationOf(reason: CloseReason, phase: Phase): string {
  const characters = CLOSE_REASONS[reason].termination;
  if (!characters.endsWith("D") || phase === "relay") return characters;
  return characters.charAt(0) + (phase === "connect" ? "C" : "R");
}

/** Whether a connection that ended so has failed, was refused or was cut: somebody may want to know why. */
export function isFailure(reason: CloseReason): boolean {
  return CLOSE_REASONS[reason].level === "warn";
}
