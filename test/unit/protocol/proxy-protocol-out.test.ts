import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatIp, parseIp } from "../../../src/base/ip.ts";
import { parseProxyHeader, TLV, type Tlv } from "../../../src/protocol/proxy-protocol.ts";
import {
  alpnTlv,
  authorityTlv,
  encodeProxyV1,
  encodeProxyV2,
  type ProxyV2,
  type SslTlvContent,
  sslTlv,
  uniqueIdTlv,
} from "../../../src/protocol/proxy-protocol-out.ts";

const SIGNATURE = "0d0a0d0a000d0a515549540a";
const SOURCE = { ip: "192.168.0.1", port: 56324 };
const DESTINATION = { ip: "192.168.0.11", port: 443 };
const SOURCE6 = { ip: "2001:db8::1", port: 1 };
const DESTINATION6 = { ip: "::1", port: 65535 };
const ONES = { ip: `${"ffff:".repeat(7)}ffff`, port: 65535 };

describe("version 1", () => {
  test.each([
    ["IPv4", SOURCE, DESTINATION, "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"],
    ["IPv6", SOURCE6, DESTINATION6, "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"],
    ["IPv4 to IPv6", SOURCE, DESTINATION6, "PROXY TCP6 ::ffff:c0a8:1 ::1 56324 65535\r\n"],
    ["IPv6 to IPv4", SOURCE6, DESTINATION, "PROXY TCP6 2001:db8::1 ::ffff:c0a8:b 1 443\r\n"],
    ["the longest", ONES, ONES, `PROXY TCP6 ${ONES.ip} ${ONES.ip} 65535 65535\r\n`],
    ["no source", null, DESTINATION, "PROXY UNKNOWN\r\n"],
    ["no destination", SOURCE, null, "PROXY UNKNOWN\r\n"],
    ["a zone", { ip: "fe80::1%eth0", port: 1 }, DESTINATION6, "PROXY UNKNOWN\r\n"],
  ])("%s", (_, source, destination, line) => {
    expect(Buffer.from(encodeProxyV1(source, destination)).toString("latin1")).toBe(line);
  });
});

describe("version 2", () => {
  test.each([
    ["IPv4", SOURCE, DESTINATION, "2111000c c0a80001 c0a8000b dc04 01bb"],
    ["IPv6", SOURCE6, DESTINATION6, `21210024 20010db8${"00".repeat(11)}01 ${"00".repeat(15)}01 0001 ffff`],
    ["IPv4 to IPv6", SOURCE, DESTINATION6, `21210024 ${"00".repeat(10)}ffffc0a80001 ${"00".repeat(15)}01 dc04 ffff`],
    ["no source", null, DESTINATION, "21000000"],
    ["no destination", SOURCE, null, "21000000"],
    ["a zone", { ip: "fe80::1%eth0", port: 1 }, DESTINATION6, "21000000"],
  ])("%s", (_, source, destination, hex) => {
    expect(encoded({ source, destination, tlvs: [], crc32c: false }).toHex()).toBe(SIGNATURE + hex.replaceAll(" ", ""));
  });

  test("TLVs stand after the addresses, in their order", () => {
    const tlvs = [authorityTlv("bücher.example"), { type: 0xe0, value: Uint8Array.of(7) }, alpnTlv("h2")];
    expect(encoded({ source: null, destination: null, tlvs, crc32c: false }).toHex()).toBe(
      `${SIGNATURE}2100001b02000f62c3bc636865722e6578616d706c65e00001070100026832`,
    );
  });

  test("the checksum is the one that the specification wants, of the whole header", () => {
    const tlvs = [uniqueIdTlv(Uint8Array.of(1, 2, 3))];
    const header = encoded({ source: SOURCE, destination: DESTINATION, tlvs, crc32c: true });
    // Computed bit by bit here, so that it does not share a table with the code.
    const zeroed = `${SIGNATURE}21110019c0a80001c0a8000bdc0401bb03000400000000050003010203`;
    const crc = bitwiseCrc32c(Uint8Array.fromHex(zeroed)).toString(16).padStart(8, "0");
    expect(header.toHex()).toBe(zeroed.replace("0300040000000005", `030004${crc}05`));
    header[20] = 9;
    expect(parseProxyHeader(header).kind).toBe("malformed");
  });

  test("a checksum that came with another header is not passed on", () => {
    const tlvs = [{ type: TLV.CRC32C, value: Uint8Array.of(1, 2, 3, 4) }, alpnTlv("h2")];
    for (const crc32c of [false, true]) {
      const read = parseProxyHeader(encoded({ source: SOURCE, destination: DESTINATION, tlvs, crc32c }));
      expect(read).toMatchObject({ kind: "header" });
      if (read.kind === "header") expect(read.tlvs.length).toBe(crc32c ? 2 : 1);
    }
  });

  test("the largest header, and one byte more", () => {
    const noop = (length: number): ProxyV2 => ({
      ...{ source: SOURCE, destination: DESTINATION, crc32c: false },
      tlvs: [{ type: TLV.NOOP, value: new Uint8Array(length) }],
    });
    const room = 0xffff - 12 - 3;
    expect(encodeProxyV2(noop(room))?.length).toBe(16 + 0xffff);
    expect(encodeProxyV2(noop(room))?.subarray(14, 16).toHex()).toBe("ffff");
    expect(encodeProxyV2(noop(room + 1))).toBeNull();
    expect(encodeProxyV2({ ...noop(room), crc32c: true })).toBeNull();
    expect(encodeProxyV2({ ...noop(0), tlvs: [sslTlv({ ...SSL, certificate: new Uint8Array(70_000) })] })).toBeNull();
  });

  test("a unique id that no receiver may accept is a mistake of ours", () => {
    expect(() => uniqueIdTlv(new Uint8Array(129))).toThrow();
    expect(uniqueIdTlv(new Uint8Array(128)).value.length).toBe(128);
  });
});

const SSL: SslTlvContent = {
  presented: "connection",
  verified: true,
  version: "TLSv1.3",
  cipher: "TLS_AES_128_GCM_SHA256",
  commonName: "Zoë",
  signatureAlgorithm: "ecdsa-with-SHA256",
  keyAlgorithm: "EC256",
  certificate: Uint8Array.of(0x30, 0),
};

describe("the TLV of TLS", () => {
  test("with all its parts", () => {
    const parts = [
      ["21", "TLSv1.3"],
      ["22", "Zoë"],
      ["23", "TLS_AES_128_GCM_SHA256"],
      ["24", "ecdsa-with-SHA256"],
      ["25", "EC256"],
      ["28", "0\0"],
    ].map(([type = "", text = ""]) => {
      const bytes = Buffer.from(text, "utf8");
      return `${type}00${bytes.length.toString(16).padStart(2, "0")}${bytes.toString("hex")}`;
    });
    const tlv = sslTlv(SSL);
    expect(tlv.type).toBe(0x20);
    expect(tlv.value.toHex()).toBe(`0700000000${parts.join("")}`);
  });

  test.each([
    ["a certificate that was verified", "connection", true, "0700000000"],
    ["one that was not", "connection", false, "0700000001"],
    ["one of the session that is resumed", "session", true, "0500000000"],
    ["one of the session that was not verified", "session", false, "0500000001"],
    ["none", "none", false, "0100000001"],
    ["none, whatever is said of it", "none", true, "0100000001"],
  ] as const)("%s", (_, presented, verified, hex) => {
    const empty = { version: "", cipher: "", commonName: "", signatureAlgorithm: "", keyAlgorithm: "" };
    expect(sslTlv({ presented, verified, ...empty, certificate: null }).value.toHex()).toBe(hex);
    expect(sslTlv({ presented, verified, ...empty, certificate: new Uint8Array(0) }).value.toHex()).toBe(hex);
  });
});

describe("what is written is read back", () => {
  const address = fc.option(
    fc.record({
      ip: fc.oneof(fc.ipV4(), fc.ipV6()).map((text) => formatIp(parseIp(text) ?? new Uint8Array(4))),
      port: fc.nat(0xffff),
    }),
  );
  const tlv = fc.oneof(
    fc.record({ type: fc.integer({ min: 0xe0, max: 0xef }), value: fc.uint8Array({ maxLength: 300 }) }),
    fc.stringMatching(/^[a-z0-9.-]{1,60}$/).map(authorityTlv),
    fc.uint8Array({ maxLength: 128 }).map(uniqueIdTlv),
    fc.string({ maxLength: 20 }).map(alpnTlv),
  );

  test("version 1", () => {
    fc.assert(
      fc.property(address, address, (source, destination) => {
        const line = encodeProxyV1(source, destination);
        const isKnown = source !== null && destination !== null;
        expect(line.length).toBeLessThanOrEqual(107);
        expect(parseProxyHeader(line)).toMatchObject({
          ...{ kind: "header", version: 1, lengthBytes: line.length },
          ...{ source: isKnown ? source : null, destination: isKnown ? destination : null },
        });
      }),
      { numRuns: 1000 },
    );
  });

  test("version 2", () => {
    fc.assert(
      fc.property(address, address, fc.array(tlv, { maxLength: 8 }), fc.boolean(), (source, destination, tlvs, crc) => {
        const header = encoded({ source, destination, tlvs, crc32c: crc });
        const isKnown = source !== null && destination !== null;
        const read = parseProxyHeader(header);
        expect(read).toMatchObject({
          ...{ kind: "header", version: 2, lengthBytes: header.length },
          ...{ source: isKnown ? source : null, destination: isKnown ? destination : null },
        });
        if (read.kind === "header") expect(withoutChecksum(read.tlvs)).toEqual(tlvs);
        if (crc && read.kind === "header") expect(read.tlvs[0]?.type).toBe(TLV.CRC32C);
      }),
      { numRuns: 1000 },
    );
  });
});

function encoded(content: ProxyV2): Uint8Array {
  const header = encodeProxyV2(content);
  if (header === null) throw new Error("does not fit");
  return header;
}

function withoutChecksum(tlvs: readonly Tlv[]): Tlv[] {
  return tlvs.filter(({ type }) => type !== TLV.CRC32C).map(({ type, value }) => ({ type, value: value.slice() }));
}

function bitwiseCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}
