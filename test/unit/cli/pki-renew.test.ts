// A renewal is decided by the dates that a certificate has, so the ones here are issued with dates in the past instead of waiting.

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { files } from "../../../src/runtime/node/files.ts";
import {
  type CertificateSummary,
  certificateSummaries,
  createAuthority,
  isIssuedPair,
  issueCertificate,
  type KeyPair,
} from "../../../src/tls-tools/tls-tools.ts";
import { testPki } from "../../support/certificates.ts";
import { pki } from "../../support/pki-command.ts";

const HOUR_MS = 3_600_000;
const root = mkdtempSync(join(tmpdir(), "bunnel-pki-renew-"));
afterAll(() => rmSync(root, { recursive: true }));

let count = 0;
let dir = "";
beforeEach(async () => {
  dir = join(root, `pki-${count++}`);
  await pki(["init", "--dir", dir]);
});

const path = (name: string): string => join(dir, name);
const text = (name: string): string => readFileSync(path(name), "utf8");
const authority = (): KeyPair => ({ certificatePem: text("ca.pem"), keyPem: text("ca.key") });

/** Puts a certificate that lives 30 hours, and has `leftHours` left, where `pki issue` would. */
async function issued(name: string, leftHours: number, issuer = authority()): Promise<void> {
  const notBefore = new Date(Date.now() - (30 - leftHours) * HOUR_MS);
  const pair = await issueCertificate(issuer, {
    commonName: name,
    dns: ["*.a.test", "a.test"],
    ip: ["10.0.0.1", "::1"],
    uri: `spiffe://a.test/${name}`,
    usage: "both",
    lifetimeMs: 30 * HOUR_MS,
    notBefore,
  });
  writeFileSync(path(`${name}.pem`), pair.certificatePem);
  writeFileSync(path(`${name}.key`), pair.keyPem, { mode: 0o644 });
}

async function summary(name: string): Promise<CertificateSummary> {
  const [first] = await certificateSummaries(text(`${name}.pem`));
  if (first === undefined) throw new Error(`${name}.pem holds no certificate`);
  return first;
}

const renew = (...parameters: string[]): ReturnType<typeof pki> => pki(["renew", "--dir", dir, ...parameters]);

describe("pki renew", () => {
  test("gives a certificate that is due a new key and new dates, and leaves everything else as it was", async () => {
    await issued("web", 9.9);
    const before = await summary("web");
    const oldKey = text("web.key");
    const { code, out, err } = await renew(path("web.pem"));
    expect([code, err]).toEqual([0, ""]);
    expect(out).toMatch(/web\.pem: renewed \(it had 9 hours left\), valid until 20/);
    const after = await summary("web");
    for (const field of ["subject", "issuer", "names", "usages", "keyType"] as const)
      expect(after[field]).toEqual(before[field]);
    expect(after.serial).not.toBe(before.serial);
    expect(after.keyPin).not.toBe(before.keyPin);
    expect(text("web.key")).not.toBe(oldKey);
    expect(statSync(path("web.key")).mode & 0o777).toBe(0o600);
    expect(await isIssuedPair({ certificatePem: text("web.pem"), keyPem: text("web.key") }, authority())).toBe(true);
    // As long as before, from a little in the past, so that it does not change from renewal to renewal.
    expect(after.notAfter.getTime() - after.notBefore.getTime()).toBe(30 * HOUR_MS);
    expect(Math.abs(after.notBefore.getTime() - (Date.now() - 300_000))).toBeLessThan(5_000);
    expect(readdirSync(dir).sort()).toEqual(["ca.key", "ca.pem", "web.key", "web.pem"]);
  });

  test("keeps one that has a third of its lifetime left, so that cron may call it often", async () => {
    await issued("web", 10.1);
    const before = [text("web.pem"), text("web.key")];
    expect(await renew(path("web.pem"))).toEqual({
      code: 0,
      out: `${path("web.pem")}: kept, it has 10 hours left\n`,
      err: "",
    });
    expect([text("web.pem"), text("web.key")]).toEqual(before);
  });

  test("renews it all the same with --force, and for another lifetime when that is given", async () => {
    await issued("web", 29);
    expect((await renew("--force", "--lifetime", "2h", path("web.pem"))).out).toContain("renewed (--force)");
    expect(Math.abs((await summary("web")).notAfter.getTime() - (Date.now() + 2 * HOUR_MS))).toBeLessThan(5_000);
    expect((await renew("--lifetime", "soon", path("web.pem"))).code).toBe(2);
  });

  test("renews one that has expired", async () => {
    await issued("web", -3);
    expect((await renew(path("web.pem"))).out).toContain("renewed (it expired 3 hours ago)");
    expect((await summary("web")).notAfter.getTime()).toBeGreaterThan(Date.now());
  });

  test("writes the key first, and mends what a renewal that was killed after it has left", async () => {
    await issued("web", 5);
    const written: string[] = [];
    const dying = {
      ...files,
      writeText(place: string, content: string, options: { mode: number }): void {
        if (written.length === 1) throw new Error("killed");
        written.push(place);
        files.writeText(place, content, options);
      },
    };
    await expect(pki(["renew", "--dir", dir, path("web.pem")], dying)).rejects.toThrow("killed");
    expect(written).toEqual([path("web.key")]);
    // The dates are of a certificate that is not due, so that only the key speaks for it.
    await issued("web", 29);
    await issued("other", 29);
    writeFileSync(path("web.key"), text("other.key"));
    expect((await renew(path("web.pem"))).out).toContain("renewed (its key was another one's)");
    expect(await isIssuedPair({ certificatePem: text("web.pem"), keyPem: text("web.key") }, authority())).toBe(true);
  });

  test("renews the others when one cannot be, and says for each what is wrong with it", async () => {
    const { client, viaIntermediate } = await testPki();
    await issued("web", 5);
    const lone = join(dir, "lone.pem");
    writeFileSync(lone, text("web.pem"));
    const wrong = [client.certificatePath, viaIntermediate.certificatePath, path("ca.pem"), lone, path("web.crt")];
    const before = readFileSync(client.certificatePath, "utf8");
    const { code, out, err } = await renew(...wrong, path("web.pem"));
    expect(code).toBe(2);
    expect(out).toContain("web.pem: renewed");
    expect(err.split("\n")).toEqual([
      `${client.certificatePath}: issued by "CN=bunnel test root", and by none in ${dir}/ca.pem; nothing was changed`,
      `${viaIntermediate.certificatePath}: holds 2 certificates; only one that stands alone is renewed`,
      `${path("ca.pem")}: is an authority; bunnel pki rotate replaces one`,
      `cannot read ${path("lone.key")}: no such file or directory`,
      `${path("web.crt")}: give NAME.pem, which has NAME.key beside it`,
      "",
    ]);
    expect(readFileSync(client.certificatePath, "utf8")).toBe(before);
  });

  test("refuses what it could not say again, and a lifetime beyond the authority's", async () => {
    const short = await createAuthority({ commonName: "short", lifetimeMs: 20 * HOUR_MS });
    await issued("web", 5, { ...short });
    writeFileSync(path("ca.pem"), short.certificatePem);
    writeFileSync(path("ca.key"), short.keyPem);
    const before = text("web.key");
    const long = await renew(path("web.pem"));
    expect(long.code).toBe(1);
    expect(long.err).toMatch(/web\.pem: the certificate would outlive its authority, .*: give it a shorter lifetime/);
    expect(text("web.key")).toBe(before);
    expect((await renew("--lifetime", "10h", path("web.pem"))).code).toBe(0);
  });

  test("needs an authority", async () => {
    expect(await pki(["renew", "--dir", "/nowhere", path("web.pem")])).toEqual({
      code: 1,
      out: "",
      err: "/nowhere holds no authority (ca.pem, ca.key): make one with bunnel pki init --dir /nowhere\n",
    });
  });
});
