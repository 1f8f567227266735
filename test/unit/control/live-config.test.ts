// How a served config follows its files: when they are read, what is published, what is said when they are wrong. On files and names in memory, and
// with looks that the test takes; certificates and their judgement are real.

import { afterEach, beforeAll, beforeEach, describe, expect, setSystemTime, spyOn, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { messageOf, ProxyError } from "../../../src/base/errors.ts";
import { loadConfig } from "../../../src/config/load.ts";
import { formatProblem } from "../../../src/config/problems.ts";
import { LiveConfig, LOOK_MS, RETRY_LOOKS } from "../../../src/control/live-config.ts";
import { runtime as platform } from "../../../src/runtime/bun/bun-runtime.ts";
import type { Files } from "../../../src/runtime/files.ts";
import type { Runtime } from "../../../src/runtime/runtime.ts";
import type { Snapshot } from "../../../src/snapshot/snapshot.ts";
import type { Log } from "../../../src/telemetry/log.ts";
import {
  createAuthority,
  createRevocationList,
  issueCertificate,
  type KeyPair,
} from "../../../src/tls-tools/tls-tools.ts";
import { type TestPki, testPki } from "../../support/certificates.ts";
import { MemoryFiles } from "./live-config-fixture.ts";

const CONFIG = `listeners:
  - name: in
    address: 127.0.0.1:1
    tls: { certificates: [{ cert: edge.pem, key: edge.key }], client_ca: [ca.pem] }
    routes: [{ name: r, tls: terminate, policy: any, backend: b }]
backends: { b: { allow_plaintext: true, endpoints: ["app.internal:80"] } }
`;
const REFUSED = "new certificates refused: the old ones are still served";
const RELOAD_REFUSED = "reload refused: the old config is still served";

let pki: TestPki;
let renewed: KeyPair;
let look: () => void;
let live: LiveConfig | null;
let files: MemoryFiles;
let names: Map<string, string | Promise<string>>;
let published: Snapshot[];
let lines: { level: string; message: string; problem: string }[];
let text: string;
let publishFails: Error | null;

beforeAll(async () => {
  pki = await testPki();
  renewed = await issueCertificate(pki.authority, { usage: "server", lifetimeMs: 86_400_000, dns: ["localhost"] });
});

beforeEach(() => {
  files = new MemoryFiles();
  install(pki.server);
  files.write("ca.pem", pki.authority.certificatePem);
  names = new Map([["app.internal", "192.0.2.1"]]);
  published = [];
  lines = [];
  text = CONFIG;
  publishFails = null;
  live = null;
});

afterEach(() => live?.stop());

function install({ certificatePem, keyPem }: KeyPair): void {
  files.write("edge.pem", certificatePem);
  files.write("edge.key", keyPem);
}

function load() {
  return loadConfig(text, { file: "f.yaml", environment: {} });
}

/** Compiles for the first time and starts looking, at the test's word only. */
async function start({ canReload = true } = {}): Promise<LiveConfig> {
  const loaded = load();
  if (!loaded.ok) throw new Error("the config is good");
  const runtime: Runtime = {
    ...platform,
    files: files as unknown as Files,
    resolve: async (name) => {
      const address = await names.get(name);
      if (address === undefined) throw new ProxyError("ENOTFOUND", `${name}: ENOTFOUND`);
      return address;
    },
  };
  const say =
    (level: string) =>
    (fields: object | string, message?: string): void => {
      const { problem = "", err = "" } = typeof fields === "string" ? {} : (fields as Record<string, string>);
      lines.push({ level, message: message ?? String(fields), problem: problem || err });
    };
  const log = { debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error"), fatal: say("fatal") };
  live = new LiveConfig(loaded, {
    runtime,
    // pino's own type has many forms; two of them are used.
    log: log as unknown as Log,
    load: canReload ? load : null,
    async publish(snapshot) {
      if (publishFails !== null) throw publishFails;
      published.push(snapshot);
    },
  });
  const first = await live.compileFirst();
  if (!first.ok) throw new Error("the files are good");
  const timer = spyOn(globalThis, "setInterval").mockImplementation(((callback: () => void, periodMs: number) => {
    expect(periodMs).toBe(LOOK_MS);
    look = callback;
    return 0;
  }) as unknown as typeof setInterval);
  live.start();
  timer.mockRestore();
  return live;
}

/** So many looks, each with time for all that it set going. */
async function looks(count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    look();
    await settled();
  }
}

/** Everything that can go on without the test has gone on. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

function servedChain(): string | undefined {
  return published.at(-1)?.listeners[0]?.routes[0]?.termination?.certificates[0]?.chainPem;
}

function servedAuthorities(): readonly string[] | undefined {
  return published.at(-1)?.listeners[0]?.routes[0]?.termination?.clientCaPem;
}

function said(): string[] {
  return lines.map(({ level, message }) => `${level}: ${message}`);
}

describe("files", () => {
  test("that stay as they are: nothing is published or said", async () => {
    await start();
    await looks(5);
    expect([published, said()]).toEqual([[], []]);
  });

  test("that changed are served once they stood still from one look to the next, once", async () => {
    await start();
    install(renewed);
    await looks(1);
    expect(published).toEqual([]);
    await looks(1);
    expect(servedChain()).toBe(renewed.certificatePem);
    await looks(4);
    expect(said()).toEqual(["info: certificates replaced"]);
    expect(published.map(({ generation }) => generation)).toEqual([2]);
  });

  test("are told with who uses them and when they end, as they are served", async () => {
    const followed = await start();
    const shown = (): unknown => followed.certificates.filter(({ role }) => role === "certificate");
    const endOf = ({ certificatePem }: KeyPair): number => Date.parse(new X509Certificate(certificatePem).validTo);
    const edge = { usedBy: "listener in", file: "edge.pem", notAfterMs: endOf(pki.server) };
    expect(shown()).toMatchObject([{ ...edge, names: expect.arrayContaining(["localhost"]) }]);
    expect(followed.certificates.map(({ role, file }) => [role, file])).toContainEqual(["authority", "ca.pem"]);
    files.write("edge.key", renewed.keyPem);
    await looks(3);
    expect(shown()).toMatchObject([edge]);
    install(renewed);
    await looks(3);
    expect(shown()).toMatchObject([{ ...edge, notAfterMs: endOf(renewed) }]);
  });

  test("key and certificate written one after the other are never served or refused half", async () => {
    await start();
    files.write("edge.key", renewed.keyPem);
    await looks(1);
    files.write("edge.pem", renewed.certificatePem);
    await looks(1);
    expect(said()).toEqual([]);
    await looks(1);
    expect(servedChain()).toBe(renewed.certificatePem);
    expect(said()).toEqual(["info: certificates replaced"]);
  });

  test("with more than a look between key and certificate: refused once, with file and reason, and served when the set is whole", async () => {
    await start();
    files.write("edge.key", renewed.keyPem);
    await looks(6);
    expect(published).toEqual([]);
    expect(said()).toEqual([`error: ${REFUSED}`]);
    expect(lines[0]?.problem).toContain("edge.pem with edge.key: the private key is not the certificate's");
    files.write("edge.pem", renewed.certificatePem);
    await looks(2);
    expect(servedChain()).toBe(renewed.certificatePem);
  });

  const broken: Readonly<Record<string, readonly [wrong: () => void, reason: RegExp]>> = {
    "cut off": [
      () => files.write("edge.pem", renewed.certificatePem.slice(0, 300)),
      /edge\.pem: ends in the middle of a PEM block/,
    ],
    empty: [() => files.write("edge.pem", ""), /edge\.pem: expected a PEM block "CERTIFICATE"/],
    gone: [() => files.remove("edge.pem"), /cannot read edge\.pem: no such file or directory/],
    "an expired certificate": [() => install(pki.expired), /edge\.pem: .*: expired on /],
    "a certificate of tomorrow": [() => install(pki.notYetValid), /edge\.pem: .*: is not valid before /],
    "a bundle that is cut off": [
      () => files.write("ca.pem", pki.authority.certificatePem.slice(0, -40)),
      /ca\.pem: ends in the middle/,
    ],
  };
  for (const [what, [wrong, reason]] of Object.entries(broken)) {
    test(`${what}: the old ones stay, it is said once, and mended it is served`, async () => {
      await start();
      wrong();
      await looks(6);
      expect(published).toEqual([]);
      expect(said()).toEqual([`error: ${REFUSED}`]);
      expect(lines[0]?.problem).toMatch(reason);
      install(renewed);
      files.write("ca.pem", pki.authority.certificatePem);
      await looks(2);
      expect(servedChain()).toBe(renewed.certificatePem);
      expect(said().at(-1)).toBe("info: certificates replaced");
    });
  }

  test("put back as they were before anybody read them: nothing happens", async () => {
    await start();
    const stamp = spyOn(files, "stamp").mockReturnValue("other");
    await looks(1);
    stamp.mockRestore();
    await looks(3);
    expect([published, said()]).toEqual([[], []]);
  });

  test("written while they are being read are read again", async () => {
    await start();
    install(renewed);
    files.onRead = (path) => {
      if (path !== "ca.pem") return;
      files.onRead = () => {};
      files.write("ca.pem", pki.authority.certificatePem + pki.otherAuthority.certificatePem);
    };
    await looks(2);
    expect(servedAuthorities()).toHaveLength(1);
    await looks(2);
    expect(servedAuthorities()).toHaveLength(2);
  });

  test("are replaced while no name can be resolved: endpoints keep their addresses", async () => {
    await start();
    names.clear();
    install(renewed);
    await looks(2);
    expect(servedChain()).toBe(renewed.certificatePem);
    expect(published[0]?.backends[0]?.endpoints[0]?.address).toMatchObject({ host: "192.0.2.1" });
  });

  test("that the data plane cannot take: the old ones stay, said once", async () => {
    await start();
    publishFails = new ProxyError("BAD_TLS_MATERIAL", "no");
    install(renewed);
    await looks(5);
    expect(lines).toEqual([{ level: "error", message: REFUSED, problem: "no" }]);
  });

  test("a defect in publishing is told, and does not stop what comes after", async () => {
    await start();
    publishFails = new TypeError("x is not a function");
    install(renewed);
    await looks(3);
    const problem = `a defect in bunnel; please report it: ${messageOf(publishFails)}`;
    expect(lines).toEqual([{ level: "error", message: REFUSED, problem }]);
    publishFails = null;
    install(pki.databaseServer);
    await looks(2);
    expect(servedChain()).toBe(pki.databaseServer.certificatePem);
  });
});

describe("a reload", () => {
  const SHORT = CONFIG.replace("name: r,", "name: other,");

  test("takes over config, files and names, whatever the looks saw", async () => {
    const running = await start();
    text = SHORT;
    names.set("app.internal", "192.0.2.2");
    install(renewed);
    await running.reload();
    expect(servedChain()).toBe(renewed.certificatePem);
    expect(published[0]).toMatchObject({ generation: 2, listeners: [{ routes: [{ name: "other" }] }] });
    expect(published[0]?.backends[0]?.endpoints[0]?.address).toMatchObject({ host: "192.0.2.2" });
    await looks(4);
    expect(said()).toEqual(["info: config reloaded"]);
  });

  test("of a bad config changes nothing, and names every problem with its place", async () => {
    const running = await start();
    text = CONFIG.replace("backend: b", "backend: c").replace("name: in", "nmae: in");
    await running.reload();
    expect(published).toEqual([]);
    expect(new Set(said())).toEqual(new Set([`error: ${RELOAD_REFUSED}`]));
    expect(lines.length).toBeGreaterThanOrEqual(2);
    for (const { problem } of lines) expect(problem).toMatch(/^f\.yaml:\d+:\d+: /);
  });

  test("that is refused hides no change of the files that are served", async () => {
    const running = await start();
    text = SHORT;
    names.clear();
    install(renewed);
    await running.reload();
    expect(said()).toEqual([`error: ${RELOAD_REFUSED}`]);
    expect(lines[0]?.problem).toContain('"app.internal" cannot be resolved');
    await looks(2);
    expect(servedChain()).toBe(renewed.certificatePem);
    expect(published[0]).toMatchObject({ listeners: [{ routes: [{ name: "r" }] }] });
  });

  test("that is refused, or cannot be published, does not make other files be watched", async () => {
    const running = await start();
    text = CONFIG.replace("edge.pem", "new.pem").replace("edge.key", "new.key");
    await running.reload();
    files.write("new.pem", renewed.certificatePem);
    await looks(3);
    expect(said()).toEqual([`error: ${RELOAD_REFUSED}`, `error: ${RELOAD_REFUSED}`]);
    install(renewed);
    await looks(2);
    expect(servedChain()).toBe(renewed.certificatePem);
  });

  test("that is refused leaves endpoints at the addresses that are served", async () => {
    const running = await start();
    publishFails = new ProxyError("EADDRINUSE", "cannot listen on 127.0.0.1:1");
    names.set("app.internal", "192.0.2.2");
    await running.reload();
    expect(lines).toMatchObject([{ message: RELOAD_REFUSED, problem: "cannot listen on 127.0.0.1:1" }]);
    publishFails = null;
    install(renewed);
    await looks(2);
    expect(published[0]?.backends[0]?.endpoints[0]?.address).toMatchObject({ host: "192.0.2.1" });
  });

  test("while one is under way waits for it; certificates do not, and what comes later reads the files as they are then", async () => {
    const running = await start();
    const slow = Promise.withResolvers<string>();
    names.set("app.internal", slow.promise);
    install(renewed);
    const first = running.reload();
    text = SHORT;
    const second = running.reload();
    await looks(6);
    expect(said()).toEqual(["info: certificates replaced"]);
    slow.resolve("192.0.2.3");
    await Promise.all([first, second]);
    await looks(3);
    expect(said().slice(1)).toEqual(["info: config reloaded", "info: config reloaded: nothing has changed"]);
    expect(published.map(({ generation }) => generation)).toEqual([2, 3]);
  });

  test("of the embedded default is a warning", async () => {
    const running = await start({ canReload: false });
    const problem = "the embedded default has no config file to reload";
    expect(await running.reload()).toEqual([problem]);
    expect(lines).toEqual([{ level: "warn", message: RELOAD_REFUSED, problem }]);
  });

  test("keeps the slots of endpoints that stay, and gives none of one that went to another", async () => {
    const running = await start();
    text = CONFIG.replace('["app.internal:80"]', '["127.0.0.1:81", "app.internal:80"]');
    await running.reload();
    text = CONFIG.replace('["app.internal:80"]', '["127.0.0.1:82", "127.0.0.1:81"]');
    await running.reload();
    const slots = published.map(({ backends }) => backends[0]?.endpoints.map(({ slot }) => slot));
    expect(slots).toEqual([
      [5, 1],
      [6, 5],
    ]);
    expect(published.at(-1)?.slotCount).toBe(7);
  });
});

describe("a set that was refused", () => {
  const TOO_EARLY = /edge\.pem: .*: is not valid before /;

  test("is read again every 30 s, and served when it has become sound, though no stamp changed", async () => {
    await start();
    install(pki.notYetValid);
    await looks(2);
    expect(said()).toEqual([`error: ${REFUSED}`]);
    expect(lines[0]?.problem).toMatch(TOO_EARLY);
    await looks(3 * RETRY_LOOKS);
    expect(said()).toEqual([`error: ${REFUSED}`]);
    setSystemTime(Date.now() + 2 * 86_400_000);
    try {
      await looks(RETRY_LOOKS - 1);
      expect(published).toEqual([]);
      await looks(1);
    } finally {
      setSystemTime();
    }
    expect(servedChain()).toBe(pki.notYetValid.certificatePem);
    expect(said().at(-1)).toBe("info: certificates replaced");
  });

  test("is told of again when the reasons change", async () => {
    await start();
    let reason = "EMFILE: too many open files";
    const read = spyOn(files, "readText").mockImplementation((path) => {
      throw new ProxyError("EMFILE", `${path}: ${reason}`);
    });
    install(renewed);
    await looks(2 + RETRY_LOOKS);
    const first = lines.length;
    expect(lines.every(({ problem }) => problem.includes("EMFILE"))).toBe(true);
    reason = "EIO: the disk is broken";
    await looks(RETRY_LOOKS);
    expect(lines.slice(first).map(({ problem }) => problem)).toEqual(
      lines.slice(0, first).map(({ problem }) => problem.replace("EMFILE: too many open files", reason)),
    );
    read.mockRestore();
    await looks(RETRY_LOOKS);
    expect(servedChain()).toBe(renewed.certificatePem);
  });

  test("and then put back says that all is well, and publishes nothing", async () => {
    await start();
    files.write("edge.pem", "");
    await looks(2);
    install(pki.server);
    await looks(2 + RETRY_LOOKS);
    expect(said()).toEqual([`error: ${REFUSED}`, "info: certificates are again those that are served"]);
    expect(published).toEqual([]);
  });
});

test("files copied again with the same bytes are neither published nor told of", async () => {
  await start();
  install(pki.server);
  files.write("ca.pem", pki.authority.certificatePem);
  await looks(4 + RETRY_LOOKS);
  expect([published, said()]).toEqual([[], []]);
});

describe("what is served and has expired since", () => {
  test("keeps nothing else from being replaced, even where it is copied again; another that has expired is refused", async () => {
    install(pki.expired);
    await start();
    files.write("ca.pem", pki.authority.certificatePem + pki.otherAuthority.certificatePem);
    files.write("edge.pem", pki.expired.certificatePem);
    await looks(2);
    expect(servedAuthorities()).toHaveLength(2);
    expect(said().at(-1)).toBe("info: certificates replaced");
    lines = [];
    files.write("edge.pem", pki.expired.certificatePem + pki.authority.certificatePem);
    await looks(2);
    expect(said()).toEqual([`error: ${REFUSED}`]);
    expect(lines[0]?.problem).toMatch(/edge\.pem: .*: expired on /);
  });

  test("does not keep a config from being reloaded", async () => {
    install(pki.expired);
    const running = await start();
    text = CONFIG.replace("name: r,", "name: other,");
    await running.reload();
    expect(said().at(-1)).toBe("info: config reloaded");
    expect(published).toHaveLength(1);
  });

  test("an authority that has expired is only ever a warning", async () => {
    await start();
    const past = { lifetimeMs: 1000, notBefore: new Date(Date.now() - 86_400_000) };
    const old = await createAuthority({ commonName: "old root", ...past });
    files.write("ca.pem", pki.authority.certificatePem + old.certificatePem);
    await looks(2);
    expect(servedAuthorities()).toHaveLength(2);
    expect(lines[0]).toMatchObject({
      level: "warn",
      message: expect.stringMatching(/ca\.pem: .*old root: expired on /),
    });
  });
});

describe("revocation lists", () => {
  const DAY_MS = 86_400_000;
  const WITH_LISTS = CONFIG.replace("client_ca: [ca.pem]", "client_ca: [ca.pem], client_crl: [ca.crl]");

  async function list(of: KeyPair, { fromDays = 0, toDays = 99 } = {}): Promise<string> {
    const [thisUpdate, nextUpdate] = [fromDays, toDays].map((days) => new Date(Date.now() + days * DAY_MS)) as [
      Date,
      Date,
    ];
    return createRevocationList(of, { revokedSerials: ["0a"], thisUpdate, nextUpdate });
  }

  beforeEach(async () => {
    text = WITH_LISTS;
    files.write("ca.crl", await list(pki.authority, { fromDays: -1 }));
  });

  const refused: Readonly<Record<string, readonly [() => Promise<string>, RegExp]>> = {
    "that has expired": [
      () => list(pki.authority, { fromDays: -2, toDays: -1 }),
      /ca\.crl: the revocation list of .*bunnel test root.*: expired on /,
    ],
    "of tomorrow": [
      () => list(pki.authority, { fromDays: 1, toDays: 2 }),
      /ca\.crl: the revocation list of .*bunnel test root.*: is not valid before /,
    ],
    "of another authority, in the place of the one that is served": [
      () => list(pki.otherAuthority),
      /bunnel test root.* has no revocation list here/,
    ],
  };
  for (const [what, [make, reason]] of Object.entries(refused)) {
    test(`one ${what} is refused, the old one stays; at a start it is a warning`, async () => {
      await start();
      files.write("ca.crl", await make());
      await looks(3);
      expect(published).toEqual([]);
      expect(lines.filter(({ level, problem }) => level === "error" && reason.test(problem))).toHaveLength(1);
      live?.stop();
      const first = await (await start()).compileFirst();
      expect(first.ok ? first.warnings.map(formatProblem).join("\n") : "").toMatch(reason);
    });
  }

  test("one that is older than the one that is served is a warning; the same again is none", async () => {
    await start();
    files.write("ca.crl", await list(pki.authority, { fromDays: -3, toDays: 99 }));
    await looks(2);
    expect(said()).toEqual([
      expect.stringMatching(/^warn: .*ca\.crl: the revocation list goes back in time: /),
      "info: certificates replaced",
    ]);
  });

  test("of intermediates that peers send may come and go; an authority that never had one is a warning", async () => {
    await start();
    files.write("ca.crl", (await list(pki.authority)) + pki.intermediateRevocationList.pem);
    files.write("ca.pem", pki.authority.certificatePem + pki.otherAuthority.certificatePem);
    await looks(2);
    expect(said()).toEqual([
      expect.stringMatching(/^warn: .*bunnel other root.* has no revocation list here/),
      expect.stringMatching(/^warn: .*ca\.crl: a revocation list is of none of the authorities here/),
      "info: certificates replaced",
    ]);
  });

  test("are told of before they end", async () => {
    files.write("ca.crl", await list(pki.authority, { fromDays: -20, toDays: 0.5 }));
    await start();
    expect(said()).toEqual(["warn: a revocation list expires soon"]);
  });
});

describe("a drain", () => {
  test("refuses reloads, those under way too, and follows certificates until it is stopped", async () => {
    const running = await start();
    const slow = Promise.withResolvers<string>();
    names.set("app.internal", slow.promise);
    const first = running.reload();
    await settled();
    running.drain();
    const second = running.reload();
    install(renewed);
    await looks(2);
    slow.resolve("192.0.2.3");
    await Promise.all([first, second]);
    expect(said()).toEqual(["info: certificates replaced", ...Array(2).fill(`warn: ${RELOAD_REFUSED}`)]);
    expect(servedChain()).toBe(renewed.certificatePem);
  });
});

describe("stop", () => {
  test("publishes nothing of what is under way, and does not wait for a name server", async () => {
    const running = await start();
    const slow = Promise.withResolvers<string>();
    names.set("app.internal", slow.promise);
    const first = running.reload();
    const second = running.reload();
    running.stop();
    slow.resolve("192.0.2.3");
    await Promise.all([first, second]);
    expect([published, said()]).toEqual([[], []]);
  });
});
