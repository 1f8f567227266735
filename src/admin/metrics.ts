// GET /metrics: the catalogue, and the text format 0.0.4 of Prometheus. Names and labels are public. Every label has a bounded set of values that
// the config gives; none is ever an address of a client.

import Registry from "prom-client/lib/registry.js";
import type { Status } from "../snapshot/status.ts";

/** What the text is to be served as. */
export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Metric {
  /** Without the prefix. */
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  read(status: Status): readonly Sample[];
}

const PREFIX = "bunnel_";

const CATALOGUE: readonly Metric[] = [
  {
    name: "build_info",
    type: "gauge",
    help: "Always 1; the version of bunnel and of its runtime.",
    read: ({ version, runtime }) => [{ labels: { version, runtime }, value: 1 }],
  },
  {
    name: "config_generation",
    type: "gauge",
    help: "Number of the snapshot that is served.",
    read: ({ generation }) => plain(generation),
  },
  {
    name: "config_last_reload_success",
    type: "gauge",
    help: "1 if the last reload was taken over or there was none yet, 0 if it was refused and the config before it is served.",
    read: ({ config }) => plain(Number(config.last_reload_ok)),
  },
  {
    name: "config_last_reload_timestamp_seconds",
    type: "gauge",
    help: "When the config was last read: at the last reload, taken over or refused, or at the start.",
    read: ({ config, started_at }) => plain(Date.parse(config.last_reload_at ?? started_at) / 1000),
  },
  {
    name: "certificate_sets_refused_total",
    type: "counter",
    help: "Changes of certificate, key and list files that were refused since the start.",
    read: ({ config }) => plain(config.certificate_sets_refused),
  },
  {
    name: "certificate_files_refused",
    type: "gauge",
    help: "1 while the certificate, key and list files on the disk are refused and older ones are served, else 0.",
    read: ({ config }) => plain(Number(config.certificate_problems.length > 0)),
  },
  {
    name: "worker_restarts_total",
    type: "counter",
    help: "Workers that died and were started anew, since the start.",
    read: ({ worker_restarts }) => plain(worker_restarts),
  },
  {
    name: "connections_active",
    type: "gauge",
    help: "Connections that are open, by the listener that accepted them.",
    read: ofListeners(({ connections }) => connections),
  },
  {
    name: "connections_opened_total",
    type: "counter",
    help: "Connections that were accepted since the start.",
    read: ofListeners(({ connections_total }) => connections_total),
  },
  {
    name: "endpoint_connections_active",
    type: "gauge",
    help: "Connections to the endpoint that are open or being opened.",
    read: ofEndpoints(({ connections }) => connections),
  },
  {
    name: "endpoint_connections_total",
    type: "counter",
    help: "Attempts to connect to the endpoint since the start.",
    read: ofEndpoints(({ connections_total }) => connections_total),
  },
  {
    name: "endpoint_healthy",
    type: "gauge",
    help: "1 when the endpoint is up by its probes, 0 when it is down; absent when it is not probed, or not yet.",
    read: ofEndpoints(({ health }) => (health === "unknown" ? null : Number(health === "up"))),
  },
  {
    name: "endpoint_health_changes_total",
    type: "counter",
    help: "How often the endpoint went down or came up again by its probes, since the start.",
    read: ofEndpoints(({ health_changes_total }) => health_changes_total),
  },
  {
    name: "endpoint_ejected",
    type: "gauge",
    help: "1 when the endpoint was ejected for failing and no connection has succeeded since.",
    read: ofEndpoints(({ ejected_until }) => Number(ejected_until !== null)),
  },
  {
    name: "backend_overloads_total",
    type: "counter",
    help: "Connections that found no room within the backend's limits, and none in its queue in time, since the start.",
    read: ({ backends }) => backends.map(({ backend, overloads_total: value }) => ({ labels: { backend }, value })),
  },
];

/** All metrics of this moment, as text. */
export function metricsText(status: Status): Promise<string> {
  const registry = new Registry();
  for (const { name: suffix, type, help, read } of CATALOGUE) {
    const name = `${PREFIX}${suffix}`;
    const values = read(status);
    registry.registerMetric({ name, type, help, get: () => ({ name, type, help, values }) });
  }
  return registry.metrics();
}

function plain(value: number): readonly Sample[] {
  return [{ labels: {}, value }];
}

function ofListeners(value: (listener: Status["listeners"][number]) => number): Metric["read"] {
  return ({ listeners }) => listeners.map((each) => ({ labels: { listener: each.listener }, value: value(each) }));
}

function ofEndpoints(
  value: (endpoint: Status["backends"][number]["endpoints"][number]) => number | null,
): Metric["read"] {
  return ({ backends }) =>
    backends.flatMap(({ backend, endpoints }) =>
      endpoints.flatMap((each) => {
        const read = value(each);
        return read === null ? [] : [{ labels: { backend, endpoint: each.endpoint }, value: read }];
      }),
    );
}
