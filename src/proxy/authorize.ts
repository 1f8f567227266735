// Whether a policy lets an identity through. Rules are tried in order, the first that matches decides, and none means no.

import { parseIp } from "../base/ip.ts";
import { CidrSet } from "../protocol/cidr.ts";
import { compileDnsPattern, compileUriPattern, type NamePattern } from "../protocol/name-pattern.ts";
import type { PolicyRule, PolicySpec } from "../snapshot/snapshot.ts";
import { mustCompile } from "./compiled.ts";
import type { Identity } from "./identity.ts";
import { lowestOf } from "./match-index.ts";
import { RuleIndex } from "./rule-index.ts";
import { containsSource, type Source } from "./source-address.ts";

/** Values of rules that are compiled in one go: some hundreds of microseconds. */
const PIECE_VALUES = 200;

/** What a policy said, and which rule said it. */
export interface Verdict {
  /** Whether the connection may go on. In shadow mode always true. */
  readonly allowed: boolean;
  /** `allow[0]`, `deny[2]` with the rule's index, `default` when no rule matched; behind `shadow:` where shadow mode let pass what would be denied. */
  readonly rule: string;
}

/** A rule with its patterns and ranges compiled. */
export interface CompiledRule {
  readonly allows: boolean;
  readonly label: string;
  readonly needsIdentity: boolean;
  readonly uri: readonly NamePattern[];
  readonly dns: readonly NamePattern[];
  readonly ip: CidrSet | null;
  readonly cn: readonly string[];
  readonly ou: readonly string[];
  readonly source: CidrSet | null;
}

/** The detail of the close record of a denied connection, for people. Programs use the record's fields for policy and rule. */
export function denialOf(policy: string, { rule }: Verdict): string {
  return `policy ${policy}: ${rule === "default" ? "no rule matches" : `rule ${rule} denies it`}`;
}

/** One policy, compiled. */
export class Policy {
  readonly name: string;
  /** Its block of counters. */
  readonly meter: number;
  readonly #enforced: boolean;
  readonly #specs: readonly PolicyRule[];
  /** As many as are compiled and filed by now. */
  readonly #rules: CompiledRule[] = [];
  readonly #index = new RuleIndex();

  constructor(spec: PolicySpec) {
    this.name = spec.name;
    this.meter = spec.meter;
    this.#enforced = spec.mode === "enforce";
    this.#specs = spec.rules;
  }

  /** Compiles another piece of the rules. Whether there is more; who asks before that is done waits for it. */
  makeSome(): boolean {
    const rules = this.#rules;
    for (let values = 0; rules.length < this.#specs.length && values < PIECE_VALUES; ) {
      const index = rules.length;
      const spec = this.#specs[index] as PolicyRule;
      rules.push(compileRule(spec, index));
      this.#index.add(spec, index);
      values += 1 + valuesOf(spec);
    }
    return rules.length < this.#specs.length;
  }

  /** `identity` is null when the client showed no certificate. */
  evaluate(identity: Identity | null, source: Source): Verdict {
    if (this.#rules.length < this.#specs.length) while (this.makeSome());
    const rules = this.#rules;
    const candidates = this.#index.candidates(identity, source);
    const first = lowestOf(candidates, rules.length, (index) =>
      matches(rules[index] as CompiledRule, identity, source),
    );
    const rule = rules[first];
    return rule === undefined ? this.#verdict(false, "default") : this.#verdict(rule.allows, rule.label);
  }

  #verdict(allows: boolean, label: string): Verdict {
    if (allows || this.#enforced) return { allowed: allows, rule: label };
    return { allowed: true, rule: `shadow:${label}` };
  }
}

function valuesOf({ uri, dns, ip, cn, ou, source }: PolicyRule): number {
  return uri.length + dns.length + ip.length + cn.length + ou.length + source.length;
}

/** One rule, ready to be asked. */
export function compileRule(rule: PolicyRule, index: number): CompiledRule {
  return {
    allows: rule.action === "allow",
    label: `${rule.action}[${index}]`,
    needsIdentity: [rule.uri, rule.dns, rule.ip, rule.cn, rule.ou].some((values) => values.length > 0),
    uri: rule.uri.map((pattern) => mustCompile(compileUriPattern(pattern))),
    dns: rule.dns.map((pattern) => mustCompile(compileDnsPattern(pattern))),
    ip: rule.ip.length > 0 ? new CidrSet(rule.ip) : null,
    cn: rule.cn,
    ou: rule.ou,
    source: rule.source.length > 0 ? new CidrSet(rule.source) : null,
  };
}

/** Whether a rule matches, judged by all its fields. */
export function matches(rule: CompiledRule, identity: Identity | null, source: Source): boolean {
  if (rule.source !== null && !containsSource(rule.source, source)) return false;
  if (!rule.needsIdentity) return true;
  if (identity === null) return false;
  return (
    anyName(rule.uri, identity.uris) &&
    anyName(rule.dns, identity.dnsNames) &&
    anyIp(rule.ip, identity.ips) &&
    anyText(rule.cn, identity.commonNames) &&
    anyText(rule.ou, identity.organizationalUnits)
  );
}

function anyName(patterns: readonly NamePattern[], names: readonly string[]): boolean {
  return patterns.length === 0 || patterns.some((pattern) => names.some((name) => pattern.matches(name)));
}

function anyText(wanted: readonly string[], present: readonly string[]): boolean {
  return wanted.length === 0 || wanted.some((text) => present.includes(text));
}

function anyIp(ranges: CidrSet | null, ips: readonly string[]): boolean {
  if (ranges === null) return true;
  return ips.some((ip) => {
    const bytes = parseIp(ip);
    return bytes !== null && ranges.contains(bytes);
  });
}
