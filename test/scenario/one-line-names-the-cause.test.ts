// An operator learns from one line why a connection failed: fourteen faults, each provoked for real against a daemon that logs in JSON and one that
// logs text, and the exact line of each, from first to last character. Only what differs from run to run is replaced: time, id, ports,
// durations, and what is made anew with the certificates. `UPDATE_GOLDEN=1` writes the lines anew; read the difference before committing it.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestPki, testPki } from "../support/certificates.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { opensslClient } from "../support/openssl.ts";
import { clientHello, send, tryOpenssl } from "../support/provoking.ts";
import { unusedPort } from "../support/servers.ts";
import { type Endpoint, hold, startEndpoint, startUnansweringEndpoint, talking } from "../support/tcp.ts";
import { startTlsEndpoint } from "../support/tls-endpoint.ts";

const LINES = join(import.meta.dir, "../golden/one-line-names-the-cause.txt");

interface Fault {
  readonly name: string;
  /** Listeners are named after their fault, so that a line is found by it. */
  readonly listener: string;
  provoke(address: string, daemon: Daemon): Promise<unknown>;
}

let pki: TestPki;
const daemons: Daemon[] = [];
const resources: AsyncDisposable[] = [];
let holding: Endpoint;

beforeAll(async () => {
  pki = await testPki();
  const echo = await startEndpoint();
  holding = await startEndpoint(hold);
  const resetting = await startEndpoint(({ socket }) => socket.once("data", () => socket.resetAndDestroy()));
  const unanswering = await startUnansweringEndpoint();
  const elsewhere = await startTlsEndpoint(pki.server);
  resources.push(echo, holding, resetting, unanswering, elsewhere);
  const refused = [await unusedPort(), await unusedPort()].map((port) => `"127.0.0.1:${port}"`);
  const plain = (name: string): string => `  - { name: ${name}, address: 127.0.0.1:0, backend: ${name} }`;
  const mtls = (name: string, more = ""): string => `  - name: ${name}
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]${more}
    routes: [{ name: all, tls: terminate, policy: clients, backend: hold }]`;
  const config = `
drain_timeout: 0s
listeners:
${mtls("no-certificate")}
${mtls("unknown-ca")}
${mtls("expired")}
${mtls("revoked", `\n      client_crl: [${pki.revocationList.path}]`)}
${mtls("policy-denied")}
${mtls("truncated-tls")}
  - { name: no-sni-route, address: 127.0.0.1:0, routes: [{ name: known, match: { sni: [known.test] }, tls: passthrough, backend: hold }] }
${["wrong-name", "refused", "black-holed", "endpoint-reset", "client-reset", "idle", "drain"].map(plain).join("\n")}
policies:
  clients: { rules: [{ action: allow, uri: ["spiffe://bunnel.test/client"] }] }
backends:
  hold: { endpoints: ["${holding.address}"] }
  wrong-name: { endpoints: ["${elsewhere.address}"], tls: { ca: [${pki.authority.certificatePath}], server_name: db.elsewhere.test } }
  refused: { connect_attempts: 2, endpoints: [${refused}] }
  black-holed: { connect_timeout: 100ms, connect_attempts: 1, endpoints: ["${unanswering.address}"] }
  endpoint-reset: { endpoints: ["${resetting.address}"] }
  client-reset: { endpoints: ["${echo.address}"] }
  idle: { idle_timeout: 1s, endpoints: ["${holding.address}"] }
  drain: { endpoints: ["${echo.address}"] }
`;
  for (const format of ["json", "text"])
    daemons.push(await startDaemon(`access_log: { output: ./access.log, format: ${format} }${config}`));
  resources.push(...daemons);
});

afterAll(async () => {
  for (const resource of resources.reverse()) await resource[Symbol.asyncDispose]();
});

const FAULTS: readonly Fault[] = [
  { name: "no certificate", listener: "no-certificate", provoke: (address) => tryOpenssl(pki, address, undefined) },
  { name: "unknown CA", listener: "unknown-ca", provoke: (address) => tryOpenssl(pki, address, pki.wrongAuthority) },
  { name: "expired", listener: "expired", provoke: (address) => tryOpenssl(pki, address, pki.expired) },
  { name: "revoked", listener: "revoked", provoke: (address) => tryOpenssl(pki, address, pki.revoked) },
  { name: "wrong name", listener: "wrong-name", provoke: (address) => send(address) },
  {
    name: "policy denied",
    listener: "policy-denied",
    provoke: (address) => tryOpenssl(pki, address, pki.otherClient),
  },
  {
    name: "no SNI route",
    listener: "no-sni-route",
    provoke: async (address) => send(address, await clientHello("unknown.test")),
  },
  { name: "endpoint refused", listener: "refused", provoke: (address) => send(address) },
  { name: "endpoint black-holed", listener: "black-holed", provoke: (address) => send(address) },
  { name: "endpoint reset", listener: "endpoint-reset", provoke: (address) => send(address, "hello") },
  {
    name: "client reset",
    listener: "client-reset",
    provoke: async (address) => (await talking(address)).socket.resetAndDestroy(),
  },
  { name: "idle", listener: "idle", provoke: (address) => send(address) },
  {
    name: "truncated TLS",
    listener: "truncated-tls",
    async provoke(to, daemon) {
      const { authority, client: certificate } = pki;
      await using client = opensslClient({ to, ca: authority.certificatePath, certificate, sni: "localhost" });
      const said = `half sentence ${daemons.indexOf(daemon)}`;
      client.write(said);
      await eventually("it arrived", () => holding.peers.some(({ text }) => text === said));
      client.signal("SIGKILL");
      await client.exited;
    },
  },
  {
    name: "drain",
    listener: "drain",
    async provoke(address, daemon) {
      const peer = await talking(address);
      expect(await daemon.stop()).toBe(1);
      await eventually("it was reset", () => peer.closed);
    },
  },
];

/** The line of a connection of this listener, as it is in the file. */
function lineOf(daemon: Daemon, listener: string): Promise<string> {
  const path = join(daemon.directory, "access.log");
  const isMeant = (line: string): boolean =>
    line.includes(`"listener":"${listener}"`) || line.includes(`] ${listener} `);
  return eventually(
    () => `there was a line of ${listener}: ${daemon.child.story}`,
    () => (existsSync(path) ? readFileSync(path, "utf8").split("\n").find(isMeant) : undefined),
  );
}

function normalised(line: string): string {
  return line
    .replace(/"time":\d+/, '"time":TIME')
    .replace(/\[\d{4}-\d\d-\d\dT[\d:.]+Z\]/, "[TIME]")
    .replace(/\b[0-9a-f]{8}-\d+\b/, "ID")
    .replace(/127\.0\.0\.1:\d+/g, "127.0.0.1:PORT")
    .replace(/("(?:handshake_|connect_|duration_)?ms":)[\d.]+/g, "$1MS")
    .replace(/ \d+\/\d+ (\d+\/\d+)/, " MS/MS $1")
    .replace(/(127\.0\.0\.1:PORT:\w+)\/\d+/g, "$1/MS")
    .replace(/\b[0-9a-f]{64}\b/g, "SHA256")
    .replace(/serial [0-9a-fA-F:]+/g, "serial SERIAL");
}

/** By the name of the fault. */
function expectedLines(): Map<string, string> {
  const sections = existsSync(LINES) ? readFileSync(LINES, "utf8").split("\n\n") : [];
  return new Map(sections.map((section) => [section.split("\n", 1)[0] ?? "", section.trimEnd()]));
}

describe("the line says it all:", () => {
  const found: string[] = [];

  for (const { name, listener, provoke } of FAULTS) {
    test(name, async () => {
      await Promise.all(daemons.map(async (daemon) => provoke(await daemon.address(listener), daemon)));
      const lines = await Promise.all(daemons.map((daemon) => lineOf(daemon, listener)));
      const section = [name, ...lines.map(normalised)].join("\n");
      found.push(section);
      if (process.env.UPDATE_GOLDEN !== "1") expect(section).toBe(expectedLines().get(name) ?? "");
    });
  }

  test("and there is one for each of the fourteen faults", () => {
    if (process.env.UPDATE_GOLDEN === "1") writeFileSync(LINES, `${found.join("\n\n")}\n`);
    expect([...expectedLines().keys()]).toEqual(FAULTS.map(({ name }) => name));
    expect(FAULTS).toHaveLength(14);
  });
});
