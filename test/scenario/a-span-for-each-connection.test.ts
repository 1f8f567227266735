// A collector of OpenTelemetry receives one span for each connection, with true times and the cause of each failure, from every worker, and at the end
// of the process too. Without a collector connections are served all the same; spans are dropped, counted and told of, until it is back.
// The headers that open the collector's door are shown nowhere.

import { expect, test } from "bun:test";
import { join } from "node:path";
import type { Status } from "../../src/snapshot/status.ts";
import { run } from "../support/child.ts";
import { Collector } from "../support/collector.ts";
import { bunnel, type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { send } from "../support/provoking.ts";
import { unusedPort } from "../support/servers.ts";
import { endInOrder, startEndpoint, talking } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const SECRET = "Bearer hunter2-is-the-password";
const SERVED = 20;
const REFUSED = 5;

interface Parts {
  readonly url: string;
  readonly endpoint: string;
  readonly workers?: number;
  readonly more?: string;
}

/** A daemon that exports, and its admin socket. */
async function start({ url, endpoint, workers = 2, more = "" }: Parts): Promise<{ daemon: Daemon; admin: string }> {
  const admin = join(temporaryDirectory("bunnel-spans-"), "admin.sock");
  const daemon = await startDaemon(`
workers: ${workers}
drain_timeout: 1s
admin: { address: "unix:${admin}" }
telemetry: { otlp: { endpoint: "${url}", headers: { authorization: "${SECRET}" }${more} } }
listeners:
  - { name: in, address: 127.0.0.1:0, backend: web }
  - { name: nowhere, address: 127.0.0.1:0, backend: none }
backends:
  web: { endpoints: ["${endpoint}"] }
  none: { connect_attempts: 1, endpoints: ["127.0.0.1:${await unusedPort()}"] }
`);
  return { daemon, admin };
}

async function ask(admin: string, path: string): Promise<string> {
  return await (await fetch(`http://localhost${path}`, { unix: admin })).text();
}

async function droppedSpans(admin: string): Promise<number> {
  return (JSON.parse(await ask(admin, "/api/v1/status")) as Status).telemetry.dropped_spans_total;
}

for (const workers of [0, 2]) {
  test(`workers: ${workers}: one span for each line of the access log, which says the same`, async () => {
    await using collector = await Collector.start();
    await using endpoint = await startEndpoint();
    const { daemon, admin } = await start({ url: collector.url, endpoint: endpoint.address, workers });
    await using _ = daemon;
    for (let count = 0; count < SERVED; count++) await endInOrder(await talking(await daemon.address("in")));
    for (let count = 0; count < REFUSED; count++) await send(await daemon.address("nowhere"));
    const records = await daemon.recorded(SERVED + REFUSED);
    await eventually("all spans came", () => collector.spans.length >= SERVED + REFUSED);
    expect(new Set(collector.spans.map(({ traceId }) => traceId)).size).toBe(SERVED + REFUSED);
    for (const record of records) {
      const span = collector.spans.find(({ attributes }) => attributes["bunnel.connection.id"] === record.id);
      const [clientAddress, clientPort] = record.downstream.split(":");
      expect(span).toMatchObject({
        name: `connection ${record.listener}`,
        kind: 2,
        status: record.close_reason === "completed" ? 0 : 2,
        statusMessage: record.detail ?? "",
        attributes: {
          "network.transport": "tcp",
          "client.address": clientAddress,
          "client.port": Number(clientPort),
          "bunnel.listener": record.listener,
          "bunnel.close_reason": record.close_reason,
          "bunnel.bytes_up": record.bytes_up,
        },
        resource: { "service.name": "bunnel" },
      });
      expect(span?.parentSpanId ?? "").toBe("");
      expect(span?.attributes["error.type"]).toBe(record.error);
      expect(Math.abs((span?.startMs ?? 0) - record.time)).toBeLessThan(0.01);
      expect(Math.abs((span?.endMs ?? 0) - record.time - record.duration_ms)).toBeLessThan(0.01);
    }
    expect(new Set(collector.paths)).toEqual(new Set(["POST /v1/traces"]));
    expect(collector.headers.every(({ authorization }) => authorization === SECRET)).toBe(true);
    const shown = await Promise.all(["/api/v1/status", "/api/v1/snapshot", "/metrics"].map((path) => ask(admin, path)));
    const check = await run(bunnel("check", "-c", join(daemon.directory, "bunnel.yaml")));
    expect(check.exitCode).toBe(0);
    const said = [...shown, check.stdout, check.stderr, daemon.child.stdout, daemon.child.stderr].join("\n");
    expect(said).not.toContain("hunter2");
    expect(await droppedSpans(admin)).toBe(0);
    // What has just ended is sent before the process ends.
    const before = collector.spans.length;
    await endInOrder(await talking(await daemon.address("in")));
    expect(await daemon.stop()).toBe(0);
    expect(collector.spans.length).toBe(before + 1);
  });
}

test("a collector that is away costs spans, which are counted and told of, and gets those after its return", async () => {
  const port = await unusedPort();
  await using endpoint = await startEndpoint();
  const { daemon, admin } = await start({ url: `http://127.0.0.1:${port}/v1/traces`, endpoint: endpoint.address });
  await using _ = daemon;
  const said = (part: string): number => daemon.log.filter(({ msg }) => String(msg).includes(part)).length;
  for (let count = 0; count < SERVED; count++) await endInOrder(await talking(await daemon.address("in")));
  await eventually("they were given up", async () => (await droppedSpans(admin)) === SERVED, 15_000);
  expect(said("spans are being dropped")).toBeGreaterThan(0);
  expect(JSON.stringify(daemon.log)).toContain("ECONNREFUSED");
  await using collector = await Collector.start(port);
  await endInOrder(await talking(await daemon.address("in")));
  await eventually("a new one came", () => collector.spans.length > 0, 8_000);
  await eventually("it was said", () => said("spans reach the collector again") > 0);
  expect(await daemon.stop()).toBe(0);
}, 30_000);

test("a collector that refuses us is named, without what it is told", async () => {
  await using collector = await Collector.start();
  collector.mood = "refuses";
  await using endpoint = await startEndpoint();
  const { daemon, admin } = await start({ url: collector.url, endpoint: endpoint.address, workers: 0 });
  await using _ = daemon;
  await endInOrder(await talking(await daemon.address("in")));
  await eventually("it was given up", async () => (await droppedSpans(admin)) === 1);
  expect(daemon.child.stderr).toContain("401");
  expect(daemon.child.stderr).not.toContain("hunter2");
});

test("a collector that does not answer holds up neither connections nor the end of the process", async () => {
  await using collector = await Collector.start();
  collector.mood = "hangs";
  await using endpoint = await startEndpoint();
  const { daemon } = await start({ url: collector.url, endpoint: endpoint.address });
  await using _ = daemon;
  await endInOrder(await talking(await daemon.address("in")));
  await eventually("it was asked", () => collector.paths.length > 0);
  for (let count = 0; count < SERVED; count++) await endInOrder(await talking(await daemon.address("in")));
  const startedMs = performance.now();
  expect(await daemon.stop()).toBe(0);
  expect(performance.now() - startedMs).toBeLessThan(4000);
  expect(JSON.stringify(daemon.log)).toContain("the export has ended before they had arrived");
}, 10_000);

test("of connections that went well a share is exported, and all of the others", async () => {
  await using collector = await Collector.start();
  await using endpoint = await startEndpoint();
  const { daemon } = await start({ url: collector.url, endpoint: endpoint.address, more: ", sample: 0%" });
  await using _ = daemon;
  for (let count = 0; count < REFUSED; count++) {
    await endInOrder(await talking(await daemon.address("in")));
    await send(await daemon.address("nowhere"));
  }
  expect(await daemon.stop()).toBe(0);
  expect(collector.spans.map(({ attributes }) => attributes["error.type"])).toEqual(
    Array(REFUSED).fill("ECONNREFUSED"),
  );
});
