// openssl, which did not make them, says which certificates verify with which bundle in every step of a rotation.

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { files } from "../../../src/runtime/node/files.ts";
import { certificateSummaries, createAuthority } from "../../../src/tls-tools/tls-tools.ts";
import { type PkiOutcome, pki } from "../../support/pki-command.ts";

const root = mkdtempSync(join(tmpdir(), "bunnel-pki-rotate-"));
afterAll(() => rmSync(root, { recursive: true }));

let count = 0;
let dir = "";
beforeEach(async () => {
  dir = join(root, `pki-${count++}`);
  await pki(["init", "--dir", dir, "--name", "mesh CA"]);
});

const path = (name: string): string => join(dir, name);
const text = (name: string): string => readFileSync(path(name), "utf8");
const rotate = (...parameters: string[]): Promise<PkiOutcome> => pki(["rotate", "--dir", dir, ...parameters]);
const issue = (name: string): Promise<PkiOutcome> => pki(["issue", "--dir", dir, "--name", name, "--dns", "a.test"]);

function verifies(name: string, bundle = "ca.pem"): boolean {
  const command = ["openssl", "verify", "-x509_strict", "-CAfile", path(bundle), path(`${name}.pem`)];
  return Bun.spawnSync(command).exitCode === 0;
}

describe("pki rotate", () => {
  test("never leaves a moment in which a good certificate is refused", async () => {
    await issue("early");
    copyFileSync(path("ca.pem"), path("oldest.pem"));

    const begun = await rotate("begin");
    expect([begun.code, begun.err]).toEqual([0, ""]);
    expect(begun.out).toContain(`bunnel pki rotate switch --dir ${dir}`);
    await issue("during");
    copyFileSync(path("ca.pem"), path("both.pem"));
    // Hosts that have not heard of it yet still know everything.
    for (const bundle of ["oldest.pem", "both.pem"])
      for (const name of ["early", "during"])
        expect([bundle, name, verifies(name, bundle)]).toEqual([bundle, name, true]);

    expect((await rotate("switch")).code).toBe(0);
    await issue("late");
    for (const name of ["early", "during", "late"]) expect([name, verifies(name, "both.pem")]).toEqual([name, true]);
    expect(verifies("late", "oldest.pem")).toBe(false);

    // What the old one signed is due, however long it has.
    const renewed = await pki(["renew", "--dir", dir, path("early.pem"), path("during.pem"), path("late.pem")]);
    expect(renewed.out.match(/renewed \(its authority is being replaced\)/g)).toHaveLength(2);
    expect(renewed.out).toContain("late.pem: kept");

    expect((await rotate("finish")).code).toBe(0);
    for (const name of ["early", "during", "late"]) expect([name, verifies(name)]).toEqual([name, true]);
    const [only, ...more] = await certificateSummaries(text("ca.pem"));
    expect([only?.subject, more]).toEqual(["CN=mesh CA", []]);
    expect(text("ca.key").match(/BEGIN/g)).toHaveLength(1);
    expect(statSync(path("ca.key")).mode & 0o777).toBe(0o600);
    // And again.
    expect((await rotate("begin", "--name", "next CA", "--lifetime", "100d")).code).toBe(0);
    expect((await certificateSummaries(text("ca.pem"))).map(({ subject }) => subject)).toEqual([
      "CN=mesh CA",
      "CN=next CA",
    ]);
  });

  test("the old key is gone once the new one signs", async () => {
    const old = text("ca.key");
    await rotate("begin");
    expect(text("ca.key")).toStartWith(old);
    await rotate("switch");
    expect(text("ca.key")).not.toContain(old);
  });

  test("refuses a step out of turn, says which is next, and changes nothing", async () => {
    const steps = ["begin", "switch", "finish"];
    for (const turn of steps) {
      const before = [text("ca.pem"), text("ca.key")];
      for (const step of steps.filter((name) => name !== turn)) {
        const { code, err } = await rotate(step);
        expect(code).toBe(1);
        expect(err).toContain(`the next step is bunnel pki rotate ${turn} --dir ${dir}\n`);
      }
      expect([text("ca.pem"), text("ca.key")]).toEqual(before);
      expect((await rotate(turn)).code).toBe(0);
    }
    expect((await rotate("start")).code).toBe(2);
    expect((await rotate("begin", "--lifetime", "soon")).code).toBe(2);
  });

  test("killed between its two files, the old authority signs as before and the step can be repeated", async () => {
    const dying = {
      ...files,
      writeText(place: string, content: string, options: { mode: number }): void {
        if (place.endsWith(".pem")) throw new Error("killed");
        files.writeText(place, content, options);
      },
    };
    await expect(pki(["rotate", "begin", "--dir", dir], dying)).rejects.toThrow("killed");
    await issue("web");
    expect(verifies("web")).toBe(true);
    expect((await rotate("begin")).code).toBe(0);
    expect((await rotate("switch")).code).toBe(0);
    await issue("late");
    expect(verifies("late")).toBe(true);
  });

  test("refuses an authority of which something would be lost", async () => {
    const constrained = { commonName: "small", lifetimeMs: 86_400_000, nameConstraints: { dns: ["a.test"] } };
    const pair = await createAuthority(constrained);
    writeFileSync(path("ca.pem"), pair.certificatePem);
    writeFileSync(path("ca.key"), pair.keyPem);
    const { code, err } = await rotate("begin");
    expect(code).toBe(1);
    expect(err).toContain("name constraints would be lost");
    expect(text("ca.pem")).toBe(pair.certificatePem);
  });

  test("refuses an authority whose key is another's", async () => {
    const other = await createAuthority({ commonName: "other", lifetimeMs: 86_400_000 });
    writeFileSync(path("ca.key"), other.keyPem);
    expect((await rotate("begin")).err).toBe(
      `${dir}/ca.key: the private key belongs to no certificate in ${dir}/ca.pem\n`,
    );
  });
});
