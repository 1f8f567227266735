// Which endpoints a connection tried, with what result. Recorded only once an attempt has failed, so the many connections whose first
// attempt succeeds record nothing.

import type { TriedEndpoint } from "../telemetry/access-log.ts";
import type { Connection } from "./connection.ts";
import type { Ending } from "./ending.ts";

/** No attempt has failed. */
export const NONE_TRIED: readonly TriedEndpoint[] = [];

/** An attempt begins. */
export function beginAttempt(connection: Connection, nowMs: number): void {
  connection.attemptStartedMs = nowMs;
}

/** The attempt has ended: `ending` says why it failed; null when the endpoint has taken the connection. */
export function endAttempt(connection: Connection, endpoint: string, ending: Ending | null): void {
  const { tried } = connection;
  // There are at most as many as `connect_attempts` allows.
  if (ending !== null || tried.length > 0)
    connection.tried = [...tried, attempted(connection, endpoint, ending === null ? "connected" : resultOf(ending))];
  connection.attemptStartedMs = 0;
}

/** The attempts for the record, including one that was under way when the connection ended. */
export function triedBy(connection: Connection): readonly TriedEndpoint[] {
  const { tried, acquired, attemptStartedMs } = connection;
  if (attemptStartedMs === 0 || acquired === null) return tried;
  return [...tried, attempted(connection, acquired.name, "cancelled")];
}

function attempted(connection: Connection, endpoint: string, result: string): TriedEndpoint {
  return { endpoint, result, ms: connection.listener.worker.runtime.preciseNowMs() - connection.attemptStartedMs };
}

function resultOf({ reason, error }: Ending): string {
  return error === "" ? reason : error;
}
