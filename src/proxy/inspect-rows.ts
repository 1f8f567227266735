// A live connection as it is shown to an operator: in a table, and whole.

import { formatAddress } from "../base/address.ts";
import type { SocketState } from "../runtime/socket-state.ts";
import type { ConnectionDetail, ConnectionRow, LegDetail, TcpInfo } from "../snapshot/inspection.ts";
import type { Connection } from "./connection.ts";
import type { Identity } from "./identity.ts";
import type { Leg } from "./leg.ts";
import { idleLimitMs } from "./relay.ts";
import { SourceAddress } from "./source-address.ts";

/** The line of a connection in a table. `worker` is the process that relays it. */
export function rowOf(connection: Connection, worker: number): ConnectionRow {
  const { clock, listener, downstream, upstream } = connection;
  return {
    id: connection.uniqueId,
    worker,
    started_at: new Date(connection.startedAt).toISOString(),
    age_ms: Math.round(listener.worker.runtime.preciseNowMs() - connection.acceptedPreciseMs),
    idle_ms: Math.max(0, Math.round(clock.nowMs - connection.lastActivityMs)),
    phase: connection.phase,
    listener: listener.spec.name,
    route: connection.route?.name ?? "",
    backend: connection.backend?.spec.name ?? "",
    endpoint: connection.acquired?.name ?? "",
    downstream: connection.source.toString(),
    sni: connection.sni,
    identity: firstName(connection.identity),
    tls_version: connection.secured?.version ?? "",
    policy_rule: connection.policyRule,
    bytes_up: downstream.bytesDelivered,
    bytes_down: upstream.bytesDelivered,
  };
}

/** The name that stands for a client; "" for none. */
export function firstName(identity: Identity | null): string {
  return identity?.uris[0] ?? identity?.dnsNames[0] ?? identity?.commonNames[0] ?? "";
}

/** All that is known of a connection. */
export function detailOf(connection: Connection, worker: number): ConnectionDetail {
  const { secured, identity, upstreamTls, downstream, upstream, acquired } = connection;
  return {
    ...rowOf(connection, worker),
    downstream_direct: connection.direct.toString(),
    alpn: secured?.alpn ?? "",
    tls_cipher: secured?.cipher ?? "",
    tls_resumed: secured?.resumed ?? false,
    upstream_tls_version: upstreamTls?.version ?? "",
    upstream_peer: upstreamTls?.peer ?? "",
    names: identity === null ? null : { uri: identity.uris, dns: identity.dnsNames, cn: identity.commonNames },
    peer_fingerprint: identity?.fingerprint ?? "",
    policy: connection.policy,
    attempts: connection.attempts,
    legs: {
      downstream: legOf(downstream, connection.direct.toString(), connection.local),
      upstream:
        upstream.socket === null || acquired === null
          ? null
          : legOf(upstream, formatAddress(acquired.address), localOf(upstream)),
    },
    timers: timersOf(connection),
  };
}

function localOf({ socket, closed }: Leg): string {
  if (socket === null || closed) return "";
  return new SourceAddress(socket.localAddress, socket.localPort).toString();
}

function legOf(leg: Leg, remote: string, local: string): LegDetail {
  const { socketState } = leg.connection.listener.worker.runtime;
  const state = socketState === null || leg.socket === null || leg.closed ? null : socketState(leg.socket);
  return {
    remote,
    local,
    pending_bytes: leg.pendingBytes,
    paused: leg.paused,
    ended: leg.readEnded,
    tcp: state === null ? null : tcpInfoOf(state),
  };
}

function tcpInfoOf(state: SocketState): TcpInfo {
  return {
    state: state.state,
    rtt_ms: state.rttMicroseconds / 1000,
    rtt_variance_ms: state.rttVarianceMicroseconds / 1000,
    retransmits_total: state.retransmitsTotal,
    unacknowledged: state.unacknowledged,
    congestion_window: state.congestionWindow,
    mss: state.mss,
  };
}

function timersOf(connection: Connection): ConnectionDetail["timers"] {
  const { clock, backend, phase, expiresAtMs } = connection;
  const left = (limitMs: number, sinceMs: number): number | null =>
    limitMs === 0 ? null : Math.max(0, Math.round(sinceMs + limitMs - clock.nowMs));
  // They hold for the relay; what comes before it has deadlines of its own.
  const isRelayed = phase === "relay" && backend !== null;
  return {
    idle_timeout_in_ms: isRelayed ? left(idleLimitMs(connection), connection.lastActivityMs) : null,
    max_lifetime_in_ms: isRelayed ? left(backend.spec.maxLifetimeMs, connection.acceptedMs) : null,
    certificate_expires_in_ms:
      expiresAtMs === Number.POSITIVE_INFINITY ? null : Math.max(0, Math.round(expiresAtMs - Date.now())),
  };
}
