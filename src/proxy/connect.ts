// From a backend to a connected upstream leg: pick, count, dial, and on failure try another endpoint. All of it happens before the first byte
// is sent upstream, so trying again is always safe.

import type { EndpointSpec } from "../snapshot/snapshot.ts";
import type { Backend } from "./balance.ts";
import type { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";
import { legHandlers } from "./relay.ts";

/** The endpoint that took the connection, which counts there until `close`. */
export async function connect(connection: Connection, backend: Backend): Promise<EndpointSpec | Ending> {
  const { runtime } = connection.listener.worker;
  const { connectAttempts, connectTimeoutMs } = backend.spec;
  const startedMs = runtime.preciseNowMs();
  const tried: number[] = [];
  let failure: Ending | null = null;
  while (tried.length < connectAttempts) {
    const index = backend.pick(tried);
    if (index < 0) break;
    tried.push(index);
    const endpoint = backend.acquire(index);
    connection.acquired = endpoint;
    connection.attempts = tried.length;
    const dial = runtime.dial({
      address: endpoint.address,
      handlers: legHandlers,
      data: connection.upstream,
      timeoutMs: connectTimeoutMs,
    });
    connection.dial = dial;
    const result = await dial.result;
    connection.dial = null;
    connection.connectMs = runtime.preciseNowMs() - startedMs;
    if (result.ok) connection.upstream.socket = result.socket;
    if (connection.ended) {
      // It ended while we dialled: `close` has given the endpoint back and cancelled the dial, but a socket that had just connected is ours.
      connection.upstream.socket?.terminate();
      return new Ending("downstream_left");
    }
    if (result.ok) return endpoint;
    connection.acquired = null;
    backend.release(endpoint);
    failure = new Ending(
      result.code === "ETIMEDOUT" ? "connect_timeout" : "connect_refused",
      `${endpoint.name}: ${result.code}`,
    );
  }
  return failure ?? new Ending("no_endpoint", `every endpoint of ${backend.spec.name} is at its limit`);
}
