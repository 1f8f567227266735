// Endpoints are probed as their backend says, by nginx, redis and TLS servers that know nothing of it and have nothing to log about it. One that is down
// shows so in time, with the reason, in status and log; what was found outlives a reload and the death of a worker; and nobody is probed more often
// than was said.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { appendFileSync, readFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import type { EndpointStatus, Status } from "../../src/snapshot/status.ts";
import type { Peer } from "../conformance/peers.ts";
import { type CertificateFiles, testPki } from "../support/certificates.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { startOpensslServer } from "../support/openssl-server.ts";
import { missingPrograms } from "../support/programs.ts";
import { type RealServer, startNginx, startRedis, unusedPort } from "../support/servers.ts";
import { startSupervised } from "../support/supervised.ts";
import { connectTo, echo, hold, startEndpoint } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { startTlsEndpoint, type TlsEndpoint } from "../support/tls-endpoint.ts";
import { workersOf } from "../support/worker-processes.ts";

const INTERVAL_MS = 200;
/** For what the runtime and a busy host add. */
const SLACK_MS = 3000;
const EACH = `interval: ${INTERVAL_MS}ms, timeout: ${INTERVAL_MS}ms`;
const missing = missingPrograms("nginx", "openssl", "redis-server", "redis-cli");

async function statusOf(daemon: Daemon): Promise<Status> {
  const response = await fetch("http://bunnel/api/v1/status", { unix: admins.get(daemon) ?? "" });
  return (await response.json()) as Status;
}

async function endpointOf(daemon: Daemon, backend: string, index = 0): Promise<EndpointStatus> {
  const { backends } = await statusOf(daemon);
  return backends.find((each) => each.backend === backend)?.endpoints[index] as EndpointStatus;
}

async function untilHealth(
  daemon: Daemon,
  backend: string,
  health: string,
  patienceMs = 5000,
): Promise<EndpointStatus> {
  let last: EndpointStatus | undefined;
  return await eventually(
    () => `${backend} was ${health}: ${JSON.stringify(last)} ${daemon.child.story}`,
    async () => {
      last = await endpointOf(daemon, backend);
      return last.health === health ? last : undefined;
    },
    patienceMs,
  );
}

/** Where the admin API of each daemon is. */
const admins = new WeakMap<Daemon, string>();

function configOf(backends: string): string {
  const names = [...backends.matchAll(/^ {2}([\w-]+):/gm)].map(([, name]) => name);
  const listeners = names.map((name) => `  - { name: ${name}, address: 127.0.0.1:0, backend: ${name} }`);
  return `listeners:\n${listeners.join("\n")}\nbackends:\n${backends}\n`;
}

async function startProbing(backends: string, workers = 0): Promise<Daemon> {
  const socket = join(temporaryDirectory("bunnel-health-"), "admin.sock");
  const admin = `workers: ${workers}\nadmin: { address: "unix:${socket}" }`;
  const daemon = await startDaemon(`${admin}\n${configOf(backends)}`);
  admins.set(daemon, socket);
  return daemon;
}

describe("what is found", () => {
  const resources: AsyncDisposable[] = [];
  let daemon: Daemon;
  let nginx: RealServer;
  let redis: RealServer;
  let good: TlsEndpoint;
  const plain: Peer[] = [];
  const unasked: Peer[] = [];

  beforeAll(async () => {
    if (missing !== "") return;
    const pki = await testPki();
    nginx = await startNginx(
      `server { listen 127.0.0.1:PORT; access_log access.log; location /up { return 200 "fine"; } location /down { return 503; } location /moved { return 301 /up; } }`,
    );
    redis = await startRedis();
    good = await startTlsEndpoint(pki.server, { onConnection: ({ tls }) => tls.once("end", () => tls.end()) });
    const stranger = await startTlsEndpoint(pki.wrongAuthority);
    const expired = await startTlsEndpoint(pki.expired);
    const silent = await startEndpoint(hold);
    const endless = await startEndpoint(({ socket }) => {
      socket.write("HTTP/1.1 200 OK\\r\\n\\r\\n".replaceAll("\\r\\n", "\r\n"));
      const drip = setInterval(() => socket.write("x"), 20);
      socket.once("close", () => clearInterval(drip));
    });
    const resetting = await startEndpoint(({ socket }) => socket.once("data", () => socket.resetAndDestroy()));
    const listening = await startEndpoint((peer) => {
      plain.push(peer);
      echo(peer);
    });
    const unaware = await startEndpoint((peer) => {
      unasked.push(peer);
      peer.socket.end();
    });
    resources.push(listening, unaware, nginx, redis, good, stranger, expired, silent, endless, resetting);
    const choosy = await startOpensslServer(pki.server);
    const alsoChoosy = await startOpensslServer(pki.server);
    const thirdChoosy = await startOpensslServer(pki.server);
    resources.push(choosy, alsoChoosy, thirdChoosy);
    const http = (path: string): string => `{ type: http, ${EACH}, http: { path: ${path} } }`;
    const tls = `tls: { ca: [${pki.authority.certificatePath}], server_name: localhost }`;
    const health = `health: { type: tls, ${EACH} }`;
    const as = ({ certificatePath, keyPath }: CertificateFiles): string =>
      tls.replace("tls: {", `tls: { cert: ${certificatePath}, key: ${keyPath},`);
    const ping = `health: { ${EACH}, send: 'PING\\r\\n', expect: "+PONG" }`;
    daemon = await startProbing(`
  web-up: { endpoints: ["${nginx.address}"], health: ${http("/up")} }
  web-down: { endpoints: ["${nginx.address}"], health: ${http("/down")} }
  web-moved: { endpoints: ["${nginx.address}"], health: ${http("/moved")} }
  web-endless: { endpoints: ["${endless.address}"], health: ${http("/")} }
  web-silent: { endpoints: ["${silent.address}"], health: ${http("/")} }
  web-resetting: { endpoints: ["${resetting.address}"], health: ${http("/")} }
  web-speaks-tls: { endpoints: ["${good.address}"], health: ${http("/")} }
  redis-up: { endpoints: ["${redis.address}"], ${ping} }
  redis-tcp: { endpoints: ["${redis.address}"], health: { ${EACH} } }
  no-redis: { endpoints: ["${nginx.address}"], ${ping} }
  tls-up: { endpoints: ["${good.address}"], ${tls}, ${health} }
  tls-lets-us-in: { endpoints: ["${choosy.address}"], ${as(pki.client)}, ${health} }
  tls-refuses-us: { endpoints: ["${alsoChoosy.address}"], ${as(pki.wrongAuthority)}, ${health} }
  tls-misses-us: { endpoints: ["${thirdChoosy.address}"], ${tls}, ${health} }
  tls-stranger: { endpoints: ["${stranger.address}"], ${tls}, ${health} }
  tls-expired: { endpoints: ["${expired.address}"], ${tls}, ${health} }
  tls-silent: { endpoints: ["${silent.address}"], ${tls}, ${health} }
  tls-plain: { endpoints: ["${nginx.address}"], ${tls}, ${health} }
  tcp-up: { endpoints: ["${unaware.address}"], health: { ${EACH} } }
  tcp-asked: { endpoints: ["${listening.address}"], health: { ${EACH}, send: hello, expect: hello } }
  refused: { endpoints: ["127.0.0.1:${await unusedPort()}"], health: { ${EACH} } }`);
    resources.push(daemon);
  });

  afterAll(async () => {
    for (const resource of resources.reverse()) await resource[Symbol.asyncDispose]();
  });

  const WELL = ["tcp-up", "web-up", "redis-up", "redis-tcp", "tcp-asked", "tls-up", "tls-lets-us-in"];
  for (const backend of WELL)
    test.skipIf(missing !== "")(`${backend} is up ${missing}`, async () => {
      expect(await untilHealth(daemon, backend, "up")).toMatchObject({ reason: "", health_changes_total: 0 });
    });

  const ILL: Readonly<Record<string, RegExp>> = {
    "web-down": /^status 503$/,
    "web-moved": /^status 301$/,
    "web-endless": /^no answer, or none that ended, within 200ms$/,
    "web-silent": /^no answer, or none that ended, within 200ms$/,
    "web-resetting": /^it reset the connection$/,
    "web-speaks-tls": /TLS|without an answer|reset/,
    "no-redis": /^"\+PONG" was expected, and it said "HTTP\/1\.1 400 /,
    "tls-stranger": /^TLS: (UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN|.*ISSUER.*); subject /,
    // By TLS 1.3 it says so after the handshake.
    "tls-refuses-us": /^TLS: it reset the connection after the handshake, as one does that refuses our certificate/,
    "tls-misses-us": /^TLS: it reset the connection after the handshake, as one does that refuses our certificate/,
    "tls-expired": /^TLS: CERT_HAS_EXPIRED; subject /,
    "tls-silent": /^TLS: the handshake did not end in time$/,
    "tls-plain": /^TLS: /,
    refused: /^connect: ECONNREFUSED$/,
  };
  for (const [backend, reason] of Object.entries(ILL))
    test.skipIf(missing !== "")(`${backend} is down: ${reason.source} ${missing}`, async () => {
      expect((await untilHealth(daemon, backend, "down")).reason).toMatch(reason);
      const line = daemon.log.find((each) => each.msg === "an endpoint is down" && each.backend === backend);
      expect(String(line?.reason)).toMatch(reason);
    });

  test.skipIf(missing !== "")(`servers that are probed have nothing to complain of ${missing}`, async () => {
    await eventually("some dozen probes were made", () => countOf(nginx, "/up") > 12);
    expect(nginx.child.stderr.split("\n").filter((line) => line.includes("[e") || line.includes("reset"))).toEqual([]);
    expect(redis.child.stdout).not.toMatch(/error|reset/i);
    // One that is asked nothing hears nothing, unless this host is so busy that the kernel has acknowledged a connection before it was taken back.
    expect(unasked.length).toBeLessThan(6);
    // Each connection ended in order: with FIN, and of TLS with close_notify before it.
    expect(plain.length).toBeGreaterThan(5);
    for (const peer of plain.slice(0, -1)) expect([peer.ended, peer.closed, peer.errorCode]).toEqual([true, true, ""]);
    const secured = good.sessions.slice(0, -1);
    expect(secured.length).toBeGreaterThan(5);
    for (const session of secured) expect([session.ended, session.errorCode]).toEqual([true, ""]);
    // Each is told once, however long it is down.
    const told = daemon.log.filter(({ msg }) => msg === "an endpoint is down").map(({ backend }) => backend);
    expect(told.length).toBe(new Set(told).size);
  });
});

function countOf({ directory }: RealServer, path: string): number {
  return readFileSync(join(directory, "access.log"), "utf8").split(`GET ${path} HTTP/1.1`).length - 1;
}

test.skipIf(missing !== "")(
  `a stopped process is down in time, its connections are closed, and it is back in time ${missing}`,
  async () => {
    await using redis = await startRedis();
    await using daemon = await startProbing(
      `  redis: { endpoints: ["${redis.address}"], on_down: close, health: { ${EACH}, rise: 2, fall: 3, send: 'PING\\r\\n', expect: "+PONG" } }`,
      2,
    );
    await untilHealth(daemon, "redis", "up");
    const client = await connectTo(await daemon.address("redis"));
    client.socket.write("PING\r\n");
    await eventually("redis answered", () => client.text === "+PONG\r\n");
    redis.child.signal("SIGSTOP");
    const stoppedMs = Date.now();
    const down = await untilHealth(daemon, "redis", "down");
    expect(Date.now() - stoppedMs).toBeLessThan(3 * INTERVAL_MS + INTERVAL_MS + SLACK_MS);
    expect(down.reason).toBe("no answer, or none that ended, within 200ms");
    expect(Date.now() - Date.parse(down.health_since ?? "")).toBeLessThan(2500);
    await eventually("the client was reset", () => client.closed);
    expect(client.errorCode).toBe("ECONNRESET");
    const record = await daemon.record();
    expect([record.close_reason, record.close_side, record.termination]).toEqual(["endpoint_down", "upstream", "DD"]);
    redis.child.signal("SIGCONT");
    const goesOnMs = Date.now();
    await untilHealth(daemon, "redis", "up");
    expect(Date.now() - goesOnMs).toBeLessThan(2 * INTERVAL_MS + INTERVAL_MS + SLACK_MS);
    expect((await endpointOf(daemon, "redis")).health_changes_total).toBe(2);
  },
  15_000,
);

test("a state outlives a reload and the death of a worker; nobody is probed more often for it", async () => {
  const accepted: number[] = [];
  await using server = await startEndpoint((peer) => {
    accepted.push(Date.now());
    echo(peer);
  });
  const closed = await unusedPort();
  const health = `interval: 500ms, timeout: 500ms, rise: 100, fall: 100, jitter: 0%`;
  await using daemon = await startProbing(
    `
  gone: { endpoints: ["127.0.0.1:${closed}"], health: { ${health} } }
  well: { endpoints: ["${server.address}"], health: { ${health}, send: hello, expect: hello } }`,
    2,
  );
  await untilHealth(daemon, "gone", "down");
  await untilHealth(daemon, "well", "up");
  const since = (await endpointOf(daemon, "gone")).health_since;
  const firstMs = Date.now();
  accepted.length = 0;
  // Somebody listens there now: only a hundred successes would bring it up again.
  await using revived = net.createServer().listen(closed, "127.0.0.1");
  await once(revived, "listening");
  const config = join(daemon.directory, "bunnel.yaml");
  for (let round = 0; round < 3; round++) {
    appendFileSync(config, `# ${round}\n`);
    daemon.child.signal("SIGHUP");
  }
  appendFileSync(config, "drain_timeout: 7s\n");
  daemon.child.signal("SIGHUP");
  await eventually("it was reloaded", async () => (await statusOf(daemon)).generation === 2);
  const [worker] = workersOf(daemon.pid);
  process.kill(worker as number, "SIGKILL");
  await eventually("a worker was started anew", async () => (await statusOf(daemon)).worker_restarts === 1);
  expect(await endpointOf(daemon, "gone")).toMatchObject({ health: "down", health_since: since });
  expect(await endpointOf(daemon, "well")).toMatchObject({ health: "up" });
  await eventually("some more probes were made", () => accepted.length >= 4);
  const turns = (Date.now() - firstMs) / 500;
  expect(accepted.length).toBeLessThanOrEqual(Math.ceil(turns) + 1);
  expect(accepted.length).toBeGreaterThanOrEqual(Math.floor(turns) - 1);
  expect(daemon.log.filter(({ msg }) => msg === "an endpoint is down")).toHaveLength(1);
}, 15_000);

test("a successor goes on from what was found before it", async () => {
  await using server = await startEndpoint();
  const closed = await unusedPort();
  const health = `health: { interval: 500ms, rise: 100, fall: 100 }`;
  await using running = await startSupervised(`workers: 1
listeners: [{ name: gone, address: 127.0.0.1:0, backend: gone }, { name: well, address: 127.0.0.1:0, backend: well }]
backends:
  gone: { endpoints: ["127.0.0.1:${closed}"], ${health} }
  well: { endpoints: ["${server.address}"], ${health} }
`);
  const endpoints = async (): Promise<readonly (EndpointStatus | undefined)[]> =>
    (await running.status()).backends.map((backend) => backend.endpoints[0]);
  const [gone] = await eventually("both were probed", async () => {
    const found = await endpoints();
    return found[0]?.reason === "connect: ECONNREFUSED" && found[1]?.health === "up" ? found : undefined;
  });
  await using revived = net.createServer().listen(closed, "127.0.0.1");
  await once(revived, "listening");
  await running.upgrade();
  await running.untilServing(1);
  const [goneThen, wellThen] = await endpoints();
  expect(goneThen).toMatchObject({ health: "down", health_since: gone?.health_since ?? null });
  expect(goneThen?.reason).not.toBe("");
  expect(wellThen?.health).toBe("up");
  expect(running.told("an endpoint is up")).toEqual([]);
}, 20_000);

test("one that is down is not tried, and one that nobody has probed yet is not where `initial` says so", async () => {
  await using good = await startEndpoint();
  const closed = await unusedPort();
  const endpoints = `endpoints: ["127.0.0.1:${closed}", "${good.address}"]`;
  await using daemon = await startProbing(`
  found: { balance: round_robin, ${endpoints}, health: { interval: 200ms } }
  checked: { balance: round_robin, ${endpoints}, health: { interval: 200ms, initial: check } }
  unprobed: { endpoints: ["${good.address}"], health: { interval: 1h, initial: down } }`);
  for (const backend of ["found", "checked"]) {
    await untilHealth(daemon, backend, "down");
    await eventually("the other one was up", async () => (await endpointOf(daemon, backend, 1)).health === "up");
    for (let round = 0; round < 6; round++) {
      const client = await connectTo(await daemon.address(backend));
      client.socket.end("hello");
      await eventually("it was served", () => client.text === "hello" && client.ended);
    }
  }
  const refused = await connectTo(await daemon.address("unprobed"));
  await eventually("it was refused", () => refused.closed);
  const records = await daemon.recorded(13);
  expect(records.slice(0, 12).map(({ attempts, endpoint }) => [attempts, endpoint])).toEqual(
    Array(12).fill([1, good.address]),
  );
  expect(records[12]?.close_reason).toBe("no_endpoint");
}, 15_000);
