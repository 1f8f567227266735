import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatIp, type IpBytes, parseIp } from "../../../src/base/ip.ts";
import { CidrSet, formatCidr, parseCidr } from "../../../src/protocol/cidr.ts";

describe("parseCidr", () => {
  test.each([
    ["10.0.0.0/8", "10.0.0.0/8"],
    ["10.0.0.1", "10.0.0.1/32"],
    ["0.0.0.0/0", "0.0.0.0/0"],
    ["10.128.0.0/9", "10.128.0.0/9"],
    ["2001:DB8::/32", "2001:db8::/32"],
    ["::1", "::1/128"],
    ["::/0", "::/0"],
    ["::ffff:10.0.0.0/104", "10.0.0.0/8"],
    ["::ffff:10.0.0.1", "10.0.0.1/32"],
    ["::ffff:0:0/96", "0.0.0.0/0"],
  ])("%p is %p", (text, canonical) => {
    const cidr = parseCidr(text);
    expect(typeof cidr === "string" ? cidr : formatCidr(cidr)).toBe(canonical);
  });

  test.each([
    ["", "not an IP address"],
    ["/8", "not an IP address"],
    ["10.0.0/8", "not an IP address"],
    ["db.internal", "not an IP address"],
    ["10.0.0.0/8/8", "not an IP address"],
    ["10.0.0.0/", "0 to 32"],
    ["10.0.0.0/33", "0 to 32"],
    ["10.0.0.0/08", "0 to 32"],
    ["10.0.0.0/-1", "0 to 32"],
    ["10.0.0.0/255.0.0.0", "0 to 32"],
    ["::/129", "0 to 128"],
    ["10.0.0.5/8", "write 10.0.0.0/8, or 10.0.0.5 for the one address"],
    ["10.0.0.1/31", "write 10.0.0.0/31"],
    ["2001:db8::1/64", "write 2001:db8::/64, or 2001:db8::1 for"],
    ["::ffff:10.0.0.5/104", "write 10.0.0.0/8"],
    ["::ffff:10.0.0.5/8", "::/0"],
  ])("%p: %s", (text, problem) => expect(parseCidr(text)).toContain(problem));

  test("nothing throws, and what is formatted is read back", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), cidrText()), (text) => {
        const cidr = parseCidr(text);
        if (typeof cidr !== "string") expect(parseCidr(formatCidr(cidr))).toEqual(cidr);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("CidrSet", () => {
  test("the edges of ranges, nested and side by side", () => {
    const set = new CidrSet(["10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/32", "192.168.0.0/31", "2001:db8::/33", "::1"]);
    for (const ip of [
      "10.0.0.0",
      "10.255.255.255",
      "10.1.2.3",
      "11.0.0.0",
      "192.168.0.1",
      "2001:db8::",
      "2001:db8:7fff::f",
      "::1",
    ])
      expect(set.contains(bytesOf(ip))).toBe(true);
    for (const ip of ["9.255.255.255", "11.0.0.1", "192.168.0.2", "192.167.255.255", "2001:db8:8000::", "::", "::2"])
      expect(set.contains(bytesOf(ip))).toBe(false);
  });

  test("an empty set holds nothing", () => {
    expect(new CidrSet([]).contains(bytesOf("10.0.0.1"))).toBe(false);
    expect(new CidrSet([]).contains(bytesOf("::1"))).toBe(false);
  });

  test("all of one IP version is nothing of the other", () => {
    expect(new CidrSet(["::/0"]).contains(bytesOf("10.0.0.1"))).toBe(false);
    expect(new CidrSet(["0.0.0.0/0"]).contains(bytesOf("::1"))).toBe(false);
    expect(new CidrSet(["0.0.0.0/0"]).contains(bytesOf("0.0.0.0"))).toBe(true);
    expect(new CidrSet(["::/0"]).contains(bytesOf("ffff::"))).toBe(true);
  });

  test("an address that is still mapped is IPv4", () => {
    const mapped = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1);
    expect(new CidrSet(["10.0.0.0/8"]).contains(mapped)).toBe(true);
    expect(new CidrSet(["::/0"]).contains(mapped)).toBe(false);
  });

  test("a text that was not validated is a defect", () => {
    expect(() => new CidrSet(["10.0.0.5/8"])).toThrow("10.0.0.0/8");
  });

  test("agrees with comparing the bits one by one", () => {
    // Few distinct bytes, so that ranges overlap and addresses hit them.
    const byte = fc.constantFrom(0, 1, 0x7f, 0x80, 0xff);
    const ip = fc.oneof(
      fc.array(byte, { minLength: 4, maxLength: 4 }),
      // Begins with 0x20, so that it is never IPv4-mapped.
      fc.array(byte, { minLength: 15, maxLength: 15 }).map((rest) => [0x20, ...rest]),
    );
    const range = fc.tuple(ip, fc.nat(128)).map(([bytes, bits]) => masked(bytes, bits % (bytes.length * 8 + 1)));
    fc.assert(
      fc.property(fc.array(range, { maxLength: 12 }), fc.array(ip, { minLength: 1, maxLength: 8 }), (ranges, ips) => {
        const set = new CidrSet(ranges.map(({ bytes, prefix }) => `${formatIp(Uint8Array.from(bytes))}/${prefix}`));
        for (const bytes of ips) {
          const expected = ranges.some(
            (range) =>
              range.bytes.length === bytes.length && bits(bytes).startsWith(bits(range.bytes).slice(0, range.prefix)),
          );
          expect(set.contains(Uint8Array.from(bytes))).toBe(expected);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

function cidrText(): fc.Arbitrary<string> {
  return fc.tuple(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(130)).map(([ip, prefix]) => `${ip}/${prefix}`);
}

function masked(bytes: readonly number[], prefix: number): { bytes: readonly number[]; prefix: number } {
  const kept = bits(bytes)
    .slice(0, prefix)
    .padEnd(bytes.length * 8, "0");
  return { bytes: bytes.map((_, index) => Number.parseInt(kept.slice(index * 8, index * 8 + 8), 2)), prefix };
}

function bits(bytes: readonly number[]): string {
  return bytes.map((byte) => byte.toString(2).padStart(8, "0")).join("");
}

function bytesOf(text: string): IpBytes {
  const bytes = parseIp(text);
  if (bytes === null) throw new Error(`${text} is no address`);
  return bytes;
}
