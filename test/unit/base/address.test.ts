import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatAddress, isOnHost, parseAddress, parseListenAddress } from "../../../src/base/address.ts";

describe("parseAddress", () => {
  test.each([
    ["127.0.0.1:80", { kind: "tcp", host: "127.0.0.1", port: 80 }],
    ["0.0.0.0:0", { kind: "tcp", host: "0.0.0.0", port: 0 }],
    ["[2001:DB8::0]:65535", { kind: "tcp", host: "2001:db8::", port: 65535 }],
    ["[::ffff:10.0.0.1]:1", { kind: "tcp", host: "10.0.0.1", port: 1 }],
    ["db.internal:5432", { kind: "tcp", host: "db.internal", port: 5432 }],
    ["db_1.internal.:5432", { kind: "tcp", host: "db_1.internal.", port: 5432 }],
    ["unix:/run/a.sock", { kind: "unix", path: "/run/a.sock" }],
    ["unix:@abstract", { kind: "unix", path: "@abstract" }],
  ] as const)("%s", (text, address) => {
    expect(parseAddress(text)).toEqual(address);
  });

  test.each([
    ["db.internal", "no port"],
    ["db.internal:", "not a port"],
    ["db.internal:65536", "not a port"],
    ["db.internal:+1", "not a port"],
    ["::1:80", "[::1]:80"],
    ["[10.0.0.1]:80", "not an IPv6"],
    ["[::g]:80", "not an IPv6"],
    ["10.0.0.256:80", "not an IPv4"],
    ["010.0.0.1:80", "not an IPv4"],
    ["-db:80", "neither"],
    ["a..b:80", "neither"],
    [":80", "has no host"],
    ["https://10.0.0.7", "is a URL"],
    [`${"a".repeat(64)}:80`, "neither"],
    ["unix:run/a.sock", "absolute"],
    [`unix:/${"a".repeat(107)}`, "longer"],
    ["unix:/run/\0a", "NUL"],
  ])("%p says what is wrong", (text, problem) => {
    expect(parseAddress(text)).toContain(problem);
  });

  test("formatAddress writes what parseAddress reads back, and nothing throws", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.ipV6().map((ip) => `[${ip}]:1`),
          fc.domain().map((name) => `${name}:2`),
        ),
        (text) => {
          const address = parseAddress(text);
          if (typeof address !== "string") expect(parseAddress(formatAddress(address))).toEqual(address);
        },
      ),
      { numRuns: 1000 },
    );
  });
});

test.each([
  ["127.0.0.9:1", true],
  ["[::1]:1", true],
  ["localhost:1", true],
  ["LocalHost:1", true],
  ["unix:/run/a.sock", true],
  ["0.0.0.0:1", false],
  ["[::]:1", false],
  ["10.0.0.1:1", false],
  ["localhost.example:1", false],
])("%s stays on the host: %p", (text, expected) => {
  const address = parseAddress(text);
  if (typeof address === "string") throw new Error(address);
  expect(isOnHost(address)).toBe(expected);
});

describe("parseListenAddress", () => {
  test("takes the name of a socket that systemd passes, which may be reached from anywhere", () => {
    const address = parseListenAddress("systemd:bunnel-web.socket");
    expect(address).toEqual({ kind: "systemd", name: "bunnel-web.socket" });
    if (typeof address === "string") throw new Error(address);
    expect(formatAddress(address)).toBe("systemd:bunnel-web.socket");
    expect(isOnHost(address)).toBe(false);
  });

  test("takes what parseAddress takes", () => {
    expect(parseListenAddress("127.0.0.1:80")).toEqual({ kind: "tcp", host: "127.0.0.1", port: 80 });
  });

  test.each(["systemd:", "systemd:a:b", "systemd:a b", "systemd:ä", `systemd:${"a".repeat(256)}`])(
    "refuses %s",
    (text) => {
      expect(parseListenAddress(text)).toContain("FileDescriptorName=");
    },
  );

  test("only listeners have such an address", () => {
    expect(parseAddress("systemd:web")).toContain("only be the address of a listener");
  });
});
