// Who has to make room for newcomers while he has not said what he wants, when, and who never has to. In virtual time.

import { describe, expect, test } from "bun:test";
import { pendingBudget } from "../../../src/proxy/pending.ts";
import { CountTable, MAX_SLOTS, privateMemory } from "../../../src/snapshot/counts.ts";
import type { Snapshot } from "../../../src/snapshot/snapshot.ts";
import { clientHello } from "../../sim/scripts.ts";
import type { HandshakeScript } from "../../support/sim-link.ts";
import { listenerSpec, routeSpec, SIM_TERMINATION } from "../../support/sim-snapshot.ts";
import { Probe, SimWorker } from "../../support/sim-worker.ts";

/** It takes clients of TLS, which may be silent for long. */
const PATIENT = listenerSpec({ peekTimeoutMs: 60_000, routes: [routeSpec({ tls: "passthrough" })] });

function simWith(snapshot: Partial<Snapshot>, descriptorLimit = 65_536): SimWorker {
  return new SimWorker({ snapshot: { listeners: [PATIENT], ...snapshot }, descriptorLimit });
}

/** So many silent clients. */
function silent(sim: SimWorker, count: number): Probe[] {
  return Array.from({ length: count }, () => sim.connect());
}

function reset(clients: readonly Probe[]): number[] {
  return clients.flatMap(({ resets }, index) => (resets > 0 ? [index] : []));
}

describe("at the budget", () => {
  test("a newcomer waits, until those who came first have had a moment and make room", () => {
    const sim = simWith({ maxPendingHandshakes: 10 });
    const clients = silent(sim, 10);
    const newcomer = sim.connect();
    expect(newcomer.isConnected).toBe(false);
    sim.settle(120);
    expect(newcomer.isConnected).toBe(true);
    expect(reset(clients)).toEqual([0, 1]);
    expect(sim.records[0]).toMatchObject({
      closeReason: "handshake_overload",
      closeSide: "proxy",
      termination: "RR",
      detail: expect.stringMatching(/^after 1\d\d ms: there were 10, and 10 may wait at once$/),
    });
  });

  test("nobody has to go while nobody waits", () => {
    const sim = simWith({ maxPendingHandshakes: 10 });
    silent(sim, 10);
    sim.settle(30_000);
    expect(sim.records).toEqual([]);
  });

  test("nobody has to go before he had a moment, however many come", () => {
    const sim = simWith({ maxPendingHandshakes: 4 });
    for (let count = 0; count < 200; count++) sim.connect();
    sim.settle(20_000);
    expect(sim.records.length).toBeGreaterThan(150);
    for (const { durationMs } of sim.records) expect(durationMs).toBeGreaterThanOrEqual(100 - 25);
  });

  test("whoever says what he wants while it is used up keeps his place, and gives up his part of it", () => {
    const sim = new SimWorker({ snapshot: { maxPendingHandshakes: 2, listeners: [behindProxy()] } });
    const [first, second] = silent(sim, 2) as [Probe, Probe];
    const third = sim.connect();
    first.send("PROXY TCP4 10.0.0.5 10.9.9.9 4711 443\r\nhello");
    sim.settle(10);
    expect([third.isConnected, sim.server.text]).toEqual([true, "hello"]);
    sim.connect();
    sim.settle(5000);
    expect([first.resets, second.resets]).toEqual([0, 1]);
  });

  test("TLS handshakes are part of it, and streams are not", () => {
    const termination = { ...SIM_TERMINATION, clientAuth: "none" } as const;
    const sim = new SimWorker({
      snapshot: {
        maxPendingHandshakes: 2,
        listeners: [
          listenerSpec({
            handshakeTimeoutMs: 60_000,
            routes: [routeSpec({ tls: "terminate", termination, match: { source: ["10.0.0.0/8"] } })],
          }),
          listenerSpec({ name: "plain", address: { kind: "tcp", host: "127.0.0.1", port: 2 } }),
        ],
      },
    });
    const streams = Array.from({ length: 20 }, () => sim.connect({ listener: 1 }));
    const stuck = [new Probe(() => {}, hello("silence")), new Probe(() => {}, hello("silence"))];
    for (const client of stuck) sim.connect({ client });
    expect(sim.worker.pending.size).toBe(2);
    const good = sim.connect({ client: new Probe(() => {}, hello("secured")) });
    sim.settle(200);
    expect(good.resets).toBe(0);
    expect(sim.worker.pending.size).toBe(1);
    expect(reset(stuck)).toEqual([0]);
    expect(reset(streams)).toEqual([]);
  });
});

describe("at max_connections with budget left", () => {
  test("of the process: a silent client has a second before it makes room", () => {
    const sim = simWith({ maxConnections: 3 });
    const clients = silent(sim, 3);
    const newcomer = sim.connect();
    sim.settle(900);
    expect([newcomer.isConnected, reset(clients)]).toEqual([false, []]);
    sim.settle(200);
    expect(newcomer.isConnected).toBe(true);
    expect(sim.records[0]).toMatchObject({ detail: expect.stringContaining("newcomers had to wait for a place") });
  });

  test("of a listener: only its own make room", () => {
    const listeners = [PATIENT, listenerSpec({ ...PATIENT, name: "b", address: other(2), slot: 2, maxConnections: 2 })];
    const sim = simWith({ listeners });
    const elsewhere = silent(sim, 3);
    const there = [sim.connect({ listener: 1 }), sim.connect({ listener: 1 })];
    sim.connect({ listener: 1 });
    sim.settle(1200);
    expect([reset(elsewhere), reset(there)]).toEqual([[], [0, 1]]);
  });

  test("streams never make room", () => {
    const sim = new SimWorker({ snapshot: { maxConnections: 3 } });
    const streams = silent(sim, 3);
    const newcomer = sim.connect();
    sim.settle(10_000);
    expect([newcomer.isConnected, reset(streams)]).toEqual([false, []]);
  });
});

describe("by default", () => {
  test.each([
    [9872, 0, 2468],
    [100, 0, 25],
    [40, 0, 16],
    [3, 0, 3],
    [9872, 7, 7],
  ])("with room for %p and %p configured it is %p", (room, configured, budget) => {
    expect(pendingBudget(room, configured)).toBe(budget);
  });

  test("silent clients leave three of four places to others", () => {
    const sim = simWith({ maxConnections: 100, listeners: [PATIENT, listenerSpec({ name: "b", address: other(2) })] });
    silent(sim, 60);
    expect(sim.worker.pending.size).toBe(25);
    const before = sim.records.length;
    const streams = Array.from({ length: 75 }, () => new Probe());
    for (const [index, client] of streams.entries()) sim.runtime.connect(other(2), client, "10.0.0.2", 5000 + index);
    sim.settle(10);
    expect(streams.every(({ isConnected }) => isConnected)).toBe(true);
    expect(sim.records.length).toBe(before);
  });

  test("a process has its share of what the daemon may hold", () => {
    const size = { rows: 6, columns: MAX_SLOTS };
    const table = new CountTable(privateMemory(CountTable.bytes(size)), size);
    const [counts] = [1, 2, 3, 4].map((owner) => table.claim(owner));
    if (!counts) throw new Error("a new table has rows");
    const sim = new SimWorker({ snapshot: { maxConnections: 400, listeners: [PATIENT] }, counts });
    silent(sim, 60);
    expect(sim.worker.pending.size).toBe(25);
  });
});

function behindProxy(): ReturnType<typeof listenerSpec> {
  return listenerSpec({ acceptProxyProtocol: true, trustedSources: ["10.0.0.0/8"], peekTimeoutMs: 60_000 });
}

function other(port: number): { kind: "tcp"; host: string; port: number } {
  return { kind: "tcp", host: "127.0.0.1", port };
}

function hello(outcome: HandshakeScript["outcome"]): HandshakeScript {
  return { hello: clientHello("a.example"), outcome, delayMs: 5, certificate: null };
}
