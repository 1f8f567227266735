// A client that comes back resumes its TLS session also when the config has been reloaded meanwhile, as long as nothing has changed about the TLS of its
// route. When that has changed, what it knows from before is worth nothing: it has to show its certificate anew.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestPki, testPki } from "../support/certificates.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connected, type LiveClientOptions } from "../support/live-clients.ts";
import { type Endpoint, startEndpoint } from "../support/tcp.ts";

let pki: TestPki;
let endpoint: Endpoint;
let daemon: Daemon;

interface Changes {
  readonly other?: string;
  readonly authorities?: readonly string[];
}

function config({ other = "other.test", authorities = [pki.authority.certificatePath] }: Changes = {}): string {
  return `
listeners:
  - name: mtls
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: ${JSON.stringify(authorities)}
      session_tickets: true
    routes:
      - { name: other, match: { sni: [${other}] }, tls: terminate, terminate: { client_auth: none }, backend: echo }
      - { name: all, tls: terminate, policy: any, backend: echo }
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
}

async function reload(changes: Changes): Promise<void> {
  const reloads = (): number => daemon.log.filter(({ msg }) => msg === "config reloaded").length;
  const before = reloads();
  const first = "workers: 0\nadmin: { address: off }\naccess_log: { output: ./access.log }";
  writeFileSync(join(daemon.directory, "bunnel.yaml"), `${first}\n${config(changes)}`);
  daemon.child.signal("SIGHUP");
  await eventually(
    () => `it was reloaded: ${daemon.child.story}`,
    () => reloads() > before,
  );
}

beforeAll(async () => {
  pki = await testPki();
  endpoint = await startEndpoint();
  daemon = await startDaemon(config());
});

afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await endpoint?.[Symbol.asyncDispose]();
});

/** Connects, with a session that was had before if there is one; gives whether it was resumed, and the session to come back with. */
async function visit(session: Buffer | null = null): Promise<{ readonly resumed: boolean; readonly session: Buffer }> {
  const options: LiveClientOptions = {
    to: await daemon.address("mtls"),
    ca: pki.authority.certificatePem,
    certificate: pki.client,
    ...(session !== null && { session }),
  };
  const client = await connected(options);
  const given = await eventually("a session was given", () => client.session ?? session);
  const { resumed } = client;
  client.close();
  return { resumed, session: given };
}

test("a session is resumed after a reload that changed another route, and not after one that changed its own authorities", async () => {
  const { session } = await visit();
  expect((await visit(session)).resumed).toBe(true);
  for (const other of ["another.test", "a-third.test", "other.test"]) {
    await reload({ other });
    expect((await visit(session)).resumed).toBe(true);
  }
  await reload({ authorities: [pki.authority.certificatePath, pki.otherAuthority.certificatePath] });
  expect((await visit(session)).resumed).toBe(false);
});
