import { describe, expect, test } from "bun:test";
import { CidrSet } from "../../../src/protocol/cidr.ts";
import { containsSource, SourceAddress } from "../../../src/proxy/source-address.ts";

describe("SourceAddress", () => {
  test("IPv4, as text and bytes", () => {
    const source = new SourceAddress("10.0.0.1", 4711);
    expect([source.ip, `${source}`]).toEqual(["10.0.0.1", "10.0.0.1:4711"]);
    expect(source.bytes).toEqual(Uint8Array.of(10, 0, 0, 1));
  });

  test("what a dual-stack listener reports of an IPv4 client is that IPv4 address, however it is spelled", () => {
    for (const text of ["::ffff:10.0.0.1", "::ffff:a00:1", "0:0:0:0:0:ffff:10.0.0.1"])
      expect(new SourceAddress(text, 1).ip).toBe("10.0.0.1");
  });

  test("IPv6 is canonical, so that one source has one count", () => {
    expect(`${new SourceAddress("2001:DB8:0:0::1", 1)}`).toBe("[2001:db8::1]:1");
  });

  test("a unix socket has no address, and no CIDR contains it", () => {
    const source = new SourceAddress(undefined, undefined);
    expect([source.ip, `${source}`, source.bytes]).toEqual(["", "unix", null]);
    expect(containsSource(new CidrSet(["0.0.0.0/0", "::/0"]), source)).toBe(false);
  });

  test("a rule about IPv4 holds for a mapped client", () => {
    expect(containsSource(new CidrSet(["10.0.0.0/8"]), new SourceAddress("::ffff:10.9.9.9", 1))).toBe(true);
  });
});
