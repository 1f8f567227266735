import { describe, expect, test } from "bun:test";
import { Policy } from "../../../src/proxy/authorize.ts";
import type { Identity } from "../../../src/proxy/identity.ts";
import { SourceAddress } from "../../../src/proxy/source-address.ts";
import type { PolicyRule } from "../../../src/snapshot/snapshot.ts";
import { ruleSpec } from "../../support/sim-snapshot.ts";

const SOURCE = new SourceAddress("10.0.0.1", 1);
const WEB: Identity = {
  commonNames: ["web"],
  organizationalUnits: ["eng"],
  uris: ["spiffe://prod/web"],
  dnsNames: ["web.internal"],
  ips: ["10.1.2.3"],
  notAfterMs: 0,
  fingerprint: "00".repeat(32),
  spkiFingerprint: "00".repeat(32),
};

describe("nothing matches", () => {
  test("an empty policy denies everyone", () => {
    expect(policy([]).evaluate(WEB, SOURCE)).toEqual({ allowed: false, rule: "default" });
  });

  test("a policy whose rules speak of others denies", () => {
    const others = policy([ruleSpec({ uri: ["spiffe://prod/db"] }), ruleSpec({ action: "deny", cn: ["db"] })]);
    expect(others.evaluate(WEB, SOURCE)).toEqual({ allowed: false, rule: "default" });
  });
});

describe("the first rule that matches decides", () => {
  const both = [ruleSpec({ action: "deny", cn: ["web"] }), ruleSpec({ uri: ["spiffe://prod/**"] })];

  test("and names itself", () => {
    expect(policy(both).evaluate(WEB, SOURCE)).toEqual({ allowed: false, rule: "deny[0]" });
    expect(policy(both.toReversed()).evaluate(WEB, SOURCE)).toEqual({ allowed: true, rule: "allow[0]" });
    expect(policy(both).evaluate({ ...WEB, commonNames: [] }, SOURCE)).toEqual({ allowed: true, rule: "allow[1]" });
  });
});

describe("without a certificate", () => {
  for (const field of ["uri", "dns", "ip", "cn", "ou"] as const) {
    const value = { uri: "spiffe://prod/web", dns: "web.internal", ip: "10.1.2.3/32", cn: "web", ou: "eng" }[field];

    test(`a rule on ${field} does not allow`, () => {
      expect(policy([ruleSpec({ [field]: [value] })]).evaluate(null, SOURCE).allowed).toBe(false);
    });

    test(`a rule on ${field} and the source does not allow`, () => {
      expect(policy([ruleSpec({ [field]: [value], source: ["10.0.0.0/8"] })]).evaluate(null, SOURCE).allowed).toBe(
        false,
      );
    });
  }

  test("a rule on the source alone does", () => {
    expect(policy([ruleSpec({ source: ["10.0.0.0/8"] })]).evaluate(null, SOURCE)).toEqual({
      allowed: true,
      rule: "allow[0]",
    });
  });

  test("a rule that asks for nothing does, as it says", () => {
    expect(policy([ruleSpec()]).evaluate(null, SOURCE).allowed).toBe(true);
  });
});

describe("fields are and-ed, values or-ed", () => {
  const whole: Partial<PolicyRule> = {
    uri: ["spiffe://prod/db", "spiffe://prod/*"],
    dns: ["*.internal"],
    ip: ["192.0.2.0/24", "10.1.0.0/16"],
    cn: ["db", "web"],
    ou: ["eng"],
    source: ["10.0.0.0/8"],
  };

  test("all fields hold, each by one of its values", () => {
    expect(policy([ruleSpec(whole)]).evaluate(WEB, SOURCE).allowed).toBe(true);
  });

  const broken: readonly [string, Identity, SourceAddress][] = [
    ["uri", { ...WEB, uris: ["spiffe://dev/web"] }, SOURCE],
    ["dns", { ...WEB, dnsNames: [] }, SOURCE],
    ["ip", { ...WEB, ips: ["10.2.0.1"] }, SOURCE],
    ["cn", { ...WEB, commonNames: ["Web"] }, SOURCE],
    ["ou", { ...WEB, organizationalUnits: ["ops"] }, SOURCE],
    ["source", WEB, new SourceAddress("192.0.2.1", 1)],
    ["source on a unix socket", WEB, new SourceAddress(undefined, undefined)],
  ];
  for (const [field, identity, source] of broken) {
    test(`${field} alone does not hold: no match`, () => {
      expect(policy([ruleSpec(whole)]).evaluate(identity, source)).toEqual({ allowed: false, rule: "default" });
    });
  }

  test("any one name of several in a certificate may match", () => {
    const many = { ...WEB, uris: ["spiffe://elsewhere/x", "spiffe://prod/web"] };
    expect(policy([ruleSpec({ uri: ["spiffe://prod/web"] })]).evaluate(many, SOURCE).allowed).toBe(true);
  });
});

describe("shadow mode lets everyone pass and says what it would have done", () => {
  test("denied by a rule, denied by default, allowed", () => {
    const rules = [ruleSpec({ action: "deny", cn: ["web"] }), ruleSpec({ cn: ["db"] })];
    const shadow = new Policy({ name: "p", mode: "shadow", meter: 92_000, rules });
    expect(shadow.evaluate(WEB, SOURCE)).toEqual({ allowed: true, rule: "shadow:deny[0]" });
    expect(shadow.evaluate(null, SOURCE)).toEqual({ allowed: true, rule: "shadow:default" });
    expect(shadow.evaluate({ ...WEB, commonNames: ["db"] }, SOURCE)).toEqual({ allowed: true, rule: "allow[1]" });
  });
});

function policy(rules: PolicyRule[]): Policy {
  return new Policy({ name: "p", mode: "enforce", meter: 92_000, rules });
}
