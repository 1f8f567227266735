// Certificates, keys and authorities are replaced under a running daemon, in each way in which operators do it, and clients do not notice: 2,000
// handshakes across 20 rotations, none failed, none with a certificate that was replaced before it began, and connections that were
// open from the start go on. What is not sound as a set is refused in one log line, the old one stays, and the mended one is served.

import { beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { issueCertificate, type KeyPair } from "../../src/tls-tools/tls-tools.ts";
import { quiet } from "../conformance/peers.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connected, fingerprintOf, LiveClient, shakeHands, startSecureEcho } from "../support/live-clients.ts";
import { type Endpoint, startEndpoint } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const ROTATIONS = 20;
const HANDSHAKES = 2000;
const AT_ONCE = 4;
const REPLACED = "certificates replaced";
const REFUSED = "new certificates refused: the old ones are still served";

let pki: TestPki;
let root: string;

beforeAll(async () => {
  pki = await testPki();
  root = temporaryDirectory("bunnel-rotation-");
});

function issue(): Promise<KeyPair> {
  const names = { dns: ["localhost"], uri: "spiffe://bunnel.test/host" };
  return issueCertificate(pki.authority, { usage: "both", lifetimeMs: 86_400_000, ...names });
}

/** A place for `edge.pem` and `edge.key`. */
function newPlace(): string {
  return mkdtempSync(join(root, "place-"));
}

function inPlace(directory: string, { certificatePem, keyPem }: KeyPair): void {
  writeFileSync(join(directory, "edge.key"), keyPem);
  writeFileSync(join(directory, "edge.pem"), certificatePem);
}

function renamedOver(directory: string, pair: KeyPair): void {
  const beside = mkdtempSync(join(directory, "new-"));
  inPlace(beside, pair);
  for (const name of ["edge.key", "edge.pem"]) renameSync(join(beside, name), join(directory, name));
}

/** As Kubernetes does: the files are links through `..data`, which is a link to a directory and is swapped as a whole. */
function swapped(directory: string, pair: KeyPair): void {
  const version = mkdtempSync(join(directory, "..version-"));
  inPlace(version, pair);
  const link = join(directory, "..data_tmp");
  symlinkSync(version, link);
  renameSync(link, join(directory, "..data"));
  for (const name of ["edge.key", "edge.pem"]) {
    rmSync(join(directory, name), { force: true });
    symlinkSync(join("..data", name), join(directory, name));
  }
}

const STYLES = { inPlace, renamedOver, swapped } as const;

/** Lines of the log with this message. */
function lines(daemon: Daemon, message: string): readonly Record<string, unknown>[] {
  return daemon.log.filter(({ msg }) => msg === message);
}

async function replaced(daemon: Daemon, times: number): Promise<void> {
  await eventually(
    () => `certificates were replaced ${times} times: ${daemon.child.story}`,
    () => lines(daemon, REPLACED).length >= times,
  );
}

function listener(name: string, directory: string, ca = pki.authority.certificatePath): string {
  return `
  - name: ${name}
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${directory}/edge.pem, key: ${directory}/edge.key }]
      client_ca: [${ca}]
    routes: [{ name: all, tls: terminate, policy: any, backend: echo }]`;
}

describe("20 rotations", () => {
  test("of listeners and of a backend's client certificate, in place, renamed over and swapped as Kubernetes does", async () => {
    const certificates = await Promise.all(Array.from({ length: ROTATIONS + 1 }, issue));
    const indexOf = new Map(certificates.map((pair, index) => [fingerprintOf(pair), index]));
    const places = { inPlace: newPlace(), renamedOver: newPlace(), swapped: newPlace() };
    const install = (index: number): void => {
      for (const [style, replace] of Object.entries(STYLES))
        replace(places[style as keyof typeof STYLES], certificates[index] as KeyPair);
    };
    install(0);
    await using endpoint = await startEndpoint();
    await using secure = await startSecureEcho(pki.server, pki.authority.certificatePem);
    await using daemon = await startDaemon(`
listeners:${Object.entries(places)
      .map(([style, directory]) => listener(style, directory))
      .join("")}
  - { name: origin, address: 127.0.0.1:0, backend: secure }
backends:
  echo: { endpoints: ["${endpoint.address}"] }
  secure:
    endpoints: ["${secure.address}"]
    tls:
      cert: ${places.swapped}/edge.pem
      key: ${places.swapped}/edge.key
      ca: [${pki.authority.certificatePath}]
      server_name: localhost
`);
    const ca = pki.authority.certificatePem;
    const targets = await Promise.all(
      Object.keys(STYLES).map(async (style) => ({ to: await daemon.address(style), ca, certificate: pki.client })),
    );
    const origin = { to: await daemon.address("origin") };
    const old = await Promise.all([...targets, origin].map((target) => connected(target)));

    let served = 0;
    let written = 0;
    let count = 0;
    let turning = true;
    const stale: string[] = [];
    const client = async (): Promise<void> => {
      while (turning || count < HANDSHAKES) {
        const target = targets[count++ % targets.length] ?? origin;
        const before = served;
        const index = indexOf.get(await shakeHands(target)) ?? -1;
        if (index < before || index > written) stale.push(`${index} while ${before} to ${written} were there`);
      }
    };
    const clients = Promise.all(Array.from({ length: AT_ONCE }, client));
    for (let index = 1; index <= ROTATIONS; index++) {
      written = index;
      install(index);
      await replaced(daemon, index);
      served = index;
      for (const connection of old) await connection.echo();
      await shakeHands(origin);
      expect(indexOf.get(secure.clients.at(-1) ?? "")).toBe(index);
      await eventually("this rotation had its share of handshakes", () => count >= (index * HANDSHAKES) / ROTATIONS);
    }
    turning = false;
    await clients;
    expect(stale).toEqual([]);
    expect(count).toBeGreaterThanOrEqual(HANDSHAKES);
    for (const connection of old) (await connection.echo()).close();
    expect(lines(daemon, REFUSED)).toEqual([]);
    const reasons = new Set(daemon.records.map(({ close_reason }) => close_reason));
    for (const reason of ["handshake_failed", "certificate_rejected", "certificate_revoked", "policy_revoked"] as const)
      expect(reasons.has(reason)).toBe(false);
  }, 90_000);
});

test("key and certificate written at different moments: refused meanwhile, served when both are there, and nobody notices", async () => {
  const [before, after] = [await issue(), await issue()];
  const place = newPlace();
  inPlace(place, before);
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(`
listeners:${listener("edge", place)}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
  const target = { to: await daemon.address("edge"), ca: pki.authority.certificatePem, certificate: pki.client };
  const old = await connected(target);
  writeFileSync(join(place, "edge.key"), after.keyPem);
  await eventually("the half was refused", () => lines(daemon, REFUSED).length > 0);
  expect(await shakeHands(target)).toBe(fingerprintOf(before));
  writeFileSync(join(place, "edge.pem"), after.certificatePem);
  await replaced(daemon, 1);
  expect(await shakeHands(target)).toBe(fingerprintOf(after));
  (await old.echo()).close();
});

test("authorities of clients, with an overlap: at every moment those who should be let in are, and in the end only those", async () => {
  const place = newPlace();
  inPlace(place, await issue());
  const bundle = join(place, "ca.pem");
  const [first, second] = [pki.authority.certificatePem, pki.otherAuthority.certificatePem];
  writeFileSync(bundle, first);
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(`
listeners:${listener("edge", place, bundle)}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
  const target = { to: await daemon.address("edge"), ca: first };
  const ofFirst = { ...target, certificate: pki.client };
  const ofSecond = { ...target, certificate: pki.wrongAuthority };
  const refused = async (options: typeof ofFirst): Promise<void> => {
    const client = new LiveClient(options);
    client.socket.write("must not pass");
    await eventually("it was refused", () => !client.isOpen);
    expect(client.received).toBe("");
  };
  const oldOfFirst = await connected(ofFirst);
  await refused(ofSecond);
  writeFileSync(bundle, first + second);
  await replaced(daemon, 1);
  const oldOfSecond = await connected(ofSecond);
  await shakeHands(ofFirst);
  await oldOfFirst.echo();
  writeFileSync(bundle, second);
  await replaced(daemon, 2);
  await shakeHands(ofSecond);
  await refused(ofFirst);
  (await oldOfSecond.echo()).close();
  await eventually("the connection of the authority that went was ended", () => !oldOfFirst.isOpen);
  expect(await daemon.record(({ close_reason }) => close_reason === "certificate_revoked")).toBeDefined();
});

test("an authority that goes during a drain takes its clients with it, before the drain time-out", async () => {
  const place = newPlace();
  inPlace(place, await issue());
  const bundle = join(place, "ca.pem");
  writeFileSync(bundle, pki.authority.certificatePem);
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(`
drain_timeout: 5m
listeners:${listener("edge", place, bundle)}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
  const target = { to: await daemon.address("edge"), ca: pki.authority.certificatePem, certificate: pki.client };
  const old = await connected(target);
  daemon.child.signal("SIGTERM");
  await eventually("it drains", () => lines(daemon, "draining").length > 0);
  await old.echo();
  writeFileSync(bundle, pki.otherAuthority.certificatePem);
  await replaced(daemon, 1);
  await eventually("the connection of the authority that went was ended", () => !old.isOpen);
  expect(await daemon.record(({ close_reason }) => close_reason === "certificate_revoked")).toBeDefined();
});

describe("a set that is not sound is refused with file and reason, once, the old one stays, and the mended one is served", () => {
  interface Broken {
    readonly what: string;
    break(directory: string): void;
    readonly reason: RegExp;
  }

  const write = (directory: string, certificatePem: string, keyPem: string): void =>
    inPlace(directory, { certificatePem, keyPem });
  const CASES: readonly Broken[] = [
    {
      what: "the key of another certificate",
      break: (directory) => write(directory, pki.server.certificatePem, pki.databaseServer.keyPem),
      reason: /edge\.pem.*: the private key is not the certificate's/,
    },
    {
      what: "a certificate that is cut off",
      break: (directory) => write(directory, pki.server.certificatePem.slice(0, 400), pki.server.keyPem),
      reason: /edge\.pem: ends in the middle of a PEM block/,
    },
    {
      what: "an empty certificate file",
      break: (directory) => write(directory, "", pki.server.keyPem),
      reason: /edge\.pem: expected a PEM block "CERTIFICATE"/,
    },
    {
      what: "an empty key file",
      break: (directory) => write(directory, pki.server.certificatePem, ""),
      reason: /edge\.key: expected a PEM block "PRIVATE KEY"/,
    },
    {
      what: "an expired certificate",
      break: (directory) => inPlace(directory, pki.expired),
      reason: /edge\.pem: .*: expired on \d{4}-/,
    },
    {
      what: "a certificate that is not valid yet",
      break: (directory) => inPlace(directory, pki.notYetValid),
      reason: /edge\.pem: .*: is not valid before \d{4}-/,
    },
    {
      what: "a chain in the wrong order",
      break: (directory) =>
        write(
          directory,
          pki.server.certificatePem + pki.intermediate.certificatePem + pki.authority.certificatePem,
          pki.server.keyPem,
        ),
      reason: /edge\.pem: certificate 2 did not sign the one before it/,
    },
    {
      // A directory, since root can read every file.
      what: "a file that cannot be read",
      break(directory) {
        rmSync(join(directory, "edge.pem"));
        mkdirSync(join(directory, "edge.pem"));
      },
      reason: /cannot read .*edge\.pem: it is a directory/,
    },
    {
      what: "a file that is gone",
      break: (directory) => rmSync(join(directory, "edge.key")),
      reason: /cannot read .*edge\.key: no such file or directory/,
    },
  ];

  /** `shown` gives the certificate that a new connection meets. */
  async function refuseAndMend(
    broken: Broken,
    place: string,
    { daemon, before, shown }: { daemon: Daemon; before: KeyPair; shown(): Promise<string> },
  ): Promise<void> {
    expect(await shown()).toBe(fingerprintOf(before));
    broken.break(place);
    await eventually(
      () => `${broken.what} was refused: ${daemon.child.story}`,
      () => lines(daemon, REFUSED).length > 0,
    );
    const problems = (): string[] => lines(daemon, REFUSED).map(({ problem }) => String(problem));
    const told = problems();
    expect(told.filter((problem) => broken.reason.test(problem))).toHaveLength(1);
    for (const problem of told) expect(problem).toMatch(/^\S+bunnel\.yaml:\d+:\d+: /);
    // Two more looks.
    await quiet(1100);
    expect(problems()).toEqual(told);
    expect(await shown()).toBe(fingerprintOf(before));
    const after = await issue();
    rmSync(join(place, "edge.pem"), { recursive: true, force: true });
    inPlace(place, after);
    await replaced(daemon, 1);
    expect(await shown()).toBe(fingerprintOf(after));
  }

  test("on a listener", async () => {
    await using endpoint: Endpoint = await startEndpoint();
    const one = async (broken: Broken): Promise<void> => {
      const [place, before] = [newPlace(), await issue()];
      inPlace(place, before);
      await using daemon = await startDaemon(`
listeners:${listener("edge", place)}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
      const target = { to: await daemon.address("edge"), ca: pki.authority.certificatePem, certificate: pki.client };
      const old = await connected(target);
      await refuseAndMend(broken, place, { daemon, before, shown: () => shakeHands(target) });
      (await old.echo()).close();
    };
    await Promise.all(CASES.map(one));
  }, 30_000);

  test("on a backend", async () => {
    const one = async (broken: Broken): Promise<void> => {
      const [place, before] = [newPlace(), await issue()];
      inPlace(place, before);
      await using secure = await startSecureEcho(pki.server, pki.authority.certificatePem);
      await using daemon = await startDaemon(`
listeners: [{ name: origin, address: "127.0.0.1:0", backend: secure }]
backends:
  secure:
    endpoints: ["${secure.address}"]
    tls:
      cert: ${place}/edge.pem
      key: ${place}/edge.key
      ca: [${pki.authority.certificatePath}]
      server_name: localhost
`);
      const target = { to: await daemon.address("origin") };
      const old = await connected(target);
      const shown = async (): Promise<string> => {
        await shakeHands(target);
        return secure.clients.at(-1) ?? "";
      };
      await refuseAndMend(broken, place, { daemon, before, shown });
      (await old.echo()).close();
    };
    await Promise.all(CASES.map(one));
  }, 30_000);
});
