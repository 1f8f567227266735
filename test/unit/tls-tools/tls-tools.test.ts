// What tls-tools issues is judged by openssl, which did not make it.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ProxyError } from "../../../src/base/errors.ts";
import {
  certificateSummaries,
  createAuthority,
  createRevocationList,
  issueCertificate,
  type KeyPair,
} from "../../../src/tls-tools/tls-tools.ts";

const DAY_MS = 86_400_000;
const directory = mkdtempSync(join(tmpdir(), "bunnel-tls-tools-"));
let authority: KeyPair;

beforeAll(async () => {
  authority = await createAuthority({ commonName: "Test root", lifetimeMs: 100 * DAY_MS });
});
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

function openssl(...parameters: string[]): { code: number; output: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync(["openssl", ...parameters]);
  return { code: exitCode, output: stdout.toString() + stderr.toString() };
}

/** openssl's verdict on a leaf under `authority`, strict about every extension. */
function verify(leafPem: string, ...more: string[]): { code: number; output: string } {
  return verifyUnder(authority, leafPem, ...more);
}

function verifyUnder(issuer: KeyPair, leafPem: string, ...more: string[]): { code: number; output: string } {
  const root = file("root.pem", issuer.certificatePem);
  return openssl("verify", "-x509_strict", "-CAfile", root, ...more, file("leaf.pem", leafPem));
}

async function failure(work: Promise<unknown>): Promise<ProxyError> {
  return work.then(
    () => {
      throw new Error("it should have been refused");
    },
    (error: ProxyError) => error,
  );
}

describe("an authority", () => {
  test("is a self-signed root that openssl accepts strictly", () => {
    const root = file("self.pem", authority.certificatePem);
    expect(openssl("verify", "-x509_strict", "-CAfile", root, root).output).toContain("OK");
    const text = openssl("x509", "-in", root, "-noout", "-text").output;
    expect(text).toMatch(/X509v3 Basic Constraints: critical\s+CA:TRUE/);
    expect(text).toMatch(/X509v3 Key Usage: critical\s+Certificate Sign, CRL Sign/);
    expect(text).toContain("NIST CURVE: P-256");
    expect(text).toContain("Subject: CN = Test root");
  });

  test("signs an intermediate, which issues leaves but no further authority", async () => {
    const intermediate = await createAuthority({ commonName: "Middle", lifetimeMs: DAY_MS, issuer: authority });
    const leaf = await issueCertificate(intermediate, { dns: ["a.test"], usage: "server", lifetimeMs: 1000 * 60 });
    const middle = file("middle.pem", intermediate.certificatePem);
    expect(verify(leaf.certificatePem, "-untrusted", middle).output).toContain("OK");
    expect(verify(leaf.certificatePem).code).not.toBe(0);

    const third = createAuthority({ commonName: "Third", lifetimeMs: 1000 * 60, issuer: intermediate });
    expect((await failure(third)).message).toContain('"CN=Middle" may issue no further authorities');
    expect(openssl("x509", "-in", middle, "-noout", "-text").output).toContain("CA:TRUE, pathlen:0");
  });

  test("may be confined to some names, and openssl enforces it", async () => {
    const confined = await createAuthority({
      commonName: "Confined",
      lifetimeMs: DAY_MS,
      nameConstraints: { dns: ["in.test"], ip: ["127.9.9.9/9", "::1/128"], uri: ["in.test"] },
    });
    const leaf = (names: object): Promise<KeyPair> =>
      issueCertificate(confined, { ...names, usage: "both", lifetimeMs: 60_000 });
    const inside = { dns: ["a.in.test"], ip: ["127.9.9.9", "::1"], uri: "spiffe://in.test/a" };
    expect(verifyUnder(confined, (await leaf(inside)).certificatePem).output).toContain("OK");
    for (const outside of [
      { dns: ["out.test"] },
      { ip: ["127.128.0.1"] },
      { ip: ["::2"] },
      { uri: "spiffe://out.test/a" },
    ])
      expect(verifyUnder(confined, (await leaf(outside)).certificatePem).output).toContain(
        "permitted subtree violation",
      );
    const text = openssl("x509", "-in", file("confined.pem", confined.certificatePem), "-noout", "-text").output;
    expect(text).toMatch(
      /Name Constraints: critical\s+Permitted:\s+DNS:in\.test\s+URI:in\.test\s+IP:127\.0\.0\.0\/255\.128\.0\.0/,
    );
  });
});

describe("a certificate", () => {
  test("carries its names, usages and identifiers as RFC 5280 asks", async () => {
    const leaf = await issueCertificate(authority, {
      commonName: "web, the #1",
      dns: ["A.test", "*.a.test"],
      ip: ["127.0.0.1", "0:0:0:0:0:0:0:1"],
      uri: "spiffe://a.test/web",
      usage: "both",
      lifetimeMs: DAY_MS,
    });
    expect(verify(leaf.certificatePem, "-purpose", "sslserver", "-verify_hostname", "x.a.test").output).toContain("OK");
    expect(verify(leaf.certificatePem, "-purpose", "sslclient", "-verify_ip", "::1").output).toContain("OK");
    const text = openssl("x509", "-in", file("leaf.pem", leaf.certificatePem), "-noout", "-text").output;
    expect(text).toContain('Subject: CN = "web, the #1"');
    expect(text).toMatch(/Subject Alternative Name: *\n\s+DNS:a\.test, DNS:\*\.a\.test, IP Address:127\.0\.0\.1, IP /);
    expect(text).toContain("URI:spiffe://a.test/web");
    expect(text).toMatch(/Key Usage: critical\s+Digital Signature\n/);
    expect(text).toMatch(/Basic Constraints: critical\s+CA:FALSE/);
    expect(text).toContain("TLS Web Server Authentication, TLS Web Client Authentication");
    const key = openssl("pkey", "-in", file("leaf.key", leaf.keyPem), "-pubout").output;
    expect(openssl("x509", "-in", join(directory, "leaf.pem"), "-noout", "-pubkey").output).toBe(key);
  });

  test("of one usage is refused in the other role", async () => {
    for (const [usage, purpose, other] of [
      ["server", "sslserver", "sslclient"],
      ["client", "sslclient", "sslserver"],
    ] as const) {
      const leaf = await issueCertificate(authority, { dns: ["a.test"], usage, lifetimeMs: DAY_MS });
      expect(verify(leaf.certificatePem, "-purpose", purpose).code).toBe(0);
      expect(verify(leaf.certificatePem, "-purpose", other).output).toContain("unsuitable certificate purpose");
    }
  });

  test("without a subject has critical alternative names", async () => {
    const leaf = await issueCertificate(authority, { uri: "spiffe://a.test/x", usage: "client", lifetimeMs: DAY_MS });
    expect(verify(leaf.certificatePem).output).toContain("OK");
    const text = openssl("x509", "-in", file("leaf.pem", leaf.certificatePem), "-noout", "-text").output;
    expect(text).toContain("X509v3 Subject Alternative Name: critical");
  });

  test("is valid from five minutes ago for its whole lifetime from now, under a random 128-bit serial", async () => {
    const before = Date.now();
    const options = { dns: ["a.test"], usage: "server", lifetimeMs: DAY_MS } as const;
    const [one, two] = await Promise.all([issueCertificate(authority, options), issueCertificate(authority, options)]);
    const [first, second] = await certificateSummaries(one.certificatePem + two.certificatePem);
    if (first === undefined || second === undefined) throw new Error("two certificates went in");
    expect(Math.abs(before - 300_000 - first.notBefore.getTime())).toBeLessThan(5000);
    expect(Math.abs(before + DAY_MS - first.notAfter.getTime())).toBeLessThan(5000);
    expect(first.serial).not.toBe(second.serial);
    expect(first.serial.length).toBeGreaterThan(24);
  });

  test("may lie in the past or the future, and beyond 2049 is written as a GeneralizedTime", async () => {
    const options = { dns: ["a.test"], usage: "server", lifetimeMs: DAY_MS } as const;
    const expired = await issueCertificate(authority, { ...options, notBefore: new Date(Date.now() - 3 * DAY_MS) });
    expect(verify(expired.certificatePem).output).toContain("certificate has expired");
    const future = await issueCertificate(authority, { ...options, notBefore: new Date(Date.now() + 3 * DAY_MS) });
    expect(verify(future.certificatePem).output).toContain("certificate is not yet valid");
    const far = await createAuthority({ commonName: "Far", lifetimeMs: 50 * 365 * DAY_MS });
    const path = file("far.pem", far.certificatePem);
    expect(openssl("verify", "-x509_strict", "-CAfile", path, path).output).toContain("OK");
  });

  test("is refused for names that verifiers would refuse or misread", async () => {
    const bad: [object, RegExp][] = [
      [{}, /needs a DNS name/],
      [{ dns: ["10.0.0.1"] }, /is an IP address/],
      [{ dns: ["a b.test"] }, /not a DNS name/],
      [{ dns: ["a.*.test"] }, /not a DNS name/],
      [{ dns: ["a.test\0.evil"] }, /not a DNS name/],
      [{ dns: [`${"a".repeat(64)}.test`] }, /not a DNS name/],
      [{ ip: ["10.0.0.256"] }, /not an IP address/],
      [{ dns: ["a.test"], commonName: "x".repeat(65) }, /1 to 64/],
      [{ dns: ["a.test"], commonName: "a\nb" }, /printable/],
      [{ uri: "https://a.test/x" }, /scheme is not spiffe/],
      [{ uri: "spiffe://a.test" }, /add a path/],
      [{ uri: "spiffe://a.test/" }, /empty segment/],
      [{ uri: "spiffe://a.test/x/../y" }, /segment of dots/],
      [{ uri: "spiffe://a.test/x?y" }, /character other/],
      [{ uri: "spiffe://A.test/x" }, /trust domain has only/],
      [{ uri: "spiffe://a.test:1/x" }, /trust domain has only/],
      [{ uri: "spiffe://u@a.test/x" }, /trust domain has only/],
      [{ uri: `spiffe://a.test/${"x".repeat(2048)}` }, /longer than 2048/],
    ];
    for (const [names, message] of bad) {
      const error = await failure(issueCertificate(authority, { ...names, usage: "both", lifetimeMs: DAY_MS }));
      expect(error.code).toBe("BAD_NAME");
      expect(error.message).toMatch(message);
    }
  });

  test("does not outlive its authority, and has a lifetime", async () => {
    for (const lifetimeMs of [101 * DAY_MS, 0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      const error = await failure(issueCertificate(authority, { dns: ["a.test"], usage: "both", lifetimeMs }));
      expect(error.code).toBe("BAD_LIFETIME");
    }
  });
});

describe("an authority that cannot sign", () => {
  const options = { dns: ["a.test"], usage: "server", lifetimeMs: 1000 } as const;

  test("is refused, and the error tells nothing of a key", async () => {
    const other = await createAuthority({ commonName: "Other", lifetimeMs: DAY_MS });
    const leaf = await issueCertificate(authority, { ...options });
    const { certificatePem, keyPem } = authority;
    const body = keyPem.split("\n").slice(1, 3).join("");
    const cases: [KeyPair, string][] = [
      [{ certificatePem, keyPem: other.keyPem }, "BAD_KEY"],
      [leaf, "BAD_AUTHORITY"],
      [{ certificatePem, keyPem: keyPem.replace(body.slice(3, 20), "") }, "BAD_KEY"],
      [{ certificatePem, keyPem: keyPem.replace("M", "!") }, "BAD_PEM"],
      [{ certificatePem, keyPem: `${body}` }, "BAD_PEM"],
      [{ certificatePem: keyPem, keyPem }, "BAD_PEM"],
      [{ certificatePem: keyPem.replaceAll("PRIVATE KEY", "CERTIFICATE"), keyPem }, "BAD_PEM"],
    ];
    for (const [pair, code] of cases) {
      const error = await failure(issueCertificate(pair, options));
      expect(error.code).toBe(code);
      for (let at = 0; at + 12 < body.length; at += 4)
        expect(Bun.inspect(error)).not.toContain(body.slice(at, at + 12));
    }
  });

  test("is refused for an RSA key by its type", async () => {
    const keyPath = join(directory, "rsa.key");
    const path = join(directory, "rsa.pem");
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=rsa", "-keyout", keyPath, "-out", path);
    const pair = { certificatePem: await Bun.file(path).text(), keyPem: await Bun.file(keyPath).text() };
    expect((await failure(issueCertificate(pair, options))).message).toContain("RSA 2048");
  });

  test("made by openssl on another curve can sign", async () => {
    const keyPath = join(directory, "p384.key");
    const path = join(directory, "p384.pem");
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes", "-subj", "/CN=p384"];
    openssl("req", "-x509", ...curve, "-keyout", keyPath, "-out", path);
    const pair = { certificatePem: await Bun.file(path).text(), keyPem: await Bun.file(keyPath).text() };
    const leaf = await issueCertificate(pair, options);
    expect(openssl("verify", "-CAfile", path, file("leaf.pem", leaf.certificatePem)).output).toContain("OK");
  });
});

describe("a revocation list", () => {
  test("is good to openssl and refuses the revoked certificate only", async () => {
    const options = { dns: ["a.test"], usage: "server", lifetimeMs: DAY_MS } as const;
    const revoked = await issueCertificate(authority, options);
    const fine = await issueCertificate(authority, options);
    const [summary] = await certificateSummaries(revoked.certificatePem);
    const list = await createRevocationList(authority, {
      revokedSerials: [summary?.serial ?? ""],
      nextUpdate: new Date(Date.now() + DAY_MS),
    });
    const path = file("list.crl", list);
    const root = file("root.pem", authority.certificatePem);
    expect(openssl("crl", "-in", path, "-noout", "-CAfile", root).output).toContain("verify OK");
    expect(openssl("crl", "-in", path, "-noout", "-text").output).toMatch(/X509v3 CRL Number: *\n\s+[0-9A-Fa-fx]+\n/);
    // RFC 5280 has no empty list of entry extensions, and strict readers refuse one.
    expect(openssl("asn1parse", "-in", path).output).not.toMatch(/l= +0 cons: SEQUENCE/);
    expect(verify(revoked.certificatePem, "-crl_check", "-CRLfile", path).output).toContain("certificate revoked");
    expect(verify(fine.certificatePem, "-crl_check", "-CRLfile", path).output).toContain("OK");
  });

  test("may be empty, and stops being trusted after its next update", async () => {
    const leaf = await issueCertificate(authority, { dns: ["a.test"], usage: "server", lifetimeMs: DAY_MS });
    const empty = { revokedSerials: [], nextUpdate: new Date(Date.now() + DAY_MS) };
    const good = file("empty.crl", await createRevocationList(authority, empty));
    expect(verify(leaf.certificatePem, "-crl_check", "-CRLfile", good).output).toContain("OK");
    const past = { thisUpdate: new Date(Date.now() - 2 * DAY_MS), nextUpdate: new Date(Date.now() - DAY_MS) };
    const stale = file("stale.crl", await createRevocationList(authority, { ...past, revokedSerials: [] }));
    expect(verify(leaf.certificatePem, "-crl_check", "-CRLfile", stale).output).toContain("CRL has expired");
  });

  test("is refused for a serial that is no number", async () => {
    const work = createRevocationList(authority, { revokedSerials: ["xyz"], nextUpdate: new Date() });
    expect((await failure(work)).code).toBe("BAD_SERIAL");
  });
});

describe("a summary", () => {
  test("agrees with openssl", async () => {
    const names = { dns: ["a.test"], ip: ["::1"], uri: "spiffe://a.test/x" };
    const leaf = await issueCertificate(authority, { ...names, commonName: "a", usage: "client", lifetimeMs: DAY_MS });
    const [summary] = await certificateSummaries(`text before\n${leaf.certificatePem}text after\n`);
    const show = (...what: string[]): string =>
      openssl("x509", "-in", file("leaf.pem", leaf.certificatePem), "-noout", ...what).output.trim();
    const fingerprint = show("-fingerprint", "-sha256").split("=")[1]?.replaceAll(":", "").toLowerCase();
    const key = Bun.spawnSync(["openssl", "pkey", "-pubin", "-outform", "DER"], {
      stdin: Buffer.from(show("-pubkey")),
    });
    expect(summary).toMatchObject({
      subject: "CN=a",
      issuer: "CN=Test root",
      names: ["dns:a.test", "ip:::1", "uri:spiffe://a.test/x"],
      keyType: "ECDSA P-256",
      usages: ["client"],
      isAuthority: false,
      keyPin: new Bun.CryptoHasher("sha256").update(key.stdout).digest("base64"),
    });
    expect(summary?.fingerprint).toBe(fingerprint ?? "");
    expect(Number.parseInt(summary?.serial ?? "", 16)).toBe(Number.parseInt(show("-serial").split("=")[1] ?? "", 16));
  });

  test("knows other keys, and is empty where there is no certificate", async () => {
    const made = (algorithm: string): string =>
      Bun.spawnSync([
        "openssl",
        "req",
        "-x509",
        "-newkey",
        algorithm,
        "-nodes",
        "-subj",
        "/CN=x",
        "-keyout",
        "/dev/null",
      ]).stdout.toString();
    expect((await certificateSummaries(made("rsa:2048")))[0]?.keyType).toBe("RSA 2048");
    expect((await certificateSummaries(made("ed25519")))[0]?.keyType).toBe("Ed25519");
    expect(await certificateSummaries(authority.keyPem)).toEqual([]);
  });
});
