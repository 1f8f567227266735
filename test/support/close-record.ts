// A record as an mTLS connection that went well leaves it, for tests of what is made of records.

import type { CloseRecord } from "../../src/telemetry/access-log.ts";

/** The record; `changes` are laid over it. */
export function closeRecord(changes: Partial<CloseRecord> = {}): CloseRecord {
  return {
    timeMs: 1_700_000_000_123,
    id: "9f3a21bc-7",
    listener: "edge",
    route: "db",
    backend: "db",
    endpoint: "10.0.0.1:5432",
    attempts: 2,
    downstream: "192.0.2.7:50000",
    downstreamDirect: "10.0.0.9:4711",
    local: "10.0.0.2:8443",
    sni: "a.db.internal",
    alpn: "postgresql",
    identity: { uris: ["spiffe://prod/web"], dnsNames: ["web.internal"], commonNames: ["web"] },
    refusedCertificate: "",
    peerFingerprint: "ab".repeat(32),
    peerSpkiFingerprint: "cd".repeat(32),
    tlsVersion: "TLSv1.3",
    tlsCipher: "TLS_AES_128_GCM_SHA256",
    tlsResumed: false,
    bytesUp: 12,
    bytesDown: 3456,
    durationMs: 1234.5678,
    handshakeMs: 3.25,
    connectMs: 0.5004,
    upstreamTlsVersion: "",
    upstreamTlsCipher: "",
    upstreamPeer: "",
    closeReason: "completed",
    closeSide: "downstream",
    phase: "relay",
    termination: "--",
    error: "",
    detail: "",
    tried: [],
    policy: "db-clients",
    policyRule: "allow[0]",
    ...changes,
  };
}
