// The hot path: shared callbacks on integer state that copy both directions until both have ended. Nothing here awaits, logs or
// allocates for each chunk; a chunk is written at once to the other leg, and only what the kernel does not take is kept.
//
// Close semantics, which a client must not be able to tell from a direct connection:
//  - FIN → FIN, once all bytes before it are delivered. Half-close lasts as long as bytes move, not by the clock.
//  - RST (also a vanished peer, or TLS cut without close_notify) → RST, after the bytes that came before it.
//  - A leg that ended its direction in order and breaks afterwards has still sent a complete stream: the other leg gets all of it and
//    the FIN, and a moment to finish; only what it sends from then on is dropped.

import { assert, unreachable } from "../base/assert.ts";
import type { Timer } from "../base/clock.ts";
import type { CloseCode, SocketHandlers, StreamSocket, TransferOutcome } from "../runtime/runtime.ts";
import type { BackendSpec } from "../snapshot/snapshot.ts";
import type { Connection } from "./connection.ts";
import { COMPLETED, Ending } from "./ending.ts";
import { heardFirst, watchFirstByte } from "./first-byte.ts";
import { DISCARDING, HOLDING, type Leg, METERED, RELAYING, SILENT } from "./leg.ts";
import { isHeld, type Meter, meterOf, stopMeter } from "./rate-limit-bandwidth.ts";

/** Bytes of a client that are kept while its connection is being authorised or dialled; then it is paused. */
const HOLD_LIMIT_BYTES = 64 * 1024;
/** A chunk of at least this size says that a leg is in bulk transfer. */
const BULK_BYTES = 64 * 1024;
/** What a leg may transfer in one turn, so that its neighbours have theirs. */
const TRANSFER_LIMIT_BYTES = 4 * 1024 * 1024;
const DAY_MS = 86_400_000;
/** How long the leg that is left may take nothing after the other one broke, before it is cut. */
const LINGER_MS = 5000;
/** OpenSSL's name for a TLS stream that ends without close_notify. */
const CUT_SHORT = "UNEXPECTED_EOF_WHILE_READING";

const outcome: TransferOutcome = { movedBytes: 0, rest: null, broken: "" };

/** The handlers of every socket in the data plane; `socket.data` is its leg. */
export const legHandlers: SocketHandlers<Leg> = {
  data(socket, bytes) {
    const leg = socket.data;
    const connection = leg.connection;
    if (leg.flow !== DISCARDING) connection.lastActivityMs = connection.clock.nowMs;
    if (leg.flow === RELAYING && leg.pendingBytes === 0) {
      leg.bytesRead += bytes.length;
      const other = connection.other(leg);
      const taken = (other.socket as StreamSocket<Leg>).write(bytes);
      if (taken === bytes.length) {
        if (taken >= BULK_BYTES && !leg.isTls) transferMore(leg);
      } else notTaken(leg, bytes, taken);
    } else if (leg.flow === METERED) metered(leg, bytes);
    else if (leg.flow === SILENT) {
      heardFirst(leg);
      legHandlers.data(socket, bytes);
    } else if (leg.flow !== DISCARDING) {
      leg.bytesRead += bytes.length;
      leg.keep(bytes);
      if (leg.flow === RELAYING || leg.pendingBytes >= HOLD_LIMIT_BYTES) pause(leg, socket);
      if (leg.flow === HOLDING) connection.onHeld?.();
    }
  },

  drain(socket) {
    const leg = socket.data;
    if (leg.flow === HOLDING) return;
    const source = leg.connection.other(leg);
    if (source.pendingBytes > 0) flush(source);
  },

  end(socket) {
    const leg = socket.data;
    const connection = leg.connection;
    markEnded(leg);
    // Nothing that the pause could hold back comes any more, and a paused socket would not tell of its close.
    resume(leg, socket);
    if (leg.flow === HOLDING) connection.onHeld?.();
    else if (connection.ending !== null) settle(connection);
    else if (leg.pendingBytes === 0) passEnd(leg);
  },

  close(socket, code) {
    const leg = socket.data;
    const connection = leg.connection;
    leg.closed = true;
    // A socket that is not the leg's yet, or no more: whoever dials sees to it.
    if (connection.ended || leg.socket === null) return;
    if (connection.ending !== null) settle(connection);
    else if (code === "clean" || hadAll(leg)) closedInOrder(leg);
    else breakLeg(leg, code);
  },
};

/** Joins the legs: delivers what was held and lets both directions run. */
export function startRelay(connection: Connection): void {
  const { downstream, upstream } = connection;
  downstream.flow = RELAYING;
  upstream.flow = RELAYING;
  const { bandwidth } = connection.listener.worker;
  bandwidth.meter(downstream, limits(connection), paid);
  bandwidth.meter(upstream, limits(connection), paid);
  watchFirstByte(connection);
  connection.lastActivityMs = connection.clock.nowMs;
  armRelayDeadline(connection);
  // A leg without pending bytes that ended, or was paused, while it was held is dealt with by the flush too.
  flush(downstream);
  if (!connection.ended) flush(upstream);
}

/** Decides what a relay's deadline means: idle, too old, lingering, or not yet. */
export function relayDeadline(connection: Connection): void {
  const { maxLifetimeMs } = limits(connection);
  const now = connection.clock.nowMs;
  noteUnsent(connection);
  if (maxLifetimeMs > 0 && now - connection.acceptedMs >= maxLifetimeMs) {
    connection.end(connection.ending ?? new Ending("lifetime_exceeded"));
    return;
  }
  if (Date.now() >= connection.expiresAtMs) {
    connection.end(connection.ending ?? new Ending("certificate_expired"));
    return;
  }
  const limit = idleLimitMs(connection);
  if (limit > 0 && now - connection.lastActivityMs >= limit) {
    connection.end(connection.ending ?? new Ending("idle_timeout", isHalfClosed(connection) ? "half-closed" : ""));
    return;
  }
  armRelayDeadline(connection);
}

/** Whether a byte has moved after a moment of the coarse clock, also of those that wait in the kernel for a slow reader. */
export function hasMovedSince(connection: Connection, sinceMs: number): boolean {
  noteUnsent(connection);
  return connection.lastActivityMs > sinceMs;
}

/**
 * Bytes in the kernel's send buffer for a slow reader count as traffic: while their number changes, the connection is not idle. Neither is it while
 * a bandwidth limit holds it.
 */
function noteUnsent(connection: Connection): void {
  const { downstream, upstream, listener } = connection;
  if (isHeld(downstream) || isHeld(upstream)) connection.lastActivityMs = connection.clock.nowMs;
  const { unsentBytes } = listener.worker.runtime;
  let unsent = 0;
  if (downstream.socket !== null && !downstream.closed) unsent += unsentBytes(downstream.socket);
  if (upstream.socket !== null && !upstream.closed) unsent += unsentBytes(upstream.socket);
  if (unsent === connection.unsentBytes) return;
  connection.unsentBytes = unsent;
  connection.lastActivityMs = connection.clock.nowMs;
}

function armRelayDeadline(connection: Connection): void {
  const { clock } = connection;
  const { maxLifetimeMs } = limits(connection);
  const idle = idleLimitMs(connection);
  let dueMs = Number.POSITIVE_INFINITY;
  if (idle > 0) dueMs = connection.lastActivityMs + idle;
  if (maxLifetimeMs > 0) dueMs = Math.min(dueMs, connection.acceptedMs + maxLifetimeMs);
  // By the wall clock, which may be changed: so it is checked at least once a day.
  if (connection.expiresAtMs !== Number.POSITIVE_INFINITY)
    dueMs = Math.min(dueMs, clock.nowMs + Math.min(Math.max(connection.expiresAtMs - Date.now(), 0), DAY_MS));
  if (dueMs !== Number.POSITIVE_INFINITY) clock.arm(connection.timer, Math.max(0, dueMs - clock.nowMs));
  else clock.disarm(connection.timer);
}

/** After how long without a byte the relay is ended; 0 = never. */
export function idleLimitMs(connection: Connection): number {
  if (connection.ending !== null) return LINGER_MS;
  const { idleTimeoutMs, halfCloseIdleTimeoutMs } = limits(connection);
  if (!isHalfClosed(connection) || halfCloseIdleTimeoutMs === 0) return idleTimeoutMs;
  return idleTimeoutMs === 0 ? halfCloseIdleTimeoutMs : Math.min(idleTimeoutMs, halfCloseIdleTimeoutMs);
}

function limits({ backend }: Connection): BackendSpec {
  assert(backend !== null, "a relay has a backend");
  return backend.spec;
}

function isHalfClosed(connection: Connection): boolean {
  return connection.downstream.readEnded || connection.upstream.readEnded;
}

/** While a TLS handshake completes, the socket that bytes come from is not yet the one on the leg. */
function pause(leg: Leg, socket: StreamSocket<Leg> | null = leg.socket): void {
  if (leg.paused) return;
  leg.paused = true;
  socket?.pause();
}

function resume(leg: Leg, socket: StreamSocket<Leg> | null = leg.socket): void {
  if (!leg.paused) return;
  leg.paused = false;
  if (!leg.closed) socket?.resume();
}

/** What `data` does for a leg that has a limit. The bytes are passed on at once, and then there may be a debt to be paid. */
function metered(leg: Leg, bytes: Uint8Array): void {
  const meter = meterOf(leg);
  leg.bytesRead += bytes.length;
  meter.count(bytes.length);
  if (leg.pendingBytes > 0) {
    leg.keep(bytes);
    pause(leg);
    return;
  }
  const taken = (leg.connection.other(leg).socket as StreamSocket<Leg>).write(bytes);
  if (taken < bytes.length) notTaken(leg, bytes, taken);
  else if (taken >= BULK_BYTES && !leg.isTls) transferMore(leg);
  if (meter.isHolding) pause(leg);
}

/** A leg that was held has paid its debt: it may be read from again. */
function paid(timer: Timer): void {
  const { leg } = timer as Meter;
  leg.connection.lastActivityMs = leg.connection.clock.nowMs;
  // Otherwise it goes on once the other leg has taken them.
  if (leg.pendingBytes === 0) resume(leg);
}

/** Writes what is pending from `source` to the other leg; when all of it is gone, lets `source` go on, or passes on its end. */
function flush(source: Leg): void {
  const connection = source.connection;
  const other = connection.other(source);
  const deliveredBefore = source.bytesDelivered;
  let index = 0;
  while (index < source.pending.length) {
    const chunk = source.pending[index] as Uint8Array;
    const taken = (other.socket as StreamSocket<Leg>).write(chunk);
    if (taken < 0) {
      source.forget(index);
      breakLeg(other, "reset");
      return;
    }
    source.pendingBytes -= taken;
    if (taken < chunk.length) {
      source.pending[index] = chunk.subarray(taken);
      break;
    }
    index++;
  }
  source.forget(index);
  if (source.bytesDelivered > deliveredBefore) connection.lastActivityMs = connection.clock.nowMs;
  if (source.pendingBytes > 0) {
    if (!source.readEnded) pause(source);
  } else if (connection.ending !== null) {
    // A broken leg may have more to be read, and says that it is at its end only when it is not paused.
    resume(source);
    settle(connection);
  } else if (source.readEnded) passEnd(source);
  else {
    // A leg that was paused had outrun the other one: there will be more.
    if (source.paused && !source.isTls) transferMore(source);
    if (isHeld(source)) pause(source);
    else if (source.pendingBytes === 0) resume(source);
  }
}

/** `leg` has ended in order and all its bytes are delivered: ends the other leg's write direction. */
function passEnd(leg: Leg): void {
  const connection = leg.connection;
  const other = connection.other(leg);
  if (other.writeEnded || other.closed) return;
  other.writeEnded = true;
  const socket = other.socket as StreamSocket<Leg>;
  // Closing at once saves a plain socket three system calls and a turn of the loop, which is a tenth of a short connection. TLS has to
  // say close_notify.
  connection.listener.worker.runtime.endOrderly(socket);
  if (!other.isTls && other.readEnded && other.pendingBytes === 0) socket.close();
  else socket.shutdown();
  // The end changes which idle limit holds. That may just have closed both legs and with them the connection.
  if (!connection.ended && connection.ending === null) armRelayDeadline(connection);
}

/** Deals with a write to the other leg that was short, or (-1) failed. */
function notTaken(leg: Leg, bytes: Uint8Array, taken: number): void {
  if (taken < 0) {
    leg.keep(bytes);
    breakLeg(leg.connection.other(leg), "reset");
  } else {
    leg.keep(taken === 0 ? bytes : bytes.subarray(taken));
    pause(leg);
  }
}

/** Moves what more there is on a plain leg in bulk, which the platform can do at less cost than by `data`. */
function transferMore(leg: Leg): void {
  const connection = leg.connection;
  const { transfer } = connection.listener.worker.runtime;
  if (transfer === null || leg.closed) return;
  const other = connection.other(leg);
  const to = other.socket as StreamSocket<Leg>;
  let limitBytes = TRANSFER_LIMIT_BYTES;
  if (leg.flow === METERED) limitBytes = Math.min(limitBytes, meterOf(leg).allowance);
  // Not for the little that a limit may have left.
  if (limitBytes < BULK_BYTES) return;
  transfer(leg.socket as StreamSocket<Leg>, to, limitBytes, outcome);
  const { movedBytes, rest, broken } = outcome;
  leg.bytesRead += movedBytes;
  if (leg.flow === METERED) meterOf(leg).count(rest === null ? movedBytes : movedBytes + rest.length);
  if (rest !== null) {
    leg.bytesRead += rest.length;
    // The kernel has just refused it, but a short write is what makes the socket report a drain.
    const taken = broken === "to" ? -1 : to.write(rest);
    if (taken < rest.length) notTaken(leg, rest, taken);
  }
  if (broken === "from") breakLeg(leg, "reset");
}

function markEnded(leg: Leg): void {
  const connection = leg.connection;
  const other = connection.other(leg);
  leg.readEnded = true;
  leg.receivedAtEnd = other.bytesDelivered;
  stopMeter(leg);
  if (!other.readEnded) connection.firstToEnd = leg === connection.downstream ? "downstream" : "upstream";
}

/**
 * Whether a leg that is reset had ended in order and was sent nothing but our own end since: it closed its socket, and its kernel answers
 * the close_notify in this way, as there is nobody to read it. Nothing was lost.
 */
function hadAll(leg: Leg): boolean {
  return leg.readEnded && leg.writeEnded && leg.connection.other(leg).bytesDelivered === leg.receivedAtEnd;
}

/** A leg whose both directions ended in order, or which is gone before it was joined to another. */
function closedInOrder(leg: Leg): void {
  const connection = leg.connection;
  const other = connection.other(leg);
  if (leg.flow === HOLDING) {
    connection.end(new Ending(leg === connection.downstream ? "downstream_left" : "upstream_reset"));
    return;
  }
  if (!leg.readEnded) {
    // After our own FIN the peer's FIN is reported by `close` alone.
    markEnded(leg);
    if (leg.pendingBytes === 0) passEnd(leg);
  }
  if (other.closed && !connection.ended) connection.end(COMPLETED);
}

/** A leg can carry no more bytes. What it sent before still reaches the other leg; then that one is ended in the same way. */
function breakLeg(leg: Leg, code: CloseCode): void {
  const connection = leg.connection;
  const other = connection.other(leg);
  if (connection.ended) return;
  const ending = brokenBy(leg, code);
  if (connection.ending !== null || leg.flow === HOLDING || other.closed) {
    connection.end(connection.ending ?? ending);
    return;
  }
  connection.ending = ending;
  connection.broken = leg;
  // Read it now: after a failed write Bun reports an `end` that the peer did not send.
  connection.brokenAfterEnd = leg.readEnded;
  stopMeter(leg);
  stopMeter(other);
  other.flow = DISCARDING;
  other.dropPending();
  resume(other);
  connection.lastActivityMs = connection.clock.nowMs;
  armRelayDeadline(connection);
  // A write that failed does not stop us from reading what had arrived before the reset.
  if (!leg.closed && leg.pendingBytes === 0) resume(leg);
  settle(connection);
}

/** Ends a broken connection as soon as the other leg has received all that it can receive. */
function settle(connection: Connection): void {
  const leg = connection.broken as Leg;
  const other = connection.other(leg);
  const ending = connection.ending as Ending;
  if (other.closed) connection.end(ending);
  else if (leg.pendingBytes > 0) return;
  else if (connection.brokenAfterEnd) passEnd(leg);
  else if (leg.closed || leg.readEnded) connection.end(ending);
}

function brokenBy(leg: Leg, code: CloseCode): Ending {
  const isDownstream = leg === leg.connection.downstream;
  switch (code) {
    case "truncated":
      return truncated(leg.connection, isDownstream);
    case "timed_out":
      return new Ending(isDownstream ? "downstream_reset" : "upstream_reset", "ETIMEDOUT");
    case "reset":
    case "clean":
      return new Ending(isDownstream ? "downstream_reset" : "upstream_reset", "ECONNRESET");
    default:
      return unreachable(code);
  }
}

function truncated({ downstream, upstream }: Connection, isDownstream: boolean): Ending {
  if (!isDownstream) return new Ending("upstream_truncated", "upstream FIN without close_notify", CUT_SHORT);
  // Many clients close without close_notify once they have the whole answer: no loss there.
  const hadWholeAnswer = upstream.readEnded && downstream.writeEnded;
  const told = "downstream FIN without close_notify";
  return hadWholeAnswer ? new Ending("completed", told) : new Ending("downstream_truncated", told, CUT_SHORT);
}
