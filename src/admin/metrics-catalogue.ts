// The catalogue of metrics: names, labels and where each value is read. They are public. Every label has a bounded set of values, which the config or a table of
// ours gives; none is ever an address or a name of a client.

import { terminates } from "../control/meter-status.ts";
import {
  BACKEND_METERS,
  type Bounds,
  BYTES_METERS,
  type BytesBlock,
  ENDPOINT_METERS,
  LISTENER_METERS,
  LONG_BOUNDS,
  type Meters,
  SHORT_BOUNDS,
} from "../snapshot/meters.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { Status } from "../snapshot/status.ts";
import { CONNECT_FAILURES } from "../telemetry/outcomes.ts";

/** What metrics are read from. */
export interface MetricsSource {
  readonly status: Status;
  /** That the status is of. */
  readonly snapshot: Snapshot;
  readonly meters: Meters;
  /** Where bytes are counted, also those of routes that are no more. */
  readonly bytesBlocks: readonly BytesBlock[];
}

/** One line of the exposition. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  /** Of a part of a histogram: `_bucket`, `_sum` or `_count`. */
  readonly suffix?: string;
}

export interface Metric {
  /** Without the prefix. */
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  /** Those of a histogram without `le`. */
  readonly labels: readonly string[];
  readonly help: string;
  /** Those of endpoints, of which there may be many, one after the other: nobody has to wait for all of them. */
  read(source: MetricsSource): Iterable<Sample>;
}

/** What the names begin with. */
export const PREFIX = "bunnel_";

/** The whole of it. */
export const CATALOGUE: readonly Metric[] = [
  {
    name: "build_info",
    type: "gauge",
    labels: ["version", "runtime"],
    help: "Always 1; the version of bunnel and of its runtime.",
    read: ({ status: { version, runtime } }) => [{ labels: { version, runtime }, value: 1 }],
  },
  {
    name: "config_generation",
    type: "gauge",
    labels: [],
    help: "Number of the snapshot in force.",
    read: ({ status: { generation } }) => plain(generation),
  },
  {
    name: "config_last_reload_success",
    type: "gauge",
    labels: [],
    help: "1 if the last reload succeeded or there was none yet, 0 if it was refused and the previous config is still in force.",
    read: ({ status: { config } }) => plain(Number(config.last_reload_ok)),
  },
  {
    name: "config_last_reload_timestamp_seconds",
    type: "gauge",
    labels: [],
    help: "When the config was last read: at the start or at the last reload, whether it succeeded or was refused.",
    read: ({ status: { config, started_at } }) => plain(Date.parse(config.last_reload_at ?? started_at) / 1000),
  },
  {
    name: "certificate_sets_refused_total",
    type: "counter",
    labels: [],
    help: "Changes of certificate, key and list files that were refused since the start.",
    read: ({ status: { config } }) => plain(config.certificate_sets_refused),
  },
  {
    name: "names_used_ratio",
    type: "gauge",
    labels: [],
    help: "Share of the space for names of listeners, backends, endpoints and policies that is used, from 0 to 1. Removed names keep their space until a restart; a reload that would exceed 1 is refused.",
    read: ({ status: { config } }) => plain(config.names_used),
  },
  {
    name: "certificate_files_refused",
    type: "gauge",
    labels: [],
    help: "1 while the certificate, key and list files on the disk are refused and older ones are in use, else 0.",
    read: ({ status: { config } }) => plain(Number(config.certificate_problems.length > 0)),
  },
  {
    name: "certificate_expiry_timestamp_seconds",
    type: "gauge",
    labels: ["used_by", "role", "file", "subject"],
    help: "When a certificate or CRL that a listener or backend uses expires; of CAs and CRLs, those that expire first.",
    read: ofCertificates(({ not_after }) => not_after),
  },
  {
    name: "certificate_not_before_timestamp_seconds",
    type: "gauge",
    labels: ["used_by", "role", "file", "subject"],
    help: "When its validity begins; with the expiry it gives the lifetime, by which an alert can tell how much time left is too little.",
    read: ofCertificates(({ not_before }) => not_before),
  },
  {
    name: "worker_restarts_total",
    type: "counter",
    labels: [],
    help: "Workers that died and were restarted, since the start.",
    read: ({ status: { worker_restarts } }) => plain(worker_restarts),
  },
  {
    name: "event_loop_lag_seconds",
    type: "gauge",
    labels: ["worker"],
    help: "The longest delay of the process's event loop in the last 10 to 20 seconds; worker 0 is the supervisor, or the only process.",
    read: ({ status }) => lags(status),
  },
  {
    name: "access_log_dropped_lines_total",
    type: "counter",
    labels: [],
    help: "Lines of the access log that were dropped because of a full disk or a slow reader.",
    read: ({ status: { access_log } }) => plain(access_log.dropped_lines_total),
  },
  {
    name: "telemetry_dropped_spans_total",
    type: "counter",
    labels: [],
    help: "Spans that have not reached their collector.",
    read: ({ status: { telemetry } }) => plain(telemetry.dropped_spans_total),
  },
  {
    name: "admin_streams_dropped_total",
    type: "counter",
    labels: [],
    help: "Clients of the admin API's event stream that were disconnected because they did not read.",
    read: ({ status: { admin } }) => plain(admin.dropped_streams_total),
  },
  {
    name: "connections_active",
    type: "gauge",
    labels: ["listener"],
    help: "Connections that are open, by the listener that accepted them.",
    read: ofListeners(({ connections }) => connections),
  },
  {
    name: "connections_opened_total",
    type: "counter",
    labels: ["listener"],
    help: "Connections that were accepted.",
    read: ofListeners(({ connections_total }) => connections_total),
  },
  {
    name: "connections_closed_total",
    type: "counter",
    labels: ["listener", "reason"],
    help: "Connections that have ended, by close reason; a reason appears once it has occurred.",
    read: ({ status: { listeners } }) =>
      listeners.flatMap(({ listener, closed }) => byName(closed, listener, "reason")),
  },
  {
    name: "bytes_total",
    type: "counter",
    labels: ["listener", "backend", "direction"],
    help: "Bytes that were relayed: up from clients to endpoints, or down.",
    read: readBytes,
  },
  {
    name: "handshakes_total",
    type: "counter",
    labels: ["listener", "result"],
    help: "TLS handshakes with clients by result; abandoned: the connection ended for another reason meanwhile.",
    read: ({ status: { listeners } }) =>
      listeners.flatMap(({ listener, handshakes }) => byName(handshakes, listener, "result")),
  },
  {
    name: "handshake_duration_seconds",
    type: "histogram",
    labels: ["listener"],
    help: "Duration of successful TLS handshakes with clients.",
    read: (source) =>
      source.snapshot.listeners.flatMap(({ name, meter, routes }) =>
        terminates(routes)
          ? histogram(source, { listener: name }, meter + LISTENER_METERS.handshakeSeconds, SHORT_BOUNDS)
          : [],
      ),
  },
  {
    name: "policy_decisions_total",
    type: "counter",
    labels: ["policy", "decision"],
    help: "Decisions of policies: allow, deny, or shadow_deny for what shadow mode allowed but enforce would deny.",
    read: ({ status: { policies } }) =>
      policies.flatMap(({ policy, allowed_total, denied_total, shadow_denied_total }) => [
        { labels: { policy, decision: "allow" }, value: allowed_total },
        { labels: { policy, decision: "deny" }, value: denied_total },
        { labels: { policy, decision: "shadow_deny" }, value: shadow_denied_total },
      ]),
  },
  {
    name: "connect_duration_seconds",
    type: "histogram",
    labels: ["backend"],
    help: "Time to connect to an endpoint, TLS handshake included, where that succeeded.",
    read: (source) => ofBackends(source, BACKEND_METERS.connectSeconds, SHORT_BOUNDS),
  },
  {
    name: "connection_duration_seconds",
    type: "histogram",
    labels: ["backend"],
    help: "Duration of connections, from accept to end.",
    read: (source) => ofBackends(source, BACKEND_METERS.connectionSeconds, LONG_BOUNDS),
  },
  {
    name: "backend_no_endpoint_total",
    type: "counter",
    labels: ["backend"],
    help: "Connections for which the backend had no usable endpoint.",
    read: ({ status: { backends } }) =>
      backends.map(({ backend, no_endpoint_total: value }) => ({ labels: { backend }, value })),
  },
  {
    name: "backend_overloads_total",
    type: "counter",
    labels: ["backend"],
    help: "Connections that found no room within the backend's limits or its queue.",
    read: ({ status: { backends } }) =>
      backends.map(({ backend, overloads_total: value }) => ({ labels: { backend }, value })),
  },
  {
    name: "endpoint_connections_active",
    type: "gauge",
    labels: ["backend", "endpoint"],
    help: "Connections to the endpoint that are open or being opened.",
    read: ofEndpoints(({ connections }) => connections),
  },
  {
    name: "endpoint_connections_total",
    type: "counter",
    labels: ["backend", "endpoint"],
    help: "Attempts to connect to the endpoint.",
    read: ofEndpoints(({ connections_total }) => connections_total),
  },
  {
    name: "endpoint_connect_failures_total",
    type: "counter",
    labels: ["backend", "endpoint", "code"],
    help: "Failed attempts, by errno or, after the dial, by close reason; a code appears once it has occurred.",
    read: readFailures,
  },
  {
    name: "endpoint_healthy",
    type: "gauge",
    labels: ["backend", "endpoint"],
    help: "1 when the endpoint is up according to its probes, 0 when it is down; absent when it is not probed, or not yet.",
    read: ofEndpoints(({ health }) => (health === "unknown" ? null : Number(health === "up"))),
  },
  {
    name: "endpoint_health_changes_total",
    type: "counter",
    labels: ["backend", "endpoint"],
    help: "How often the endpoint went down or up according to its probes.",
    read: ofEndpoints(({ health_changes_total }) => health_changes_total),
  },
  {
    name: "endpoint_ejected",
    type: "gauge",
    labels: ["backend", "endpoint"],
    help: "1 when the endpoint was ejected because connections failed, and none has succeeded since.",
    read: ofEndpoints(({ ejected_until }) => Number(ejected_until !== null)),
  },
];

function plain(value: number): readonly Sample[] {
  return [{ labels: {}, value }];
}

function ofCertificates(moment: (certificate: Status["certificates"][number]) => string): Metric["read"] {
  return ({ status: { certificates } }) =>
    certificates.map((each) => {
      const { used_by, role, file, subject } = each;
      return { labels: { used_by, role, file, subject }, value: Date.parse(moment(each)) / 1000 };
    });
}

function ofListeners(value: (listener: Status["listeners"][number]) => number): Metric["read"] {
  return ({ status: { listeners } }) =>
    listeners.map((each) => ({ labels: { listener: each.listener }, value: value(each) }));
}

function byName(counts: Readonly<Record<string, number>>, listener: string, label: string): readonly Sample[] {
  return Object.entries(counts).map(([name, value]) => ({ labels: { listener, [label]: name }, value }));
}

function ofEndpoints(
  value: (endpoint: Status["backends"][number]["endpoints"][number]) => number | null,
): Metric["read"] {
  return function* ({ status: { backends } }) {
    for (const { backend, endpoints } of backends)
      for (const each of endpoints) {
        const read = value(each);
        if (read !== null) yield { labels: { backend, endpoint: each.endpoint }, value: read };
      }
  };
}

/** Of two workers of one number, one of which finishes what it has, the longer. */
function lags({ event_loop_lag_ms, workers }: Status): readonly Sample[] {
  const longest = new Map([[0, event_loop_lag_ms]]);
  for (const { worker, event_loop_lag_ms: ms } of workers) longest.set(worker, Math.max(longest.get(worker) ?? 0, ms));
  return [...longest].map(([worker, ms]) => ({ labels: { worker: String(worker) }, value: ms / 1000 }));
}

/** A series stays for as long as its listener or its backend does: their sums are not to fall when a route goes. */
function* readBytes({ snapshot, meters, bytesBlocks }: MetricsSource): Iterable<Sample> {
  const routed = new Set(snapshot.listeners.flatMap(({ routes }) => routes.map(({ bytesMeter }) => bytesMeter)));
  const listeners = new Set(snapshot.listeners.map(({ name }) => name));
  const backends = new Set(snapshot.backends.map(({ name }) => name));
  for (const { listener, backend, place } of bytesBlocks) {
    if (!listeners.has(listener) && !backends.has(backend)) continue;
    const moved = { up: meters.read(place + BYTES_METERS.up), down: meters.read(place + BYTES_METERS.down) };
    if (!routed.has(place) && moved.up + moved.down === 0) continue;
    for (const direction of ["up", "down"] as const)
      yield { labels: { listener, backend, direction }, value: moved[direction] };
  }
}

function* readFailures({ status, snapshot, meters }: MetricsSource): Iterable<Sample> {
  for (const [index, { name: backend, endpoints }] of snapshot.backends.entries())
    for (const [place, { name: endpoint, meter }] of endpoints.entries()) {
      if (status.backends[index]?.endpoints[place]?.connect_failures_total === 0) continue;
      for (const [at, code] of CONNECT_FAILURES.entries()) {
        const value = meters.read(meter + ENDPOINT_METERS.failures + at);
        if (value > 0) yield { labels: { backend, endpoint, code }, value };
      }
    }
}

function ofBackends(source: MetricsSource, offset: number, bounds: Bounds): readonly Sample[] {
  return source.snapshot.backends.flatMap(({ name, meter }) =>
    histogram(source, { backend: name }, meter + offset, bounds),
  );
}

function histogram(
  { meters }: MetricsSource,
  labels: Sample["labels"],
  meter: number,
  bounds: Bounds,
): readonly Sample[] {
  const { counts, sumSeconds } = meters.histogram(meter, bounds);
  let value = 0;
  const buckets = counts.map((count, bucket): Sample => {
    value += count;
    return { labels: { ...labels, le: String(bounds[bucket] ?? "+Inf") }, value, suffix: "_bucket" };
  });
  return [...buckets, { labels, value: sumSeconds, suffix: "_sum" }, { labels, value, suffix: "_count" }];
}
