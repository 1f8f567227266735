// An index may only ever leave out what cannot match: a policy with it says what one that tries every rule says.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseIp } from "../../../src/base/ip.ts";
import { compileRule, matches, Policy } from "../../../src/proxy/authorize.ts";
import type { Identity } from "../../../src/proxy/identity.ts";
import { RuleIndex } from "../../../src/proxy/rule-index.ts";
import type { PolicyRule } from "../../../src/snapshot/snapshot.ts";
import { ruleSpec } from "../../support/sim-snapshot.ts";

const some = <T>(...values: T[]): fc.Arbitrary<T[]> => fc.subarray(values, { maxLength: Math.min(2, values.length) });
const rule: fc.Arbitrary<PolicyRule> = fc
  .record({
    action: fc.constantFrom("allow" as const, "deny" as const),
    uri: some(
      "spiffe://prod/web",
      "SPIFFE://Prod/web",
      "spiffe://prod/*",
      "spiffe://prod/**",
      "spiffe://prod/*/web",
      "spiffe://prod/ns/*",
      "urn:Example:web",
      "https://prod",
    ),
    dns: some("web.test", "WEB.test", "*.test", "**.test", "*.a.test"),
    cn: some("web", "Web"),
    ou: some("eng"),
    ip: some("10.0.0.0/8", "10.1.2.3/32", "::/0", "2001:db8::/32", "0.0.0.0/0"),
    source: some("10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "::ffff:10.0.0.0/104"),
  })
  .map((fields) => ruleSpec(fields));
const identity: fc.Arbitrary<Identity> = fc.record({
  uris: some(
    "spiffe://prod/web",
    "spiffe://PROD/web",
    "spiffe://prod/ns/web",
    "spiffe://prod/",
    "urn:Example:web",
    "HTTPS://prod",
  ),
  dnsNames: some("web.test", "b.a.test", "test"),
  ips: some("10.1.2.3", "2001:db8::1", "::ffff:10.1.2.3"),
  commonNames: some("web", "Web"),
  organizationalUnits: some("eng", "ops"),
  notAfterMs: fc.constant(0),
  fingerprint: fc.constant(""),
  spkiFingerprint: fc.constant(""),
});
const source = fc
  .constantFrom("10.9.9.9", "192.0.2.1", "2001:db8::2", "::ffff:10.9.9.9", "")
  .map((text) => ({ bytes: text === "" ? null : parseIp(text) }));

const NOBODY: Identity = {
  uris: [],
  dnsNames: [],
  ips: [],
  commonNames: [],
  organizationalUnits: [],
  notAfterMs: 0,
  fingerprint: "",
  spkiFingerprint: "",
};

test("what the index leaves out would not have matched", () => {
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 12 }), fc.option(identity), source, (rules, who, from) => {
      const first = rules.findIndex((each, index) => matches(compileRule(each, index), who, from));
      const { rule: said } = new Policy({ name: "all", mode: "enforce", meter: 92_000, rules }).evaluate(who, from);
      expect(said).toBe(first < 0 ? "default" : `${rules[first]?.action}[${first}]`);
    }),
    { numRuns: 3000 },
  );
});

test("a rule is found by the values of one field, whatever it says in others", () => {
  const index = new RuleIndex();
  index.add(ruleSpec({ uri: ["spiffe://prod/web"], source: ["10.0.0.0/8"] }), 0);
  index.add(ruleSpec({ source: ["10.0.0.0/8"] }), 1);
  expect(index.candidates(null, { bytes: parseIp("10.0.0.1") }).flat()).toEqual([1]);
});

test("a name of 180 KB, all slashes or dots, is looked for in no time", () => {
  const index = new RuleIndex();
  index.add(ruleSpec({ uri: ["spiffe://prod/**"] }), 0);
  index.add(ruleSpec({ dns: ["**.example.test"] }), 1);
  const long: Identity = { ...NOBODY, uris: [`spiffe://prod${"/b".repeat(90_000)}`], dnsNames: [] };
  const dotted: Identity = { ...NOBODY, dnsNames: [`${"b.".repeat(90_000)}example.test`] };
  const startMs = performance.now();
  expect(index.candidates(long, { bytes: null }).flat()).toEqual([0]);
  expect(index.candidates(dotted, { bytes: null }).flat()).toEqual([1]);
  // Compared in full, every part of them took seconds.
  expect(performance.now() - startMs).toBeLessThan(500);
});

test("a policy is made in pieces, or by the first who asks", () => {
  const rules = Array.from({ length: 1000 }, (_, index) => ruleSpec({ source: [`10.0.${index >> 8}.${index & 255}`] }));
  const last = { bytes: parseIp("10.0.3.231") };
  const [inPieces, atOnce] = [1, 2].map(() => new Policy({ name: "all", mode: "enforce", meter: 92_000, rules }));
  let pieces = 1;
  while (inPieces?.makeSome()) pieces++;
  expect(pieces).toBeGreaterThan(5);
  for (const policy of [inPieces, atOnce]) expect(policy?.evaluate(null, last).rule).toBe("allow[999]");
  expect(atOnce?.makeSome()).toBe(false);
});

test("rules with many values are made a few at a time", () => {
  const source = Array.from({ length: 1000 }, (_, index) => `10.0.${index >> 8}.${index & 255}`);
  const policy = new Policy({
    name: "all",
    mode: "enforce",
    meter: 92_000,
    rules: Array(20).fill(ruleSpec({ source })),
  });
  let pieces = 1;
  while (policy.makeSome()) pieces++;
  expect(pieces).toBe(20);
});
