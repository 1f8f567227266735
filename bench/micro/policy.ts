// What it costs to ask a policy of 1,000 rules, at its worst: only the last rule matches, or none. No socket and no other program:
// the evaluator alone, in a loop, in the process that runs this.
//   bun bench/micro/policy.ts
// Each figure is the median and the range of batches that follow a warm-up. No benchmark library: the figure is microseconds, a
// thousand times the clock's resolution, and a loop says all there is to say.
import { parseIp } from "../../src/base/ip.ts";
import { Policy } from "../../src/proxy/authorize.ts";
import type { Identity } from "../../src/proxy/identity.ts";
import type { Source } from "../../src/proxy/source-address.ts";
import type { PolicyRule } from "../../src/snapshot/snapshot.ts";
import { summarise } from "../results.ts";

const RULES = 1000;
const BATCHES = 51;
const BATCH_CALLS = 2000;
const WARM_UP_BATCHES = 10;
/** What this project set itself, in nanoseconds. */
const TO_REACH_NS = 5000;

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

/** Nanoseconds of one evaluation: median and range of the batches. Throws when the verdict is not `expected`. */
function measure(rules: readonly PolicyRule[], expected: string): string {
  const policy = new Policy({ name: "bench", mode: "enforce", meter: 92_000, rules });
  const samples: number[] = [];
  for (let batch = -WARM_UP_BATCHES; batch < BATCHES; batch += 1) {
    let agreeing = 0;
    const startedAt = Bun.nanoseconds();
    for (let call = 0; call < BATCH_CALLS; call += 1) {
      if (policy.evaluate(identity, source).rule === expected) agreeing += 1;
    }
    const elapsed = Bun.nanoseconds() - startedAt;
    if (agreeing !== BATCH_CALLS) throw new Error(`the policy did not say ${expected}`);
    if (batch >= 0) samples.push(elapsed / BATCH_CALLS);
  }
  const { median = 0, min = 0, max = 0 } = summarise(samples) ?? {};
  const range = `${min.toFixed(0)}..${max.toFixed(0)}`;
  return `${median.toFixed(0).padStart(6)} ns (${range}) ${median <= TO_REACH_NS ? "✓" : "✗"}`;
}

console.log(`policy of ${RULES} rules, one evaluation, to reach: ≤ ${TO_REACH_NS} ns; Bun ${Bun.version}`);
const kinds: readonly (readonly [string, (index: number) => string])[] = [
  ["mixed", (index) => MIXED[index % MIXED.length] ?? ""],
  ...Object.keys(KINDS).map((kind) => [kind, () => kind] as const),
];
for (const [name, kindOf] of kinds) {
  const rules = rulesOf(kindOf);
  console.log(`${name}, only the last matches`.padEnd(50), measure(rules, `allow[${RULES - 1}]`));
  console.log(`${name}, none matches`.padEnd(50), measure([...rules.slice(0, -1), ...rules.slice(0, 1)], "default"));
}
