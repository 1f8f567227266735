// Limits of bandwidth in virtual time: the rate over seconds, who shares it, and that ends, idle limits and drains are what they are without one.

import { describe, expect, test } from "bun:test";
import { CountTable, MAX_SLOTS, privateMemory } from "../../../src/snapshot/counts.ts";
import type { BackendSpec } from "../../../src/snapshot/snapshot.ts";
import { backendSpec, snapshotSpec } from "../../support/sim-snapshot.ts";
import { Probe, SimWorker, type SimWorkerOptions } from "../../support/sim-worker.ts";

const KB = 1000;
/** What one read brings, see ORDERLY. */
const READ = 65_536;

function limited(spec: Partial<BackendSpec>, options: SimWorkerOptions = {}): SimWorker {
  return new SimWorker({ ...options, snapshot: { backends: [backendSpec(spec)] } });
}

/** Sends as much as a second of 1 MB/s needs and more, all at once. */
function flood(probe: Probe, bytes: number): void {
  for (let sent = 0; sent < bytes; sent += READ) probe.link.farSend(new Uint8Array(Math.min(READ, bytes - sent)));
}

describe("max_bandwidth", () => {
  for (const transfers of [false, true]) {
    test(`is what a connection gets, each way by itself (${transfers ? "transfer" : "data"})`, () => {
      const sim = limited({ maxBandwidth: 500 * KB }, { transfers });
      const client = sim.connect();
      const { server } = sim;
      flood(client, 4000 * KB);
      flood(server, 4000 * KB);
      sim.settle(1000);
      const before = [client.text.length, server.text.length];
      sim.settle(4000);
      for (const [index, probe] of [client, server].entries()) {
        const moved = probe.text.length - (before[index] as number);
        expect(moved).toBeGreaterThan(2000 * KB * 0.95);
        expect(moved).toBeLessThan(2000 * KB * 1.05);
      }
      sim.settle(6000);
      expect([client.text.length, server.text.length]).toEqual([4000 * KB, 4000 * KB]);
    });
  }

  test("holds over the first seconds too, but for one read and a tenth of a second", () => {
    const sim = limited({ maxBandwidth: 1000 * KB });
    const client = sim.connect();
    flood(client, 8000 * KB);
    sim.settle(2000);
    expect(sim.server.text.length).toBeLessThan(2100 * KB + READ);
    expect(sim.server.text.length).toBeGreaterThan(1900 * KB);
  });

  test("is each connection's own", () => {
    const sim = limited({ maxBandwidth: 500 * KB });
    const clients = [sim.connect(), sim.connect(), sim.connect()];
    for (const client of clients) flood(client, 2000 * KB);
    sim.settle(2000);
    for (const { text } of sim.servers) expect(text.length).toBeGreaterThan(950 * KB);
  });

  test("counts what was held before the relay began", () => {
    const server = new Probe();
    const sim = limited(
      { maxBandwidth: 100 * KB },
      { dialled: () => ({ kind: "connects", afterMs: 300, program: server }) },
    );
    const client = sim.connect();
    flood(client, 300 * KB);
    sim.settle(1000);
    expect(server.text.length).toBeLessThan(2 * READ + 80 * KB);
    sim.settle(3000);
    expect(server.text.length).toBe(300 * KB);
  });
});

describe("max_backend_bandwidth", () => {
  test("is shared evenly by those who want it, and small questions get through", () => {
    const sim = limited({ maxBackendBandwidth: 1000 * KB });
    const clients = [sim.connect(), sim.connect(), sim.connect()];
    const [one, two, small] = sim.servers as [Probe, Probe, Probe];
    flood(clients[0] as Probe, 8000 * KB);
    flood(clients[1] as Probe, 8000 * KB);
    for (let second = 0; second < 5; second++) {
      clients[2]?.send("?");
      sim.settle(1000);
      expect(small.text.length).toBe(second + 1);
    }
    const [first, other] = [one.text.length, two.text.length];
    expect(first + other).toBeGreaterThan(5000 * KB * 0.95);
    expect(first + other).toBeLessThan(5000 * KB * 1.08);
    expect(Math.abs(first - other)).toBeLessThan((first + other) * 0.1);
  });

  test("is shared by the processes that relay, and max_bandwidth is not", () => {
    for (const [limits, perSecond] of [
      [{ maxBackendBandwidth: 1000 * KB }, 250 * KB],
      [{ maxBandwidth: 1000 * KB }, 1000 * KB],
    ] as const) {
      const size = { rows: 8, columns: MAX_SLOTS };
      const table = new CountTable(privateMemory(CountTable.bytes(size)), size);
      const [counts] = [1, 2, 3, 4].map((owner) => table.claim(owner));
      if (counts === undefined || counts === null) throw new Error("there is a row");
      const sim = limited(limits, { counts });
      flood(sim.connect(), 8000 * KB);
      sim.settle(1000);
      const before = sim.server.text.length;
      sim.settle(4000);
      expect(sim.server.text.length - before).toBeGreaterThan(4 * perSecond * 0.93);
      expect(sim.server.text.length - before).toBeLessThan(4 * perSecond * 1.07);
    }
  });

  test("newcomers do not take the turns of those who wait already", () => {
    const sim = limited({ maxBackendBandwidth: 1000 * KB });
    flood(sim.connect(), 8000 * KB);
    const first = sim.server;
    for (let second = 0; second < 4; second++) {
      const before = first.text.length;
      for (let count = 0; count < 5; count++) flood(sim.connect(), READ);
      sim.settle(1000);
      expect(first.text.length).toBeGreaterThan(before);
    }
  });

  test("a reload changes it for connections that are open, and takes it away", async () => {
    const sim = limited({ maxBackendBandwidth: 200 * KB });
    const client = sim.connect();
    flood(client, 6000 * KB);
    sim.settle(2000);
    expect(sim.server.text.length).toBeLessThan(500 * KB);
    const publish = (maxBackendBandwidth: number, generation: number): Promise<void> =>
      sim.plane.publish(snapshotSpec({ generation, backends: [backendSpec({ maxBackendBandwidth })] }));
    await publish(1000 * KB, 2);
    sim.settle(500);
    const before = sim.server.text.length;
    sim.settle(2000);
    expect(sim.server.text.length - before).toBeGreaterThan(1900 * KB);
    expect(sim.server.text.length - before).toBeLessThan(2100 * KB);
    await publish(0, 3);
    sim.settle(500);
    expect(sim.server.text.length).toBe(6000 * KB);
  });
});

describe("a connection that is held", () => {
  test("is not idle, and is so again when nothing waits any more", () => {
    const sim = limited({ maxBandwidth: 10 * KB, idleTimeoutMs: 1000 });
    const client = sim.connect();
    flood(client, READ);
    sim.settle(6000);
    expect(sim.reasons).toEqual([]);
    sim.settle(3000);
    expect(sim.reasons).toEqual(["idle_timeout"]);
  });

  test("ends in order when its turn comes: all bytes, then the FIN", () => {
    const sim = limited({ maxBandwidth: 100 * KB });
    const client = sim.connect();
    const { server } = sim;
    flood(client, 3 * READ);
    client.link.farFinish();
    server.link.farFinish();
    sim.settle(500);
    expect([client.fins, server.fins]).toEqual([1, 0]);
    sim.settle(3000);
    expect([server.text.length, server.fins, sim.records[0]?.closeReason]).toEqual([3 * READ, 1, "completed"]);
    expect(sim.runtime.clock.armed).toBe(0);
  });

  test("is reset at once by either side", () => {
    for (const who of ["client", "server"] as const) {
      const sim = limited({ maxBandwidth: 10 * KB });
      const client = sim.connect();
      flood(client, 3 * READ);
      sim.settle(100);
      (who === "client" ? client : sim.server).link.farResetNow();
      sim.settle(100);
      expect(sim.reasons).toEqual([who === "client" ? "downstream_reset" : "upstream_reset"]);
      expect((who === "client" ? sim.server : client).resets).toBe(1);
      expect(sim.runtime.clock.armed).toBe(0);
    }
  });

  test("is not taken for silent by a drain", () => {
    const sim = limited({ maxBandwidth: 5 * KB });
    const client = sim.connect();
    flood(client, 2 * READ);
    sim.settle(50);
    void sim.plane.drain([]);
    sim.settle(900);
    expect(sim.reasons).toEqual([]);
    sim.settle(300);
    expect(sim.reasons).toEqual(["drain_timeout"]);
  });

  test("still takes what comes the other way", () => {
    const sim = limited({ maxBandwidth: 10 * KB });
    const client = sim.connect();
    flood(client, 2 * READ);
    sim.settle(100);
    sim.server.send("answer");
    sim.settle(50);
    expect(client.text).toBe("answer");
  });
});

test("without a limit everything is there at once", () => {
  const sim = limited({});
  const client = sim.connect();
  flood(client, 8000 * KB);
  sim.settle(500);
  expect(sim.server.text.length).toBe(8000 * KB);
});
