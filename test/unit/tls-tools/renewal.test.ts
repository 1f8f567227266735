// A renewed certificate says what the old one said, or there is none.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type CertificateOptions,
  certificateSummaries,
  createAuthority,
  isSignedBy,
  issueCertificate,
  type KeyPair,
  renewCertificate,
} from "../../../src/tls-tools/tls-tools.ts";

const DAY_MS = 86_400_000;
const directory = mkdtempSync(join(tmpdir(), "bunnel-renewal-"));
let authority: KeyPair;
let other: KeyPair;

beforeAll(async () => {
  authority = await createAuthority({ commonName: "same name", lifetimeMs: 10 * DAY_MS });
  other = await createAuthority({ commonName: "same name", lifetimeMs: 10 * DAY_MS });
});
afterAll(() => rmSync(directory, { recursive: true }));

describe("renewCertificate", () => {
  test("keeps the names, the subject or its absence, and the usages, under whichever authority it is given", async () => {
    const wanted: Omit<CertificateOptions, "lifetimeMs">[] = [
      { commonName: "a, b", dns: ["a.test", "*.b.test"], ip: ["::1", "10.0.0.1"], uri: "spiffe://t/x", usage: "both" },
      { dns: ["a.test"], usage: "server" },
      { uri: "spiffe://t/x", usage: "client" },
      { commonName: "nameless", usage: "client" },
    ];
    for (const names of wanted) {
      const old = await issueCertificate(authority, { ...names, lifetimeMs: DAY_MS });
      const renewed = await renewCertificate(other, old.certificatePem);
      const [before, after] = await certificateSummaries(old.certificatePem + renewed.certificatePem);
      for (const field of ["subject", "names", "usages", "svidProblem"] as const)
        expect(after?.[field]).toEqual(before?.[field] as never);
      expect(after?.keyPin).not.toBe(before?.keyPin ?? "");
      expect(await isSignedBy(renewed.certificatePem, other.certificatePem)).toBe(true);
    }
  });

  test("refuses a certificate that says more than it could say again", async () => {
    const made = (...parameters: string[]): string => {
      const path = join(directory, "made.pem");
      const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null"];
      Bun.spawnSync(["openssl", "req", "-x509", ...key, "-out", path, ...parameters]);
      return readFileSync(path, "utf8");
    };
    const usage = "extendedKeyUsage=serverAuth";
    const names = "subjectAltName=DNS:a.test";
    const refused: [string, RegExp][] = [
      [made("-subj", "/O=Acme/CN=a", "-addext", usage, "-addext", names), /more than a common name/],
      [
        made("-subj", "/CN=a", "-addext", usage, "-addext", `${names},email:a@a.test`),
        /no DNS name, IP address or URI/,
      ],
      [
        made("-subj", "/CN=a", "-addext", usage, "-addext", "subjectAltName=URI:spiffe://t/a,URI:spiffe://t/b"),
        /2 URIs/,
      ],
      [made("-subj", "/CN=a", "-addext", `${usage},codeSigning`, "-addext", names), /other extended key usages/],
      [made("-subj", "/CN=a", "-addext", names), /other extended key usages/],
    ];
    for (const [pem, message] of refused) {
      const error = await renewCertificate(authority, pem).then(
        () => null,
        (thrown: Error) => thrown,
      );
      expect(error?.message).toMatch(message);
    }
  });
});

describe("isSignedBy", () => {
  test("is not fooled by an authority of the same name, or by text that is no certificate", async () => {
    const { certificatePem } = await issueCertificate(authority, {
      dns: ["a.test"],
      usage: "server",
      lifetimeMs: DAY_MS,
    });
    expect(await isSignedBy(certificatePem, authority.certificatePem)).toBe(true);
    expect(await isSignedBy(certificatePem, other.certificatePem)).toBe(false);
    expect(await isSignedBy("", authority.certificatePem)).toBe(false);
    expect(await isSignedBy(certificatePem, authority.keyPem)).toBe(false);
  });
});
