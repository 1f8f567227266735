// What happened is counted once, whichever worker it happened in, and stays counted when that worker is killed, after a reload and after an upgrade of the program: ends by their
// reason, handshakes by their result, bytes while they flow, decisions of policies, what endpoints met with, and when certificates end.

import { expect, test } from "bun:test";
import tls from "node:tls";
import type { Status } from "../../src/snapshot/status.ts";
import { type CertificateFiles, testPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { Samples } from "../support/exposition.ts";
import { missingPrograms } from "../support/programs.ts";
import { checkMetrics } from "../support/promtool.ts";
import { unusedPort } from "../support/servers.ts";
import { type Supervised, startSupervised } from "../support/supervised.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";

const missing = missingPrograms("promtool");
/** For so long a worker is stopped. */
const HELD_MS = 500;
const MESSAGE = "x".repeat(1000);

test("by two workers, one of which is killed, and by the program that takes over", async () => {
  const pki = await testPki();
  await using echo = await startEndpoint();
  const refusing = await unusedPort();
  const ports = { edge: await unusedPort(), lenient: await unusedPort(), dead: await unusedPort() };
  const shown = `{ certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }], client_ca: [${pki.authority.certificatePath}] }`;
  const config = (more = ""): string => `
workers: 2
listeners:
  - { name: edge, address: "127.0.0.1:${ports.edge}", tls: ${shown}, routes: [{ name: r, tls: terminate, policy: strict, backend: echo }] }
  - { name: lenient, address: "127.0.0.1:${ports.lenient}", tls: ${shown}, routes: [{ name: r, tls: terminate, policy: lenient, backend: echo }] }
  - { name: dead, address: "127.0.0.1:${ports.dead}", backend: dead }
policies:
  strict: { rules: [{ action: allow, uri: ["spiffe://bunnel.test/client"] }] }
  lenient: { mode: shadow, rules: [{ action: allow, uri: ["spiffe://bunnel.test/client"] }] }
backends:
  echo: { endpoints: ["${echo.address}"] }
  dead: { endpoints: ["127.0.0.1:${refusing}"] }
${more}`;
  await using running = await startSupervised(config());
  await running.untilServing(2);

  /** Sends and is answered, then ends; or is refused. */
  const visit = (port: number, certificate: CertificateFiles): Promise<void> =>
    new Promise((resolve) => {
      const client = tls.connect({
        ...{ host: "127.0.0.1", port, servername: "localhost", ca: pki.authority.certificatePem },
        ...{ cert: certificate.certificatePem, key: certificate.keyPem },
      });
      let read = 0;
      client.on("secureConnect", () => client.write(MESSAGE));
      client.on("data", (bytes) => {
        read += bytes.length;
        if (read === MESSAGE.length) client.end();
      });
      client.on("error", () => {});
      client.on("close", () => resolve());
    });
  await Promise.all([
    ...Array.from({ length: 6 }, () => visit(ports.edge, pki.client)),
    ...Array.from({ length: 3 }, () => visit(ports.edge, pki.otherClient)),
    ...Array.from({ length: 2 }, () => visit(ports.edge, pki.wrongAuthority)),
    ...Array.from({ length: 4 }, () => visit(ports.lenient, pki.otherClient)),
  ]);
  for (let count = 0; count < 5; count++) {
    const peer = await connectTo(`127.0.0.1:${ports.dead}`);
    await eventually("it was refused", () => peer.closed);
  }
  const edge = (status: Status): unknown => listenerOf(status, "edge");
  const expected = {
    connections_total: 11,
    closed: { completed: 6, policy_denied: 3, certificate_rejected: 2 },
    handshakes: { ok: 9, failed: 0, timeout: 0, certificate_rejected: 2, overload: 0, abandoned: 0 },
    bytes_up: 6000,
    bytes_down: 6000,
  };
  const counted = await untilStatus(running, (status) =>
    Bun.deepEquals(listenerOf(status, "edge")?.closed, expected.closed),
  );
  expect(edge(counted)).toMatchObject(expected);
  expect(listenerOf(counted, "dead")).toMatchObject({ closed: { connect_refused: 5 }, handshakes: {}, bytes_up: 0 });
  expect(backendOf(counted, "echo")).toMatchObject({ bytes_up: 10_000, bytes_down: 10_000, no_endpoint_total: 0 });
  expect(counted.policies).toEqual([
    { policy: "strict", mode: "enforce", allowed_total: 6, denied_total: 3, shadow_denied_total: 0 },
    { policy: "lenient", mode: "shadow", allowed_total: 0, denied_total: 0, shadow_denied_total: 4 },
  ]);

  // Bytes move while the connection lives.
  const talker = tls.connect({
    ...{ host: "127.0.0.1", port: ports.edge, servername: "localhost", ca: pki.authority.certificatePem },
    ...{ cert: pki.client.certificatePem, key: pki.client.keyPem },
  });
  talker.on("error", () => {});
  talker.write(MESSAGE);
  await untilStatus(running, (status) => (listenerOf(status, "edge")?.bytes_down ?? 0) === 7000);

  // Whatever becomes of the workers.
  for (const pid of running.workers) process.kill(pid, "SIGKILL");
  await untilStatus(running, (status) => status.worker_restarts === 2);
  await running.untilServing(2);
  const afterKill = {
    ...expected,
    handshakes: { ...expected.handshakes, ok: 10 },
    ...{ connections: 0, connections_total: 12, bytes_up: 7000, bytes_down: 7000 },
  };
  expect(edge(await running.status())).toMatchObject(afterKill);

  // What is new in the config is counted for itself.
  await running.reload(
    config(`  more: { endpoints: ["${echo.address}"] }`)
      .replace("backend: dead }", "backend: more }")
      .replace("policy: lenient, backend: echo", "policy: lenient, backend: more"),
  );
  const peer = await connectTo(`127.0.0.1:${ports.dead}`);
  peer.socket.end("abc");
  await eventually("it was answered", () => peer.text === "abc");
  const reloaded = await untilStatus(running, (status) => backendOf(status, "more")?.bytes_down === 3);
  // A route that goes takes nothing away of its listener and of its backend.
  expect(backendOf(reloaded, "echo")).toMatchObject({ bytes_up: 11_000, bytes_down: 11_000 });
  expect(listenerOf(reloaded, "lenient")).toMatchObject({ bytes_up: 4000, bytes_down: 4000 });

  // A worker that is held up, here by a stop, says for how long.
  const [stopped] = running.workers;
  if (stopped === undefined) throw new Error("there are two");
  process.kill(stopped, "SIGSTOP");
  await Bun.sleep(HELD_MS);
  process.kill(stopped, "SIGCONT");
  await untilStatus(running, ({ workers }) =>
    workers.some(({ pid, event_loop_lag_ms: ms }) => pid === stopped && ms > HELD_MS / 2),
  );
  const metrics = async (): Promise<Samples> =>
    new Samples(await (await fetch("http://bunnel/metrics", { unix: running.adminPath })).text());
  const lag = (await metrics()).sum("event_loop_lag_seconds", {});
  expect(lag).toBeGreaterThan(HELD_MS / 2000);

  await running.upgrade();
  const upgraded = await running.untilServing(2);
  expect(edge(upgraded)).toMatchObject(afterKill);
  expect(backendOf(upgraded, "more")).toMatchObject({ bytes_up: 3, bytes_down: 3 });
  const samples = await metrics();
  for (const [reason, count] of Object.entries(expected.closed))
    expect(samples.sum("connections_closed_total", { listener: "edge", reason })).toBe(count);
  expect(samples.sum("handshake_duration_seconds_count", { listener: "edge" })).toBe(10);
  expect(samples.sum("bytes_total", { listener: "edge", backend: "echo", direction: "up" })).toBe(7000);
  expect(samples.sum("policy_decisions_total", { policy: "lenient", decision: "shadow_deny" })).toBe(4);
  for (const worker of ["0", "1", "2"]) expect(samples.count("event_loop_lag_seconds", { worker })).toBe(1);
  if (missing === "") expect(await checkMetrics(samples.text)).toBe("");
}, 30_000);

function listenerOf(status: Status, name: string): Status["listeners"][number] | undefined {
  return status.listeners.find(({ listener }) => listener === name);
}

function backendOf(status: Status, name: string): Status["backends"][number] | undefined {
  return status.backends.find(({ backend }) => backend === name);
}

async function untilStatus(running: Supervised, fits: (status: Status) => boolean): Promise<Status> {
  let last: Status | null = null;
  return await eventually(
    () => `it was counted: ${JSON.stringify(last, null, 1)} ${running.daemon.child.story}`,
    async () => {
      last = await running.status().catch(() => null);
      return last !== null && fits(last) ? last : null;
    },
  );
}
