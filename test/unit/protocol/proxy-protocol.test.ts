import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isIp } from "../../../src/base/ip.ts";
import { crc32c } from "../../../src/protocol/crc32c.ts";
import {
  PROXY_HEADER_LIMIT_BYTES,
  type ProxyHeader,
  parseProxyHeader,
  TLV,
} from "../../../src/protocol/proxy-protocol.ts";

const SIGNATURE = [0x0d, 0x0a, 0x0d, 0x0a, 0, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];
const IPV4 = [192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb];
const SOURCE = { ip: "192.168.0.1", port: 56324 };
const DESTINATION = { ip: "192.168.0.11", port: 443 };

describe("version 1", () => {
  test.each([
    ["PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", SOURCE, DESTINATION],
    [
      "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
      { ip: "255.255.255.255", port: 65535 },
      { ip: "255.255.255.255", port: 65535 },
    ],
    [
      `PROXY TCP6 ${"ffff:".repeat(7)}ffff ${"ffff:".repeat(7)}ffff 65535 65535\r\n`,
      { ip: `${"ffff:".repeat(7)}ffff`, port: 65535 },
      { ip: `${"ffff:".repeat(7)}ffff`, port: 65535 },
    ],
    ["PROXY TCP6 2001:DB8::1 ::1 0 1\r\n", { ip: "2001:db8::1", port: 0 }, { ip: "::1", port: 1 }],
    ["PROXY TCP6 ::ffff:10.0.0.1 ::ffff:a00:2 1 2\r\n", { ip: "10.0.0.1", port: 1 }, { ip: "10.0.0.2", port: 2 }],
    ["PROXY UNKNOWN\r\n", null, null],
    [`PROXY UNKNOWN ${"ffff:".repeat(7)}ffff ${"ffff:".repeat(7)}ffff 65535 65535\r\n`, null, null],
    ["PROXY UNKNOWN \0\xff anything else\r\n", null, null],
  ])("%p", (line, source, destination) => {
    const bytes = ascii(line);
    expect(bytes.length).toBeLessThanOrEqual(107);
    expect(parseProxyHeader(bytes)).toEqual({
      ...{ kind: "header", version: 1, lengthBytes: bytes.length, source, destination },
      ...{ tlvs: [], authority: "", uniqueId: null },
    });
    expectPrefixesIncomplete(bytes);
  });

  test.each([
    "PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
    "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 1\r\n",
    "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
    "PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",
    "PROXY TCP4 192.168.0.1 192.168.0.11 56324 65536\r\n",
    "PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n",
    "PROXY TCP4 192.168.0.1 192.168.0.11  443\r\n",
    "PROXY TCP4 192.168.0.256 192.168.0.11 1 2\r\n",
    "PROXY TCP4 192.168.0.01 192.168.0.11 1 2\r\n",
    "PROXY TCP4 ::1 ::1 1 2\r\n",
    "PROXY TCP6 192.168.0.1 192.168.0.11 1 2\r\n",
    "PROXY TCP6 ::1 :: 1 2f\r\n",
    "PROXY TCP6 ::1%1 ::1 1 2\r\n",
    "PROXY TCP4 1.1.1.1\t1.1.1.1 1 2\r\n",
    "PROXY TCP4 1.1.1.1 1.1.1.1 -1 2\r\n",
    "PROXY TCP4 1.1.1.1 1.1.1.1 1 2\n",
    "PROXY TCP4 1.1.1.1 1.1.1.1 1 2\r",
    "PROXY TCP4 1.1.1.1 1.1.1.1 1 2\r\r\n",
    "PROXY TCP4 1.1.1.1 1.1.1.1 1 2\n\r\n",
    "PROXY TCP4\r\n",
    "PROXY \r\n",
    "PROXY UNKNOWN\n",
    "PROXY UNKNOWNS\r\n",
    "PROXY UNKNOWN a\rb\r\n",
    "PROXY UDP4 1.1.1.1 1.1.1.1 1 2\r\n",
    "PROXY tcp4 1.1.1.1 1.1.1.1 1 2\r\n",
    "PROXY  TCP4 1.1.1.1 1.1.1.1 1 2\r\n",
    "proxy TCP4 1.1.1.1 1.1.1.1 1 2\r\n",
    "GET / HTTP/1.1\r\n",
    "\n",
    "\0",
    " PROXY UNKNOWN\r\n",
  ])("%p is malformed", (line) => expect(parseProxyHeader(ascii(`${line}x`)).kind).toBe("malformed"));

  test("the wrong byte is known when it comes", () => {
    for (const good of ["PROXY ", "PROXY TCP4 1.1.1.1", "PROXY TCP6 ::1 ::2 1 2"])
      for (let length = 0; length < good.length; length++)
        expect(parseProxyHeader(ascii(`${good.slice(0, length)}~`)).kind).toBe("malformed");
  });

  test("a line that has not ended after 107 bytes is malformed", () => {
    const start = "PROXY UNKNOWN ";
    const longest = ascii(`${start}${"x".repeat(105 - start.length)}\r\n`);
    expect(longest.length).toBe(107);
    expect(parseProxyHeader(longest).kind).toBe("header");
    const tooLong = ascii(`${start}${"x".repeat(106 - start.length)}\r\n`);
    expect(parseProxyHeader(tooLong.subarray(0, 106)).kind).toBe("incomplete");
    expect(parseProxyHeader(tooLong.subarray(0, 107)).kind).toBe("malformed");
    expect(parseProxyHeader(tooLong).kind).toBe("malformed");
    expect(parseProxyHeader(ascii(`${start}${"x".repeat(1000)}`)).kind).toBe("malformed");
    expect(parseProxyHeader(ascii(`PROXY ${"T".repeat(1000)}`)).kind).toBe("malformed");
  });
});

describe("version 2", () => {
  test.each([
    ["TCP over IPv4", 0x11, IPV4, SOURCE, DESTINATION],
    ["UDP over IPv4", 0x12, IPV4, SOURCE, DESTINATION],
    [
      "TCP over IPv6",
      0x21,
      [0x20, 1, 0x0d, 0xb8, ...zeros(11), 1, ...zeros(15), 1, 0, 1, 0xff, 0xff],
      { ip: "2001:db8::1", port: 1 },
      { ip: "::1", port: 65535 },
    ],
    [
      "TCP over IPv6 with mapped IPv4",
      0x21,
      [...zeros(10), 0xff, 0xff, 10, 0, 0, 1, ...zeros(10), 0xff, 0xff, 10, 0, 0, 2, 0, 1, 0, 2],
      { ip: "10.0.0.1", port: 1 },
      { ip: "10.0.0.2", port: 2 },
    ],
    ["a unix stream", 0x31, [0x2f, ...zeros(215)], null, null],
    ["a unix datagram", 0x32, zeros(216), null, null],
    ["an unspecified family", 0x00, [], null, null],
  ])("%s", (_, family, addresses, source, destination) => {
    for (const tlvs of [[], tlv(TLV.ALPN, [0x68, 0x32])]) {
      const bytes = header(0x21, family, [...addresses, ...tlvs]);
      expect(parseProxyHeader(bytes)).toEqual({
        ...{ kind: "header", version: 2, lengthBytes: bytes.length, source, destination },
        tlvs: tlvs.length === 0 ? [] : [{ type: TLV.ALPN, value: ascii("h2") }],
        ...{ authority: "", uniqueId: null },
      });
      expectPrefixesIncomplete(bytes);
    }
  });

  test("of a LOCAL header all else is ignored", () => {
    for (const [family, rest] of [
      [0x00, []],
      [0x11, IPV4],
      [0xff, [1, 2, 3]],
      [0x11, [...IPV4, 9, 0xff, 0xff]],
      [0x21, [1]],
    ] as const) {
      const bytes = header(0x20, family, rest);
      expect(parseProxyHeader(bytes)).toEqual({
        ...{ kind: "header", version: 2, lengthBytes: 16 + rest.length, source: null, destination: null },
        ...{ tlvs: [], authority: "", uniqueId: null },
      });
      expectPrefixesIncomplete(bytes);
    }
  });

  test.each([
    ["version 1", 13, header(0x11, 0x11, IPV4)],
    ["version 3", 13, header(0x31, 0x11, IPV4)],
    ["command 2", 13, header(0x22, 0x11, IPV4)],
    ["family 4", 14, header(0x21, 0x41, IPV4)],
    ["transport 3", 14, header(0x21, 0x13, IPV4)],
    ["a family without transport", 14, header(0x21, 0x10, IPV4)],
    ["a transport without family", 14, header(0x21, 0x01, [])],
    ["less than its addresses", 16, header(0x21, 0x11, IPV4.slice(1))],
    ["less than its IPv6 addresses", 16, header(0x21, 0x21, zeros(35))],
    ["less than its unix addresses", 16, header(0x21, 0x31, zeros(215))],
    ["4097 bytes", 16, header(0x21, 0x11, [...IPV4, ...zeros(4085)])],
    ["64 KiB", 15, header(0x21, 0x11, [...IPV4, ...zeros(0xffff - 12)])],
  ])("%s is malformed, known after %p bytes", (_, knownAfter, bytes) => {
    expect(parseProxyHeader(bytes).kind).toBe("malformed");
    expect(parseProxyHeader(bytes.subarray(0, knownAfter)).kind).toBe("malformed");
    expect(parseProxyHeader(bytes.subarray(0, knownAfter - 1)).kind).toBe("incomplete");
  });

  test("the first wrong byte of the signature is malformed", () => {
    for (let at = 0; at < 12; at++) {
      const bytes = header(0x21, 0x11, IPV4);
      bytes[at] = 0x42;
      expect(parseProxyHeader(bytes.subarray(0, at)).kind).toBe("incomplete");
      expect(parseProxyHeader(bytes.subarray(0, at + 1)).kind).toBe("malformed");
    }
  });

  test("the largest header", () => {
    const bytes = header(0x21, 0x11, [...IPV4, ...tlv(TLV.NOOP, zeros(4096 - 12 - 3))]);
    expect(bytes.length).toBe(PROXY_HEADER_LIMIT_BYTES);
    expect(parseProxyHeader(bytes).kind).toBe("header");
  });
});

describe("TLVs", () => {
  test("are given in order, unknown and repeated ones too", () => {
    const tlvs = [...tlv(0xe0, [1]), ...tlv(TLV.NOOP, []), ...tlv(0xe0, [2, 3])];
    expect(parsed([...IPV4, ...tlvs]).tlvs).toEqual([
      { type: 0xe0, value: Uint8Array.of(1) },
      { type: TLV.NOOP, value: new Uint8Array(0) },
      { type: 0xe0, value: Uint8Array.of(2, 3) },
    ]);
  });

  test("authority and unique id are readable", () => {
    const tlvs = [...tlv(TLV.AUTHORITY, [...Buffer.from("bücher.example")]), ...tlv(TLV.UNIQUE_ID, zeros(128))];
    const { authority, uniqueId } = parsed([...IPV4, ...tlvs]);
    expect(authority).toBe("bücher.example");
    expect(uniqueId).toEqual(new Uint8Array(128));
  });

  test.each([
    ["a TLV longer than the header", [4, 0, 2, 0]],
    ["a TLV header cut short", [4, 0]],
    ["one byte", [4]],
    ["a unique id of 129 bytes", tlv(TLV.UNIQUE_ID, zeros(129))],
    ["an authority that is no UTF-8", tlv(TLV.AUTHORITY, [0x61, 0xff])],
    ["an authority with a newline", tlv(TLV.AUTHORITY, [0x61, 0x0a])],
    ["an authority with a NUL", tlv(TLV.AUTHORITY, [0x61, 0])],
    ["a checksum of 3 bytes", tlv(TLV.CRC32C, [1, 2, 3])],
    ["a wrong checksum", tlv(TLV.CRC32C, [1, 2, 3, 4])],
  ])("%s is malformed", (_, tlvs) => {
    expect(parseProxyHeader(header(0x21, 0x11, [...IPV4, ...tlvs])).kind).toBe("malformed");
  });

  test("a checksum must hold, wherever it stands", () => {
    for (const before of [[], tlv(TLV.ALPN, [0x68, 0x32])]) {
      const at = 16 + IPV4.length + before.length + 3;
      const bytes = header(0x21, 0x11, [...IPV4, ...before, ...tlv(TLV.CRC32C, zeros(4)), ...tlv(TLV.NOOP, zeros(3))]);
      new DataView(bytes.buffer).setUint32(at, crc32c(bytes));
      // The bytes after a header must not count, nor the place of the header in a larger buffer.
      const offset = new Uint8Array(bytes.length + 20).fill(0xee);
      offset.set(bytes, 7);
      expect(parseProxyHeader(offset.subarray(7)).kind).toBe("header");
      expect(parseProxyHeader(Buffer.from(bytes)).kind).toBe("header");
      expect(bytes.length).toBeGreaterThan(at);
      for (let bit = 16 * 8; bit < bytes.length * 8; bit++) {
        const flipped = bytes.slice();
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        // A flip in a TLV's type may turn the checksum itself into an unknown TLV, which then is not one.
        if (bit >> 3 !== at - 3) expect(parseProxyHeader(flipped).kind).toBe("malformed");
      }
    }
  });

  test("of two checksums both must hold", () => {
    const bytes = header(0x21, 0x11, [...IPV4, ...tlv(TLV.CRC32C, zeros(4)), ...tlv(TLV.CRC32C, zeros(4))]);
    new DataView(bytes.buffer).setUint32(31, crc32c(bytes));
    expect(parseProxyHeader(bytes).kind).toBe("malformed");
  });
});

test("what follows the header is neither consumed nor looked at", () => {
  for (const first of [ascii("PROXY UNKNOWN\r\n"), header(0x21, 0x11, [...IPV4, ...tlv(TLV.NOOP, [1])])]) {
    const followed = Uint8Array.from([...first, ...first, 0, 0xff]);
    expect(parseProxyHeader(followed)).toEqual(parseProxyHeader(first));
  }
});

describe("fuzz", () => {
  const addresses = fc.tuple(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(65535));

  test("any v1 line with addresses of one family is read back", () => {
    fc.assert(
      fc.property(addresses, addresses, ([source, sourcePort], [destination, destinationPort]) => {
        const protocol = source.includes(":") ? "TCP6" : "TCP4";
        const answer = parseProxyHeader(
          ascii(`PROXY ${protocol} ${source} ${destination} ${sourcePort} ${destinationPort}\r\n`),
        );
        expect(answer.kind).toBe(source.includes(":") === destination.includes(":") ? "header" : "malformed");
        if (answer.kind === "header") expect(answer.source?.port).toBe(sourcePort);
        judge(answer);
      }),
    );
  });

  test("mutated headers never throw", () => {
    const bases = fc.constantFrom(
      ascii("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"),
      ascii("PROXY TCP6 2001:db8::1 ::1 0 1\r\n"),
      header(0x21, 0x11, [...IPV4, ...tlv(TLV.AUTHORITY, [0x61]), ...tlv(TLV.UNIQUE_ID, [1, 2])]),
      header(0x21, 0x21, [...zeros(36), ...tlv(TLV.CRC32C, zeros(4))]),
    );
    const mutation = fc.record({ at: fc.nat(80), bytes: fc.uint8Array({ minLength: 1, maxLength: 3 }) });
    fc.assert(
      fc.property(bases, fc.array(mutation, { maxLength: 4 }), fc.nat(100), (base, mutations, length) => {
        const bytes = base.slice();
        for (const { at, bytes: change } of mutations) bytes.set(change, at % (bytes.length - 3));
        judge(parseProxyHeader(bytes));
        judge(parseProxyHeader(bytes.subarray(0, length)));
      }),
      { numRuns: 5000 },
    );
  });

  test("arbitrary bytes never throw, and once malformed they stay malformed", () => {
    const start = fc.constantFrom(
      ...["", "PROXY ", "PROXY TCP4 ", "PROXY UNKNOWN "].map(ascii),
      Uint8Array.from(SIGNATURE),
    );
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 200 }), fc.nat(200), (first, rest, length) => {
        const bytes = Uint8Array.from([...first, ...rest]);
        const early = parseProxyHeader(bytes.subarray(0, length));
        const late = parseProxyHeader(bytes);
        judge(late);
        if (early.kind === "malformed") expect(late.kind).toBe("malformed");
        if (early.kind === "header") expect(late).toEqual(early);
      }),
      { numRuns: 5000 },
    );
  });
});

function judge(answer: ProxyHeader): void {
  if (answer.kind === "malformed") expect(answer.reason).toMatch(/^[ -~]+$/);
  if (answer.kind !== "header") return;
  expect(answer.source === null).toBe(answer.destination === null);
  for (const endpoint of [answer.source, answer.destination])
    if (endpoint !== null) expect(isIp(endpoint.ip)).toBe(true);
}

function expectPrefixesIncomplete(bytes: Uint8Array): void {
  for (let length = 0; length < bytes.length; length++)
    expect(parseProxyHeader(bytes.subarray(0, length))).toEqual({ kind: "incomplete" });
}

function parsed(rest: readonly number[]): Extract<ProxyHeader, { kind: "header" }> {
  const answer = parseProxyHeader(header(0x21, 0x11, rest));
  if (answer.kind !== "header") throw new Error(JSON.stringify(answer));
  return answer;
}

function header(command: number, family: number, rest: readonly number[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from([...SIGNATURE, command, family, rest.length >> 8, rest.length & 0xff, ...rest]);
}

function tlv(type: number, value: readonly number[]): number[] {
  return [type, value.length >> 8, value.length & 0xff, ...value];
}

function zeros(length: number): number[] {
  return new Array<number>(length).fill(0);
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, "latin1"));
}
