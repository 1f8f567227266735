// What it costs to ask a policy of 1,000 rules, at its worst: only the last rule matches, or none. No socket and no other program:
// the evaluator alone, in a loop, in the process that runs this.
import { parseIp } from "../../src/base/ip.ts";
import { Policy } from "../../src/proxy/authorize.ts";
import type { Identity } from "../../src/proxy/identity.ts";
import type { Source } from "../../src/proxy/source-address.ts";
import type { PolicyRule } from "../../src/snapshot/snapshot.ts";
import type { Micro } from "./micro.ts";

const RULES = 1000;
/** What this project set itself, in nanoseconds. */
const BUDGET = 5000;

const NOBODY: PolicyRule = { action: "allow", uri: [], dns: [], ip: [], cn: [], ou: [], source: [] };

/** One name of each kind, of the same length and beginning as those in the rules: what is hard to tell apart. */
const identity: Identity = {
  uris: ["spiffe://prod.example/ns/team-0999/sa/client"],
  dnsNames: ["client-0999.prod.example"],
  ips: ["10.0.3.231"],
  commonNames: [],
  organizationalUnits: [],
  notAfterMs: 0,
  fingerprint: "",
  spkiFingerprint: "",
};
const source: Source = { bytes: parseIp("10.1.3.231") };
const four = (index: number): string => String(index).padStart(4, "0");

/** Kinds of rules; each rule matches one client, and `index` RULES - 1 is the one that asks. */
const KINDS: Readonly<Record<string, (index: number) => Partial<PolicyRule>>> = {
  "exact URIs": (index) => ({ uri: [`spiffe://prod.example/ns/team-${four(index)}/sa/client`] }),
  "URIs with a wildcard": (index) => ({ uri: [`spiffe://prod.example/ns/team-${four(index)}/sa/*`] }),
  "exact DNS names": (index) => ({ dns: [`client-${four(index)}.prod.example`] }),
  "DNS names with a wildcard": (index) => ({ dns: [`*.${index === RULES - 1 ? "prod" : `p${four(index)}`}.example`] }),
  "IP SANs": (index) => ({ ip: [`10.0.${index >> 8}.${index & 255}/32`] }),
  sources: (index) => ({ source: [`10.1.${index >> 8}.${index & 255}/32`] }),
  "a source and a URI": (index) => ({
    source: ["10.1.0.0/16"],
    uri: [`spiffe://prod.example/ns/team-${four(index)}/sa/client`],
  }),
};
/** A mixture, as a large policy has it; the last rule is an exact URI. */
const MIXED = ["DNS names with a wildcard", "URIs with a wildcard", "exact DNS names", "sources", "exact URIs"];

function rulesOf(kindOf: (index: number) => string): PolicyRule[] {
  return Array.from({ length: RULES }, (_, index) => ({ ...NOBODY, ...KINDS[kindOf(index)]?.(index) }));
}

/** Throws when the verdict is not `expected`. */
function evaluation(name: string, rules: readonly PolicyRule[], expected: string): Micro {
  const policy = new Policy({ name: "bench", mode: "enforce", meter: 92_000, rules });
  if (policy.evaluate(identity, source).rule !== expected) throw new Error(`the policy did not say ${expected}`);
  return { name: `policy of ${RULES} rules: ${name}`, budget: BUDGET, call: () => policy.evaluate(identity, source) };
}

const kinds: readonly (readonly [string, (index: number) => string])[] = [
  ["mixed", (index) => MIXED[index % MIXED.length] ?? ""],
  ...Object.keys(KINDS).map((kind) => [kind, () => kind] as const),
];

/** See micro.ts. */
export const MICRO: readonly Micro[] = kinds.flatMap(([name, kindOf]) => {
  const rules = rulesOf(kindOf);
  return [
    evaluation(`${name}, only the last matches`, rules, `allow[${RULES - 1}]`),
    evaluation(`${name}, none matches`, [...rules.slice(0, -1), ...rules.slice(0, 1)], "default"),
  ];
});
