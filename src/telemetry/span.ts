// What a connection is as a span of OpenTelemetry: its name, its times, and its attributes, by the semantic conventions where they have one (client.*,
// server.*, network.*, tls.*, error.type) and under `bunnel.` where they have none. Plain data, without the SDK.

import { type CloseRecord, wentWell } from "./access-log.ts";
import { isFailure } from "./close-reason.ts";

type AttributeValue = string | number | boolean | string[];

/** A span, before the SDK makes one of it. */
export interface ConnectionSpan {
  /** `connection LISTENER`: as many names as there are listeners. */
  readonly name: string;
  /** In ms since 1970, with a fraction. */
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Readonly<Record<string, AttributeValue>>;
  /** Why it failed; null when it did not. */
  readonly failure: string | null;
}

/** The span of an ended connection. `worker` is the process that relayed it; 0 = there is one. */
export function spanOf(record: CloseRecord, worker: number): ConnectionSpan {
  const attributes: Record<string, AttributeValue> = {
    "network.transport": record.downstreamDirect === "unix" ? "unix" : "tcp",
    "bunnel.connection.id": record.id,
    "bunnel.listener": record.listener,
    "bunnel.bytes_up": record.bytesUp,
    "bunnel.bytes_down": record.bytesDown,
    "bunnel.close_reason": record.closeReason,
    "bunnel.close_side": record.closeSide,
    "bunnel.phase": record.phase,
    "bunnel.termination": record.termination,
    "bunnel.worker": worker,
  };
  addPlaces(attributes, record);
  addTls(attributes, record);
  for (const [name, value] of [
    ["bunnel.route", record.route],
    ["bunnel.backend", record.backend],
    ["bunnel.endpoint", record.endpoint],
    ["bunnel.policy", record.policy],
    ["bunnel.policy_rule", record.policyRule],
    ["bunnel.detail", record.detail],
    ["bunnel.refused_certificate", record.refusedCertificate],
  ] as const)
    if (value !== "") attributes[name] = value;
  if (record.attempts > 0) {
    attributes["bunnel.attempts"] = record.attempts;
    attributes["bunnel.connect_ms"] = record.connectMs;
  }
  if (record.tried.length > 0)
    attributes["bunnel.tried"] = record.tried.map(
      ({ endpoint, result, ms }) => `${endpoint} ${result} ${Math.round(ms)} ms`,
    );
  if (!wentWell(record)) attributes["error.type"] = record.error === "" ? record.closeReason : record.error;
  const failure = !isFailure(record.closeReason) ? null : record.detail === "" ? record.closeReason : record.detail;
  const { timeMs: startMs, durationMs } = record;
  return { name: `connection ${record.listener}`, startMs, endMs: startMs + durationMs, attributes, failure };
}

function addPlaces(attributes: Record<string, AttributeValue>, record: CloseRecord): void {
  const places = [
    ["client", record.downstream],
    ["network.peer", record.downstreamDirect],
    ["network.local", record.local],
  ] as const;
  for (const [prefix, text] of places) {
    const { address, port } = splitPlace(text);
    attributes[`${prefix}.address`] = address;
    if (port > 0) attributes[`${prefix}.port`] = port;
  }
  const local = splitPlace(record.local);
  attributes["server.address"] = record.sni === "" ? local.address : record.sni;
  if (local.port > 0) attributes["server.port"] = local.port;
}

function addTls(attributes: Record<string, AttributeValue>, record: CloseRecord): void {
  const { identity } = record;
  if (record.tlsVersion !== "") {
    attributes["tls.protocol.name"] = "tls";
    attributes["tls.protocol.version"] = record.tlsVersion.replace("TLSv", "");
    attributes["tls.cipher"] = record.tlsCipher;
    attributes["tls.resumed"] = record.tlsResumed;
    attributes["tls.established"] = true;
    attributes["bunnel.handshake_ms"] = record.handshakeMs;
    if (record.alpn !== "") attributes["tls.next_protocol"] = record.alpn;
    if (record.peerFingerprint !== "") attributes["tls.client.hash.sha256"] = record.peerFingerprint.toUpperCase();
  }
  if (identity !== null) {
    attributes["bunnel.identity.uri"] = [...identity.uris];
    attributes["bunnel.identity.dns"] = [...identity.dnsNames];
    attributes["bunnel.identity.cn"] = [...identity.commonNames];
  }
  if (record.upstreamTlsVersion !== "") {
    attributes["bunnel.upstream_tls_version"] = record.upstreamTlsVersion;
    attributes["bunnel.upstream_tls_cipher"] = record.upstreamTlsCipher;
    attributes["bunnel.upstream_peer"] = record.upstreamPeer;
  }
}

/** Of `10.0.0.1:4711`, `[::1]:4711`, or a unix socket, which has no port. */
function splitPlace(text: string): { readonly address: string; readonly port: number } {
  const match = /^\[?([^[\]]*?)\]?:(\d+)$/.exec(text);
  return { address: match?.[1] ?? text, port: Number(match?.[2] ?? 0) };
}
