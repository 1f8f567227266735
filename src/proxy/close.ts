// The end of a connection, reached exactly once: whatever it still holds is given back, and its one record is written.

import type { CloseRecord } from "../telemetry/access-log.ts";
import { CLOSE_REASONS, type CloseSide, terminationOf } from "../telemetry/close-reason.ts";
import type { Connection } from "./connection.ts";
import { countEnd } from "./count.ts";
import type { Ending } from "./ending.ts";
import { endFirstByte } from "./first-byte.ts";
import { stopMeter } from "./rate-limit-bandwidth.ts";
import { triedBy } from "./tried.ts";

/** Aborts what is still open, gives everything back, writes the record. Only `Connection.end` calls it. */
export function close(connection: Connection, ending: Ending): void {
  const { listener, downstream, upstream, backend } = connection;
  connection.clock.disarm(connection.timer);
  stopMeter(downstream);
  stopMeter(upstream);
  connection.dial?.cancel();
  // An abort, never an orderly end: after a normal end both sockets are gone already, and a client must not take a failure for one.
  if (!downstream.closed) downstream.socket?.terminate();
  if (!upstream.closed) upstream.socket?.terminate();
  connection.attempt?.closed(ending.reason);
  endFirstByte(connection);
  if (connection.acquired !== null) backend?.release(connection.acquired);
  if (connection.hasEntered) backend?.leave();
  listener.release(connection);
  const record = recordOf(connection, ending);
  countEnd(connection, record);
  listener.worker.recorder.keep(record);
  listener.worker.accessLog?.write(record);
  listener.worker.spans?.write(record);
  // A peek that still waits would wait for ever.
  connection.onHeld?.();
}

/** The close record of a connection that ends in this way. */
export function recordOf(connection: Connection, ending: Ending): CloseRecord {
  const { listener, secured, identity, downstream, upstream, phase } = connection;
  const { runtime } = listener.worker;
  const source = connection.source.toString();
  return {
    timeMs: connection.startedAt,
    id: connection.uniqueId,
    listener: listener.spec.name,
    route: connection.route?.name ?? "",
    backend: connection.backend?.spec.name ?? "",
    endpoint: connection.acquired?.name ?? "",
    attempts: connection.attempts,
    downstream: source,
    downstreamDirect: connection.direct === connection.source ? source : connection.direct.toString(),
    local: connection.local,
    sni: connection.sni,
    alpn: secured?.alpn ?? "",
    identity,
    refusedCertificate: connection.refusedCertificate,
    peerFingerprint: identity?.fingerprint ?? "",
    peerSpkiFingerprint: identity?.spkiFingerprint ?? "",
    tlsVersion: secured?.version ?? "",
    tlsCipher: secured?.cipher ?? "",
    tlsResumed: secured?.resumed ?? false,
    bytesUp: downstream.bytesDelivered,
    bytesDown: upstream.bytesDelivered,
    durationMs: runtime.preciseNowMs() - connection.acceptedPreciseMs,
    handshakeMs: secured?.handshakeMs ?? 0,
    connectMs: connection.connectMs,
    upstreamTlsVersion: connection.upstreamTls?.version ?? "",
    upstreamTlsCipher: connection.upstreamTls?.cipher ?? "",
    upstreamPeer: connection.upstreamTls?.peer ?? "",
    closeReason: ending.reason,
    closeSide: sideOf(connection, ending),
    phase,
    termination: terminationOf(ending.reason, phase),
    error: ending.error,
    detail: ending.detail,
    tried: triedBy(connection),
    policy: connection.policy,
    policyRule: connection.policyRule,
  };
}

/** Of a normal end: who ended first. */
function sideOf(connection: Connection, ending: Ending): CloseSide {
  return ending.reason === "completed" ? connection.firstToEnd : CLOSE_REASONS[ending.reason].side;
}
