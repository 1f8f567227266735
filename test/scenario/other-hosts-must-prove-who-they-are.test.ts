// An admin API that other hosts can reach answers only those who show a certificate that is vouched for, where the config asks for one, and know the
// token; whatever the environment says. The daemon's own commands find both in its config. The files are followed.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runtime } from "../../src/runtime/bun/bun-runtime.ts";
import type { HttpAnswer } from "../../src/runtime/http.ts";
import { type CertificateFiles, type TestPki, testPki } from "../support/certificates.ts";
import { type Outcome, run } from "../support/child.ts";
import { bunnel, type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { unusedPort } from "../support/servers.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const TOKEN = "0123456789abcdef-token";
const NEXT_TOKEN = "another-token-0123456789";
const REST = `
listeners: [{ name: in, address: 127.0.0.1:0, backend: b }]
backends: { b: { endpoints: [127.0.0.1:9] } }
`;

let pki: TestPki;
let files: string;
let port: number;
let daemon: Daemon;
const answers: string[] = [];

beforeAll(async () => {
  pki = await testPki();
  files = temporaryDirectory("bunnel-access-");
  port = await unusedPort();
  show(pki.server);
  writeFileSync(join(files, "token"), `${TOKEN}\n`);
  const tls = `{ cert: ${files}/cert.pem, key: ${files}/key.pem, client_ca: [${pki.authority.certificatePath}] }`;
  daemon = await startDaemon(`admin: { address: "0.0.0.0:${port}", token_file: ${files}/token, tls: ${tls} }${REST}`, {
    env: { NODE_TLS_REJECT_UNAUTHORIZED: "0" },
  });
});

afterAll(() => daemon?.[Symbol.asyncDispose]());

function show({ certificatePath, keyPath }: CertificateFiles): void {
  copyFileSync(certificatePath, join(files, "cert.pem"));
  copyFileSync(keyPath, join(files, "key.pem"));
}

interface Asking {
  readonly certificate?: CertificateFiles | null;
  readonly authorization?: string;
  readonly path?: string;
  readonly method?: "GET" | "POST";
  readonly headers?: Readonly<Record<string, string>>;
  readonly server?: CertificateFiles;
}

async function ask(asking: Asking = {}): Promise<HttpAnswer> {
  const { certificate = pki.client, authorization = `Bearer ${TOKEN}`, path = "/healthz", method = "GET" } = asking;
  const answer = await runtime.http.fetch({
    address: { kind: "tcp", host: "127.0.0.1", port },
    method,
    path,
    headers: { ...(authorization !== "" && { Authorization: authorization }), ...asking.headers },
    timeoutMs: 3000,
    tls: {
      serverCertificate: new Uint8Array(new X509Certificate((asking.server ?? pki.server).certificatePem).raw),
      chainPem: certificate?.certificatePem ?? "",
      keyPem: certificate?.keyPem ?? "",
    },
  });
  answers.push(JSON.stringify(answer));
  return answer;
}

function command(name: string, ...args: readonly string[]): Promise<Outcome> {
  return run(bunnel(name, "-c", join(daemon.directory, "bunnel.yaml"), ...args));
}

test("who shows no certificate, or a wrong one, is not answered, token or not", async () => {
  for (const certificate of [null, pki.wrongAuthority, pki.expired])
    await expect(ask({ certificate })).rejects.toThrow("does not answer");
  expect((await ask()).status).toBe(200);
});

test("who does not know the token is told so, whatever is asked for", async () => {
  const wrong = [
    "",
    "Bearer",
    `Bearer ${TOKEN}x`,
    `Bearer ${TOKEN.slice(1)}`,
    `Basic ${btoa("admin:no")}`,
    `Basic ${TOKEN}`,
    TOKEN,
  ];
  for (const authorization of wrong)
    for (const path of ["/", "/healthz", "/metrics", "/api/v1/snapshot", "/api/v1/events", "/nowhere"]) {
      const answer = await ask({ authorization, path });
      expect([path, answer.status, answer.contentType]).toEqual([path, 401, "application/problem+json"]);
      expect(answer.body).toContain("admin.token_file");
    }
  expect((await ask({ authorization: "", path: "/api/v1/drain", method: "POST" })).status).toBe(401);
  for (const authorization of [`Bearer ${TOKEN}`, `bearer  ${TOKEN}`, `Basic ${btoa(`anybody:${TOKEN}`)}`])
    expect((await ask({ authorization })).status).toBe(200);
});

test("whatever this host is called there; but a page of another origin changes nothing, even with the token", async () => {
  expect((await ask({ headers: { Host: "node-7.example:9901" } })).status).toBe(200);
  const foreign = { Host: "node-7.example", Origin: "http://node-7.example" };
  expect((await ask({ path: "/api/v1/drain", method: "POST", headers: foreign })).status).toBe(403);
  const ours = { Host: "node-7.example", Origin: "https://node-7.example" };
  expect((await ask({ path: "/api/v1/reload", method: "POST", headers: ours })).status).toBe(200);
});

test("commands find the token and the certificate in the config, and send nothing to anybody else", async () => {
  const shown = ["--cert", pki.client.certificatePath, "--key", pki.client.keyPath];
  const status = await command("status", ...shown);
  expect([status.exitCode, status.stderr]).toEqual([0, ""]);
  expect(status.stdout).toContain("serving");
  expect((await command("reload", ...shown)).exitCode).toBe(0);
  // What the daemon shows is no certificate of a client.
  expect((await command("status")).exitCode).toBe(1);
});

test("another token and another certificate are taken over as they lie there", async () => {
  writeFileSync(join(files, "token"), NEXT_TOKEN);
  show(pki.databaseServer);
  const renewed = { authorization: `Bearer ${NEXT_TOKEN}`, server: pki.databaseServer };
  await eventually("it goes by them", async () => (await ask(renewed).catch(() => null))?.status === 200);
  expect((await ask({ server: pki.databaseServer })).status).toBe(401);
  await expect(ask()).rejects.toThrow("not the one of admin.tls.cert");
  // A set that does not fit is not taken.
  copyFileSync(pki.client.keyPath, join(files, "key.pem"));
  await eventually("it is told", () =>
    daemon.log.some(({ problem }) => String(problem).includes("is not the certificate's")),
  );
  expect((await ask(renewed)).status).toBe(200);
});

test("no token is in the log or in an answer of any path", async () => {
  const renewed = { authorization: `Bearer ${NEXT_TOKEN}`, server: pki.databaseServer };
  const { body } = await ask({ ...renewed, path: "/api/v1/openapi.json" });
  const { paths } = JSON.parse(body) as { readonly paths: Readonly<Record<string, object>> };
  const shown = Object.entries(paths).filter(([path, methods]) => "get" in methods && path !== "/api/v1/events");
  expect(shown.length).toBeGreaterThan(8);
  for (const [path] of shown) expect((await ask({ ...renewed, path })).status).not.toBe(401);
  const told = [daemon.child.stderr, daemon.child.stdout, ...answers];
  for (const token of [TOKEN, NEXT_TOKEN]) expect(told.filter((text) => text.includes(token))).toEqual([]);
});

test("a token without TLS, where that was said aloud; on loopback the names stay those of loopback", async () => {
  const place = await unusedPort();
  writeFileSync(join(files, "plain"), TOKEN);
  for (const [address, said, foreign] of [
    ["0.0.0.0", ", allow_plaintext: true", 200],
    ["127.0.0.1", "", 421],
  ] as const) {
    await using plain = await startDaemon(
      `admin: { address: "${address}:${place}", token_file: ${files}/plain${said} }${REST}`,
    );
    const get = async (headers: Record<string, string>): Promise<Response> =>
      await fetch(`http://127.0.0.1:${place}/healthz`, { headers, keepalive: false });
    const refused = await get({});
    expect([refused.status, refused.headers.get("www-authenticate")]).toEqual([
      401,
      expect.stringContaining("Basic realm="),
    ]);
    expect((await get({ Authorization: `Bearer ${TOKEN}` })).status).toBe(200);
    expect((await get({ Authorization: `Bearer ${TOKEN}`, Host: "evil.example" })).status).toBe(foreign);
    expect((await get({ Host: "evil.example" })).status).toBe(foreign === 200 ? 401 : 421);
    const status = await run(bunnel("status", "-c", join(plain.directory, "bunnel.yaml")));
    expect([status.exitCode, status.stderr]).toEqual([0, ""]);
  }
}, 20_000);
