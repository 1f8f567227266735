import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { files } from "../../../src/runtime/node/files.ts";
import { certificateSummaries } from "../../../src/tls-tools/tls-tools.ts";
import { testPki } from "../../support/certificates.ts";
import { type PkiOutcome, pki as run } from "../../support/pki-command.ts";

const root = mkdtempSync(join(tmpdir(), "bunnel-cli-pki-"));
afterAll(() => rmSync(root, { recursive: true }));

let count = 0;
let dir = "";
beforeEach(() => {
  dir = join(root, `pki-${count++}`);
});

const pki = (...parameters: string[]): Promise<PkiOutcome> => run(parameters);

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
    expect(again).toMatchObject({ code: 1, out: "" });
    expect(again.err).toMatch(/ca\.key exists already: bunnel pki rotate .*--force/);
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
    const again = await pki(...issue);
    expect(again.code).toBe(1);
    expect(again.err).toBe(
      `${dir}/web.key exists already: bunnel pki renew --dir ${dir} ${dir}/web.pem renews it; --force replaces it\n`,
    );
    expect((await pki(...issue, "--force")).code).toBe(0);
    rmSync(join(dir, "web.key"));
    expect((await pki(...issue)).err).toContain("web.pem exists already");
  });

  test("writes to another directory, and leaves the key of the authority where it is", async () => {
    const out = join(dir, "host", "certs");
    await pki("init", "--dir", dir);
    expect((await pki("issue", "--dir", dir, "--out", out, "--name", "web", "--dns", "a.test")).code).toBe(0);
    expect(readdirSync(out).sort()).toEqual(["web.key", "web.pem"]);
    expect(statSync(out).mode & 0o777).toBe(0o700);
    expect(readdirSync(dir).sort()).toEqual(["ca.key", "ca.pem", "host"]);
  });

  test("is for a week, and begins a little in the past for clocks that are late", async () => {
    await pki("init", "--dir", dir);
    await pki("issue", "--dir", dir, "--name", "web", "--dns", "a.test");
    const [web] = await certificateSummaries(readFileSync(join(dir, "web.pem"), "utf8"));
    expect(Math.abs((web?.notBefore.getTime() ?? 0) - (Date.now() - 300_000))).toBeLessThan(5_000);
    expect(Math.abs((web?.notAfter.getTime() ?? 0) - (Date.now() + 7 * 86_400_000))).toBeLessThan(5_000);
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
    expect(absent.err).toBe(`${dir} holds no authority (ca.pem, ca.key): make one with bunnel pki init --dir ${dir}\n`);
    await pki("init", "--dir", dir, "--lifetime", "5d");
    rmSync(join(dir, "ca.key"));
    expect((await pki("issue", "--dir", dir, "--name", "web", "--dns", "a.test")).err).toContain(
      `${dir}/ca.key: no such file`,
    );
    await pki("init", "--dir", dir, "--lifetime", "5d", "--force");
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
      new RegExp(`web\\.pem\n(?:.*\n)+? +signed by +${dir}/ca\\.pem\n`),
      /CN=My CA\n +signed by +itself\n/,
      /names +dns:a\.test, ip:::1\n +SPIFFE +no X509-SVID: it has no URI name\n/,
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

  test("shows every certificate of a chain, and which has signed which", async () => {
    const { viaIntermediate, authority, otherAuthority } = await testPki();
    const path = viaIntermediate.certificatePath;
    const signers = (out: string): string[] => [...out.matchAll(/signed by +(.*)\n/g)].map((match) => match[1] ?? "");
    const { out } = await pki("show", path);
    expect(out).toContain(`${path} (1 of 2)\n`);
    expect(signers(out)).toEqual([`${path} (2 of 2)`, "none of these"]);
    const all = await pki("show", otherAuthority.certificatePath, path, authority.certificatePath);
    expect(signers(all.out)).toEqual(["itself", `${path} (2 of 2)`, authority.certificatePath, "itself"]);
  });

  test("says whether a certificate is an X509-SVID, and why not", async () => {
    const { client, twoUris, dnsClient, oddNames } = await testPki();
    const spiffe = async (path: string): Promise<string> =>
      /SPIFFE +(.*)\n/.exec((await pki("show", path)).out)?.[1] ?? "";
    expect(await spiffe(client.certificatePath)).toBe("an X509-SVID");
    expect(await spiffe(dnsClient.certificatePath)).toBe("no X509-SVID: it has no URI name");
    expect(await spiffe(twoUris.certificatePath)).toBe("no X509-SVID: it has 2 URI names, and exactly one is allowed");
    expect(await spiffe(oddNames.certificatePath)).toBe("no X509-SVID: it has 4 URI names, and exactly one is allowed");
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
