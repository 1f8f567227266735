// Whether an authority may vouch for the names of a certificate (RFC 5280, 4.2.1.10). Kinds of names that are not understood here are refused as
// soon as an authority constrains them and the certificate has one.

import { hex } from "../base/bytes.ts";
import { parseIp } from "../base/ip.ts";
import type { ChainLink, Subtree } from "./chain-link.ts";

/** The subject's own name is constrained by this kind, wherever it is in the certificate (4.2.1.10). */
const DIRECTORY_NAME = 0xa4;
const EMAIL = 0x81;
/** What reads like a host in a common name, with a dot, is taken for one by verifiers that find no DNS name. */
const HOST = /^[A-Za-z0-9*_-]+(\.[A-Za-z0-9_-]+)+$/;

type Names = readonly (readonly [Subtree["kind"], readonly string[]])[];

/** "", or in OpenSSL's words why `authority` may not vouch for `link`. */
export function constraintViolation(authority: ChainLink, link: ChainLink): string {
  const { permitted, excluded } = authority;
  if (permitted.length === 0 && excluded.length === 0) return "";
  if ([...permitted, ...excluded].some((subtree) => subtree.kind === "other" && hasNameOf(link, subtree.tag)))
    return "unsupported name constraint type";
  for (const [kind, names] of namesOf(link)) {
    const allowed = permitted.filter((subtree) => subtree.kind === kind);
    const denied = excluded.filter((subtree) => subtree.kind === kind);
    for (const name of names) {
      if (allowed.length > 0 && !allowed.some((subtree) => isWithin(name, subtree)))
        return "permitted subtree violation";
      if (denied.some((subtree) => isWithin(name, subtree) || mayBeWithin(name, subtree)))
        return "excluded subtree violation";
    }
  }
  return "";
}

function namesOf({ details: { dnsNames, uris, ips, commonNames } }: ChainLink): Names {
  const hosts = dnsNames.length > 0 ? dnsNames : commonNames.filter((name) => HOST.test(name));
  return [
    ["dns", hosts.map((name) => name.toLowerCase())],
    ["uri", uris],
    ["ip", ips],
  ];
}

function hasNameOf({ details, nameTags }: ChainLink, tag: number): boolean {
  if (nameTags.has(tag)) return true;
  // An e-mail address may stand in the subject as well.
  if (tag === EMAIL) return details.subject.includes("emailAddress=");
  return tag === DIRECTORY_NAME && details.subject !== "";
}

function isWithin(name: string, { kind, base }: Subtree): boolean {
  if (kind === "dns") return base === "" || isBelow(name, base) || name === base;
  if (kind === "ip") return isWithinNetwork(name, base);
  const host = hostOf(name);
  // Of a URI the host itself is meant, unless a dot in front says all below it.
  return host !== "" && (base.startsWith(".") ? isBelow(host, base) : host === base);
}

function isBelow(name: string, base: string): boolean {
  return name.endsWith(base.startsWith(".") ? base : `.${base}`);
}

/** What cannot be compared must not slip past an exclusion, nor a wildcard that stands for a name within. */
function mayBeWithin(name: string, { kind, base }: Subtree): boolean {
  if (kind === "uri") return hostOf(name) === "";
  return kind === "dns" && name.startsWith("*.") && base.endsWith(name.slice(1));
}

/** Of a URI with an authority part; "" without one. */
function hostOf(uri: string): string {
  const authority = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/(?:[^/?#@]*@)?([A-Za-z0-9._-]+)(?::\d*)?(?:[/?#]|$)/.exec(uri);
  return authority?.[1]?.toLowerCase() ?? "";
}

/** `base`: address and mask, in hexadecimal. */
function isWithinNetwork(name: string, base: string): boolean {
  const address = parseIp(name);
  if (address === null || hex(address).length * 2 !== base.length) return false;
  const size = address.length;
  for (let index = 0; index < size; index++) {
    const network = Number.parseInt(base.slice(index * 2, index * 2 + 2), 16);
    const mask = Number.parseInt(base.slice((size + index) * 2, (size + index) * 2 + 2), 16);
    if (((address[index] as number) & mask) !== (network & mask)) return false;
  }
  return true;
}
