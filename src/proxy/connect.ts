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

const NO_HEADER = new Uint8Array(0);
/** What a dial fails with when this process or this host has too little of something. */
const OUT_OF_RESOURCES: ReadonlySet<string> = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);

/** And when there is no port left on this side for connections to that endpoint. */
const NO_PORT = "EADDRNOTAVAIL";

/** The endpoint that took the connection, which counts there until `close`. */
export async function connect(connection: Connection, backend: Backend): Promise<EndpointSpec | Ending> {
  const { runtime } = connection.listener.worker;
  const { connectAttempts, connectTimeoutMs } = backend.spec;
  const startedMs = runtime.preciseNowMs();
  const tried: number[] = [];
  let failure: Ending | null = null;
  const header = backend.spec.sendProxyProtocol === "off" ? NO_HEADER : proxyHeader(connection, backend.spec);
  if (header === null) return new Ending("connect_refused", "the PROXY header would be too long");
  const isPrepared = header.length > 0 || backend.origination !== null;
  while (tried.length < connectAttempts) {
    const index = backend.pick(tried, connection.source);
    if (index < 0) break;
    const endpoint = backend.acquire(index);
    if (endpoint === null) continue;
    tried.push(index);
    connection.acquired = endpoint;
    const { attempt } = backend;
    connection.attempt = attempt;
    connection.attempts = tried.length;
    const dialledMs = runtime.preciseNowMs();
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
    if (!result.ok && OUT_OF_RESOURCES.has(result.code)) {
      // It says nothing of this endpoint, and another one could not be dialled either.
      connection.acquired = null;
      attempt?.abandoned();
      backend.release(endpoint);
      connection.listener.worker.lookForDescriptors();
      return new Ending("limit_reached", `${result.code}: ${endpoint.name} could not be dialled`);
    }
    failure = result.ok ? null : failedDial(endpoint, result);
    if (result.ok) connection.upstream.socket = result.socket;
    if (result.ok && isPrepared && !connection.ended)
      failure = await prepare(connection, { backend, endpoint, header }, result.socket);
    if (connection.ended) {
      // It ended meanwhile: `close` has given the endpoint back and cancelled the dial, but what had just become ready is ours.
      connection.upstream.socket?.terminate();
      return new Ending("downstream_left");
    }
    if (failure === null) {
      attempt?.connected(connection.upstream, connection.clock);
      backend.connected(endpoint, runtime.preciseNowMs() - dialledMs);
      return endpoint;
    }
    connection.acquired = null;
    if (!result.ok && result.code === NO_PORT) attempt?.abandoned();
    else attempt?.failed();
    backend.failed(endpoint);
    connection.upstream.renew();
  }
  return failure ?? new Ending("no_endpoint", `every endpoint of ${backend.spec.name} is at its limit`);
}

interface Target {
  readonly backend: Backend;
  readonly endpoint: EndpointSpec;
  /** What it has to be told before anything else. */
  readonly header: Uint8Array;
}

/** Tells a connected endpoint what it has to know, then secures the leg. On an Ending the socket has been aborted. */
async function prepare(
  connection: Connection,
  { backend, endpoint, header }: Target,
  socket: StreamSocket<Leg>,
): Promise<Ending | null> {
  // It always fits into the empty buffer of a new socket; and one that does not must not be sent in part.
  if (header.length > 0 && socket.write(header) < header.length) {
    socket.terminate();
    return new Ending("upstream_reset", `${endpoint.name}: the PROXY header was not taken`);
  }
  return backend.origination === null ? null : originate(connection, backend.origination, endpoint, socket);
}

function failedDial({ name }: EndpointSpec, { code }: { readonly code: string }): Ending {
  return new Ending(code === "ETIMEDOUT" ? "connect_timeout" : "connect_refused", `${name}: ${code}`);
}
