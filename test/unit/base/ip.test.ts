import { describe, expect, test } from "bun:test";
import { isIP } from "node:net";
import fc from "fast-check";
import { formatHostPort, formatIp, isIp, isLoopbackIp, parseIp, unmapIp } from "../../../src/base/ip.ts";

describe("parseIp", () => {
  test.each([
    ["10.1.2.3", "10.1.2.3"],
    ["0.0.0.0", "0.0.0.0"],
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
    ["64:ff9b::10.0.0.1", "64:ff9b::a00:1"],
    ["::ffff:10.0.0.1", "10.0.0.1"],
    ["0:0:0:0:0:ffff:a00:1", "10.0.0.1"],
  ])("%s is %s", (text, canonical) => {
    const bytes = parseIp(text);
    expect(bytes === null ? null : formatIp(bytes)).toBe(canonical);
  });

  test.each([
    ...[
      "",
      ".",
      ":",
      ":::",
      "1",
      "1.2.3",
      "1.2.3.4.5",
      "1.2.3.256",
      "01.2.3.4",
      "1.2.3.4 ",
      "1..3.4",
      "1.2.3.-4",
      "0x1.2.3.4",
    ],
    ...["1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4::5:6:7:8", "1::2::3", "12345::", "g::", "::1%eth0", "[::1]"],
    ...["::1.2.3", "::1.2.3.4:5", "1.2.3.4::", ":1:2:3:4:5:6:7", "1:2:3:4:5:6:7:"],
  ])("%p is no address", (text) => expect(parseIp(text)).toBeNull());

  test("reads back what formatIp writes, which is what the platform calls canonical", () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
        const bytes = parseIp(text);
        if (bytes === null) throw new Error(`${text} is an address`);
        const canonical = formatIp(bytes);
        expect(parseIp(canonical)).toEqual(bytes);
        if (bytes.length === 16) expect(canonical).toBe(new URL(`http://[${canonical}]/`).hostname.slice(1, -1));
      }),
    );
  });

  test("agrees with the platform on what is an address", () => {
    const near = fc.string({ unit: fc.constantFrom(..."0123456789afx:.:."), maxLength: 24 });
    fc.assert(
      fc.property(near, (text) => isIp(text) === (isIP(text) !== 0)),
      { numRuns: 5000 },
    );
  });
});

test("unmapIp turns only IPv4-mapped bytes into 4", () => {
  const mapped = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1);
  expect([...unmapIp(mapped)]).toEqual([10, 0, 0, 1]);
  const compatible = new Uint8Array(16).fill(1, 12);
  expect(unmapIp(compatible)).toBe(compatible);
  const four = Uint8Array.of(1, 2, 3, 4);
  expect(unmapIp(four)).toBe(four);
});

test.each([
  ["127.0.0.1", true],
  ["127.255.0.1", true],
  ["::1", true],
  ["::ffff:127.0.0.1", true],
  ["128.0.0.1", false],
  ["::2", false],
  ["::", false],
])("%s is loopback: %p", (text, loopback) => expect(isLoopbackIp(parseIp(text) ?? new Uint8Array(4))).toBe(loopback));

test("formatHostPort brackets IPv6", () => {
  expect(formatHostPort("10.0.0.1", 443)).toBe("10.0.0.1:443");
  expect(formatHostPort("2001:db8::1", 443)).toBe("[2001:db8::1]:443");
});
