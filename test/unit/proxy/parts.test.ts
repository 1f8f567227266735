// What is built for one snapshot goes on in the next, as long as it is said in the same words there.

import { describe, expect, test } from "bun:test";
import { Parts } from "../../../src/proxy/parts.ts";
import type { OriginationSpec, PolicySpec } from "../../../src/snapshot/snapshot.ts";
import { routeSpec, ruleSpec, SIM_TERMINATION } from "../../support/sim-snapshot.ts";
import { SimWorker } from "../../support/sim-worker.ts";

const { runtime } = new SimWorker();
const POLICY: PolicySpec = {
  name: "p",
  mode: "enforce",
  meter: 92_000,
  rules: [ruleSpec({ uri: ["spiffe://a.example/*"] })],
};
const ORIGINATION: OriginationSpec = {
  chainPem: "",
  keyPem: "",
  serverCaPem: [],
  serverCrlPem: [],
  minVersion: "1.3",
  alpn: [],
  serverName: "a.example",
  verifyDns: [],
  verifyUri: [],
  trustDomains: [],
  onExpiry: "keep",
};
const ROUTES = [routeSpec({ match: { sni: ["a.example"] } })];

/** The same words in objects of their own, as another compilation makes them. */
function copied<T>(spec: T): T {
  return structuredClone(spec);
}

describe("the same words", () => {
  const first = new Parts(runtime, null);
  const built = [
    first.termination(SIM_TERMINATION),
    first.origination(ORIGINATION),
    first.policy(POLICY),
    first.router(ROUTES),
  ];

  test("are the same part in the next snapshot, and in the one after it", () => {
    let parts = first;
    for (let generation = 2; generation < 5; generation++) {
      parts = new Parts(runtime, parts);
      expect(parts.termination(copied(SIM_TERMINATION)) === built[0]).toBe(true);
      expect(parts.origination(copied(ORIGINATION)) === built[1]).toBe(true);
      expect(parts.policy(copied(POLICY)) === built[2]).toBe(true);
      expect(parts.router(copied(ROUTES)) === built[3]).toBe(true);
    }
  });

  test("are built anew when one snapshot did without them: nothing is kept that is not served", () => {
    const without = new Parts(runtime, first);
    expect(new Parts(runtime, without).policy(POLICY) === built[2]).toBe(false);
  });

  test("of routes may lead elsewhere: a router only says which route", () => {
    const elsewhere = ROUTES.map((route) => ({ ...route, backend: 3, policy: 2 }));
    expect(new Parts(runtime, first).router(elsewhere) === built[3]).toBe(true);
  });
});

describe("other words", () => {
  const served = new Parts(runtime, null);
  const [termination, origination] = [served.termination(SIM_TERMINATION), served.origination(ORIGINATION)];
  const next = new Parts(runtime, served);

  test.each([
    ["a certificate", { certificates: [{ chainPem: "another", keyPem: "", names: ["a.example"] }] }],
    ["its key", { certificates: [{ chainPem: "", keyPem: "another", names: ["a.example"] }] }],
    ["an authority", { clientCaPem: ["another"] }],
    ["a revocation list", { clientCrlPem: ["another"] }],
    ["whether a certificate is demanded", { clientAuth: "required" }],
    ["session tickets", { sessionTickets: true }],
    ["trust domains", { trustDomains: ["a.example"] }],
  ] as const)("%s of a termination", (_, change) => {
    const changed = next.termination({ ...SIM_TERMINATION, ...change });
    expect(changed === termination).toBe(false);
    expect(changed.spec).toMatchObject(change);
  });

  test.each([
    ["an authority", { serverCaPem: ["another"] }],
    ["a revocation list", { serverCrlPem: ["another"] }],
    ["who is meant", { verifyUri: ["spiffe://a.example/b"] }],
  ] as const)("%s of an origination", (_, change) => {
    const changed = next.origination({ ...ORIGINATION, ...change });
    expect(changed === origination).toBe(false);
    expect(changed.spec).toMatchObject(change);
  });

  test("a policy's mode, and its rules", () => {
    const policy = served.policy(POLICY);
    expect(next.policy({ ...POLICY, mode: "shadow" }) === policy).toBe(false);
    expect(next.policy({ ...POLICY, rules: [] }) === policy).toBe(false);
  });
});
