// Two readings of a busy daemon, a second apart, for tests of the pictures that are made of them.

import type { Reading } from "../../src/cli/top/reading.ts";
import type { CloseLine, ConnectionRow } from "../../src/snapshot/inspection.ts";
import type { Status } from "../../src/snapshot/status.ts";
import { NOT_PROBED, NOTHING_HAPPENED, sampleStatus, UP } from "./status-sample.ts";

/** A live connection; `changes` are laid over it. */
export function sampleConnection(changes: Partial<ConnectionRow> = {}): ConnectionRow {
  return {
    id: "9f3a21bc-17",
    worker: 1,
    started_at: "2026-11-21T00:54:57.000Z",
    age_ms: 303_000,
    idle_ms: 2000,
    phase: "relay",
    listener: "edge",
    route: "db",
    backend: "db",
    endpoint: "10.0.0.1:5432",
    downstream: "10.1.2.3:51514",
    sni: "orders.db.internal",
    identity: "spiffe://prod/billing/worker",
    tls_version: "TLSv1.3",
    policy_rule: "allow[0]",
    bytes_up: 12_345,
    bytes_down: 67_890_123,
    ...changes,
  };
}

/** A connection that was refused; `changes` are laid over it. */
export function sampleClose(changes: Readonly<Record<string, unknown>> = {}): CloseLine {
  return {
    seq: 7,
    ended_at: "2026-11-21T00:59:58.123Z",
    id: "9f3a21bc-12",
    listener: "edge",
    route: "db",
    downstream: "10.1.2.9:40022",
    sni: "orders.db.internal",
    identity: { uri: ["spiffe://prod/intern/laptop"], dns: [], cn: ["laptop"] },
    close_reason: "policy_denied",
    phase: "handshake",
    policy: "db-clients",
    policy_rule: "default",
    detail: "policy db-clients: no rule matches",
    ...changes,
  };
}

/** One second of traffic: the reading before, and the one after. */
export function sampleReadings(changes: Partial<Status> = {}): { readonly before: Reading; readonly now: Reading } {
  return {
    before: { ...readingAt(0, {}), atMs: 10_000 },
    now: { ...readingAt(1, changes), atMs: 11_000 },
  };
}

function readingAt(second: number, changes: Partial<Status>): Reading {
  const endpoint = (address: string, more: object = UP) => ({
    endpoint: address,
    connections: 20,
    connections_total: 617_000 + second * 6,
    connect_failures_total: second * 2,
    ...UP,
    ...more,
  });
  const status = sampleStatus({
    uptime_s: 89_999 + second,
    listeners: [
      {
        listener: "edge",
        address: "0.0.0.0:8443",
        connections: 40,
        connections_total: 1_234_567 + second * 12,
        ...NOTHING_HAPPENED,
        closed: { completed: 1_234_000, policy_denied: 512 + second * 3 },
        bytes_up: 5_000_000_000 + second * 1_234_567,
        bytes_down: 80_000_000_000 + second * 45_600_000,
      },
      {
        listener: "metrics-of-all-the-hosts",
        address: "[2001:db8::1:2:3]:9100",
        connections: 2,
        connections_total: 99,
        ...NOTHING_HAPPENED,
      },
    ],
    backends: [
      {
        backend: "db",
        overloads_total: 0,
        no_endpoint_total: 0,
        bytes_up: second * 1_234_567,
        bytes_down: second * 45_600_000,
        endpoints: [
          endpoint("10.0.0.1:5432"),
          endpoint("10.0.0.2:5432", {
            health: "down",
            health_since: "2026-11-21T00:55:57.000Z",
            reason: "connect: ECONNREFUSED",
            connections: 0,
          }),
        ],
      },
      {
        backend: "node-exporter",
        overloads_total: 3,
        no_endpoint_total: 1,
        bytes_up: 0,
        bytes_down: 0,
        endpoints: [endpoint("127.0.0.1:9100", { ...NOT_PROBED, connections: 2, connections_total: 99 })],
      },
    ],
    ...changes,
  });
  const connections = [
    sampleConnection({ bytes_down: 67_890_123 + second * 45_000_000, bytes_up: 12_345 + second * 1000 }),
    sampleConnection({
      id: "9f3a21bc-18",
      downstream: "10.1.2.4:40000",
      age_ms: 900,
      started_at: "2026-11-21T00:59:59.100Z",
      phase: "handshake",
      identity: "",
      endpoint: "",
      bytes_up: 0,
      bytes_down: 0,
    }),
  ];
  const closes = [
    sampleClose(),
    sampleClose({
      seq: 6,
      ended_at: "2026-11-21T00:58:00.000Z",
      close_reason: "connect_refused",
      backend: "db",
      endpoint: "10.0.0.2:5432",
      policy: "",
      detail: "every attempt failed",
      error: "ECONNREFUSED",
    }),
  ];
  return { atMs: 0, status, connections, matching: 2, closes };
}
