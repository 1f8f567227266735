// Which rules of a policy can match a client at all. Every connection evaluates its policy, which may have thousands of rules about other clients;
// so each rule is indexed by the values of one of its fields, and only rules found under the client's names and addresses are tried. A rule that is
// found may still not match; one that is not found cannot.

import { parseIp } from "../base/ip.ts";
import { dnsPatternsOf } from "../protocol/name-pattern.ts";
import type { PolicyRule } from "../snapshot/snapshot.ts";
import type { Identity } from "./identity.ts";
import { CidrIndex, type Lists, NameIndex } from "./match-index.ts";
import type { Source } from "./source-address.ts";

/** The index of one policy's rules. */
export class RuleIndex {
  readonly #names = new NameIndex();
  readonly #ips = new CidrIndex();
  readonly #sources = new CidrIndex();
  /** Rules without any field: they are always tried. */
  readonly #others: number[] = [];

  /** Rules must be added in order. */
  add({ uri, dns, cn, ou, ip, source }: PolicyRule, index: number): void {
    // By the field that distinguishes clients best.
    if (uri.length > 0) for (const pattern of uri) this.#names.add(uriKey(pattern), index);
    else if (dns.length > 0) for (const pattern of dns) this.#names.add(`dns ${pattern.toLowerCase()}`, index);
    else if (cn.length > 0) for (const name of cn) this.#names.add(`cn ${name}`, index);
    else if (ou.length > 0) for (const unit of ou) this.#names.add(`ou ${unit}`, index);
    else if (ip.length > 0) for (const range of ip) this.#ips.add(range, index);
    else if (source.length > 0) for (const range of source) this.#sources.add(range, index);
    else this.#others.push(index);
  }

  /** The rules to try. */
  candidates(identity: Identity | null, source: Source): Lists {
    const found: Lists = [this.#others];
    if (identity !== null) this.#findNames(identity, found);
    if (identity !== null && !this.#ips.isEmpty) {
      for (const ip of identity.ips) {
        const bytes = parseIp(ip);
        if (bytes !== null) this.#ips.find(bytes, found);
      }
    }
    if (!this.#sources.isEmpty && source.bytes !== null) this.#sources.find(source.bytes, found);
    return found;
  }

  #findNames({ uris, dnsNames, commonNames, organizationalUnits }: Identity, found: Lists): void {
    const names = this.#names;
    if (names.isEmpty) return;
    for (const uri of uris) this.#findUri(uri, found);
    for (const name of dnsNames) for (const pattern of dnsPatternsOf(name)) names.find(`dns ${pattern}`, found);
    for (const name of commonNames) names.find(`cn ${name}`, found);
    for (const unit of organizationalUnits) names.find(`ou ${unit}`, found);
  }

  #findUri(uri: string, found: Lists): void {
    const name = foldOrigin(uri);
    this.#names.find(`uri ${name}`, found);
    for (let slash = name.indexOf("/"); slash >= 0; slash = name.indexOf("/", slash + 1))
      this.#names.find(`uri ${name.slice(0, slash + 1)}*`, found);
  }
}

/** A URI pattern up to its first wildcard, or all of it. */
function uriKey(pattern: string): string {
  const folded = foldOrigin(pattern);
  const wildcard = folded.indexOf("*");
  return wildcard < 0 ? `uri ${folded}` : `uri ${folded.slice(0, wildcard)}*`;
}

/** Scheme and authority are compared in any case (name-pattern.ts). */
function foldOrigin(uri: string): string {
  const authority = uri.indexOf("://");
  const colon = uri.indexOf(":");
  const slash = authority < 0 ? colon + 1 : uri.indexOf("/", authority + 3);
  const end = slash < 0 ? uri.length : slash;
  return uri.slice(0, end).toLowerCase() + uri.slice(end);
}
