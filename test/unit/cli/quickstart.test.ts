import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { YAML } from "bun";
import { defaultStateDirectory, type Quickstart, quickstart } from "../../../src/cli/quickstart.ts";
import { files } from "../../../src/runtime/node/files.ts";
import { issueCertificate } from "../../../src/tls-tools/tls-tools.ts";
import { testPki } from "../../support/certificates.ts";

const DAY_MS = 86_400_000;
const root = mkdtempSync(join(tmpdir(), "bunnel-quickstart-"));
afterAll(() => rmSync(root, { recursive: true }));

let count = 0;
let stateDirectory = "";
beforeEach(() => {
  stateDirectory = join(root, `state ${count++}`);
});

const endpoints = [1001, 1002, 1003].map((port) => ({ kind: "tcp", host: "127.0.0.1", port }) as const);

function prepare(): Promise<Quickstart> {
  return quickstart(files, { stateDirectory, endpoints });
}

function path(name: string): string {
  return join(stateDirectory, "quickstart", name);
}

function texts(): Record<string, string> {
  const names = ["ca.pem", "ca.key", "server.pem", "server.key", "client.pem", "client.key"];
  return Object.fromEntries(names.map((name) => [name, readFileSync(path(name), "utf8")]));
}

function verify(purpose: string, name: string): string {
  const { stdout, stderr } = Bun.spawnSync([
    ...["openssl", "verify", "-x509_strict", "-CAfile", path("ca.pem"), "-purpose", purpose, path(name)],
  ]);
  return stdout.toString() + stderr.toString();
}

describe("the embedded default", () => {
  test("has a PKI that openssl accepts, private to its owner", async () => {
    await prepare();
    expect(verify("sslserver", "server.pem")).toContain("OK");
    expect(verify("sslclient", "client.pem")).toContain("OK");
    expect(statSync(path("")).mode & 0o777).toBe(0o700);
    for (const key of ["ca.key", "server.key", "client.key"]) expect(statSync(path(key)).mode & 0o777).toBe(0o600);
  });

  test("is a config with the names of SPEC.md, absolute paths and the endpoints' ports", async () => {
    const { configText } = await prepare();
    expect(YAML.parse(configText)).toEqual({
      log: { format: "pretty" },
      access_log: { format: "text" },
      listeners: [
        {
          name: "quickstart-mtls",
          address: "127.0.0.1:8443",
          tls: {
            certificates: [{ cert: path("server.pem"), key: path("server.key") }],
            client_auth: "required",
            client_ca: [path("ca.pem")],
          },
          routes: [{ name: "quickstart-mtls", tls: "terminate", policy: "quickstart-clients", backend: "quickstart" }],
        },
        {
          name: "quickstart-tcp",
          address: "127.0.0.1:8080",
          routes: [{ name: "quickstart-tcp", tls: "none", backend: "quickstart" }],
        },
      ],
      policies: {
        "quickstart-clients": { rules: [{ action: "allow", uri: ["spiffe://bunnel.dev/quickstart-client"] }] },
      },
      backends: {
        quickstart: {
          balance: "least_connections",
          endpoints: [1001, 1002, 1003].map((port) => ({ address: `127.0.0.1:${port}` })),
        },
      },
    });
  });

  test("prints a curl command that a shell takes, and that gets through mTLS", async () => {
    const { curlMtls } = await prepare();
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      tls: {
        ...{ cert: Bun.file(path("server.pem")), key: Bun.file(path("server.key")), ca: Bun.file(path("ca.pem")) },
        ...{ requestCert: true, rejectUnauthorized: true },
      },
      fetch: () => new Response("hello\n"),
    });
    const run = async (command: string): Promise<string> => {
      const curl = Bun.spawn(["sh", "-c", command.replace("8443", String(server.port))], { stderr: "pipe" });
      return (await new Response(curl.stdout).text()) + (await new Response(curl.stderr).text());
    };
    expect(await run(`${curlMtls} -sS`)).toBe("hello\n");
    expect(await run(`${curlMtls.replace(/--cert.*(?=https)/, "")} -sS`)).toStartWith("curl: (");
    await server.stop(true);
  });

  test("reuses what is there", async () => {
    await prepare();
    const before = texts();
    await prepare();
    expect(texts()).toEqual(before);
  });

  test("renews a certificate in the last third of its life, and no other", async () => {
    await prepare();
    const before = texts();
    const authority = { certificatePem: before["ca.pem"] ?? "", keyPem: before["ca.key"] ?? "" };
    const issue = async (agoMs: number): Promise<void> => {
      const notBefore = new Date(Date.now() - agoMs);
      const options = { ip: ["127.0.0.1"], usage: "server", lifetimeMs: 90 * DAY_MS, notBefore } as const;
      const pair = await issueCertificate(authority, options);
      writeFileSync(path("server.pem"), pair.certificatePem);
      writeFileSync(path("server.key"), pair.keyPem);
    };
    await issue(59 * DAY_MS);
    const young = texts();
    await prepare();
    expect(texts()).toEqual(young);
    await issue(61 * DAY_MS);
    const old = texts();
    await prepare();
    expect(texts()["server.pem"]).not.toBe(old["server.pem"] ?? "");
    expect(texts()["client.pem"]).toBe(before["client.pem"] ?? "");
    expect(verify("sslserver", "server.pem")).toContain("OK");
  });

  test("mends a PKI that is damaged, incomplete or of another authority", async () => {
    await prepare();
    const { wrongAuthority } = await testPki();
    writeFileSync(path("client.pem"), wrongAuthority.certificatePem);
    writeFileSync(path("client.key"), wrongAuthority.keyPem);
    rmSync(path("server.key"));
    await prepare();
    expect(verify("sslserver", "server.pem")).toContain("OK");
    expect(verify("sslclient", "client.pem")).toContain("OK");
    for (const damage of ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]) {
      writeFileSync(path("ca.pem"), damage);
      await prepare();
      expect(verify("sslserver", "server.pem")).toContain("OK");
      expect(verify("sslclient", "client.pem")).toContain("OK");
    }
  });

  test("refuses a directory whose path the config would misread", async () => {
    stateDirectory = join(root, "$" + "{HOME}");
    await expect(prepare()).rejects.toThrow("must not have");
  });
});

describe("the default state directory", () => {
  test("follows XDG, else the home, else is the system's for root", () => {
    expect(defaultStateDirectory({ XDG_STATE_HOME: "/x", HOME: "/h" }, 1000)).toBe("/x/bunnel");
    expect(defaultStateDirectory({ XDG_STATE_HOME: "x", HOME: "/h" }, 1000)).toBe("/h/.local/state/bunnel");
    expect(defaultStateDirectory({ HOME: "/root" }, 0)).toBe("/var/lib/bunnel");
    expect(() => defaultStateDirectory({}, 1000)).toThrow("no directory for state");
  });
});
