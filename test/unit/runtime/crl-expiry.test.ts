// The end of a revocation list, read out of its DER; whatever cannot be read counts as out of date.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { earliestNextUpdateMs } from "../../../src/runtime/bun/crl-expiry.ts";
import { createAuthority, createRevocationList } from "../../../src/tls-tools/tls-tools.ts";

const authority = await createAuthority({ commonName: "crl authority", lifetimeMs: 3_600_000 });
const list = (nextUpdate: Date): Promise<string> =>
  createRevocationList(authority, { revokedSerials: ["0a", "7fffffff"], nextUpdate });

test("the date of a list, as UTCTime until 2049 and as GeneralizedTime after", async () => {
  for (const text of ["2031-02-03T04:05:06Z", "2049-12-31T23:59:59Z", "2050-01-01T00:00:00Z", "2071-06-07T08:09:10Z"]) {
    expect(earliestNextUpdateMs([await list(new Date(text))])).toBe(Date.parse(text));
  }
});

test("the earliest of several, whatever their order", async () => {
  const [early, late] = [await list(new Date("2031-01-01T00:00:00Z")), await list(new Date("2032-01-01T00:00:00Z"))];
  expect(earliestNextUpdateMs([early, late])).toBe(Date.parse("2031-01-01T00:00:00Z"));
  expect(earliestNextUpdateMs([late, early])).toBe(Date.parse("2031-01-01T00:00:00Z"));
});

test("no list never ends", () => {
  expect(earliestNextUpdateMs([])).toBe(Number.POSITIVE_INFINITY);
});

test("what is no list is out of date", async () => {
  expect(earliestNextUpdateMs([""])).toBe(0);
  expect(earliestNextUpdateMs([authority.certificatePem])).toBe(0);
  expect(earliestNextUpdateMs([await list(new Date("2031-01-01T00:00:00Z")), "garbage"])).toBe(0);
});

test("a damaged list is read without an error, and never as endless for want of bytes", async () => {
  const pem = await list(new Date("2031-01-01T00:00:00Z"));
  const der = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ""), "base64");
  const armour = (bytes: Uint8Array): string =>
    `-----BEGIN X509 CRL-----\n${Buffer.from(bytes).toString("base64")}\n-----END X509 CRL-----\n`;
  expect(earliestNextUpdateMs([armour(der)])).toBe(Date.parse("2031-01-01T00:00:00Z"));
  for (let cut = 0; cut < der.length; cut++) expect(earliestNextUpdateMs([armour(der.subarray(0, cut))])).toBe(0);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      expect(earliestNextUpdateMs([armour(bytes)])).toBeGreaterThanOrEqual(0);
    }),
  );
});
