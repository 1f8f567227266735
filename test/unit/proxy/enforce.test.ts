// Which live connections a new snapshot ends, and that all others go on byte for byte. On the simulated network with real certificates; the
// scenarios rules-reach-live-connections show the same on the daemon.

import { beforeAll, describe, expect, test } from "bun:test";
import { pemBytes } from "../../../src/protocol/pem.ts";
import type { OriginationSpec, PolicyRule, Snapshot, TerminationSpec } from "../../../src/snapshot/snapshot.ts";
import { clientHello } from "../../sim/scripts.ts";
import { type CertificateFiles, type TestPki, testPki } from "../../support/certificates.ts";
import {
  backendSpec,
  endpointSpec,
  listenerSpec,
  routeSpec,
  ruleSpec,
  SIM_TERMINATION,
  snapshotSpec,
} from "../../support/sim-snapshot.ts";
import { Probe, SimWorker } from "../../support/sim-worker.ts";

const HELLO = clientHello("a.example");
let pki: TestPki;

beforeAll(async () => {
  pki = await testPki();
});

function der({ certificatePem }: CertificateFiles): Uint8Array {
  return pemBytes(certificatePem) as Uint8Array;
}

/** A program whose handshake comes out well. */
function tlsProbe(certificate: CertificateFiles | null, delayMs = 0): Probe {
  const shown = certificate === null ? null : der(certificate);
  return new Probe(undefined, { hello: HELLO, outcome: "secured", delayMs, certificate: shown });
}

interface Rules {
  readonly rules?: readonly PolicyRule[];
  readonly mode?: "enforce" | "shadow";
  readonly termination?: Partial<TerminationSpec>;
  readonly route?: string;
}

function rulesSpec(
  generation: number,
  { rules = [ruleSpec()], mode = "enforce", termination, route }: Rules,
): Snapshot {
  const spec = { ...SIM_TERMINATION, clientCaPem: [pki.authority.certificatePem], ...termination };
  const routes = [routeSpec({ name: route ?? "route", tls: "terminate", termination: spec, policy: 0 })];
  return snapshotSpec({
    generation,
    policies: [{ name: "clients", mode, meter: 92_000, rules }],
    listeners: [listenerSpec({ routes })],
  });
}

/** Whether a message of the client arrives at its server, and the other way round. */
function flows(sim: SimWorker, client: Probe, server: Probe): boolean {
  const [up, down] = [`up ${server.text.length}`, `down ${client.text.length}`];
  client.send(up);
  server.send(down);
  sim.settle();
  return server.text.endsWith(up) && client.text.endsWith(down);
}

/** Two clients, `client` and `other`, and the server of the second. */
function withTwo(rules: Rules = {}): { sim: SimWorker; client: Probe; other: Probe; server: Probe } {
  const sim = new SimWorker({ snapshot: rulesSpec(1, rules) });
  const client = sim.connect({ client: tlsProbe(pki.client) });
  const other = sim.connect({ client: tlsProbe(pki.otherClient) });
  return { sim, client, other, server: sim.server };
}

const ONLY_OTHER = [ruleSpec({ uri: ["spiffe://bunnel.test/other"] })];

describe("a policy", () => {
  test("ends whom it denies now, and names the rule that does", () => {
    const { sim, client, other, server } = withTwo();
    const rules = [ruleSpec({ action: "deny", uri: ["spiffe://bunnel.test/client"] }), ruleSpec()];
    sim.plane.apply(rulesSpec(2, { rules }));
    expect(sim.records).toMatchObject([
      {
        closeReason: "policy_revoked",
        detail: "policy clients: rule deny[0] denies it",
        policy: "clients",
        policyRule: "deny[0]",
      },
    ]);
    sim.settle();
    expect([client.resets, client.fins]).toEqual([1, 0]);
    expect(flows(sim, other, server)).toBe(true);
  });

  test("without a rule that fits any more denies by default", () => {
    const { sim, other, server } = withTwo();
    sim.plane.apply(rulesSpec(2, { rules: ONLY_OTHER }));
    expect(sim.records).toMatchObject([{ closeReason: "policy_revoked", detail: "policy clients: no rule matches" }]);
    expect(flows(sim, other, server)).toBe(true);
  });

  test("in shadow mode ends nobody, and its record says what it would have done", () => {
    const { sim, client } = withTwo();
    sim.plane.apply(rulesSpec(2, { rules: ONLY_OTHER, mode: "shadow" }));
    expect(sim.records).toEqual([]);
    client.link.farResetNow();
    sim.settle();
    expect(sim.records).toMatchObject([{ closeReason: "downstream_reset", policyRule: "shadow:default" }]);
  });

  test("reaches a connection whose handshake was under way: not a byte comes through", () => {
    const sim = new SimWorker({ snapshot: rulesSpec(1, {}) });
    const slow = sim.connect({ client: tlsProbe(pki.client, 100) });
    sim.plane.apply(rulesSpec(2, { rules: ONLY_OTHER }));
    slow.send("secret");
    sim.settle(200);
    expect(sim.records).toMatchObject([{ closeReason: "policy_revoked", detail: "policy clients: no rule matches" }]);
    expect(sim.servers.map(({ text }) => text)).toEqual([""]);
  });

  test("does not wait for an endpoint that does not answer", () => {
    const sim = new SimWorker({ snapshot: rulesSpec(1, {}), dialled: () => ({ kind: "silence" }) });
    sim.connect({ client: tlsProbe(pki.client) });
    sim.plane.apply(rulesSpec(2, { rules: ONLY_OTHER }));
    expect(sim.records).toMatchObject([{ closeReason: "policy_revoked", attempts: 1 }]);
  });

  test("reaches a connection that was being dialled", () => {
    const sim = new SimWorker({
      snapshot: rulesSpec(1, {}),
      dialled: (server) => ({ kind: "connects", afterMs: 100, program: server }),
    });
    const client = sim.connect({ client: tlsProbe(pki.client) });
    client.send("secret");
    sim.settle(50);
    sim.plane.apply(rulesSpec(2, { rules: ONLY_OTHER }));
    sim.settle(200);
    expect(sim.reasons).toEqual(["policy_revoked"]);
    expect(sim.server.text).toBe("");
  });

  test("that was changed and changed back before it was looked at ends nobody", () => {
    const sim = new SimWorker({ snapshot: rulesSpec(1, {}) });
    const slow = sim.connect({ client: tlsProbe(pki.client, 100) });
    sim.plane.apply(rulesSpec(2, { rules: ONLY_OTHER }));
    sim.plane.apply(rulesSpec(3, {}));
    sim.settle(200);
    expect(flows(sim, slow, sim.server)).toBe(true);
  });

  test("by sources reaches connections without TLS", () => {
    const listeners = [listenerSpec({ routes: [routeSpec({ policy: 0 })] })];
    const spec = (generation: number, source: readonly string[]): Snapshot =>
      snapshotSpec({
        generation,
        listeners,
        policies: [{ name: "net", mode: "enforce", meter: 92_000, rules: [ruleSpec({ source })] }],
      });
    const sim = new SimWorker({ snapshot: spec(1, ["10.0.0.0/8"]) });
    sim.connect({ ip: "10.0.0.1" });
    const other = sim.connect({ ip: "10.1.0.1" });
    sim.plane.apply(spec(2, ["10.1.0.0/16"]));
    expect(sim.records).toMatchObject([{ closeReason: "policy_revoked", downstream: "10.0.0.1:1" }]);
    expect(flows(sim, other, sim.server)).toBe(true);
  });

  test("of 5,000 connections: half of them ended in slices, and the rest is still there", () => {
    const sim = new SimWorker({ snapshot: rulesSpec(1, {}) });
    const kept: Probe[] = [];
    for (let count = 0; count < 5000; count++) {
      const client = sim.connect({ client: tlsProbe(count % 2 === 0 ? pki.client : pki.otherClient) });
      if (count % 2 === 1) kept.push(client);
    }
    sim.plane.apply(rulesSpec(2, { rules: ONLY_OTHER }));
    const atOnce = sim.records.length;
    expect(atOnce).toBeLessThan(2500);
    sim.settle(500);
    expect(sim.records.length).toBe(2500);
    expect(new Set(sim.reasons)).toEqual(new Set(["policy_revoked"]));
    expect(kept.every(({ resets, fins }) => resets + fins === 0)).toBe(true);
  }, 20_000);
});

describe("certificates of clients", () => {
  test("a list that revokes one ends that one", () => {
    const sim = new SimWorker({ snapshot: rulesSpec(1, {}) });
    sim.connect({ client: tlsProbe(pki.revoked) });
    const other = sim.connect({ client: tlsProbe(pki.otherClient) });
    sim.plane.apply(rulesSpec(2, { termination: { clientCrlPem: [pki.revocationList.pem] } }));
    expect(sim.records).toMatchObject([
      { closeReason: "certificate_revoked", detail: "the client's certificate: CERT_REVOKED" },
    ]);
    expect(flows(sim, other, sim.server)).toBe(true);
  });

  test("an authority that was taken away ends its clients, also when it happened in two steps", () => {
    const both = [pki.authority.certificatePem, pki.otherAuthority.certificatePem];
    const sim = new SimWorker({ snapshot: rulesSpec(1, { termination: { clientCaPem: both } }) });
    sim.connect({ client: tlsProbe(pki.wrongAuthority) });
    const other = sim.connect({ client: tlsProbe(pki.otherClient) });
    sim.plane.apply(rulesSpec(2, { termination: { clientCaPem: both.toReversed() } }));
    expect(sim.records).toEqual([]);
    sim.plane.apply(rulesSpec(3, {}));
    expect(sim.records).toMatchObject([
      { closeReason: "certificate_revoked", detail: "the client's certificate: no authority vouches for it" },
    ]);
    expect(flows(sim, other, sim.server)).toBe(true);
  });

  test("required from now on ends those who showed none", () => {
    const sim = new SimWorker({ snapshot: rulesSpec(1, {}) });
    sim.connect({ client: tlsProbe(null) });
    const other = sim.connect({ client: tlsProbe(pki.client) });
    sim.plane.apply(rulesSpec(2, { termination: { clientAuth: "required" } }));
    expect(sim.records).toMatchObject([
      { closeReason: "policy_revoked", detail: "a client certificate is required now" },
    ]);
    expect(flows(sim, other, sim.server)).toBe(true);
  });

  test("are judged by the route that they would take now, whatever its name", () => {
    const { sim, other } = withTwo();
    sim.plane.apply(rulesSpec(2, { route: "renamed", rules: ONLY_OTHER }));
    sim.settle(100);
    expect(sim.records).toMatchObject([{ closeReason: "policy_revoked" }]);
    expect(flows(sim, other, sim.servers[1] as Probe)).toBe(true);
  });
});

describe("certificates of endpoints", () => {
  function originating(
    generation: number,
    origination: Partial<OriginationSpec> | null,
    addressed = "localhost",
  ): Snapshot {
    const spec: OriginationSpec = {
      ...{ chainPem: "", keyPem: "", serverCaPem: [pki.authority.certificatePem], serverCrlPem: [] },
      ...{ minVersion: "1.3", alpn: [], serverName: addressed, verifyDns: [], verifyUri: [], trustDomains: [] },
      onExpiry: "keep",
      ...origination,
    };
    const backends = [backendSpec({ endpoints: [endpointSpec(0)], origination: origination === null ? null : spec })];
    return snapshotSpec({ generation, backends });
  }

  function connected(): { sim: SimWorker; client: Probe; server: Probe } {
    const serverHandshake = { hello: HELLO, outcome: "secured", delayMs: 0, certificate: der(pki.server) } as const;
    const sim = new SimWorker({
      snapshot: originating(1, {}),
      dialled: (server) => ({ kind: "connects", afterMs: 0, program: Object.assign(server, { serverHandshake }) }),
    });
    const client = sim.connect();
    expect(flows(sim, client, sim.server)).toBe(true);
    return { sim, client, server: sim.server };
  }

  test.each([
    ["an authority that was taken away", () => ({ serverCaPem: [pki.otherAuthority.certificatePem] }), "no authority"],
    ["another server name", () => ({ serverName: "db.test" }), "not for the name db.test"],
    ["names that do not match any more", () => ({ verifyDns: ["*.db.test"] }), "no DNS name matches verify.dns"],
    ["trust domains", () => ({ trustDomains: ["a.test"] }), "no X.509-SVID"],
  ])("%s ends the connection", (_, origination, reason) => {
    const { sim, client } = connected();
    sim.plane.apply(originating(2, origination()));
    expect(sim.records).toMatchObject([{ closeReason: "certificate_revoked" }]);
    expect(sim.records[0]?.detail).toStartWith(`the endpoint's certificate: ${reason}`);
    sim.settle();
    expect([client.resets, client.fins]).toEqual([1, 0]);
  });

  test("a certificate of ours that was replaced, more authorities, no TLS any more, or no backend: nothing happens", () => {
    const { sim, client, server } = connected();
    const ca = pki.authority.certificatePem;
    sim.plane.apply(originating(2, { chainPem: "new", keyPem: "new" }));
    sim.plane.apply(originating(3, { serverCaPem: [pki.otherAuthority.certificatePem, ca] }));
    sim.plane.apply(originating(4, null));
    sim.plane.apply(snapshotSpec({ generation: 5, backends: [backendSpec({ name: "other" })] }));
    expect(sim.records).toEqual([]);
    expect(flows(sim, client, server)).toBe(true);
  });

  test("judged while it was being dialled: by the rules of then and of now", () => {
    const serverHandshake = { hello: HELLO, outcome: "secured", delayMs: 100, certificate: der(pki.server) } as const;
    const sim = new SimWorker({
      snapshot: originating(1, {}),
      dialled: (server) => ({ kind: "connects", afterMs: 0, program: Object.assign(server, { serverHandshake }) }),
    });
    const client = sim.connect();
    client.send("secret");
    sim.plane.apply(originating(2, { serverName: "db.test" }));
    sim.settle(200);
    expect(sim.reasons).toEqual(["certificate_revoked"]);
    expect(sim.server.text).toBe("");
  });
});
