// A status as a daemon with two workers would give it, for tests of what is made of it.

import type { Status } from "../../src/snapshot/status.ts";

/** What probes say of an endpoint that has always been well. */
export const UP = {
  health: "up",
  health_since: null,
  reason: "",
  health_changes_total: 0,
  ejected_until: null,
} as const;
/** What they say where there are none. */
export const NOT_PROBED = { ...UP, health: "unknown" } as const;

/** Of a listener. */
export const NOTHING_HAPPENED = { closed: {}, handshakes: {}, bytes_up: 0, bytes_down: 0 } as const;
/** Of a backend. */
export const QUIET_BACKEND = { bytes_up: 0, bytes_down: 0, no_endpoint_total: 0, overloads_total: 0 } as const;

/** Serving, with nothing wrong; `changes` are laid over it. */
export function sampleStatus(changes: Partial<Status> = {}): Status {
  const worker = {
    state: "serving",
    generation: 3,
    uptime_s: 90_000,
    restarts: 0,
    connections: 20,
    event_loop_lag_ms: 0.5,
  } as const;
  return {
    version: "0.1.0",
    runtime: "bun 1.4.5",
    pid: 100,
    started_at: "2026-11-20T00:00:00.000Z",
    uptime_s: 90_000,
    state: "serving",
    generation: 3,
    config: {
      file: "/etc/bunnel/bunnel.yaml",
      last_reload_at: null,
      last_reload_ok: true,
      last_reload_problems: [],
      last_reload_warnings: [],
      certificate_problems: [],
      certificate_sets_refused: 0,
      names_used: 0.25,
    },
    connections: 40,
    connections_elsewhere: 0,
    access_log: { dropped_lines_total: 0 },
    telemetry: { dropped_spans_total: 0 },
    admin: { streams: 0, dropped_streams_total: 0 },
    workers: [
      { ...worker, worker: 1, pid: 101 },
      { ...worker, worker: 2, pid: 102 },
    ],
    worker_restarts: 0,
    event_loop_lag_ms: 1.5,
    listeners: [
      { listener: "edge", address: "0.0.0.0:8443", connections: 40, connections_total: 1_234_567, ...NOTHING_HAPPENED },
    ],
    backends: [
      {
        ...QUIET_BACKEND,
        backend: "db",
        endpoints: [
          { endpoint: "10.0.0.1:5432", connections: 20, connections_total: 617_000, connect_failures_total: 0, ...UP },
          {
            endpoint: "10.0.0.2:5432",
            connections: 20,
            connections_total: 617_567,
            connect_failures_total: 4,
            ...NOT_PROBED,
          },
        ],
      },
    ],
    policies: [{ policy: "clients", mode: "enforce", allowed_total: 0, denied_total: 0, shadow_denied_total: 0 }],
    certificates: [
      {
        used_by: "listener edge",
        role: "certificate",
        file: "/etc/bunnel/edge.pem",
        subject: "CN=edge.internal",
        names: ["edge.internal"],
        not_before: "2026-09-22T01:00:00.000Z",
        not_after: "2026-12-21T01:00:00.000Z",
        days_left: 30,
        renewal: "in_time",
      },
    ],
    ...changes,
  };
}
