// A drain in virtual time: who is ended early, when, how many at once, and who is not.

import { describe, expect, test } from "bun:test";
import { backendSpec, listenerSpec, snapshotSpec } from "../../support/sim-snapshot.ts";
import { type Probe, SimWorker } from "../../support/sim-worker.ts";

const WINDOW_MS = 40_000;
const MANY = 400;
/** So that the clock goes on while nothing else is waited for. */
const BACKENDS = [backendSpec({ idleTimeoutMs: 3_600_000 })];

function simWith(clients: number, drainTimeoutMs = WINDOW_MS): { sim: SimWorker; clients: Probe[] } {
  const sim = new SimWorker({ snapshot: { drainTimeoutMs, backends: BACKENDS } });
  return { sim, clients: Array.from({ length: clients }, () => sim.connect()) };
}

/** Lets time pass in steps, and gives how many records each of them brought. */
function endedIn(sim: SimWorker, { steps, stepMs }: { steps: number; stepMs: number }): number[] {
  return Array.from({ length: steps }, () => {
    const before = sim.records.length;
    sim.settle(stepMs);
    return sim.records.length - before;
  });
}

describe("connections that are silent", () => {
  test("are let alone for a quarter of the window, and then ended evenly until just before its end", async () => {
    const { sim, clients } = simWith(MANY);
    const drained = sim.plane.drain([]);
    expect(endedIn(sim, { steps: 10, stepMs: 980 })).toEqual(Array(10).fill(0));
    sim.settle(200);
    const seconds = endedIn(sim, { steps: 28, stepMs: 1000 });
    // 400 in the 28 s from 10 s to 38 s.
    expect(Math.max(...seconds)).toBeLessThanOrEqual(17);
    expect(Math.min(...seconds.slice(0, -1))).toBeGreaterThanOrEqual(12);
    sim.settle(300);
    expect(sim.reasons).toEqual(Array(MANY).fill("drain_idle"));
    expect(clients.every(({ resets, fins }) => resets === 1 && fins === 0)).toBe(true);
    expect(await drained).toBe(0);
    expect(sim.runtime.clock.armed).toBe(0);
  });

  test("go a few at a time, however many there are", () => {
    const { sim } = simWith(3000);
    void sim.plane.drain([]);
    const moments = endedIn(sim, { steps: WINDOW_MS / 25, stepMs: 25 });
    expect(Math.max(...moments)).toBeLessThanOrEqual(4);
    expect(sim.records).toHaveLength(3000);
  });

  test("go in the order of their silence", () => {
    const { sim, clients } = simWith(10);
    const order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7];
    for (const index of order) {
      clients[index]?.send("x");
      sim.settle(100);
    }
    void sim.plane.drain([]);
    sim.settle(WINDOW_MS - 100);
    expect(sim.records.map(({ id }) => Number(id.split("-")[1]) - 1)).toEqual(order);
    expect(sim.records[0]).toMatchObject({ closeReason: "drain_idle", termination: "KD", detail: "silent for 11 s" });
  });

  test("and few go one by one over the whole of the window", () => {
    const { sim } = simWith(3);
    void sim.plane.drain([]);
    const at: number[] = [];
    for (let second = 1; second <= 40; second++) {
      const [count] = endedIn(sim, { steps: 1, stepMs: 1000 });
      for (let index = 0; index < (count ?? 0); index++) at.push(second);
    }
    expect(at).toEqual([10, 20, 29]);
  });

  test("for less than five seconds are not known to be idle: a short window ends nobody early", async () => {
    const { sim } = simWith(3, 3000);
    const drained = sim.plane.drain([]);
    sim.settle(2900);
    expect(sim.records).toEqual([]);
    sim.settle(200);
    expect(sim.reasons).toEqual(Array(3).fill("drain_timeout"));
    expect(await drained).toBe(3);
  });

  test("for long when a short drain begins are ended in it", async () => {
    const { sim } = simWith(3, 1000);
    sim.settle(10_000);
    const drained = sim.plane.drain([]);
    sim.settle(980);
    expect(sim.reasons).toEqual(Array(3).fill("drain_idle"));
    expect(await drained).toBe(0);
  });
});

describe("connections on which anything moves", () => {
  test("are not touched before the deadline, and are then counted as forced", async () => {
    const { sim, clients } = simWith(20);
    const drained = sim.plane.drain([]);
    const [busy, answered] = clients as [Probe, Probe];
    for (let second = 1; second < 40; second++) {
      // One speaks all the time; the other is answered once, and late.
      busy.send("x");
      if (second === 9) sim.servers[1]?.send("late");
      sim.settle(1000);
    }
    expect([busy.resets, answered.resets, answered.text]).toEqual([0, 0, "late"]);
    expect(sim.reasons).toEqual(Array(18).fill("drain_idle"));
    sim.settle(1100);
    expect(sim.reasons.slice(18)).toEqual(["drain_timeout", "drain_timeout"]);
    expect(await drained).toBe(2);
  });

  test("only in the kernel, to a reader that is slow, are among them", () => {
    const sim = new SimWorker({ snapshot: { drainTimeoutMs: WINDOW_MS, backends: BACKENDS } });
    const client = sim.connect();
    client.link.farRead(false);
    sim.server.link.farSend(new Uint8Array(30_000));
    sim.settle();
    void sim.plane.drain([]);
    sim.settle(9000);
    client.link.farRead(true);
    sim.settle(30_500);
    expect(sim.records).toEqual([]);
  });

  test("but have been ended by themselves are over, and what remains is spread anew", async () => {
    const { sim, clients } = simWith(4);
    const drained = sim.plane.drain([]);
    for (const client of clients.slice(0, 3)) client.link.farResetNow();
    sim.settle(39_000);
    expect(sim.reasons).toEqual(["downstream_reset", "downstream_reset", "downstream_reset", "drain_idle"]);
    expect(await drained).toBe(0);
  });
});

describe("a connection that is half closed", () => {
  test("waits for an answer: it has until it was silent for half a minute", () => {
    const { sim, clients } = simWith(2);
    clients[0]?.send("question");
    clients[0]?.link.farFinish();
    sim.settle();
    void sim.plane.drain([]);
    sim.settle(29_000);
    expect([clients[0]?.resets, clients[1]?.resets]).toEqual([0, 1]);
    sim.servers[0]?.send("answer");
    sim.servers[0]?.link.farFinish();
    sim.settle();
    expect(clients[0]?.text).toBe("answer");
    expect(sim.reasons).toEqual(["drain_idle", "completed"]);
  });

  test("and has waited for longer is given up like others", () => {
    const { sim, clients } = simWith(1);
    clients[0]?.link.farFinish();
    sim.settle(40_000);
    void sim.plane.drain([]);
    sim.settle(39_000);
    expect(sim.reasons).toEqual(["drain_idle"]);
  });
});

test("connections of a listener that was removed go the same way, and those of others stay", () => {
  const second = listenerSpec({ name: "second", address: { kind: "tcp", host: "127.0.0.1", port: 2 } });
  const sim = new SimWorker({ snapshot: { drainTimeoutMs: WINDOW_MS, listeners: [listenerSpec(), second] } });
  const stays = sim.connect();
  const [silent, busy] = [sim.connect({ listener: 1 }), sim.connect({ listener: 1 })];
  sim.plane.apply(snapshotSpec({ generation: 2, drainTimeoutMs: WINDOW_MS }));
  for (let second = 0; second < 41; second++) {
    busy.send("x");
    sim.settle(1000);
  }
  expect(sim.records).toMatchObject([
    { closeReason: "drain_idle", id: expect.stringMatching(/-2$/) },
    { closeReason: "drain_timeout", id: expect.stringMatching(/-3$/), detail: "the listener was removed" },
  ]);
  expect([stays.resets, silent.resets, busy.resets]).toEqual([0, 1, 1]);
});
