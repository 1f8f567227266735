// Ranges of IP addresses as operators write them (RFC 4632: `10.0.0.0/8`), and the question whether an address is in one of
// many. IPv4-mapped IPv6 is IPv4, in ranges as in addresses.

import { assert } from "../base/assert.ts";
import { formatIp, type IpBytes, parseIp } from "../base/ip.ts";

/** All addresses whose first `prefix` bits are those of `bytes`. The other bits of `bytes` are zero. */
export interface Cidr {
  readonly bytes: IpBytes;
  /** 0 to 32 for IPv4, 0 to 128 for IPv6. */
  readonly prefix: number;
}

/** Bits before the IPv4 address in an IPv4-mapped one. */
const MAPPED_PREFIX_BITS = 96;

/**
 * The range, or a string that says what is wrong with the text. An address alone is a range of one. Bits beyond the prefix are
 * an error and not dropped: `10.0.0.5/8` may have been meant for the one host as well as for the network.
 */
export function parseCidr(text: string): Cidr | string {
  const [address = "", prefixText, ...more] = text.split("/");
  const ip = parseIp(address);
  if (ip === null || more.length > 0) return `"${text}" is not an IP address or a range like 10.0.0.0/8`;
  if (prefixText === undefined) return { bytes: ip, prefix: ip.length * 8 };
  const isMapped = ip.length === 4 && address.includes(":");
  const written = Number(prefixText);
  const most = isMapped ? 128 : ip.length * 8;
  if (!/^(0|[1-9]\d{0,2})$/.test(prefixText) || written > most)
    return `"${prefixText}" is not a prefix length: write a number from 0 to ${most}`;
  if (isMapped && written < MAPPED_PREFIX_BITS) {
    return `"${text}" is wider than the IPv4-mapped addresses: write the IPv4 range, or ::/0 for all of IPv6`;
  }
  const prefix = isMapped ? written - MAPPED_PREFIX_BITS : written;
  const { bytes } = widened({ bytes: ip, prefix }, prefix);
  if (bytes.some((byte, index) => byte !== ip[index]))
    return `"${text}" has bits set beyond its prefix: write ${formatCidr({ bytes, prefix })}, or ${formatIp(ip)} for the one address`;
  return { bytes, prefix };
}

/** The range of this prefix length, which is not above the other's, that holds it. */
export function widened({ bytes }: Cidr, prefix: number): Cidr {
  return { bytes: bytes.map((byte, index) => byte & byteMask(index, prefix)), prefix };
}

/** The canonical text, always with a prefix length: `10.0.0.1/32`. */
export function formatCidr(cidr: Cidr): string {
  return `${formatIp(cidr.bytes)}/${cidr.prefix}`;
}

/** Many ranges, asked about one address at a time. Immutable; a question costs two binary searches at most and allocates nothing. */
export class CidrSet {
  readonly #version4: RangeTable;
  readonly #version6: RangeTable;

  /** `texts` must have been accepted by `parseCidr`: another text is a defect and throws. */
  constructor(texts: readonly string[]) {
    const ranges = texts.map((text) => {
      const cidr = parseCidr(text);
      assert(typeof cidr !== "string", `a range that was not validated: ${String(cidr)}`);
      return cidr;
    });
    this.#version4 = new RangeTable(4, ranges);
    this.#version6 = new RangeTable(16, ranges);
  }

  /** Whether one of the ranges holds the address. `::/0` is all of IPv6 and nothing of IPv4. */
  contains(ip: IpBytes): boolean {
    if (ip.length === 4) return this.#version4.contains(ip, 0);
    return isMapped(ip) ? this.#version4.contains(ip, 12) : this.#version6.contains(ip, 0);
  }
}

/** The ranges of one IP version. Two CIDR ranges are nested or apart, so without the inner ones order is all it takes. */
class RangeTable {
  readonly #width: number;
  readonly #count: number;
  /** First and last address of each range, `#width` bytes each, in ascending order. */
  readonly #firsts: Uint8Array;
  readonly #lasts: Uint8Array;

  constructor(width: 4 | 16, cidrs: readonly Cidr[]) {
    const sorted = cidrs.filter(({ bytes }) => bytes.length === width).sort(outerFirst);
    const outer: Cidr[] = [];
    for (const cidr of sorted) {
      const previous = outer.at(-1);
      if (previous === undefined || !covers(previous, cidr)) outer.push(cidr);
    }
    this.#width = width;
    this.#count = outer.length;
    this.#firsts = new Uint8Array(width * outer.length);
    this.#lasts = new Uint8Array(width * outer.length);
    for (const [index, { bytes, prefix }] of outer.entries()) {
      this.#firsts.set(bytes, index * width);
      for (let at = 0; at < width; at++)
        this.#lasts[index * width + at] = (bytes[at] as number) | (0xff & ~byteMask(at, prefix));
    }
  }

  /** `ip` holds the address from `offset` on. */
  contains(ip: Uint8Array, offset: number): boolean {
    // The last range that does not begin after the address is the only one that can hold it.
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compare(this.#firsts, middle, ip, offset) <= 0) low = middle + 1;
      else high = middle;
    }
    return low > 0 && this.#compare(this.#lasts, low - 1, ip, offset) >= 0;
  }

  #compare(table: Uint8Array, index: number, ip: Uint8Array, offset: number): number {
    const start = index * this.#width;
    for (let at = 0; at < this.#width; at++) {
      const difference = (table[start + at] as number) - (ip[offset + at] as number);
      if (difference !== 0) return difference;
    }
    return 0;
  }
}

/** Ascending, and of ranges with the same first address the widest first. */
function outerFirst(a: Cidr, b: Cidr): number {
  for (const [index, byte] of a.bytes.entries()) {
    const difference = byte - (b.bytes[index] as number);
    if (difference !== 0) return difference;
  }
  return a.prefix - b.prefix;
}

function covers(outer: Cidr, inner: Cidr): boolean {
  return inner.bytes.every((byte, index) => (byte & byteMask(index, outer.prefix)) === outer.bytes[index]);
}

/** The bits of byte `index` that lie within the first `prefix` bits of an address. */
function byteMask(index: number, prefix: number): number {
  const bits = Math.min(8, Math.max(0, prefix - index * 8));
  return 0xff & (0xff << (8 - bits));
}

function isMapped(ip: IpBytes): boolean {
  for (let at = 0; at < 10; at++) if (ip[at] !== 0) return false;
  return ip[10] === 0xff && ip[11] === 0xff;
}
