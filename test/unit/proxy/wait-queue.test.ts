// Limits of a backend, and connections that wait for room at it, in virtual time.

import { afterEach, describe, expect, test } from "bun:test";
import { CountTable, privateMemory } from "../../../src/snapshot/counts.ts";
import type { BackendSpec } from "../../../src/snapshot/snapshot.ts";
import { backendSpec, endpointSpec } from "../../support/sim-snapshot.ts";
import { type Probe, SimWorker, type SimWorkerOptions } from "../../support/sim-worker.ts";

const { slot: SLOT, connectsSlot: CONNECTS_SLOT } = backendSpec();
const sims: SimWorker[] = [];

function simWith(backend: Partial<BackendSpec>, options: Partial<SimWorkerOptions> = {}): SimWorker {
  const sim = new SimWorker({ snapshot: { backends: [backendSpec(backend)] }, ...options });
  sims.push(sim);
  return sim;
}

/** Nothing that was counted stays counted. */
afterEach(() => {
  for (const sim of sims.splice(0)) {
    sim.worker.abort();
    sim.settle();
    const left = [SLOT, CONNECTS_SLOT, 0, 1, 2].map((slot) => sim.worker.counts.total(slot));
    expect(left).toEqual([0, 0, 0, 0, 0]);
  }
});

describe("without a queue", () => {
  test("max_connections: one more is reset with backend_overload, until there is room", () => {
    const sim = simWith({ maxConnections: 2, endpoints: [endpointSpec(1), endpointSpec(2)] });
    const [first] = [sim.connect(), sim.connect(), sim.connect()];
    expect(sim.records).toMatchObject([
      { closeReason: "backend_overload", detail: "backend: max_connections 2", attempts: 0, endpoint: "" },
    ]);
    expect(sim.worker.counts.table.traffic(SLOT, "failed")).toBe(1);
    (first as Probe).link.farReset();
    sim.settle();
    sim.connect();
    expect(sim.worker.connectionCount).toBe(2);
  });

  test("max_pending_connects: only those that connect count", () => {
    const sim = simWith(
      { maxPendingConnects: 2 },
      { dialled: (program) => ({ kind: "connects", afterMs: 100, program }) },
    );
    for (let round = 0; round < 3; round++) sim.connect();
    expect(sim.records).toMatchObject([{ closeReason: "backend_overload", detail: "backend: max_pending_connects 2" }]);
    sim.settle(200);
    expect(sim.worker.counts.total(CONNECTS_SLOT)).toBe(0);
    sim.connect();
    sim.settle(200);
    expect([sim.worker.connectionCount, sim.records.length]).toEqual([3, 1]);
  });

  test("an endpoint that fails gives its place back as one that is reached", () => {
    const sim = simWith(
      { maxConnections: 1, maxPendingConnects: 1 },
      { dialled: () => ({ kind: "fails", afterMs: 0, code: "ECONNREFUSED" }) },
    );
    for (let round = 0; round < 3; round++) sim.connect();
    expect(sim.reasons).toEqual(["connect_refused", "connect_refused", "connect_refused"]);
  });
});

describe("with a queue", () => {
  const ONE = { endpoints: [endpointSpec(1, { maxConnections: 1 })], queueSize: 2 };

  test("first come, first served, at once, with what was sent meanwhile; one too many is reset", () => {
    const sim = simWith({ ...ONE, queueTimeoutMs: 60_000 });
    const clients = ["a", "b", "c", "d"].map((text) => {
      const client = sim.connect();
      client.send(text);
      sim.settle(1);
      return client;
    });
    expect(sim.records).toMatchObject([{ closeReason: "backend_overload", detail: "backend: 2 are waiting already" }]);
    for (const [index, client] of clients.slice(0, 3).entries()) {
      expect(sim.servers.map(({ text }) => text)).toEqual(["a", "b", "c"].slice(0, index + 1));
      client.link.farReset();
      // Less than a tick: nobody had to look.
      sim.settle(5);
    }
    expect(sim.reasons.slice(1)).toEqual(Array(3).fill("downstream_reset"));
  });

  test("nobody waits longer than the timeout", () => {
    const sim = simWith({ ...ONE, queueTimeoutMs: 500 });
    const [, second] = [sim.connect(), sim.connect()];
    sim.settle(300);
    sim.connect();
    sim.settle(150);
    expect(sim.records).toEqual([]);
    sim.settle(100);
    expect(sim.records).toMatchObject([{ closeReason: "backend_overload", detail: "backend: no room within 500ms" }]);
    expect([(second as Probe).resets, sim.worker.counts.table.traffic(SLOT, "failed")]).toEqual([1, 1]);
    sim.settle(300);
    expect(sim.records).toHaveLength(2);
  });

  test("a client that leaves is noticed, and gives its place in the queue to another", () => {
    const sim = simWith({ ...ONE, queueTimeoutMs: 60_000 });
    const clients = [sim.connect(), sim.connect(), sim.connect()];
    clients[1]?.link.farReset();
    sim.settle();
    expect(sim.reasons).toEqual(["downstream_reset"]);
    sim.connect();
    expect(sim.reasons).toHaveLength(1);
    clients[0]?.link.farReset();
    sim.settle();
    // The third one was next.
    clients[2]?.send("third");
    sim.settle();
    expect(sim.server.text).toBe("third");
  });

  test("a newcomer does not overtake: while somebody waits, it goes to the end", () => {
    const size = { rows: 4, columns: 65_536 };
    const table = new CountTable(privateMemory(CountTable.bytes(size)), size);
    const counts = table.claim(1) ?? undefined;
    const other = table.claim(2);
    const sim = simWith({ ...ONE, queueTimeoutMs: 60_000 }, counts === undefined ? {} : { counts });
    // The place is another process's, which gives it up without telling us.
    other?.add(1);
    const first = sim.connect();
    other?.subtract(1);
    const second = sim.connect();
    first.send("first");
    second.send("second");
    sim.settle(60);
    expect(sim.servers.map(({ text }) => text)).toEqual(["first"]);
  });

  test("where no endpoint takes connections, nobody waits", () => {
    const sim = simWith({ ...ONE, queueTimeoutMs: 60_000 });
    sim.worker.counts.table.states.setHealth(1, "down");
    sim.connect();
    expect(sim.records).toMatchObject([
      { closeReason: "no_endpoint", detail: "every endpoint of backend is down or drains" },
    ]);
  });

  test("the end of the worker ends those that wait", () => {
    const sim = simWith({ ...ONE, queueTimeoutMs: 60_000 });
    for (let round = 0; round < 3; round++) sim.connect();
    sim.worker.abort();
    sim.settle();
    expect([sim.reasons.length, sim.worker.connectionCount]).toEqual([3, 0]);
  });
});
