// Which rules of a policy can match at all. A policy of a thousand rules is asked by every connection, and nearly all of its rules are about somebody
// else; so each rule is filed under one of its fields, and only what is found under the names and addresses that a client has is tried. What is
// found here may still not match; what is not found cannot.

import { type IpBytes, parseIp, unmapIp } from "../base/ip.ts";
import { parseCidr } from "../protocol/cidr.ts";
import type { PolicyRule } from "../snapshot/snapshot.ts";
import { mustCompile } from "./compiled.ts";
import type { Identity } from "./identity.ts";
import type { Source } from "./source-address.ts";

const NO_RULES: readonly number[] = [];

/** The rules of one policy, filed. */
export class RuleIndex {
  readonly #names = new Map<string, number[]>();
  readonly #ips = new CidrIndex();
  readonly #sources = new CidrIndex();
  /** Filed under nothing: they are always tried. */
  readonly #others: number[] = [];

  constructor(rules: readonly PolicyRule[]) {
    for (const [index, rule] of rules.entries()) this.#file(index, rule);
  }

  /** Indices of the rules to try, in order. Some may be there twice. */
  candidates(identity: Identity | null, source: Source): readonly number[] {
    const found = [...this.#others];
    if (identity !== null) {
      for (const uri of identity.uris) this.#findUri(uri, found);
      for (const name of identity.dnsNames) this.#findDns(name.toLowerCase(), found);
      for (const name of identity.commonNames) this.#find(`cn ${name}`, found);
      for (const unit of identity.organizationalUnits) this.#find(`ou ${unit}`, found);
      if (!this.#ips.isEmpty) {
        for (const ip of identity.ips) {
          const bytes = parseIp(ip);
          if (bytes !== null) this.#ips.find(bytes, found);
        }
      }
    }
    if (source.bytes !== null) this.#sources.find(source.bytes, found);
    return found.sort((a, b) => a - b);
  }

  #file(index: number, { uri, dns, cn, ou, ip, source }: PolicyRule): void {
    // By whichever tells most clients apart.
    if (uri.length > 0) for (const pattern of uri) this.#add(uriKey(pattern), index);
    else if (dns.length > 0) for (const pattern of dns) this.#add(dnsKey(pattern), index);
    else if (cn.length > 0) for (const name of cn) this.#add(`cn ${name}`, index);
    else if (ou.length > 0) for (const unit of ou) this.#add(`ou ${unit}`, index);
    else if (ip.length > 0) for (const range of ip) this.#ips.add(range, index);
    else if (source.length > 0) for (const range of source) this.#sources.add(range, index);
    else this.#others.push(index);
  }

  #add(key: string, index: number): void {
    addTo(this.#names, key, index);
  }

  #find(key: string, found: number[]): void {
    for (const index of this.#names.get(key) ?? NO_RULES) found.push(index);
  }

  #findUri(uri: string, found: number[]): void {
    const name = foldOrigin(uri);
    this.#find(`uri ${name}`, found);
    for (let slash = name.indexOf("/"); slash >= 0; slash = name.indexOf("/", slash + 1))
      this.#find(`uri ${name.slice(0, slash + 1)}*`, found);
  }

  #findDns(name: string, found: number[]): void {
    this.#find(`dns ${name}`, found);
    for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1))
      this.#find(`dns *${name.slice(dot)}`, found);
  }
}

/** Ranges by their length and first address: an address is looked for once for each length that occurs. */
class CidrIndex {
  readonly #lengths = new Map<number, Map<string, number[]>>();

  get isEmpty(): boolean {
    return this.#lengths.size === 0;
  }

  add(range: string, index: number): void {
    const { bytes, prefix } = mustCompile(parseCidr(range));
    // IPv4 ranges and IPv6 ranges of one length are told apart by how long their addresses are.
    let ranges = this.#lengths.get(prefix);
    if (ranges === undefined) {
      ranges = new Map();
      this.#lengths.set(prefix, ranges);
    }
    addTo(ranges, addressKey(bytes, prefix), index);
  }

  find(address: IpBytes, found: number[]): void {
    const ip = unmapIp(address);
    for (const [prefix, ranges] of this.#lengths) {
      if (prefix > 8 * ip.length) continue;
      for (const index of ranges.get(addressKey(ip, prefix)) ?? NO_RULES) found.push(index);
    }
  }
}

/** The bytes of an address with all behind the prefix cleared, as text of one character each. */
function addressKey(ip: IpBytes, prefix: number): string {
  let key = "";
  for (let at = 0; at < ip.length; at++) {
    const bits = Math.min(8, Math.max(0, prefix - at * 8));
    key += String.fromCharCode((ip[at] as number) & (0xff00 >> bits));
  }
  return key;
}

function addTo(map: Map<string, number[]>, key: string, index: number): void {
  const there = map.get(key);
  if (there === undefined) map.set(key, [index]);
  else there.push(index);
}

/** A URI pattern up to its first wildcard, or all of it. */
function uriKey(pattern: string): string {
  const folded = foldOrigin(pattern);
  const wildcard = folded.indexOf("*");
  return wildcard < 0 ? `uri ${folded}` : `uri ${folded.slice(0, wildcard)}*`;
}

/** A DNS pattern without what its wildcard stands for, or all of it. */
function dnsKey(pattern: string): string {
  return `dns ${pattern.toLowerCase().replace(/^\*\*\./, "*.")}`;
}

/** Scheme and authority are compared in any case (name-pattern.ts). */
function foldOrigin(uri: string): string {
  const authority = uri.indexOf("://");
  const colon = uri.indexOf(":");
  const slash = authority < 0 ? colon + 1 : uri.indexOf("/", authority + 3);
  const end = slash < 0 ? uri.length : slash;
  return uri.slice(0, end).toLowerCase() + uri.slice(end);
}
