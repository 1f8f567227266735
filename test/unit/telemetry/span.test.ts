import { describe, expect, test } from "bun:test";
import { spanOf } from "../../../src/telemetry/span.ts";
import { closeRecord } from "../../support/close-record.ts";

describe("spanOf", () => {
  test("a connection that went well: true times, conventions where there are some, and no error", () => {
    const { name, startMs, endMs, attributes, failure } = spanOf(closeRecord(), 2);
    expect([name, startMs, endMs, failure]).toEqual([
      "connection edge",
      1_700_000_000_123,
      1_700_000_000_123 + 1234.5678,
      null,
    ]);
    expect(attributes).toEqual({
      "network.transport": "tcp",
      "client.address": "192.0.2.7",
      "client.port": 50_000,
      "network.peer.address": "10.0.0.9",
      "network.peer.port": 4711,
      "network.local.address": "10.0.0.2",
      "network.local.port": 8443,
      "server.address": "a.db.internal",
      "server.port": 8443,
      "tls.protocol.name": "tls",
      "tls.protocol.version": "1.3",
      "tls.cipher": "TLS_AES_128_GCM_SHA256",
      "tls.resumed": false,
      "tls.established": true,
      "tls.next_protocol": "postgresql",
      "tls.client.hash.sha256": "AB".repeat(32),
      "bunnel.connection.id": "9f3a21bc-7",
      "bunnel.worker": 2,
      "bunnel.listener": "edge",
      "bunnel.route": "db",
      "bunnel.backend": "db",
      "bunnel.endpoint": "10.0.0.1:5432",
      "bunnel.attempts": 2,
      "bunnel.connect_ms": 0.5004,
      "bunnel.handshake_ms": 3.25,
      "bunnel.bytes_up": 12,
      "bunnel.bytes_down": 3456,
      "bunnel.close_reason": "completed",
      "bunnel.close_side": "downstream",
      "bunnel.phase": "relay",
      "bunnel.termination": "--",
      "bunnel.policy": "db-clients",
      "bunnel.policy_rule": "allow[0]",
      "bunnel.identity.uri": ["spiffe://prod/web"],
      "bunnel.identity.dns": ["web.internal"],
      "bunnel.identity.cn": ["web"],
    });
  });

  test("one that failed says why, and which endpoints were tried", () => {
    const { attributes, failure } = spanOf(
      closeRecord({
        closeReason: "connect_timeout",
        error: "ETIMEDOUT",
        detail: "10.0.0.2:5432: ETIMEDOUT",
        tried: [
          { endpoint: "10.0.0.1:5432", result: "ECONNREFUSED", ms: 0.4 },
          { endpoint: "10.0.0.2:5432", result: "ETIMEDOUT", ms: 3000.2 },
        ],
      }),
      0,
    );
    expect(failure).toBe("10.0.0.2:5432: ETIMEDOUT");
    expect(attributes["error.type"]).toBe("ETIMEDOUT");
    expect(attributes["bunnel.tried"]).toEqual(["10.0.0.1:5432 ECONNREFUSED 0 ms", "10.0.0.2:5432 ETIMEDOUT 3000 ms"]);
  });

  test("where there is no code, the reason is the type of the error", () => {
    const { attributes, failure } = spanOf(closeRecord({ closeReason: "no_route", detail: "" }), 0);
    expect([attributes["error.type"], failure]).toEqual(["no_route", "no_route"]);
  });

  test("addresses of IPv6, and unix sockets, which have no port", () => {
    const { attributes } = spanOf(
      closeRecord({ downstream: "[2001:db8::7]:50000", downstreamDirect: "unix", local: "unix:/run/b.sock", sni: "" }),
      0,
    );
    expect(attributes).toMatchObject({
      "network.transport": "unix",
      "client.address": "2001:db8::7",
      "client.port": 50_000,
      "network.peer.address": "unix",
      "network.local.address": "unix:/run/b.sock",
      "server.address": "unix:/run/b.sock",
    });
    expect(attributes["network.peer.port"]).toBeUndefined();
    expect(attributes["server.port"]).toBeUndefined();
  });
});
