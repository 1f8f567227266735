// A SPIFFE folder, in which an agent keeps a workload's key, SVID and trust bundles, is a source of certificates for listeners and backends: what is
// put in it is served within two seconds without a signal, and what is wrong in it is named: at the start nothing is opened, later the old set stays.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createAuthority, issueCertificate, type KeyPair } from "../../src/tls-tools/tls-tools.ts";
import { run } from "../support/child.ts";
import { bunnel, type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connected, fingerprintOf, LiveClient, type SecureEcho, startSecureEcho } from "../support/live-clients.ts";
import { type Endpoint, startEndpoint } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const DAY_MS = 86_400_000;
/** How soon a swapped folder is to be served. */
const SOON_MS = 2000;

/** Names and texts of the files in a folder. */
type Content = Readonly<Record<string, string>>;

let root: string;
/** Two generations of the authority of one trust domain, and that of another. */
let first: KeyPair;
let second: KeyPair;
let partner: KeyPair;

beforeAll(async () => {
  root = temporaryDirectory("bunnel-spiffe-");
  const lifetimeMs = 30 * DAY_MS;
  first = await createAuthority({ commonName: "SPIRE", lifetimeMs });
  second = await createAuthority({ commonName: "SPIRE", lifetimeMs });
  partner = await createAuthority({ commonName: "SPIRE", lifetimeMs });
});

/** For localhost too, for the clients here look at host names. */
function svid(authority: KeyPair, uri: string): Promise<KeyPair> {
  return issueCertificate(authority, { uri, dns: ["localhost"], usage: "both", lifetimeMs: DAY_MS });
}

/** A sound folder: an SVID through an intermediate of this root, whose trust domain has these roots, and the partner's bundle. */
async function soundSet(authority: KeyPair, roots: readonly KeyPair[]): Promise<{ content: Content; leaf: KeyPair }> {
  const commonName = "SPIRE intermediate";
  const intermediate = await createAuthority({ commonName, lifetimeMs: 7 * DAY_MS, issuer: authority });
  const leaf = await svid(intermediate, "spiffe://here.test/node");
  return {
    leaf,
    content: {
      "svid.private-key.pem": leaf.keyPem + leaf.certificatePem + intermediate.certificatePem,
      "here.test.spiffe-trust-bundle.pem": roots.map(({ certificatePem }) => certificatePem).join(""),
      "partner.test.spiffe-trust-bundle.pem": partner.certificatePem,
      "README.md": "not for SPIFFE",
    },
  };
}

/** A folder as Kubernetes mounts it: each file is a link through `..data`, which is a link to a directory and is swapped as a whole. */
class Folder {
  readonly path = mkdtempSync(join(root, "folder-"));

  constructor(content: Content) {
    this.swap(content);
  }

  swap(content: Content): void {
    const version = mkdtempSync(join(this.path, "..version-"));
    for (const [name, text] of Object.entries(content)) writeFileSync(join(version, name), text);
    symlinkSync(version, join(this.path, "..data_tmp"));
    renameSync(join(this.path, "..data_tmp"), join(this.path, "..data"));
    const visible = readdirSync(this.path).filter((name) => !name.startsWith(".."));
    for (const name of Object.keys(content)) {
      if (!visible.includes(name)) symlinkSync(join("..data", name), join(this.path, name));
    }
    for (const name of visible) if (content[name] === undefined) rmSync(join(this.path, name));
  }
}

/** What can be wrong with a folder: made from a sound set, and what is then said. */
interface Fault {
  readonly title: string;
  readonly spoil: (sound: Content) => Content | Promise<Content>;
  /** After the folder's path, or the name of the file in it. */
  readonly problem: string;
  /** Of a file that is read once for both, and told at the first place that names it. */
  readonly toldOnce?: boolean;
}

const CREDENTIAL = "svid.private-key.pem";
const BUNDLE = ".spiffe-trust-bundle.pem";

const FAULTS: readonly Fault[] = [
  {
    title: "two private keys",
    spoil: (sound) => ({ ...sound, "other.private-key.pem": sound[CREDENTIAL] ?? "" }),
    problem: ": expected one file *.private-key.pem, found other.private-key.pem, svid.private-key.pem",
  },
  {
    title: "no private key",
    spoil: ({ [CREDENTIAL]: _, ...rest }) => rest,
    problem: ": expected one file *.private-key.pem, found none",
  },
  {
    title: "no trust bundle",
    spoil: (sound) => ({ [CREDENTIAL]: sound[CREDENTIAL] ?? "" }),
    problem: ": expected a file TRUST-DOMAIN.spiffe-trust-bundle.pem, found none",
  },
  {
    title: "a leaf that is no SVID",
    async spoil(sound) {
      const leaf = await issueCertificate(first, { dns: ["localhost"], usage: "both", lifetimeMs: DAY_MS });
      return { ...sound, [CREDENTIAL]: leaf.keyPem + leaf.certificatePem };
    },
    problem: `/${CREDENTIAL}: the first certificate is no X.509-SVID: it has no URI name`,
  },
  {
    title: "a key that is not the leaf's",
    async spoil(sound) {
      const other = await svid(first, "spiffe://here.test/other");
      const text = sound[CREDENTIAL] ?? "";
      return { ...sound, [CREDENTIAL]: other.keyPem + text.slice(text.indexOf("-----BEGIN CERTIFICATE")) };
    },
    problem: ": the private key is not the certificate's",
  },
  {
    title: "a key without certificates",
    spoil: (sound) => ({ ...sound, [CREDENTIAL]: sound[CREDENTIAL]?.split("-----BEGIN CERTIFICATE")[0] ?? "" }),
    problem: `/${CREDENTIAL}: expected a PEM block "CERTIFICATE", found PRIVATE KEY`,
  },
  {
    title: "a file that was cut off",
    spoil: (sound) => ({ ...sound, [CREDENTIAL]: sound[CREDENTIAL]?.slice(0, -100) ?? "" }),
    problem: `/${CREDENTIAL}: ends in the middle of a PEM block`,
    toldOnce: true,
  },
  {
    title: "an empty bundle",
    spoil: (sound) => ({ ...sound, [`here.test${BUNDLE}`]: "" }),
    problem: `/here.test${BUNDLE}: expected a PEM block "CERTIFICATE", found no PEM block`,
  },
  {
    title: "one root in two bundles",
    spoil: (sound) => ({ ...sound, [`partner.test${BUNDLE}`]: first.certificatePem }),
    problem: 'an authority here (CN=SPIRE) is also one of "here.test", and could vouch for its names',
  },
  {
    title: "a bundle of a name that is no trust domain",
    spoil: (sound) => ({ ...sound, [`Other.test${BUNDLE}`]: second.certificatePem }),
    problem: "a trust domain has only a-z, 0-9, dots, hyphens and underscores",
  },
];

function config(folder: string, { plain, secure }: { readonly plain: string; readonly secure: string }): string {
  return `
listeners:
  - name: in
    address: 127.0.0.1:0
    tls: { spiffe_folder: ${folder} }
    routes: [{ name: all, tls: terminate, policy: any, backend: plain }]
  - { name: out, address: 127.0.0.1:0, backend: secure }
backends:
  plain: { endpoints: ["${plain}"] }
  secure:
    endpoints: ["${secure}"]
    tls: { spiffe_folder: ${folder}, verify: { uri: ["spiffe://partner.test/endpoint"] } }
`;
}

describe("a folder that changes under a running daemon", () => {
  let plain: Endpoint;
  let secure: SecureEcho;
  let daemon: Daemon;
  let folder: Folder;
  /** The set that is to be served now. */
  let now: { content: Content; leaf: KeyPair };
  const clients: LiveClient[] = [];

  beforeAll(async () => {
    plain = await startEndpoint();
    const authorities = first.certificatePem + second.certificatePem;
    secure = await startSecureEcho(await svid(partner, "spiffe://partner.test/endpoint"), authorities);
    now = await soundSet(first, [first]);
    folder = new Folder(now.content);
    daemon = await startDaemon(config(folder.path, { plain: plain.address, secure: secure.address }));
  });

  afterAll(async () => {
    for (const client of clients) client.close();
    await daemon?.[Symbol.asyncDispose]();
    await secure?.[Symbol.asyncDispose]();
    await plain?.[Symbol.asyncDispose]();
  });

  function lines(message: string): readonly Record<string, unknown>[] {
    return daemon.log.filter(({ msg }) => String(msg).startsWith(message));
  }

  async function options(authority: KeyPair, uri: string) {
    return {
      to: await daemon.address("in"),
      ca: first.certificatePem + second.certificatePem,
      certificate: await svid(authority, uri),
    };
  }

  /** Kept open, for what happens to it later. */
  async function admitted(authority: KeyPair, uri: string): Promise<LiveClient> {
    const client = await connected(await options(authority, uri));
    clients.push(client);
    return client;
  }

  async function refused(authority: KeyPair, uri: string): Promise<string> {
    const before = daemon.records.length;
    const client = new LiveClient(await options(authority, uri));
    clients.push(client);
    await eventually("it was refused", () => !client.isOpen);
    const record = (await daemon.recorded(before + 1)).slice(before).find(({ listener }) => listener === "in");
    return `${record?.close_reason}: ${record?.detail}`;
  }

  /** That both sides show the leaf of `now`. */
  async function shown(): Promise<void> {
    const client = await admitted(partner, "spiffe://partner.test/client");
    expect(client.peer).toBe(fingerprintOf(now.leaf));
    const outgoing = await connected({ to: await daemon.address("out") });
    clients.push(outgoing);
    expect(secure.clients.at(-1)).toBe(fingerprintOf(now.leaf));
  }

  test("serves its SVID with the chain, shows it to endpoints, and its bundles vouch for their own domains only", async () => {
    await shown();
    await admitted(first, "spiffe://here.test/client");
    expect(await refused(partner, "spiffe://here.test/client")).toBe(
      "certificate_rejected: no authority of the trust domain here.test vouches for it (permitted subtree violation)",
    );
    // Of an authority that is not in the bundle yet.
    expect(await refused(second, "spiffe://here.test/client")).toStartWith("certificate_rejected: ");
  });

  test("swapped, it is served within two seconds without a signal, and no connection is cut", async () => {
    const open = clients.filter(({ isOpen }) => isOpen);
    expect(open.length).toBeGreaterThanOrEqual(3);
    now = await soundSet(second, [first, second]);
    const swappedMs = performance.now();
    folder.swap(now.content);
    await eventually(
      () => `the new set was served: ${daemon.child.story}`,
      () => lines("certificates replaced").length === 1,
      SOON_MS,
    );
    await shown();
    expect(performance.now() - swappedMs).toBeLessThan(SOON_MS);
    await admitted(second, "spiffe://here.test/client");
    for (const client of open) await client.echo();
  });

  test.each(FAULTS)("with $title it is refused in the log, and the old set is served", async ({ spoil, problem }) => {
    const refusals = lines("new certificates refused").length;
    const replacements = lines("certificates replaced").length;
    const open = clients.filter(({ isOpen }) => isOpen);
    folder.swap(await spoil((await soundSet(first, [first, second])).content));
    const line = await eventually(
      () => `the log said so: ${daemon.child.story}`,
      () => lines("new certificates refused")[refusals],
    );
    expect(line.problem).toContain(problem);
    expect(line.problem).toContain("listeners[0].tls.spiffe_folder: ");
    expect(lines("certificates replaced")).toHaveLength(replacements);
    await shown();
    for (const client of open) await client.echo();
  });

  test("mended, it is served", async () => {
    const replacements = lines("certificates replaced").length;
    now = await soundSet(first, [first, second]);
    folder.swap(now.content);
    await eventually("it was served", () => lines("certificates replaced").length > replacements);
    await shown();
  });

  test("gone, the old set is served, and it is followed when it is back", async () => {
    const refusals = lines("new certificates refused").length;
    const away = `${folder.path}-away`;
    renameSync(folder.path, away);
    const line = await eventually("the log said so", () => lines("new certificates refused")[refusals]);
    expect(line.problem).toContain(`cannot list ${folder.path}: no such file or directory`);
    await shown();
    const replacements = lines("certificates replaced").length;
    mkdirSync(folder.path);
    now = await soundSet(first, [first, second]);
    folder.swap(now.content);
    await eventually("it was served again", () => lines("certificates replaced").length > replacements);
    await shown();
    rmSync(away, { recursive: true });
  });

  test("a root that is taken out ends the connections that rest on it, and no others", async () => {
    const resting = await admitted(second, "spiffe://here.test/client");
    const other = await admitted(partner, "spiffe://partner.test/client");
    now = await soundSet(first, [first]);
    folder.swap(now.content);
    await eventually("it was ended", () => !resting.isOpen);
    const record = await daemon.record(({ close_reason }) => close_reason === "certificate_revoked");
    expect(record.identity?.uri).toEqual(["spiffe://here.test/client"]);
    await other.echo();
    expect(await refused(second, "spiffe://here.test/client")).toStartWith("certificate_rejected: ");
  });
});

describe("at the start", () => {
  async function problems(folder: string): Promise<readonly string[]> {
    const path = join(mkdtempSync(join(root, "config-")), "bunnel.yaml");
    writeFileSync(path, config(folder, { plain: "127.0.0.1:9", secure: "127.0.0.1:9" }));
    const outcome = await run(bunnel("check", "-c", path));
    expect(outcome).toMatchObject({ exitCode: 78, stdout: "" });
    expect(await run(bunnel("run", "-c", path))).toEqual(outcome);
    return outcome.stderr.trimEnd().split("\n");
  }

  test.each(FAULTS)("$title is a problem at the listener and at the backend", async ({ spoil, problem, toldOnce }) => {
    const folder = new Folder(await spoil((await soundSet(first, [first, second])).content));
    const said = await problems(folder.path);
    const places = [
      /:5:\d+: listeners\[0\]\.tls\.spiffe_folder: /,
      /:12:\d+: backends\.secure\.tls(\.spiffe_folder)?: /,
    ];
    for (const place of toldOnce === true ? places.slice(0, 1) : places)
      expect(said.filter((line) => place.test(line)).join("\n")).toContain(problem);
  });

  test("so is a folder that is not there", async () => {
    const folder = join(root, "nowhere");
    const said = await problems(folder);
    expect(said).toHaveLength(2);
    for (const line of said) expect(line).toEndWith(`cannot list ${folder}: no such file or directory`);
  });
});
