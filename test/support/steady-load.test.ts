// The load generator itself: against an endpoint that does everything right it has nothing to report, and against one that is wrong in known ways it reports exactly
// those. Otherwise its "0 failed" would say nothing.

import { describe, expect, test } from "bun:test";
import net from "node:net";
import { eventually } from "./eventually.ts";
import { unusedPort } from "./servers.ts";
import type { FailureKind, Summary } from "./steady-load/report.ts";
import { SteadyLoad, startEchoes } from "./steady-load.ts";

const QUICK = { timeoutMs: 1000, streamPatienceMs: 1000, maxPayloadBytes: 65_536 };

/** What a middle does to one connection. */
type Wrong = "reset" | "truncated" | "corrupted" | "timed_out" | "right";

/** Between the load and an endpoint; `wrong` decides for each connection, by its number from 0. Counts what it did. */
async function startMiddle(endpoint: string, wrong: (index: number) => Wrong) {
  const did: Partial<Record<FailureKind | "right", number>> = {};
  let index = 0;
  const server = net.createServer({ allowHalfOpen: true }, (client) => {
    const what = wrong(index++);
    did[what] = (did[what] ?? 0) + 1;
    const upstream = net.connect({ host: "127.0.0.1", port: Number(endpoint.split(":")[1]), allowHalfOpen: true });
    for (const socket of [client, upstream]) socket.on("error", () => {});
    client.on("close", () => upstream.destroy());
    if (what === "timed_out") client.resume();
    else client.pipe(upstream);
    if (what === "right") upstream.pipe(client);
    else
      upstream.once("data", (bytes: Buffer) => {
        if (what === "reset") client.resetAndDestroy();
        else if (what === "truncated") client.end(bytes.subarray(0, -1));
        else if (what === "corrupted") {
          bytes[0] = (bytes[0] ?? 0) ^ 1;
          client.write(bytes);
          upstream.pipe(client);
        }
      });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    did,
    address: `127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    [Symbol.dispose]: () => void server.close(),
  };
}

function expectNothingWrong(summary: Summary, streams: number): void {
  expect(summary).toMatchObject({ failed: {}, examples: [], skipped: 0, streamsOk: streams });
  expect(summary.ok).toBe(summary.attempted);
}

describe("against an endpoint that does everything right", () => {
  test("nothing is wrong, and the pace is kept", async () => {
    await using echoes = await startEchoes(2);
    const targets = echoes.addresses.map((address) => ({ address }));
    await using load = new SteadyLoad({ targets, perSecond: 200, streams: 20, seconds: 2 });
    await load.ready();
    const summary = await load.finished();
    expectNothingWrong(summary, 20);
    expect(summary.attempted).toBeGreaterThanOrEqual(395);
    expect(summary.attempted).toBeLessThanOrEqual(410);
    expect(summary.streamedBytes).toBeGreaterThan(20 * 20 * 100);
    const counts = await echoes.counts();
    expect(counts.endpoints.reduce((sum, { total }) => sum + total, 0)).toBe(summary.attempted + 20);
    expect(await echoes.open()).toEqual([0, 0]);
  }, 15_000);
});

describe("against a middle that is wrong in known ways", () => {
  test("exchanges: exactly those are reported", async () => {
    await using echoes = await startEchoes(1);
    const kinds: Readonly<Record<number, Wrong>> = { 10: "reset", 20: "truncated", 30: "corrupted", 40: "timed_out" };
    using middle = await startMiddle(echoes.addresses[0] as string, (index) => kinds[index % 100] ?? "right");
    const targets = [{ address: middle.address }];
    await using load = new SteadyLoad({ targets, perSecond: 300, streams: 0, seconds: 10, exchanges: 400, ...QUICK });
    await eventually("all that is wrong was told", () => load.failures.length >= 16, 8000);
    const summary = await load.stop();
    const { right, ...wrong } = middle.did;
    expect(wrong).toEqual({ reset: 4, truncated: 4, corrupted: 4, timed_out: 4 });
    expect(summary.failed).toEqual(wrong);
    expect([summary.attempted, summary.ok]).toEqual([400, right as number]);
  }, 15_000);

  test("streams: each is reported as what was done to it, and the others go on", async () => {
    await using echoes = await startEchoes(1);
    const kinds: readonly Wrong[] = ["reset", "truncated", "corrupted", "timed_out"];
    using middle = await startMiddle(echoes.addresses[0] as string, (index) => kinds[index] ?? "right");
    const targets = [{ address: middle.address }];
    await using load = new SteadyLoad({ targets, perSecond: 0, streams: 8, seconds: 2, ...QUICK });
    const summary = await load.finished();
    expect(summary.failed).toEqual({ reset: 1, truncated: 1, corrupted: 1, timed_out: 1 });
    expect(summary.streamsOk).toBe(4);
  }, 15_000);

  test("nobody listens: each is refused", async () => {
    const targets = [{ address: `127.0.0.1:${await unusedPort()}` }];
    await using load = new SteadyLoad({ targets, perSecond: 100, streams: 2, seconds: 0.5 });
    const summary = await load.finished();
    expect(summary.failed).toEqual({ refused: summary.attempted + 2 });
    expect(summary.examples[0]).toMatchObject({ kind: "refused", phase: "connect", code: "ECONNREFUSED" });
  }, 15_000);
});
