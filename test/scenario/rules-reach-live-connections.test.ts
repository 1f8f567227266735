// Policies, authorities, revocation lists and what is asked of endpoints are changed under a running daemon. Connections that would now be refused are
// ended, with the reason in their record, within a second of the log line that tells of the change, and all others go on byte for byte.

import { beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  certificateSummaries,
  createRevocationList,
  issueCertificate,
  type KeyPair,
} from "../../src/tls-tools/tls-tools.ts";
import { openWire, type WireLink } from "../conformance/tls-peers.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { type AccessLine, type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connected, LiveClient, type LiveClientOptions, startSecureEcho } from "../support/live-clients.ts";
import { startEndpoint } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const DAY_MS = 86_400_000;
const RELOADED = "config reloaded";
const REPLACED = "certificates replaced";
const EVERYBODY = `{ action: allow, uri: ["spiffe://bunnel.test/*"] }`;
const ONLY_OTHER = `{ action: allow, uri: ["spiffe://bunnel.test/other"] }`;
const REVOKED: readonly string[] = ["policy_revoked", "certificate_revoked", "certificate_expired"];

let pki: TestPki;
let root: string;

beforeAll(async () => {
  pki = await testPki();
  root = temporaryDirectory("bunnel-rules-");
});

interface Setting {
  /** What stands in the rules of the policy. */
  readonly rules?: string;
  readonly mode?: "enforce" | "shadow";
  /** More fields of the listener's `tls`. */
  readonly tls?: string;
  readonly ca?: string;
  readonly endpoint: string;
}

function config({ rules = EVERYBODY, mode = "enforce", tls = "", ca, endpoint }: Setting): string {
  return `
listeners:
  - name: edge
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${ca ?? pki.authority.certificatePath}]
      ${tls}
    routes: [{ name: all, tls: terminate, policy: clients, backend: echo }]
policies: { clients: { mode: ${mode}, rules: [${rules}] } }
backends: { echo: { endpoints: ["${endpoint}"] } }
`;
}

/** Puts another config in place and has it read. */
async function reload(daemon: Daemon, text: string): Promise<void> {
  const before = told(daemon, RELOADED).length;
  writeFileSync(join(daemon.directory, "bunnel.yaml"), `access_log: { output: ./access.log }\n${text}`);
  daemon.child.signal("SIGHUP");
  await eventually(
    () => `it was reloaded: ${daemon.child.story}`,
    () => told(daemon, RELOADED).length > before,
  );
}

async function replaced(daemon: Daemon, times = 1): Promise<void> {
  await eventually(
    () => `certificates were replaced ${times} times: ${daemon.child.story}`,
    () => told(daemon, REPLACED).length >= times,
  );
}

/** The times of the log lines with this message, in ms since 1970. */
function told(daemon: Daemon, message: string): number[] {
  return daemon.log.filter(({ msg }) => msg === message).map(({ time }) => Number(time));
}

/** Those that were ended for what they were: reason and detail of each. */
function revoked(daemon: Daemon): string[] {
  const lines = daemon.records.filter(({ close_reason }) => REVOKED.includes(close_reason));
  return lines.map(({ close_reason, detail }) => `${close_reason}: ${detail ?? ""}`);
}

async function targetOf(daemon: Daemon, listener = "edge"): Promise<LiveClientOptions> {
  return { to: await daemon.address(listener), ca: pki.authority.certificatePem };
}

/** Waits until a client was cut, which is never a clean end. */
async function isCut(client: LiveClient): Promise<void> {
  await eventually("the connection was ended", () => !client.isOpen);
  expect(client.ending).not.toBe("end");
}

async function listOf(...pairs: readonly KeyPair[]): Promise<string> {
  const summaries = await Promise.all(pairs.map(({ certificatePem }) => certificateSummaries(certificatePem)));
  const revokedSerials = summaries.map(([summary]) => summary?.serial ?? "");
  return await createRevocationList(pki.authority, { revokedSerials, nextUpdate: new Date(Date.now() + DAY_MS) });
}

describe("a policy", () => {
  test("ends exactly those that it denies now, and names the rule", async () => {
    await using endpoint = await startEndpoint();
    const setting = { endpoint: endpoint.address };
    await using daemon = await startDaemon(config(setting));
    const target = await targetOf(daemon);
    const denied = await connected({ ...target, certificate: pki.client });
    const byDefault = await connected({ ...target, certificate: pki.viaIntermediate });
    const kept = await connected({ ...target, certificate: pki.otherClient });
    const rules = `{ action: deny, uri: ["spiffe://bunnel.test/client"] }, ${EVERYBODY}`;
    await reload(daemon, config({ ...setting, rules }));
    await Promise.all([isCut(denied), isCut(byDefault)]);
    await kept.echo();
    await daemon.recorded(2);
    expect(revoked(daemon)).toEqual(Array(2).fill("policy_revoked: policy clients: rule deny[0] denies it"));
    await reload(daemon, config({ ...setting, rules: `{ action: allow, uri: ["spiffe://bunnel.test/nobody"] }` }));
    await isCut(kept);
    await daemon.recorded(3);
    expect(daemon.records.at(-1)).toMatchObject({
      ...{
        close_reason: "policy_revoked",
        detail: "policy clients: no rule matches",
        policy: "clients",
        policy_rule: "default",
      },
      identity: { uri: ["spiffe://bunnel.test/other"] },
    });
  });

  test("in shadow mode ends nobody", async () => {
    await using endpoint = await startEndpoint();
    const setting = { endpoint: endpoint.address };
    await using daemon = await startDaemon(config(setting));
    const client = await connected({ ...(await targetOf(daemon)), certificate: pki.client });
    await reload(daemon, config({ ...setting, rules: ONLY_OTHER, mode: "shadow" }));
    await (await client.echo()).echo();
    client.close();
    expect(await daemon.record()).toMatchObject({ policy_rule: "shadow:default" });
    expect(revoked(daemon)).toEqual([]);
  });

  test("reaches a handshake that is under way: held back between ClientHello and Finished, it comes to nothing", async () => {
    await using endpoint = await startEndpoint();
    const setting = { endpoint: endpoint.address, tls: "" };
    await using daemon = await startDaemon(config(setting));
    const wire = await openWire(await daemon.port("edge"), true);
    try {
      const target = { ...(await targetOf(daemon)), to: `127.0.0.1:${wire.port}` };
      const heldBack = async (certificate: KeyPair): Promise<LiveClient> => {
        const count = wire.links.length;
        const client = new LiveClient({ ...target, certificate });
        client.socket.write("secret");
        const link = await eventually("the client is on the wire", () => wire.links[count]);
        await eventually("its ClientHello is there", () => isWholeRecord(link));
        link.releaseHeld();
        await eventually("what comes after the hello is held", () => link.heldBytes.length > 0);
        return client;
      };
      const [denied, allowed] = [await heldBack(pki.client), await heldBack(pki.otherClient)];
      await reload(daemon, config({ ...setting, rules: ONLY_OTHER }));
      for (const link of wire.links) {
        link.releaseHeld();
        link.held = null;
      }
      await eventually("the allowed one was served", () => allowed.received === "secret");
      await isCut(denied);
      expect(denied.received).toBe("");
      await daemon.recorded(1);
      expect(revoked(daemon)).toEqual(["policy_revoked: policy clients: no rule matches"]);
      expect(endpoint.peers.filter(({ text }) => text !== "").map(({ text }) => text)).toEqual(["secret"]);
      allowed.close();
    } finally {
      wire.close();
    }
  });
});

function isWholeRecord({ heldBytes }: WireLink): boolean {
  return heldBytes.length > 5 && heldBytes.length >= 5 + heldBytes.readUInt16BE(3);
}

describe("certificates of clients", () => {
  test("a revocation list that was replaced ends exactly the revoked one", async () => {
    const crl = join(mkdtempSync(join(root, "crl-")), "ca.crl");
    writeFileSync(crl, await listOf());
    await using endpoint = await startEndpoint();
    await using daemon = await startDaemon(config({ endpoint: endpoint.address, tls: `client_crl: [${crl}]` }));
    const target = await targetOf(daemon);
    const gone = await connected({ ...target, certificate: pki.client });
    const kept = await connected({ ...target, certificate: pki.otherClient });
    writeFileSync(crl, await listOf(pki.client));
    await replaced(daemon);
    await isCut(gone);
    await kept.echo();
    await daemon.recorded(1);
    expect(revoked(daemon)).toEqual(["certificate_revoked: the client's certificate: CERT_REVOKED"]);
    kept.close();
  });

  test("a bundle that lost an authority ends exactly the clients of that one", async () => {
    const ca = join(mkdtempSync(join(root, "ca-")), "ca.pem");
    writeFileSync(ca, pki.authority.certificatePem + pki.otherAuthority.certificatePem);
    await using endpoint = await startEndpoint();
    await using daemon = await startDaemon(config({ endpoint: endpoint.address, ca }));
    const target = await targetOf(daemon);
    const gone = await connected({ ...target, certificate: pki.wrongAuthority });
    const kept = await connected({ ...target, certificate: pki.client });
    writeFileSync(ca, pki.authority.certificatePem);
    await replaced(daemon);
    await isCut(gone);
    await kept.echo();
    await daemon.recorded(1);
    expect(revoked(daemon)).toEqual(["certificate_revoked: the client's certificate: no authority vouches for it"]);
    kept.close();
  });

  test.each(["close", "keep"] as const)("on_expiry: %s, when one expires", async (onExpiry) => {
    await using endpoint = await startEndpoint();
    await using daemon = await startDaemon(config({ endpoint: endpoint.address, tls: `on_expiry: ${onExpiry}` }));
    // X.509 tells whole seconds.
    const endsMs = Math.ceil(Date.now() / 1000 + 2) * 1000;
    const start = { notBefore: new Date(endsMs - 60_000), lifetimeMs: 60_000 };
    const names = { usage: "client", uri: "spiffe://bunnel.test/brief" } as const;
    const certificate = await issueCertificate(pki.authority, { ...names, ...start });
    const target = await targetOf(daemon);
    const brief = await connected({ ...target, certificate });
    const kept = await connected({ ...target, certificate: pki.client });
    await eventually("it has expired", () => Date.now() > endsMs + 1000);
    if (onExpiry === "keep") await brief.echo();
    else {
      await isCut(brief);
      await daemon.recorded(1);
      expect(revoked(daemon)).toEqual(["certificate_expired: "]);
    }
    await kept.echo();
    for (const client of [brief, kept]) client.close();
  });
});

describe("an endpoint", () => {
  interface Change {
    readonly what: string;
    readonly detail: RegExp;
    /** The fields of the backend's `tls` before and after; `file` is one that both may name. */
    fields(file: string): Promise<{ before: string; after: string; rewrite?: string }>;
  }
  const NAME = "server_name: localhost";

  const CHANGES: readonly Change[] = [
    {
      what: "whose authority was taken away",
      detail: /no authority vouches for it/,
      async fields(file) {
        writeFileSync(file, pki.authority.certificatePem + pki.otherAuthority.certificatePem);
        const fields = `ca: [${file}], ${NAME}`;
        return { before: fields, after: fields, rewrite: pki.otherAuthority.certificatePem };
      },
    },
    {
      what: "that was revoked",
      detail: /CERT_REVOKED/,
      async fields(file) {
        writeFileSync(file, await listOf());
        const fields = `ca: [${pki.authority.certificatePath}], crl: [${file}], ${NAME}`;
        return { before: fields, after: fields, rewrite: await listOf(pki.server) };
      },
    },
    {
      what: "that has to be another one now",
      detail: /no DNS name matches verify\.dns/,
      async fields() {
        const fields = `ca: [${pki.authority.certificatePath}], ${NAME}`;
        return { before: fields, after: `${fields}, verify: { dns: ["*.db.test"] }` };
      },
    },
  ];

  test.each(CHANGES.map((change) => [change.what, change] as const))(
    "%s loses its connections, another keeps its own",
    async (_, change) => {
      const file = join(mkdtempSync(join(root, "endpoint-")), "file");
      const { before, after, rewrite } = await change.fields(file);
      await using secure = await startSecureEcho(pki.server, pki.authority.certificatePem);
      await using other = await startSecureEcho(pki.databaseServer, pki.authority.certificatePem);
      const both = (fields: string): string => `
listeners:
  - { name: first, address: 127.0.0.1:0, backend: first }
  - { name: second, address: 127.0.0.1:0, backend: second }
backends:
  first:
    endpoints: ["${secure.address}"]
    tls: { cert: ${pki.client.certificatePath}, key: ${pki.client.keyPath}, ${fields} }
  second:
    endpoints: ["${other.address}"]
    tls: { cert: ${pki.client.certificatePath}, key: ${pki.client.keyPath}, ca: [${pki.authority.certificatePath}], server_name: db.test }
`;
      await using daemon = await startDaemon(both(before));
      const gone = await connected({ to: await daemon.address("first") });
      const kept = await connected({ to: await daemon.address("second") });
      if (rewrite === undefined) await reload(daemon, both(after));
      else {
        writeFileSync(file, rewrite);
        await replaced(daemon);
      }
      await isCut(gone);
      await kept.echo();
      await daemon.recorded(1);
      const [reason] = revoked(daemon);
      expect(reason).toStartWith("certificate_revoked: the endpoint's certificate: ");
      expect(reason).toMatch(change.detail);
      kept.close();
    },
  );
});

describe("a session that could be resumed", () => {
  /** Serves a first connection, and gives the session that the client was handed. */
  async function sessionOf(target: LiveClientOptions): Promise<Buffer> {
    const client = await connected(target);
    const session = await eventually("a session was handed out", () => client.session);
    client.close();
    return session;
  }

  async function comesToNothing(target: LiveClientOptions): Promise<void> {
    const client = new LiveClient(target);
    client.socket.write("must not pass");
    await eventually("it was refused", () => !client.isOpen);
    expect(client.received).toBe("");
  }

  const TICKETS = "session_tickets: true";

  test("is resumed while nothing changes, and does not outlive the policy", async () => {
    await using endpoint = await startEndpoint();
    const setting = { endpoint: endpoint.address, tls: TICKETS };
    await using daemon = await startDaemon(config(setting));
    const target = { ...(await targetOf(daemon)), certificate: pki.client };
    const session = await sessionOf(target);
    const again = await connected({ ...target, session });
    expect(again.resumed).toBe(true);
    again.close();
    await reload(daemon, config({ ...setting, rules: ONLY_OTHER }));
    await comesToNothing({ ...target, session });
    const last = await daemon.record(({ close_reason }) => close_reason === "policy_denied");
    expect(last.policy_rule).toBe("default");
  });

  test("does not outlive the bundle or the revocation list", async () => {
    const directory = mkdtempSync(join(root, "tickets-"));
    const [ca, crl] = [join(directory, "ca.pem"), join(directory, "ca.crl")];
    writeFileSync(ca, pki.authority.certificatePem);
    writeFileSync(crl, await listOf());
    await using endpoint = await startEndpoint();
    await using daemon = await startDaemon(
      config({ endpoint: endpoint.address, ca, tls: `${TICKETS}\n      client_crl: [${crl}]` }),
    );
    const target = await targetOf(daemon);
    const withSession = async (certificate: KeyPair): Promise<LiveClientOptions> => {
      const own = { ...target, certificate };
      return { ...own, session: await sessionOf(own) };
    };
    const [first, second] = [await withSession(pki.client), await withSession(pki.otherClient)];
    writeFileSync(crl, await listOf(pki.client));
    await replaced(daemon);
    await comesToNothing(first);
    const allowed = await connected(second);
    allowed.close();
    writeFileSync(ca, pki.otherAuthority.certificatePem);
    await replaced(daemon, 2);
    await comesToNothing(second);
  });

  test("does not outlive the certificate", async () => {
    await using endpoint = await startEndpoint();
    await using daemon = await startDaemon(config({ endpoint: endpoint.address, tls: TICKETS }));
    const endsMs = Math.ceil(Date.now() / 1000 + 2) * 1000;
    const start = { notBefore: new Date(endsMs - 60_000), lifetimeMs: 60_000 };
    const names = { usage: "client", uri: "spiffe://bunnel.test/brief" } as const;
    const certificate = await issueCertificate(pki.authority, { ...names, ...start });
    const target = { ...(await targetOf(daemon)), certificate };
    const session = await sessionOf(target);
    await eventually("it has expired", () => Date.now() > endsMs + 1000);
    await comesToNothing({ ...target, session });
    const last = await daemon.record(({ close_reason }) => close_reason === "certificate_rejected");
    expect(last.detail).toContain("CERT_HAS_EXPIRED");
  });
});

describe("1,000 live connections, half of them refused from now on", () => {
  const COUNT = 1000;
  const AT_ONCE = 32;

  /** Opens as many, every other one with the second certificate. */
  async function crowd(target: LiveClientOptions, [even, odd]: readonly [KeyPair, KeyPair]): Promise<LiveClient[]> {
    const clients: LiveClient[] = [];
    let next = 0;
    const opener = async (): Promise<void> => {
      while (next < COUNT) {
        const index = next++;
        clients[index] = await connected({ ...target, certificate: index % 2 === 0 ? even : odd });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, opener));
    return clients;
  }

  /** Those with the first certificate are gone within a second of the log line, the others are served on. */
  async function halfIsGone(daemon: Daemon, clients: readonly LiveClient[], message: string): Promise<void> {
    const refused = clients.filter((_, index) => index % 2 === 0);
    const kept = clients.filter((_, index) => index % 2 === 1);
    await eventually("half of them were ended", () => refused.every(({ isOpen }) => !isOpen));
    const lines = (await daemon.recorded(COUNT / 2)).filter(({ close_reason }) => REVOKED.includes(close_reason));
    expect(lines).toHaveLength(COUNT / 2);
    const toldAt = told(daemon, message)[0] ?? 0;
    const ends = lines.map((line) => endOf(line));
    expect(Math.max(...ends) - toldAt).toBeLessThan(1000);
    await Promise.all(kept.map((client) => client.echo()));
    for (const client of kept) client.close();
  }

  /** When a connection ended, in ms since 1970. */
  function endOf(line: AccessLine): number {
    return Number((line as unknown as { readonly time: number }).time) + line.duration_ms;
  }

  test("by a policy", async () => {
    await using endpoint = await startEndpoint();
    const setting = { endpoint: endpoint.address };
    await using daemon = await startDaemon(config(setting));
    const clients = await crowd(await targetOf(daemon), [pki.client, pki.otherClient]);
    await reload(daemon, config({ ...setting, rules: ONLY_OTHER }));
    await halfIsGone(daemon, clients, RELOADED);
  }, 30_000);

  test("by a bundle", async () => {
    const ca = join(mkdtempSync(join(root, "crowd-")), "ca.pem");
    writeFileSync(ca, pki.authority.certificatePem + pki.otherAuthority.certificatePem);
    await using endpoint = await startEndpoint();
    await using daemon = await startDaemon(config({ endpoint: endpoint.address, ca }));
    const clients = await crowd(await targetOf(daemon), [pki.wrongAuthority, pki.client]);
    writeFileSync(ca, pki.authority.certificatePem);
    await replaced(daemon);
    await halfIsGone(daemon, clients, REPLACED);
  }, 30_000);
});
