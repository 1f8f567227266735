// What `bunnel top` reads from the daemon, and what two readings, one after the other, tell of the time between them.

import type { CloseLine, ConnectionRow } from "../../snapshot/inspection.ts";
import type { Status } from "../../snapshot/status.ts";
import { failedTotal } from "../status-screen.ts";

/** What the daemon said at one moment. Lists that are not shown are not asked for. */
export interface Reading {
  /** By a monotonic clock, for the time between readings. */
  readonly atMs: number;
  readonly status: Status;
  readonly connections: readonly ConnectionRow[];
  /** Connections that fit the filter, shown or not. */
  readonly matching: number;
  readonly closes: readonly CloseLine[];
}

/** What happens in a second; null where it is not known: at the first reading, or after a new start of the daemon. */
export interface Flow {
  readonly opened: number | null;
  readonly failed: number | null;
  readonly up: number | null;
  readonly down: number | null;
}

/** Of everything that is counted, by its name. */
export interface Flows {
  readonly all: Flow;
  readonly listeners: ReadonlyMap<string, Flow>;
  readonly backends: ReadonlyMap<string, Flow>;
  /** By `endpointKey`. */
  readonly endpoints: ReadonlyMap<string, Flow>;
  /** By the connection's id. */
  readonly connections: ReadonlyMap<string, Flow>;
}

/** Nothing is known. */
export const NO_FLOW: Flow = { opened: null, failed: null, up: null, down: null };

type Totals = Readonly<Record<keyof Flow, number>>;

/** The same endpoint may be in several backends. */
export function endpointKey(backend: string, endpoint: string): string {
  return `${backend}\n${endpoint}`;
}

/** What happened between two readings of the same daemon. */
export function flowsBetween(before: Reading | null, now: Reading): Flows {
  const isSame = before !== null && before.status.started_at === now.status.started_at && before.atMs < now.atMs;
  const seconds = isSame ? (now.atMs - before.atMs) / 1000 : 0;
  const between = (was: ReadonlyMap<string, Totals> | null, is: ReadonlyMap<string, Totals>): Map<string, Flow> => {
    const flows = new Map<string, Flow>();
    for (const [name, totals] of is) flows.set(name, flowOf(was?.get(name), totals, seconds));
    return flows;
  };
  const of = (totalsOf: (reading: Reading) => Map<string, Totals>): Map<string, Flow> =>
    between(isSame ? totalsOf(before) : null, totalsOf(now));
  const listeners = of(listenerTotals);
  return {
    all: sum([...listeners.values()]),
    listeners,
    backends: of(backendTotals),
    endpoints: of(endpointTotals),
    connections: of(connectionTotals),
  };
}

function flowOf(was: Totals | undefined, is: Totals, seconds: number): Flow {
  if (was === undefined || seconds <= 0) return NO_FLOW;
  // A counter that has decreased was restarted.
  const rate = (field: keyof Flow): number | null =>
    is[field] < was[field] ? null : (is[field] - was[field]) / seconds;
  return { opened: rate("opened"), failed: rate("failed"), up: rate("up"), down: rate("down") };
}

function sum(flows: readonly Flow[]): Flow {
  const of = (field: keyof Flow): number | null => {
    const known = flows.map((flow) => flow[field]).filter((rate) => rate !== null);
    return known.length === 0 ? null : known.reduce((total, rate) => total + rate, 0);
  };
  return { opened: of("opened"), failed: of("failed"), up: of("up"), down: of("down") };
}

function listenerTotals({ status }: Reading): Map<string, Totals> {
  return new Map(
    status.listeners.map((each) => [
      each.listener,
      { opened: each.connections_total, failed: failedTotal(each), up: each.bytes_up, down: each.bytes_down },
    ]),
  );
}

function backendTotals({ status }: Reading): Map<string, Totals> {
  return new Map(
    status.backends.map(({ backend, endpoints, bytes_up, bytes_down, no_endpoint_total, overloads_total }) => {
      let [opened, failed] = [0, no_endpoint_total + overloads_total];
      for (const each of endpoints) {
        opened += each.connections_total;
        failed += each.connect_failures_total;
      }
      return [backend, { opened, failed, up: bytes_up, down: bytes_down }];
    }),
  );
}

function endpointTotals({ status }: Reading): Map<string, Totals> {
  const totals = new Map<string, Totals>();
  for (const { backend, endpoints } of status.backends)
    for (const { endpoint, connections_total, connect_failures_total } of endpoints)
      totals.set(endpointKey(backend, endpoint), {
        opened: connections_total,
        failed: connect_failures_total,
        up: 0,
        down: 0,
      });
  return totals;
}

function connectionTotals({ connections }: Reading): Map<string, Totals> {
  return new Map(
    connections.map(({ id, bytes_up, bytes_down }) => [id, { opened: 0, failed: 0, up: bytes_up, down: bytes_down }]),
  );
}
