// New connections per second: in virtual time, so that the rate can be told exactly. The rate of a listener makes newcomers wait, that of a source resets them.

import { describe, expect, test } from "bun:test";
import { SourceRates } from "../../../src/proxy/rate-limit.ts";
import { CountTable, MAX_SLOTS, privateMemory } from "../../../src/snapshot/counts.ts";
import type { ListenerSpec } from "../../../src/snapshot/snapshot.ts";
import { listenerSpec, routeSpec, snapshotSpec } from "../../support/sim-snapshot.ts";
import { type Probe, SimWorker } from "../../support/sim-worker.ts";

function withListener(spec: Partial<ListenerSpec>): SimWorker {
  return new SimWorker({ snapshot: { listeners: [listenerSpec(spec)] } });
}

function connected(clients: readonly Probe[]): number {
  return clients.filter(({ isConnected }) => isConnected).length;
}

describe("max_connections_per_second", () => {
  test("lets a second's worth in at once, and the others one after the other, none of them lost", () => {
    const sim = withListener({ maxConnectionsPerSecond: 20 });
    const clients = Array.from({ length: 100 }, () => sim.connect());
    const atOnce = connected(clients);
    expect(atOnce).toBeGreaterThanOrEqual(20);
    // The clock ran a little while they came.
    expect(atOnce).toBeLessThanOrEqual(20 + 22);
    sim.settle(2000);
    const later = connected(clients);
    expect(later - atOnce).toBeGreaterThanOrEqual(38);
    expect(later - atOnce).toBeLessThanOrEqual(42);
    sim.settle(5000);
    expect(connected(clients)).toBe(100);
    expect(sim.reasons).toEqual([]);
  });

  test("waits also when nobody else comes or goes, and holds for as long as it is asked", () => {
    const sim = withListener({ maxConnectionsPerSecond: 1 });
    const clients = Array.from({ length: 5 }, () => sim.connect());
    for (let second = 1; second <= 5; second++) {
      expect(connected(clients)).toBe(second);
      sim.settle(second === 1 ? 985 : 1000);
    }
  });

  test("is shared by the processes that relay", () => {
    const size = { rows: 8, columns: MAX_SLOTS };
    const table = new CountTable(privateMemory(CountTable.bytes(size)), size);
    const [counts] = [1, 2, 3, 4].map((owner) => table.claim(owner));
    if (counts === undefined || counts === null) throw new Error("there is a row");
    const sim = new SimWorker({ snapshot: { listeners: [listenerSpec({ maxConnectionsPerSecond: 40 })] }, counts });
    const clients = Array.from({ length: 50 }, () => sim.connect());
    const before = connected(clients);
    sim.settle(2000);
    expect(connected(clients) - before).toBeGreaterThanOrEqual(19);
    expect(connected(clients) - before).toBeLessThanOrEqual(21);
  });
});

describe("a listener whose rate is used up", () => {
  test("goes by another rate at once after a reload", async () => {
    const sim = withListener({ maxConnectionsPerSecond: 1 });
    const clients = Array.from({ length: 5 }, () => sim.connect());
    await sim.plane.publish(snapshotSpec({ generation: 2 }));
    sim.settle();
    expect(connected(clients)).toBe(5);
  });

  test("has new connections wait and none ended, though its clients are slow to speak", () => {
    const sim = withListener({
      maxConnectionsPerSecond: 2,
      peekTimeoutMs: 60_000,
      routes: [routeSpec({ tls: "passthrough" })],
    });
    const clients = Array.from({ length: 20 }, () => sim.connect());
    sim.settle(5000);
    expect(sim.reasons).toEqual([]);
    expect(connected(clients)).toBeGreaterThanOrEqual(11);
    expect(connected(clients)).toBeLessThanOrEqual(12);
  });

  test("serves its queue on at that rate when it drains, until the drain is over", async () => {
    const sim = withListener({ maxConnectionsPerSecond: 4 });
    const clients = Array.from({ length: 10 }, () => sim.connect());
    const before = connected(clients);
    void sim.plane.drain([]);
    sim.settle(600);
    expect(connected(clients)).toBeGreaterThanOrEqual(before + 2);
    sim.settle(1000);
    expect([sim.worker.connectionCount, sim.runtime.clock.armed]).toEqual([0, 0]);
  });
});

describe("max_connections_per_second_per_source", () => {
  test("resets the one too many of a source, and no other source", () => {
    const sim = withListener({ maxConnectionsPerSecondPerSource: 2 });
    const three = [sim.connect(), sim.connect(), sim.connect()];
    const other = sim.connect({ ip: "10.0.0.2" });
    expect(sim.records).toMatchObject([
      { closeReason: "limit_reached", detail: "max_connections_per_second_per_source 2" },
    ]);
    expect(three.map(({ resets }) => resets)).toEqual([0, 0, 1]);
    expect(other.resets).toBe(0);
    sim.settle(600);
    expect(sim.connect().resets).toBe(0);
    expect(sim.connect().resets).toBe(1);
  });

  test("is judged on whom the PROXY header names", () => {
    const sim = withListener({
      maxConnectionsPerSecondPerSource: 1,
      acceptProxyProtocol: true,
      trustedSources: ["10.0.0.1/32"],
    });
    const resets = ["192.0.2.1", "192.0.2.2", "192.0.2.1"].map((ip) => {
      const client = sim.connect();
      client.send(`PROXY TCP4 ${ip} 198.51.100.1 1000 443\r\n`);
      sim.settle();
      return client.resets;
    });
    expect(resets).toEqual([0, 0, 1]);
  });

  test("one that was refused for another reason does not count", () => {
    const sim = withListener({ maxConnectionsPerSecondPerSource: 2, maxConnectionsPerSource: 1 });
    const first = sim.connect();
    sim.connect();
    sim.connect();
    first.link.farResetNow();
    sim.settle();
    expect(sim.connect().resets).toBe(0);
    expect(sim.records.map(({ detail }) => detail).filter((detail) => detail.includes("per_second"))).toEqual([]);
  });
});

describe("the table of sources", () => {
  test("is bounded, and many sources do not harm the others or free a greedy one", () => {
    const rates = new SourceRates();
    let greedy = 0;
    let good = 0;
    for (let flood = 0; flood < 100_000; flood++) {
      const nowMs = flood / 100;
      rates.admits(`flood ${flood}`, 1, nowMs);
      if (flood % 100 === 0 && rates.admits("greedy", 5, nowMs)) greedy++;
      if (flood % 25_000 === 0 && rates.admits("good", 5, nowMs)) good++;
      if (rates.size > 10_000) throw new Error(`${rates.size} sources are remembered`);
    }
    expect(good).toBe(4);
    // A second: five at once, and five in the course of it.
    expect(greedy).toBeGreaterThanOrEqual(9);
    expect(greedy).toBeLessThanOrEqual(10);
  });

  test("forgets those that have been quiet", () => {
    const rates = new SourceRates();
    for (let source = 0; source < 5000; source++) rates.admits(`source ${source}`, 10, 0);
    expect(rates.size).toBe(5000);
    for (let again = 0; again < 5000; again++) rates.admits("one", 10_000, 60_000);
    expect(rates.size).toBe(1);
  });
});
