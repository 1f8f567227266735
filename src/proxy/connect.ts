// From a backend to a connected upstream leg: pick, count, dial, and on failure try another endpoint. All of it happens before the first byte
// of the client's is sent upstream, so trying again is always safe. What goes before it, a PROXY header and a TLS handshake, is part of connecting.

import type { StreamSocket } from "../runtime/runtime.ts";
import type { EndpointSpec } from "../snapshot/snapshot.ts";
import type { Backend } from "./balance.ts";
import type { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";
import type { Leg } from "./leg.ts";
import { originate } from "./originate.ts";
import { proxyHeader } from "./proxy-header.ts";
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
    if (result.ok && connection.ended) result.socket.terminate();
    else
      failure = result.ok ? await prepare(connection, backend, endpoint, result.socket) : failedDial(endpoint, result);
    if (connection.ended) {
      // It ended meanwhile: `close` has given the endpoint back and cancelled the dial, but what had just become ready is ours.
      connection.upstream.socket?.terminate();
      return new Ending("downstream_left");
    }
    if (failure === null) return endpoint;
    connection.acquired = null;
    backend.release(endpoint);
  }
  return failure ?? new Ending("no_endpoint", `every endpoint of ${backend.spec.name} is at its limit`);
}

/** Makes a connected socket the upstream leg: what the endpoint has to be told first, then TLS. On an Ending the socket has been aborted. */
async function prepare(
  connection: Connection,
  backend: Backend,
  endpoint: EndpointSpec,
  socket: StreamSocket<Leg>,
): Promise<Ending | null> {
  const { spec, origination } = backend;
  if (spec.sendProxyProtocol !== "off") {
    const header = proxyHeader(connection, spec);
    // A header always fits into the empty buffer of a new socket; and one that does not must not be sent in part.
    if (header === null || socket.write(header) < header.length) {
      socket.terminate();
      const why = header === null ? "the PROXY header would be too long" : "the PROXY header was not taken";
      return new Ending("connect_refused", `${endpoint.name}: ${why}`);
    }
  }
  if (origination !== null) return originate(connection, origination, endpoint, socket);
  connection.upstream.socket = socket;
  return null;
}

function failedDial({ name }: EndpointSpec, { code }: { readonly code: string }): Ending {
  return new Ending(code === "ETIMEDOUT" ? "connect_timeout" : "connect_refused", `${name}: ${code}`);
}
