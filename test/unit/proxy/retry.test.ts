// Attempts beyond the endpoints that there are: after a random time, within a budget, and never once the client's bytes are under way.

import { expect, test } from "bun:test";
import { Ending } from "../../../src/proxy/ending.ts";
import { backOffMs, mayPass, retriesWithin } from "../../../src/proxy/retry.ts";
import type { BackendSpec } from "../../../src/snapshot/snapshot.ts";
import { backendSpec, endpointSpec } from "../../support/sim-snapshot.ts";
import { Probe, SimWorker } from "../../support/sim-worker.ts";

const RETRIES_SLOT = backendSpec().retriesSlot;
const ENDPOINTS = [endpointSpec(1, { name: "a" }), endpointSpec(2, { name: "b" })];

/** Dials fail at once, unless `answers` says otherwise of the nth one, from 1; notes when each was made. */
function simWith(backend: Partial<BackendSpec>, answers: (dial: number) => boolean = () => false) {
  const dials: { readonly atMs: number; readonly to: string }[] = [];
  const sim: SimWorker = new SimWorker({
    snapshot: { backends: [backendSpec({ endpoints: ENDPOINTS, ...backend })] },
    dialled: (server, address) => {
      dials.push({ atMs: sim.schedule.nowMs, to: address.kind === "tcp" ? address.host : "" });
      if (answers(dials.length)) return { kind: "connects", afterMs: 0, program: server };
      return { kind: "fails", afterMs: 0, code: "ECONNREFUSED" };
    },
  });
  return { sim, dials, retrying: () => sim.worker.counts.total(RETRIES_SLOT) };
}

/** Clients that come in one moment. */
function crowd(sim: SimWorker, count: number): void {
  for (let port = 1; port <= count; port++)
    sim.runtime.connect({ kind: "tcp", host: "127.0.0.1", port: 1000 }, new Probe(), "10.0.0.1", port);
  sim.settle(0);
}

test("others at once, the same ones after a while that grows; then the client is served with what it had sent", () => {
  const { sim, dials, retrying } = simWith({ connectAttempts: 6 }, (dial) => dial === 6);
  const client = sim.connect();
  client.send("hello");
  expect(dials).toHaveLength(2);
  expect([retrying(), dials[0]?.atMs]).toEqual([1, dials[1]?.atMs]);
  sim.settle(500);
  expect(dials).toHaveLength(6);
  const [, second, third, fourth, fifth, sixth] = dials.map(({ atMs }) => atMs) as number[];
  // One round of both, then the other: within a round nobody waits.
  expect([third, fifth]).toEqual([fourth, sixth]);
  expect(Number(third)).toBeGreaterThan(Number(second));
  expect([sim.server.text, retrying(), sim.records]).toEqual(["hello", 0, []]);
});

test("what a moment does not change is not tried again", () => {
  const reasons = ["connect_refused", "connect_timeout", "upstream_handshake_timeout", "upstream_reset"] as const;
  expect(reasons.map((reason) => mayPass(new Ending(reason)))).toEqual([true, true, true, true]);
  const lasting = ["upstream_certificate_rejected", "upstream_handshake_failed"] as const;
  expect(lasting.map((reason) => mayPass(new Ending(reason)))).toEqual([false, false]);
});

test("the wait is anything up to a bound that doubles", () => {
  const bounds = [1, 2, 3, 4, 5, 6, 9].map((round) => backOffMs(round, () => 1));
  expect(bounds).toEqual([50, 100, 200, 400, 800, 1000, 1000]);
  expect([backOffMs(3, () => 0), backOffMs(3, () => 0.5)]).toEqual([0, 100]);
});

test("the budget is a share of the connections, and three at least", () => {
  expect([retriesWithin(0.2, 0), retriesWithin(0.2, 15), retriesWithin(0.2, 100), retriesWithin(0, 100)]).toEqual([
    3, 3, 20, 3,
  ]);
});

test("beyond the budget a connection ends as it failed; those within it go on, and give their place back", () => {
  const { sim, retrying } = simWith({ connectAttempts: 4 });
  crowd(sim, 5);
  expect([retrying(), sim.reasons]).toEqual([3, ["connect_refused", "connect_refused"]]);
  expect(sim.records[0]?.detail).toContain("not tried again");
  expect(sim.records[0]?.attempts).toBe(2);
  sim.settle(500);
  expect([retrying(), sim.reasons.length]).toEqual([0, 5]);
  expect(sim.records.slice(2).map(({ attempts }) => attempts)).toEqual([4, 4, 4]);
});

test("the share is that of all processes", () => {
  const { sim, retrying } = simWith({ connectAttempts: 4, retryBudget: 0.5 });
  for (let count = 0; count < 12; count++) sim.worker.counts.add(1);
  crowd(sim, 20);
  // Half of the twelve, and of those of the crowd that were being dialled just then.
  expect(retrying()).toBeGreaterThanOrEqual(6);
  expect(retrying()).toBeLessThan(16);
});

test("going on to another endpoint is not counted, however many do", () => {
  const { sim } = simWith({ connectAttempts: 2, balance: "round_robin" }, (dial) => dial % 2 === 0);
  for (let round = 0; round < 50; round++) sim.connect();
  expect([sim.records, sim.worker.connectionCount]).toEqual([[], 50]);
});

test("a client that leaves while it waits is noticed, and gives its place back", () => {
  const { sim, dials, retrying } = simWith({ connectAttempts: 32 });
  const client = new Probe();
  sim.connect({ client });
  client.link.farReset();
  sim.settle(5);
  const before = dials.length;
  expect([sim.reasons, retrying()]).toEqual([["downstream_reset"], 0]);
  sim.settle(5000);
  expect(dials).toHaveLength(before);
});

test("once it is connected, nothing is tried again", () => {
  const { sim, dials } = simWith({ connectAttempts: 6 }, () => true);
  const client = sim.connect();
  client.send("pay once");
  sim.settle();
  expect(sim.server.text).toBe("pay once");
  sim.server.link.farReset();
  sim.settle(5000);
  expect([dials.length, sim.reasons, client.resets]).toEqual([1, ["upstream_reset"], 1]);
});
