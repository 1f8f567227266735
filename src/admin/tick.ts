// What streams get each second: the rows of the status that have changed since the last time. A client merges them into the status that it has,
// by their names.

import type { BackendStatus, Status } from "../snapshot/status.ts";

/** The data of an event `tick`. */
export interface Tick
  extends Pick<
    Status,
    | "uptime_s"
    | "connections"
    | "connections_elsewhere"
    | "access_log"
    | "telemetry"
    | "workers"
    | "listeners"
    | "backends"
    | "policies"
  > {
  /** ISO 8601 in UTC. */
  readonly time: string;
}

/** What has changed. Of a backend, only the endpoints that have. */
export function tickBetween(before: Status, now: Status, time: string): Tick {
  const { uptime_s, connections, connections_elsewhere, access_log, telemetry, workers } = now;
  const known = new Map(before.backends.map((each) => [each.backend, each]));
  const backends = now.backends.flatMap((each) => backendChanges(known.get(each.backend), each));
  return {
    time,
    uptime_s,
    connections,
    connections_elsewhere,
    access_log,
    telemetry,
    workers,
    listeners: changed(before.listeners, now.listeners, ({ listener }) => listener),
    backends,
    policies: changed(before.policies, now.policies, ({ policy }) => policy),
  };
}

/** Whether more has changed than a tick can express: then the whole status is sent. */
export function isOtherService(before: Status, now: Status): boolean {
  return JSON.stringify(essence(before)) !== JSON.stringify(essence(now));
}

function essence({ pid, state, generation, config, workers, certificates }: Status): unknown {
  const processes = workers.map(({ worker, pid, state, generation, restarts }) => [
    worker,
    pid,
    state,
    generation,
    restarts,
  ]);
  return [pid, state, generation, config, processes, certificates];
}

function backendChanges(before: BackendStatus | undefined, now: BackendStatus): readonly BackendStatus[] {
  if (before === undefined) return [now];
  const endpoints = changed(before.endpoints, now.endpoints, ({ endpoint }) => endpoint);
  const isSame = endpoints.length === 0 && same({ ...before, endpoints }, { ...now, endpoints });
  return isSame ? [] : [{ ...now, endpoints }];
}

function changed<T extends object>(before: readonly T[], now: readonly T[], nameOf: (row: T) => string): readonly T[] {
  const known = new Map(before.map((row) => [nameOf(row), row]));
  return now.filter((row) => {
    const was = known.get(nameOf(row));
    return was === undefined || !same(was, row);
  });
}

function same(a: object, b: object): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
