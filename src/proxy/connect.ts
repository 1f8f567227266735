// From a backend to a connected upstream leg: pick, count, dial, and on failure try another endpoint, or after a while the same ones again. All of it happens before the first byte
// of the client's is sent upstream, so trying again is always safe. What goes before it, a PROXY header and a TLS handshake, is part of connecting.

import { assert } from "../base/assert.ts";
import { formatDuration } from "../base/units.ts";
import type { StreamSocket } from "../runtime/runtime.ts";
import type { EndpointSpec } from "../snapshot/snapshot.ts";
import type { Backend } from "./balance.ts";
import type { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";
import { Leg } from "./leg.ts";
import { originate } from "./originate.ts";
import { pauseFor } from "./pause.ts";
import { proxyHeader } from "./proxy-header.ts";
import { legHandlers } from "./relay.ts";
import { backOffMs, mayPass } from "./retry.ts";
import { beginAttempt, endAttempt } from "./tried.ts";

const NO_HEADER = new Uint8Array(0);
/** What a dial fails with when this process or this host has too little of something. */
const OUT_OF_RESOURCES: ReadonlySet<string> = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]);

/** What a dial fails with when this host has no ephemeral port left for that endpoint. */
const NO_PORT = "EADDRNOTAVAIL";

/** The endpoint that took the connection, which counts there until `close`. */
export async function connect(connection: Connection, backend: Backend): Promise<EndpointSpec | Ending> {
  const header = backend.spec.sendProxyProtocol === "off" ? NO_HEADER : proxyHeader(connection, backend.spec);
  if (header === null) return new Ending("connect_refused", "the PROXY header would be too long");
  const { connectAttempts } = backend.spec;
  const startedMs = connection.listener.worker.runtime.preciseNowMs();
  const tried: number[] = [];
  let failure: Failure | null = null;
  let rounds = 0;
  try {
    if (backend.queue.length > 0 || !tryEnter(connection, backend, tried)) {
      const overload = await waitForRoom(connection, backend, tried);
      if (overload !== null) return overload;
    }
    for (let endpoint = connection.acquired; ; endpoint = take(connection, backend, tried)) {
      if (endpoint !== null) {
        failure = await tryEndpoint(connection, { backend, endpoint, header }, startedMs);
        endAttempt(connection, endpoint.name, failure === null ? null : failure.ending);
        if (failure === null) return endpoint;
        if (failure.isFinal || connection.attempts >= connectAttempts) return failure.ending;
        continue;
      }
      assert(failure !== null, "who has entered has an endpoint to begin with");
      // All that could be tried have been; or, after the wait, none of them takes connections any more.
      if (tried.length === 0 || !mayPass(failure.ending)) return failure.ending;
      if (rounds === 0 && !backend.beginRetry()) return overBudget(failure.ending);
      rounds++;
      await pauseFor(connection, backOffMs(rounds, backend.random));
      if (connection.ended) return new Ending("downstream_left");
      tried.length = 0;
    }
  } finally {
    if (rounds > 0) backend.endRetry();
    if (connection.hasEntered) backend.endConnecting();
  }
}

/** Counts a connection at its backend and at an endpoint of it, which is then the one to be dialled, if both have room. */
function tryEnter(connection: Connection, backend: Backend, tried: number[]): boolean {
  if (!backend.enter()) return false;
  if (take(connection, backend, tried) === null) {
    backend.endConnecting();
    backend.leave();
    return false;
  }
  connection.hasEntered = true;
  return true;
}

/** Waits until the connection has entered, where that is allowed. Null when it has. */
async function waitForRoom(connection: Connection, backend: Backend, tried: number[]): Promise<Ending | null> {
  const { queue, spec, reachedLimit } = backend;
  const { name, queueSize, queueTimeoutMs } = spec;
  if (reachedLimit === "" && !backend.isServing)
    return new Ending("no_endpoint", `every endpoint of ${name} is down or drains`);
  if (!queue.isFull) {
    const outcome = await queue.wait(connection, () => tryEnter(connection, backend, tried));
    if (connection.ended) return new Ending("downstream_left");
    if (outcome === "served") return null;
    backend.overloaded();
    return new Ending("backend_overload", `${name}: no room within ${formatDuration(queueTimeoutMs)}`);
  }
  backend.overloaded();
  if (queueSize > 0) return new Ending("backend_overload", `${name}: ${queueSize} are waiting already`);
  if (reachedLimit !== "") return new Ending("backend_overload", `${name}: ${reachedLimit}`);
  return new Ending("no_endpoint", `every endpoint of ${name} is at its limit`);
}

/** Why an attempt came to nothing, and whether there is no use in another one. */
interface Failure {
  readonly ending: Ending;
  readonly isFinal: boolean;
}

/** An endpoint that is not in `tried`, to which the connection then counts and to which it is added. */
function take(connection: Connection, backend: Backend, tried: number[]): EndpointSpec | null {
  for (;;) {
    const index = backend.pick(tried, connection.source);
    if (index < 0) return null;
    const endpoint = backend.acquire(index);
    if (endpoint === null) continue;
    tried.push(index);
    connection.acquired = endpoint;
    connection.attempt = backend.attempt;
    return endpoint;
  }
}

/** Dials an endpoint that was taken, and prepares it. Null when it has taken the connection. */
async function tryEndpoint(connection: Connection, target: Target, startedMs: number): Promise<Failure | null> {
  const { backend, endpoint, header } = target;
  const { runtime } = connection.listener.worker;
  const { attempt } = connection;
  connection.attempts++;
  const dialledMs = runtime.preciseNowMs();
  beginAttempt(connection, dialledMs);
  const dial = runtime.dial({
    address: endpoint.address,
    handlers: legHandlers,
    data: connection.upstream,
    timeoutMs: backend.spec.connectTimeoutMs,
  });
  connection.dial = dial;
  const result = await dial.result;
  connection.dial = null;
  let nowMs = runtime.preciseNowMs();
  connection.connectMs = nowMs - startedMs;
  if (!result.ok && OUT_OF_RESOURCES.has(result.code)) {
    // This says nothing about the endpoint, and another one could not be dialled either. If the connection has ended, `close` has released the endpoint.
    if (!connection.ended) {
      connection.acquired = null;
      attempt?.abandoned();
      backend.release(endpoint);
    }
    connection.listener.worker.lookForDescriptors();
    const told = `${result.code}: ${endpoint.name} could not be dialled`;
    return { ending: new Ending("limit_reached", told, result.code), isFinal: true };
  }
  let ending = result.ok ? resetAtOnce(connection, endpoint) : failedDial(endpoint, result);
  if (result.ok && ending === null) connection.upstream.socket = result.socket;
  const isPrepared = header.length > 0 || backend.origination !== null;
  if (result.ok && ending === null && isPrepared && !connection.ended) {
    ending = await prepare(connection, target, result.socket);
    nowMs = runtime.preciseNowMs();
  }
  if (connection.ended) {
    // It ended meanwhile: `close` has given the endpoint back and cancelled the dial, but what had just become ready is ours.
    connection.upstream.socket?.terminate();
    return { ending: new Ending("downstream_left"), isFinal: true };
  }
  if (ending === null) {
    attempt?.connected(connection.upstream, connection.clock);
    connection.reachedInMs = nowMs - dialledMs;
    backend.connected(endpoint, connection.reachedInMs);
    return null;
  }
  connection.acquired = null;
  if (!result.ok && result.code === NO_PORT) attempt?.abandoned();
  else attempt?.failed();
  backend.failed(endpoint, result.ok ? ending.reason : result.code);
  connection.upstream = new Leg(connection);
  return { ending, isFinal: false };
}

function overBudget({ reason, detail, error }: Ending): Ending {
  const told = `${detail}; not tried again: as many retries as the retry_budget has are under way`;
  return new Ending(reason, told, error);
}

interface Target {
  readonly backend: Backend;
  readonly endpoint: EndpointSpec;
  /** The PROXY header, sent before anything else; empty when there is none. */
  readonly header: Uint8Array;
}

/** Sends the PROXY header to a connected endpoint, then secures the leg. On an Ending the socket has been aborted. */
async function prepare(
  connection: Connection,
  { backend, endpoint, header }: Target,
  socket: StreamSocket<Leg>,
): Promise<Ending | null> {
  // It always fits into the empty buffer of a new socket; and one that does not must not be sent in part.
  if (header.length > 0 && socket.write(header) < header.length) {
    // Given up first: another endpoint can be tried, so that its close must not end the connection.
    connection.upstream.socket = null;
    socket.terminate();
    return new Ending("upstream_reset", `${endpoint.name}: the PROXY header was not taken`, "ECONNRESET");
  }
  return backend.origination === null ? null : originate(connection, backend.origination, endpoint, socket);
}

/** The endpoint has taken the connection and reset it, all before we could look. */
function resetAtOnce({ upstream }: Connection, { name }: EndpointSpec): Ending | null {
  return upstream.closed ? new Ending("upstream_reset", `${name}: ECONNRESET`, "ECONNRESET") : null;
}

function failedDial({ name }: EndpointSpec, { code }: { readonly code: string }): Ending {
  return new Ending(code === "ETIMEDOUT" ? "connect_timeout" : "connect_refused", `${name}: ${code}`, code);
}
