// Thousands of clients that connect and say nothing, or half of a ClientHello, use up a budget of their own and no more: hundreds of established
// streams go on with every byte in its place, and every client that means it is served meanwhile. The record of each that had to make room says so.
// Afterwards memory and descriptors are back.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { type TestPki, testPki } from "../support/certificates.ts";
import { Child } from "../support/child.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connected, type LiveClient, type LiveClientOptions } from "../support/live-clients.ts";
import { type Endpoint, startEndpoint } from "../support/tcp.ts";

const STREAMS = 300;
const NEWCOMERS_AT_ONCE = 8;
const BUDGET = 400;
const FLOOD_AT_ONCE = 1000;
const FLOOD = 12_000;
/** What the heap may keep for want of a collection. */
const GROWTH_BYTES = 48 * 1024 * 1024;

let pki: TestPki;
let endpoint: Endpoint;
let daemon: Daemon;

beforeAll(async () => {
  pki = await testPki();
  endpoint = await startEndpoint();
  daemon = await startDaemon(`
max_pending_handshakes: ${BUDGET}
listeners:
  - name: mtls
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
    routes: [{ name: all, tls: terminate, policy: any, backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
});

afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await endpoint?.[Symbol.asyncDispose]();
});

async function target(): Promise<LiveClientOptions> {
  return { to: await daemon.address("mtls"), ca: pki.authority.certificatePem, certificate: pki.client };
}

test(`${STREAMS} streams and new clients beside ${FLOOD} that never finish their handshake`, async () => {
  const to = await target();
  const atFirst = daemon.descriptors;
  const streams: LiveClient[] = [];
  while (streams.length < STREAMS)
    streams.push(...(await Promise.all(Array.from({ length: 50 }, () => connected(to)))));
  const before = { descriptors: daemon.descriptors, bytes: daemon.residentBytes };

  await using flood = new Child([
    process.execPath,
    join(import.meta.dir, "../support/flood.ts"),
    to.to,
    String(FLOOD_AT_ONCE),
    String(FLOOD),
  ]);
  await eventually("the budget was used up", () => daemon.records.some(isEvicted), 10_000);
  let newcomers = 0;
  let slowestMs = 0;
  let mostDescriptors = 0;
  while (!flood.hasExited && daemon.records.filter(isEvicted).length < (FLOOD * 3) / 4) {
    const startedMs = performance.now();
    const few = await Promise.all(Array.from({ length: NEWCOMERS_AT_ONCE }, () => connected(to)));
    slowestMs = Math.max(slowestMs, performance.now() - startedMs);
    newcomers += few.length;
    mostDescriptors = Math.max(mostDescriptors, daemon.descriptors);
    for (const client of few) client.close();
    if (newcomers % (5 * NEWCOMERS_AT_ONCE) === 0) await Promise.all(streams.map((stream) => stream.echo()));
  }
  // `connected` and `echo` throw when a byte is missing or wrong.
  expect(newcomers).toBeGreaterThan(3 * NEWCOMERS_AT_ONCE);
  expect(slowestMs).toBeLessThan(4000);
  // Those that wait for their client have one descriptor each; a few more are on their way.
  expect(mostDescriptors - before.descriptors).toBeLessThan(BUDGET + 2 * NEWCOMERS_AT_ONCE + 50);

  await flood[Symbol.asyncDispose]();
  await Promise.all(streams.map((stream) => stream.echo()));
  await eventually(
    () => `all descriptors of the flood came back: ${before.descriptors} before, ${daemon.descriptors} now`,
    () => daemon.descriptors <= before.descriptors,
    10_000,
  );
  expect(daemon.residentBytes - before.bytes).toBeLessThan(GROWTH_BYTES);
  for (const stream of streams) stream.close();
  await eventually("all descriptors came back", () => daemon.descriptors <= atFirst);
  const evicted = daemon.records.filter(isEvicted);
  expect(evicted.length).toBeGreaterThan(1000);
  for (const { close_side, termination, detail, duration_ms } of evicted) {
    expect([close_side, termination]).toEqual(["proxy", "RR"]);
    expect(detail).toMatch(/^after \d+ ms: there were 4\d\d, and 400 may wait at once$/);
    expect(duration_ms).toBeGreaterThanOrEqual(75);
  }
  const odd = daemon.records.filter(({ close_reason }) => close_reason === "internal_error");
  expect(odd).toEqual([]);
}, 40_000);

function isEvicted({ close_reason }: { readonly close_reason: string }): boolean {
  return close_reason === "handshake_overload";
}
