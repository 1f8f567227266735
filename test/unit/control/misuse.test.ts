import { expect, test } from "bun:test";
import { misuseOf } from "../../../src/control/findings.ts";
import { type CertificateDetails, EXTENDED_KEY_USAGE } from "../../../src/protocol/certificate-details.ts";

const { SERVER_AUTH, CLIENT_AUTH } = EXTENDED_KEY_USAGE;
const misuse = (keyAlgorithm: string, extendedKeyUsages: readonly string[]): string =>
  misuseOf({ keyAlgorithm, extendedKeyUsages } as unknown as CertificateDetails, "SERVER_AUTH");

test("a key that most peers refuse, and another use, are told", () => {
  expect(misuse("RSA1024", [])).toBe("has an RSA key of 1024 bits, and most peers refuse less than 2048");
  expect(misuse("EC256", [CLIENT_AUTH])).toStartWith("is not for servers");
});

test("what peers take is not", () => {
  for (const keyAlgorithm of ["RSA2048", "EC256", "ED25519"])
    for (const uses of [[], [SERVER_AUTH], [CLIENT_AUTH, SERVER_AUTH], ["2.5.29.37.0"]])
      expect(misuse(keyAlgorithm, uses)).toBe("");
});
