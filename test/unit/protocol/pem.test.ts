import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { pemBytes, pemLabels, splitPem } from "../../../src/protocol/pem.ts";

const CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";
const KEY = "-----BEGIN PRIVATE KEY-----\nMAs=\n-----END PRIVATE KEY-----\n";

describe("PEM texts", () => {
  test("blocks of a label come in order, whatever stands between them", () => {
    expect(splitPem(`a comment\n${CERTIFICATE}${KEY}more\n${CERTIFICATE}`, "CERTIFICATE")).toEqual([
      CERTIFICATE,
      CERTIFICATE,
    ]);
    expect(splitPem(KEY, "CERTIFICATE")).toEqual([]);
    expect(splitPem("-----BEGIN CERTIFICATE-----\nMAo=", "CERTIFICATE")).toEqual([]);
  });

  test("labels are told once each", () => {
    expect(pemLabels(CERTIFICATE + KEY + CERTIFICATE)).toEqual(["CERTIFICATE", "PRIVATE KEY"]);
  });

  test("a block's bytes, or null where it is no base64", () => {
    expect(pemBytes(CERTIFICATE)).toEqual(Uint8Array.of(0x30, 0x0a));
    expect(pemBytes("-----BEGIN X-----\n!!\n-----END X-----\n")).toBeNull();
    fc.assert(fc.property(fc.string(), (text) => void pemBytes(text)));
  });
});
