// testssl.sh, which tries what is known against TLS servers, finds nothing above "LOW" at a listener with its default settings, nor with session
// tickets: protocols, suites, key exchange, what a server says of itself, and the vulnerabilities with names.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { issueCertificate } from "../../src/tls-tools/tls-tools.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { Child } from "../support/child.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { keepPair } from "../support/forgery.ts";
import { missingPrograms } from "../support/programs.ts";
import { program } from "../support/servers.ts";
import { type Endpoint, startEndpoint } from "../support/tcp.ts";

const missing = missingPrograms("testssl", "openssl");
/** It takes 30 s on an idle machine. */
const PATIENCE_MS = 240_000;

/** Findings that are about the certificate of this test and not about bunnel, by id, and why. */
const OF_THE_TEST: Readonly<Record<string, string>> = {
  cert_revocation: "the test's authority publishes neither a revocation list nor an OCSP responder",
};
/** Findings that are about the machine that testssl.sh runs on. */
const OF_THE_MACHINE = ["engine_problem"];
const ABOVE_LOW = ["MEDIUM", "HIGH", "CRITICAL"];
/** So few say that most checks did not run. With all of them there are some 70. */
const FEWEST_FINDINGS = 60;

interface Finding {
  readonly id: string;
  readonly severity: string;
  readonly finding: string;
}

let pki: TestPki;
let endpoint: Endpoint;
let daemon: Daemon;

beforeAll(async () => {
  if (missing !== "") return;
  pki = await testPki();
  endpoint = await startEndpoint();
  // For longer than the month from which on testssl.sh tells of the end.
  const lifetimeMs = 120 * 86_400_000;
  const pair = await issueCertificate(pki.authority, { dns: ["localhost"], usage: "server", lifetimeMs });
  const server = keepPair(pki.directory, "testssl", pair);
  const listener = (name: string, more: string): string => `
  - name: ${name}
    address: 127.0.0.1:0
    tls: { certificates: [{ cert: ${server.certificatePath}, key: ${server.keyPath} }], client_auth: none${more} }
    routes: [{ name: all, tls: terminate, backend: echo }]`;
  daemon = await startDaemon(`
listeners:${listener("default", "")}${listener("tickets", ", session_tickets: true, alpn: [h2, http/1.1]")}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
});

afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await endpoint?.[Symbol.asyncDispose]();
});

/** What testssl.sh finds at a listener. `checks` are its options. */
async function findings(listener: string, checks: readonly string[]): Promise<readonly Finding[]> {
  const file = join(daemon.directory, `${listener}.json`);
  const local = ["--ip", "127.0.0.1", "--nodns", "none", "--add-ca", pki.authority.certificatePath];
  const output = ["--quiet", "--color", "0", "--warnings", "off", "--jsonfile", file];
  await using child = new Child([
    program("testssl"),
    ...output,
    ...local,
    ...checks,
    `localhost:${await daemon.port(listener)}`,
  ]);
  child.endInput();
  await child.exited;
  const all = JSON.parse(readFileSync(file, "utf8")) as readonly Finding[];
  // It goes on when it could not do something, and says so.
  const trouble = all.filter(
    ({ id, severity }) => ["WARN", "FATAL"].includes(severity) && !OF_THE_MACHINE.includes(id),
  );
  expect(trouble).toEqual([]);
  return all;
}

function worrying(all: readonly Finding[]): readonly Finding[] {
  return all.filter(({ id, severity }) => ABOVE_LOW.includes(severity) && OF_THE_TEST[id] === undefined);
}

test.skipIf(missing !== "").concurrent(
  `at a listener with default settings ${missing}`.trim(),
  async () => {
    const all = await findings("default", ["-p", "-s", "-f", "-S", "-U"]);
    expect(worrying(all)).toEqual([]);
    expect(all.length).toBeGreaterThan(FEWEST_FINDINGS);
    const said = Object.fromEntries(all.map(({ id, finding }) => [id, finding]));
    expect(said).toMatchObject({ TLS1_1: "not offered", heartbleed: expect.stringContaining("not vulnerable") });
    expect(said.TLS1_3).toStartWith("offered");
  },
  PATIENCE_MS,
);

test.skipIf(missing !== "").concurrent(
  `at one with session tickets and ALPN ${missing}`.trim(),
  async () => {
    const all = await findings("tickets", ["-S", "-T", "-R", "-p"]);
    expect(worrying(all)).toEqual([]);
    // Whether it saw a ticket is a race with the end of its connection: that there are some is shown in tls-settings-are-strict.
    const ids = all.map(({ id }) => id);
    expect(ids).toEqual(
      expect.arrayContaining(["TLS_session_ticket", "sessionresumption_ticket", "secure_client_renego"]),
    );
  },
  PATIENCE_MS,
);
