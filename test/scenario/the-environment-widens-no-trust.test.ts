// Whom to believe stands in the config and nowhere else: variables of the environment by which TLS libraries and runtimes are told of further authorities,
// of no verification at all, or where to write the keys of connections, change nothing in either direction.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type CertificateFiles, type TestPki, testPki } from "../support/certificates.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { forge, keepPair } from "../support/forgery.ts";
import { opensslClient } from "../support/openssl.ts";
import { missingPrograms } from "../support/programs.ts";
import { startTlsEndpoint, type TlsEndpoint } from "../support/tls-endpoint.ts";

const missing = missingPrograms("openssl");

let pki: TestPki;
let good: TlsEndpoint;
let foreign: TlsEndpoint;
let daemon: Daemon;
let keyLog: string;

beforeAll(async () => {
  if (missing !== "") return;
  pki = await testPki();
  keyLog = join(pki.directory, "keys.log");
  const onConnection = ({ socket }: { readonly socket: NodeJS.ReadWriteStream }): void => void socket.pipe(socket);
  good = await startTlsEndpoint(pki.server, { onConnection });
  const pair = await forge(pki.otherAuthority, { dns: ["localhost"], usage: "server" });
  foreign = await startTlsEndpoint(keepPair(pki.directory, "foreign", pair), { onConnection });
  const other = pki.otherAuthority.certificatePath;
  const listener = (backend: string): string => `
  - name: to-${backend}
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_auth: required
      client_ca: [${pki.authority.certificatePath}]
    routes: [{ name: all, tls: terminate, policy: any, backend: ${backend} }]`;
  const backend = (name: string, { address }: TlsEndpoint): string => `
  ${name}:
    endpoints: ["${address}"]
    connect_attempts: 1
    tls: { ca: [${pki.authority.certificatePath}], server_name: localhost }`;
  daemon = await startDaemon(
    `
listeners:${listener("good")}${listener("foreign")}
backends:${backend("good", good)}${backend("foreign", foreign)}
`,
    {
      env: {
        NODE_EXTRA_CA_CERTS: other,
        NODE_TLS_REJECT_UNAUTHORIZED: "0",
        NODE_USE_SYSTEM_CA: "1",
        NODE_OPTIONS: "--use-openssl-ca",
        DENO_CERT: other,
        DENO_TLS_CA_STORE: "system,mozilla",
        SSL_CERT_FILE: other,
        SSL_CERT_DIR: pki.directory,
        SSLKEYLOGFILE: keyLog,
      },
    },
  );
});

afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await good?.[Symbol.asyncDispose]();
  await foreign?.[Symbol.asyncDispose]();
});

/** What comes back of what a client says. */
async function tell(listener: string, certificate: CertificateFiles): Promise<string> {
  const to = await daemon.address(listener);
  await using client = opensslClient({ to, ca: pki.authority.certificatePath, certificate });
  client.write("is anybody there\n");
  await eventually(
    () => `an answer: ${client.story}`,
    () => client.hasExited || client.stdout !== "",
  );
  if (client.hasExited) await client.exited;
  return client.stdout;
}

describe.skipIf(missing !== "")(`openssl s_client ${missing}`.trim(), () => {
  test("who is vouched for by the config is served", async () => {
    expect(await tell("to-good", pki.client)).toBe("is anybody there\n");
  });

  test("a client of an authority of the environment is refused", async () => {
    expect(await tell("to-good", pki.wrongAuthority)).toBe("");
    const record = await daemon.record(({ close_reason: reason }) => reason === "certificate_rejected");
    expect(record.bytes_up).toBe(0);
  });

  test("an endpoint of an authority of the environment is refused", async () => {
    expect(await tell("to-foreign", pki.client)).toBe("");
    const record = await daemon.record(({ listener }) => listener === "to-foreign");
    expect([record.close_reason, record.bytes_down]).toEqual(["upstream_certificate_rejected", 0]);
    expect(foreign.sessions.flatMap(({ chunks }) => chunks)).toEqual([]);
  });

  test("keys of connections are written nowhere", () => {
    expect(existsSync(keyLog) ? readFileSync(keyLog, "utf8") : "").toBe("");
  });
});
