// What /metrics is written from, for tests: a status, the snapshot that it is of, and counters in which something has happened.

import type { MetricsSource } from "../../src/admin/metrics-catalogue.ts";
import { backendMeters, byteSums, listenerMeters, policyStatus } from "../../src/control/meter-status.ts";
import { privateMemory } from "../../src/snapshot/counts.ts";
import {
  BACKEND_METERS,
  BYTES_METERS,
  ENDPOINT_METERS,
  LISTENER_METERS,
  LONG_BOUNDS,
  METERS_BYTES,
  MeterBook,
  Meters,
  POLICY_METERS,
  SHORT_BOUNDS,
} from "../../src/snapshot/meters.ts";
import type { Snapshot } from "../../src/snapshot/snapshot.ts";
import type { Status } from "../../src/snapshot/status.ts";
import { closeReasonPlace, connectFailurePlace, handshakePlace } from "../../src/telemetry/outcomes.ts";
import { backendSpec, endpointSpec, listenerSpec, routeSpec, SIM_TERMINATION, snapshotSpec } from "./sim-snapshot.ts";
import { sampleStatus, UP } from "./status-sample.ts";

/** How much there is of everything. */
export interface SampleSize {
  readonly listeners: number;
  readonly backends: number;
  /** Of each backend. */
  readonly endpoints: number;
}

/** One listener `edge`, and one backend `db` with two endpoints; with a size, that many with numbers behind their names. */
export function metricsSample(changes: Partial<Status> = {}, size: SampleSize | null = null): MetricsSource {
  const book = new MeterBook();
  const names = (name: string, count: number): string[] =>
    size === null ? [name] : Array.from({ length: count }, (_, index) => `${name}${index}`);
  const backends = names("db", size?.backends ?? 1).map((name, index) =>
    backendSpec({
      name,
      meter: book.place("backend", name),
      endpoints: Array.from({ length: size?.endpoints ?? 2 }, (_, place) => {
        const address = `10.${index}.0.${place + 1}:5432`;
        return endpointSpec(place, { name: address, meter: book.place("endpoint", `${name} ${address}`) });
      }),
    }),
  );
  const listeners = names("edge", size?.listeners ?? 1).map((name, index) => {
    const backend = index % backends.length;
    const bytesMeter = book.place("bytes", `${name}/${backends[backend]?.name}`);
    // Two routes to the same backend are one to the counters.
    const routes = [1, 2].map(() =>
      routeSpec({ tls: "terminate", termination: SIM_TERMINATION, policy: 0, backend, bytesMeter }),
    );
    return listenerSpec({ name, routes, meter: book.place("listener", name) });
  });
  const policy = { name: "clients", mode: "enforce", meter: book.place("policy", "clients"), rules: [] } as const;
  const snapshot = snapshotSpec({ listeners, backends, policies: [policy] });
  const meters = new Meters(privateMemory(METERS_BYTES), 0);
  happen(snapshot, meters);
  return {
    status: { ...statusOf(snapshot, meters, book), ...changes },
    snapshot,
    meters,
    bytesBlocks: book.bytesBlocks,
  };
}

/** The same for each of a kind. */
function happen({ listeners, backends, policies }: Snapshot, meters: Meters): void {
  for (const { meter, routes } of listeners) {
    meters.add(meter + LISTENER_METERS.closed + closeReasonPlace("completed"), 7);
    meters.add(meter + LISTENER_METERS.closed + closeReasonPlace("idle_timeout"), 2);
    meters.add(meter + LISTENER_METERS.handshakes + handshakePlace("ok"), 2);
    meters.add(meter + LISTENER_METERS.handshakes + handshakePlace("timeout"), 1);
    for (const ms of [0.5, 3]) meters.observe(meter + LISTENER_METERS.handshakeSeconds, SHORT_BOUNDS, ms);
    meters.add((routes[0]?.bytesMeter ?? 0) + BYTES_METERS.up, 2 ** 40);
    meters.add((routes[0]?.bytesMeter ?? 0) + BYTES_METERS.down, 5);
  }
  for (const { meter, endpoints } of backends) {
    for (const ms of [0.25, 20_000]) meters.observe(meter + BACKEND_METERS.connectSeconds, SHORT_BOUNDS, ms);
    meters.observe(meter + BACKEND_METERS.connectionSeconds, LONG_BOUNDS, 61_000);
    meters.add(meter + BACKEND_METERS.noEndpoint, 4);
    for (const endpoint of endpoints)
      meters.add(endpoint.meter + ENDPOINT_METERS.failures + connectFailurePlace("ECONNREFUSED"), 6);
  }
  for (const { meter } of policies) {
    meters.add(meter + POLICY_METERS.allow, 9);
    meters.add(meter + POLICY_METERS.deny, 1);
  }
}

function statusOf(snapshot: Snapshot, meters: Meters, { bytesBlocks }: MeterBook): Status {
  const bytes = byteSums(meters, bytesBlocks);
  return sampleStatus({
    access_log: { dropped_lines_total: 3 },
    telemetry: { dropped_spans_total: 4 },
    listeners: snapshot.listeners.map((listener) => ({
      ...{ listener: listener.name, address: "0.0.0.0:8443", connections: 40, connections_total: 1_234_567 },
      ...listenerMeters(meters, listener, bytes),
    })),
    backends: snapshot.backends.map((backend) => ({
      ...{
        backend: backend.name,
        overloads_total: 0,
        ...backendMeters(meters, backend, bytes),
      },
      endpoints: backend.endpoints.map(({ name: endpoint }) => ({
        ...{ endpoint, connections: 20, connections_total: 617_000, connect_failures_total: 6, ...UP },
      })),
    })),
    policies: snapshot.policies.map((policy) => policyStatus(meters, policy)),
  });
}
