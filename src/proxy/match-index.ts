// Indexes from what a client presents (a name, an address) to the numbers of the rules or routes that may match it, so that of thousands only a few have to be
// tried. The numbers under one key ascend, if they are added in order.

import { type IpBytes, unmapIp } from "../base/ip.ts";
import { parseCidr } from "../protocol/cidr.ts";
import { mustCompile } from "./compiled.ts";

/** Several lists of numbers, each ascending; a number may be in more than one. */
export type Lists = (readonly number[])[];

/** The lowest number in the lists for which `holds` returns true; `most` when there is none below it. */
export function lowestOf(lists: Lists, most: number, holds: (index: number) => boolean): number {
  let lowest = most;
  for (const list of lists) {
    for (const index of list) {
      if (index >= lowest) break;
      if (holds(index)) lowest = index;
    }
  }
  return lowest;
}

/** Numbers by name. */
export class NameIndex {
  readonly #lists = new Map<string, number[]>();
  /** A name of a certificate may be 90 KB long, and is asked for in tens of thousands of parts: those that are longer than this cost nothing. */
  #longest = 0;

  get isEmpty(): boolean {
    return this.#lists.size === 0;
  }

  add(name: string, index: number): void {
    this.#longest = Math.max(this.#longest, name.length);
    addTo(this.#lists, name, index);
  }

  find(name: string, found: Lists): void {
    if (name.length > this.#longest) return;
    const list = this.#lists.get(name);
    if (list !== undefined) found.push(list);
  }
}

/** Numbers by CIDR: a lookup costs one map access for each prefix length that occurs. */
export class CidrIndex {
  readonly #lengths = new Map<number, Map<string | number, number[]>>();

  get isEmpty(): boolean {
    return this.#lengths.size === 0;
  }

  /** `range` must have been accepted by `parseCidr`. */
  add(range: string, index: number): void {
    const { bytes, prefix } = mustCompile(parseCidr(range));
    let ranges = this.#lengths.get(prefix);
    if (ranges === undefined) {
      ranges = new Map();
      this.#lengths.set(prefix, ranges);
    }
    addTo(ranges, addressKey(bytes, prefix), index);
  }

  find(address: IpBytes, found: Lists): void {
    const ip = unmapIp(address);
    for (const [prefix, ranges] of this.#lengths) {
      if (prefix > 8 * ip.length) continue;
      const list = ranges.get(addressKey(ip, prefix));
      if (list !== undefined) found.push(list);
    }
  }
}

/** The network address: IPv4 as a number, IPv6 as a string of one character for each byte, so that the two families cannot be confused. */
function addressKey(ip: IpBytes, prefix: number): string | number {
  if (ip.length === 4) {
    const number = ((ip[0] as number) << 24) | ((ip[1] as number) << 16) | ((ip[2] as number) << 8) | (ip[3] as number);
    // A shift by 32 is one by 0.
    return prefix === 0 ? 0 : number & (-1 << (32 - prefix));
  }
  let key = "";
  for (let at = 0; at < ip.length; at++) {
    const bits = Math.min(8, Math.max(0, prefix - at * 8));
    key += String.fromCharCode((ip[at] as number) & (0xff00 >> bits));
  }
  return key;
}

function addTo<K>(map: Map<K, number[]>, key: K, index: number): void {
  const there = map.get(key);
  if (there === undefined) map.set(key, [index]);
  else there.push(index);
}
