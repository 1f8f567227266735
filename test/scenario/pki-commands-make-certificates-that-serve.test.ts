// `bunnel pki init`, `issue` and `show` make all that mTLS needs: openssl finds nothing wrong with the certificates, a listener serves with them,
// and a client that shows one is known by its SPIFFE ID. Private keys are their owner's alone, and nothing is replaced without --force.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Outcome, run } from "../support/child.ts";
import { bunnel, startDaemon } from "../support/daemon.ts";
import { missingPrograms } from "../support/programs.ts";
import { startNginx } from "../support/servers.ts";

const missing = missingPrograms("openssl", "curl", "nginx");
const directory = mkdtempSync(join(tmpdir(), "bunnel-pki-commands-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const pki = (...args: string[]): Promise<Outcome> => run(bunnel("pki", ...args));
const file = (name: string): string => join(directory, name);

test.skipIf(missing !== "")(`from pki init to a served request ${missing}`.trim(), async () => {
  const made = [
    await pki("init", "--dir", directory, "--name", "scenario CA"),
    await pki("issue", "--dir", directory, "--name", "edge", "--dns", "localhost", "--ip", "127.0.0.1", "--server"),
    await pki("issue", "--dir", directory, "--name", "web", "--uri", "spiffe://prod/web", "--client"),
  ];
  expect(made.map(({ exitCode, stderr }) => [exitCode, stderr])).toEqual(Array(3).fill([0, ""]));
  for (const key of ["ca.key", "edge.key", "web.key"]) expect(statSync(file(key)).mode & 0o777).toBe(0o600);

  for (const [name, purpose] of [
    ["edge", "sslserver"],
    ["web", "sslclient"],
  ] as const) {
    const verify = ["openssl", "verify", "-x509_strict", "-CAfile", file("ca.pem"), "-purpose", purpose];
    expect((await run([...verify, file(`${name}.pem`)])).stdout).toBe(`${file(`${name}.pem`)}: OK\n`);
  }
  const shown = await pki("show", file("web.pem"));
  expect(shown.exitCode).toBe(0);
  expect(shown.stdout).toContain("spiffe://prod/web");
  expect(shown.stdout).toContain("scenario CA");

  await using nginx = await startNginx(`server { listen 127.0.0.1:PORT; location / { return 200 "served\\n"; } }`);
  await using daemon = await startDaemon(`
listeners:
  - name: edge
    address: 127.0.0.1:0
    tls: { certificates: [{ cert: ${file("edge.pem")}, key: ${file("edge.key")} }], client_ca: [${file("ca.pem")}] }
    routes: [{ name: web, tls: terminate, policy: prod, backend: web }]
policies: { prod: { rules: [{ action: allow, uri: ["spiffe://prod/*"] }] } }
backends: { web: { endpoints: ["${nginx.address}"] } }
`);
  const identity = ["--cacert", file("ca.pem"), "--cert", file("web.pem"), "--key", file("web.key")];
  const url = `https://localhost:${await daemon.port("edge")}/`;
  expect((await run(["curl", "--silent", "--max-time", "4", ...identity, url])).stdout).toBe("served\n");
  expect((await daemon.record()).identity?.uri).toEqual(["spiffe://prod/web"]);
});

test("what is there is replaced only with --force", async () => {
  const place = mkdtempSync(join(directory, "again-"));
  expect((await pki("init", "--dir", place)).exitCode).toBe(0);
  const before = readFileSync(join(place, "ca.key"), "utf8");
  const refused = await pki("init", "--dir", place);
  expect([refused.exitCode, refused.stderr.includes("--force")]).toEqual([1, true]);
  expect(readFileSync(join(place, "ca.key"), "utf8")).toBe(before);
  expect((await pki("init", "--dir", place, "--force")).exitCode).toBe(0);
  expect(readFileSync(join(place, "ca.key"), "utf8")).not.toBe(before);
  expect((await pki("issue", "--dir", place, "--name", "x", "--lifetime", "soon")).exitCode).toBe(2);
  expect((await pki("show", join(place, "ca.key"))).exitCode).toBe(1);
});
