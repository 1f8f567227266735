import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { type PkiIo, registerPki } from "../../../src/cli/pki.ts";
import { files } from "../../../src/runtime/bun/bun-files.ts";
import { testPki } from "../../support/certificates.ts";

const root = mkdtempSync(join(tmpdir(), "bunnel-cli-pki-"));
afterAll(() => rmSync(root, { recursive: true }));

let count = 0;
let dir = "";
beforeEach(() => {
  dir = join(root, `pki-${count++}`);
});

/** Runs `bunnel pki …` as it would be typed. */
async function pki(...parameters: string[]): Promise<{ code: number; out: string; err: string }> {
  const result = { code: -1, out: "", err: "" };
  const io: PkiIo = {
    out: (line) => {
      result.out += `${line}\n`;
    },
    err: (line) => {
      result.err += `${line}\n`;
    },
    files,
  };
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  registerPki(program, io, (code) => {
    result.code = code;
  });
  await program.parseAsync(["pki", ...parameters], { from: "user" });
  return result;
}

function verify(purpose: string, name: string): string {
  const path = join(dir, `${name}.pem`);
  const { stdout, stderr } = Bun.spawnSync([
    ...["openssl", "verify", "-x509_strict", "-CAfile", join(dir, "ca.pem"), "-purpose", purpose, path],
  ]);
  return stdout.toString() + stderr.toString();
}

describe("pki init", () => {
  test("makes an authority that only its owner can read the key of", async () => {
    const { code, out } = await pki("init", "--dir", dir, "--name", "My CA", "--lifetime", "100d");
    expect(code).toBe(0);
    expect(out).toContain(`${dir}/ca.pem`);
    expect(readdirSync(dir).sort()).toEqual(["ca.key", "ca.pem"]);
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    expect(statSync(join(dir, "ca.key")).mode & 0o777).toBe(0o600);
    expect(statSync(join(dir, "ca.pem")).mode & 0o777).toBe(0o644);
  });

  test("never replaces an authority unless told to", async () => {
    await pki("init", "--dir", dir);
    const key = readFileSync(join(dir, "ca.key"), "utf8");
    const again = await pki("init", "--dir", dir);
    expect(again).toEqual({ code: 1, out: "", err: `${dir}/ca.key exists already: --force replaces it\n` });
    expect(readFileSync(join(dir, "ca.key"), "utf8")).toBe(key);
    expect((await pki("init", "--dir", dir, "--force")).code).toBe(0);
    expect(readFileSync(join(dir, "ca.key"), "utf8")).not.toBe(key);
  });

  test("refuses a malformed lifetime or name as usage", async () => {
    for (const lifetime of ["10y", "0d", "", "-1d"])
      expect((await pki("init", "--dir", dir, `--lifetime=${lifetime}`)).code).toBe(2);
    expect((await pki("init", "--dir", dir, "--name", "")).code).toBe(2);
    expect(files.exists(dir)).toBe(false);
  });

  test("says which directory cannot be made", async () => {
    const { code, err } = await pki("init", "--dir", "/dev/null/pki");
    expect(code).toBe(1);
    expect(err).toContain("/dev/null/pki");
  });
});

describe("pki issue", () => {
  test("issues for servers, clients or both, as openssl confirms", async () => {
    await pki("init", "--dir", dir);
    const names = ["--dns", "a.test", "--dns", "*.a.test", "--ip", "::1", "--uri", "spiffe://a.test/web"];
    for (const [name, ...flags] of [["both"], ["client", "--client"], ["server", "--server"]] as const) {
      expect((await pki("issue", "--dir", dir, "--name", name, ...names, ...flags)).code).toBe(0);
      expect(statSync(join(dir, `${name}.key`)).mode & 0o777).toBe(0o600);
    }
    expect(verify("sslserver", "both")).toContain("OK");
    expect(verify("sslclient", "both")).toContain("OK");
    expect(verify("sslserver", "server")).toContain("OK");
    expect(verify("sslclient", "server")).toContain("unsuitable");
    expect(verify("sslserver", "client")).toContain("unsuitable");
  });

  test("never replaces a certificate or key unless told to", async () => {
    await pki("init", "--dir", dir);
    const issue = ["issue", "--dir", dir, "--name", "web", "--dns", "a.test"];
    await pki(...issue);
    expect(await pki(...issue)).toMatchObject({ code: 1, err: `${dir}/web.key exists already: --force replaces it\n` });
    expect((await pki(...issue, "--force")).code).toBe(0);
    rmSync(join(dir, "web.key"));
    expect((await pki(...issue)).err).toContain("web.pem exists already");
  });

  test("refuses bad names as usage, and names that would leave the directory or hit the authority", async () => {
    await pki("init", "--dir", dir);
    for (const name of ["ca", "../web", "a/b", "", ".web", "a b"])
      expect((await pki("issue", "--dir", dir, "--name", name, "--dns", "a.test", "--force")).code).toBe(2);
    for (const names of [[], ["--dns", "a b"], ["--ip", "1.2.3"], ["--uri", "https://a.test/"]])
      expect((await pki("issue", "--dir", dir, "--name", "web", ...names)).code).toBe(2);
    expect(readdirSync(dir).sort()).toEqual(["ca.key", "ca.pem"]);
  });

  test("fails without an authority, or with a lifetime that outlives it", async () => {
    const absent = await pki("issue", "--dir", dir, "--name", "web", "--dns", "a.test");
    expect(absent.code).toBe(1);
    expect(absent.err).toContain(`${dir}/ca.pem: no such file`);
    await pki("init", "--dir", dir, "--lifetime", "10d");
    const long = await pki("issue", "--dir", dir, "--name", "web", "--dns", "a.test");
    expect(long.code).toBe(1);
    expect(long.err).toContain("outlive its authority");
  });
});

describe("pki show", () => {
  test("tells all that matters of a certificate", async () => {
    await pki("init", "--dir", dir, "--name", "My CA");
    await pki("issue", "--dir", dir, "--name", "web", "--dns", "a.test", "--ip", "::1", "--lifetime", "30d");
    const { code, out } = await pki("show", join(dir, "web.pem"), join(dir, "ca.pem"));
    expect(code).toBe(0);
    for (const text of [
      `${dir}/web.pem\n`,
      /subject +CN=web\n/,
      /issuer +CN=My CA\n/,
      /names +dns:a\.test, ip:::1\n/,
      /expires in 29 days\n/,
      /key +ECDSA P-256\n/,
      /usage +server, client\n/,
      /usage +authority\n/,
      /fingerprint +sha256:[0-9a-f]{64}\n/,
      /key pin +sha256\/\/[A-Za-z0-9+/]{43}=\n/,
    ])
      expect(out).toMatch(text);
  });

  test("says when a certificate is no longer or not yet good", async () => {
    const { expired, notYetValid } = await testPki();
    expect((await pki("show", expired.certificatePath)).out).toContain("EXPIRED 24 hours ago");
    expect((await pki("show", notYetValid.certificatePath)).out).toContain("not valid yet, begins in 23 hours");
  });

  test("shows every certificate of a chain", async () => {
    const { viaIntermediate } = await testPki();
    const { out } = await pki("show", viaIntermediate.certificatePath);
    expect(out).toContain("(1 of 2)");
    expect(out).toContain("(2 of 2)");
  });

  test("does not let odd names break a line or pass for two", async () => {
    const { oddNames } = await testPki();
    const { out } = await pki("show", oddNames.certificatePath);
    expect(out).toContain('"uri:spiffe://bunnel.test/odd, URI:spiffe://bunnel.test/client"');
    expect(out).not.toMatch(/\nURI|\0/);
  });

  test("goes on after a file that holds none, shows no key, and fails", async () => {
    const { client, directory } = await testPki();
    const garbage = join(directory, "garbage.pem");
    writeFileSync(garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    const { code, out, err } = await pki("show", client.keyPath, "/nowhere.pem", garbage, client.certificatePath);
    expect(code).toBe(1);
    expect(out).toContain("CN=client");
    expect(err).toContain(`${client.keyPath}: no certificate in it`);
    expect(err).toContain("/nowhere.pem: no such file");
    expect(err).toContain(`${garbage}: the PEM block holds no X.509 certificate`);
    expect(out + err).not.toContain(client.keyPem.split("\n")[1] ?? "");
  });
});
