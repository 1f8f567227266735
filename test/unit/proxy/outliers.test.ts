// Endpoints that are ejected for what connections to them meet with, by the shared memory alone and with a worker in virtual time.

import { afterEach, beforeEach, describe, expect, setSystemTime, test } from "bun:test";
import { Clock } from "../../../src/base/clock.ts";
import { Backend } from "../../../src/proxy/balance.ts";
import { EjectionLog } from "../../../src/proxy/ejection-log.ts";
import { type Attempt, Outliers } from "../../../src/proxy/outliers.ts";
import { CountTable, privateCounts, privateMemory } from "../../../src/snapshot/counts.ts";
import type { EndpointSpec, OutlierSpec } from "../../../src/snapshot/snapshot.ts";
import { backendSpec, endpointSpec } from "../../support/sim-snapshot.ts";
import { Probe, SimWorker } from "../../support/sim-worker.ts";

const SPEC: OutlierSpec = { failures: 3, ejectionMs: 10_000, maxEjectionMs: 35_000, maxEjectionPercent: 50 };
const START_MS = Date.UTC(2026, 0, 1);

/** Two processes that share their memory, and a wall clock. */
class Two {
  nowMs = START_MS;
  readonly told: string[] = [];
  readonly table: CountTable;
  readonly endpoints: readonly EndpointSpec[];
  readonly workers: readonly Outliers[];

  constructor(count: number, spec: Partial<OutlierSpec> = {}) {
    const size = { rows: 3, columns: 64 };
    this.table = new CountTable(privateMemory(CountTable.bytes(size)), size);
    this.endpoints = Array.from({ length: count }, (_, slot) => endpointSpec(slot));
    const parts = {
      spec: { ...SPEC, ...spec },
      endpoints: this.endpoints,
      connectTimeoutMs: 1000,
      states: this.table.states,
      wallClockMs: () => this.nowMs,
      events: {
        ejected: ({ slot }: EndpointSpec, forMs: number) => this.told.push(`${slot} ejected for ${forMs}`),
        back: ({ slot }: EndpointSpec) => this.told.push(`${slot} back`),
      },
    };
    this.workers = [new Outliers(parts), new Outliers(parts)];
  }

  begin(slot: number, { worker = 0, isUsable = true } = {}): Attempt | null {
    return (this.workers[worker] as Outliers).begin(this.endpoints[slot] as EndpointSpec, isUsable);
  }

  fail(slot: number, times: number): void {
    for (let round = 0; round < times; round++) this.begin(slot, { worker: round % 2, isUsable: false })?.failed();
  }

  get ejected(): number[] {
    const { states } = this.table;
    return this.endpoints.map(({ slot }) => slot).filter((slot) => states.ejectedUntilS(slot) * 1000 > this.nowMs);
  }
}

describe("the shared memory", () => {
  test("failures in a row of all processes together eject; longer each time, up to the longest", () => {
    const two = new Two(2);
    two.fail(0, 2);
    expect(two.ejected).toEqual([]);
    two.fail(0, 1);
    expect(two.ejected).toEqual([0]);
    // What was under way says nothing new.
    two.fail(0, 5);
    for (let round = 0; round < 3; round++) {
      two.nowMs += 40_000;
      expect(two.ejected).toEqual([]);
      two.fail(0, 1);
      expect(two.ejected).toEqual([0]);
    }
    expect(two.told).toEqual([
      "0 ejected for 10000",
      "0 ejected for 20000",
      "0 ejected for 35000",
      "0 ejected for 35000",
    ]);
  });

  test("after an ejection one connection at a time tries, of all processes; one that never ends is not waited for", () => {
    const two = new Two(2);
    two.fail(0, 3);
    two.nowMs += 11_000;
    const trial = two.begin(0);
    expect([trial?.isTrial, two.begin(0), two.begin(0, { worker: 1 })]).toEqual([true, null, null]);
    // For want of others it is used without a trial.
    expect(two.begin(0, { isUsable: false })?.isTrial).toBe(false);
    trial?.abandoned();
    expect(two.begin(0, { worker: 1 })?.isTrial).toBe(true);
    two.nowMs += 6000;
    const second = two.begin(0);
    second?.failed();
    expect(two.ejected).toEqual([0]);
    two.nowMs += 21_000;
    expect(two.begin(0)?.isTrial).toBe(true);
  });

  test("what was begun before an ejection does not end it", () => {
    const two = new Two(2);
    const early = two.begin(0);
    two.fail(0, 3);
    early?.connected({ bytesRead: 1 } as never, new Clock());
    early?.closed("completed");
    expect(two.ejected).toEqual([0]);
    two.nowMs += 11_000;
    const trial = two.begin(0);
    trial?.connected({ bytesRead: 1 } as never, new Clock());
    trial?.closed("completed");
    expect([two.ejected, two.told.at(-1), two.table.states.ejections(0)]).toEqual([[], "0 back", 0]);
    expect(two.table.states.backSinceS(0) * 1000).toBe(two.nowMs);
    expect(two.begin(0)?.isTrial).toBe(false);
  });

  test("never more than the share; one of several always; an only one never; those that drain do not count", () => {
    const ejectedOf = (count: number, percent: number): number => {
      const two = new Two(count, { maxEjectionPercent: percent });
      for (let slot = 0; slot < count; slot++) two.fail(slot, 9);
      return two.ejected.length;
    };
    expect([ejectedOf(1, 100), ejectedOf(2, 10), ejectedOf(5, 50), ejectedOf(4, 100), ejectedOf(10, 30)]).toEqual([
      0, 1, 2, 4, 3,
    ]);
    // One whose time is over but that nobody has reached since still counts.
    const two = new Two(4);
    two.fail(0, 3);
    two.fail(1, 3);
    two.nowMs += 60_000;
    two.fail(2, 9);
    expect(two.ejected).toEqual([]);
  });
});

describe("a worker", () => {
  let now = START_MS;
  beforeEach(() => {
    now = START_MS;
    setSystemTime(now);
  });
  afterEach(() => setSystemTime());

  const settle = (sim: SimWorker, ms: number): void => {
    for (let left = ms; left > 0; left -= 100) {
      sim.settle(100);
      now += 100;
      setSystemTime(now);
    }
  };

  /** Endpoints a and b, in turns; `bad` says what becomes of dials to a: null is a good one. */
  const simWith = (bad: { code: string | null }, spec: Partial<OutlierSpec> = {}) => {
    const dials: string[] = [];
    const endpoints = [endpointSpec(1, { name: "a" }), endpointSpec(2, { name: "b" })];
    const backend = { balance: "round_robin", connectAttempts: 2, endpoints } as const;
    const sim = new SimWorker({
      snapshot: { backends: [backendSpec({ ...backend, outliers: { ...SPEC, ...spec } })] },
      dialled: (server, address) => {
        const name = address.kind === "tcp" && address.host === "10.2.0.2" ? "a" : "b";
        dials.push(name);
        if (name === "b" || bad.code === null) return { kind: "connects", afterMs: 0, program: server };
        return { kind: "fails", afterMs: 0, code: bad.code };
      },
    });
    return { sim, dials, states: sim.worker.counts.table.states };
  };
  const connectTimes = (sim: SimWorker, times: number): void => {
    for (let round = 0; round < times; round++) sim.connect();
  };

  test("an endpoint that refuses is ejected, tried by one connection at a time, and comes back", () => {
    const bad = { code: "ECONNREFUSED" as string | null };
    const { sim, dials, states } = simWith(bad);
    connectTimes(sim, 8);
    expect(dials.filter((name) => name === "a")).toHaveLength(3);
    expect(states.ejectedUntilS(1) * 1000).toBe(START_MS + 10_000);
    // Its time is over: one tries, and fails, and nobody was harmed.
    settle(sim, 10_100);
    dials.length = 0;
    connectTimes(sim, 8);
    expect(dials.filter((name) => name === "a")).toHaveLength(1);
    // Times in the table are whole seconds.
    settle(sim, 21_000);
    bad.code = null;
    dials.length = 0;
    connectTimes(sim, 8);
    // One is trying, and has heard nothing yet.
    expect(dials.filter((name) => name === "a")).toHaveLength(1);
    expect(states.ejections(1)).toBe(2);
    // It has kept the connection for a second: many servers wait for the client.
    settle(sim, 1200);
    expect(states.ejections(1)).toBe(0);
    dials.length = 0;
    connectTimes(sim, 8);
    expect(dials.filter((name) => name === "a").length).toBeGreaterThanOrEqual(4);
    expect(sim.records).toEqual([]);
  });

  test("the first byte is success enough; a reset before it is a failure, one after it is neither", () => {
    const bad = { code: null };
    const { sim, states } = simWith(bad);
    sim.connect();
    sim.server.link.farReset();
    sim.settle();
    const failures = (): number => states.failures(1) + states.failures(2);
    expect(failures()).toBe(1);
    const late = sim.connect() && sim.server;
    late.send("x");
    late.link.farReset();
    sim.settle();
    expect(failures()).toBe(1);
    connectTimes(sim, 2);
    for (const server of sim.servers.slice(-2)) server.send("hello");
    settle(sim, 200);
    expect(failures()).toBe(0);
  });

  test("descriptors or ports that this side has run out of are nobody's failure", () => {
    for (const code of ["EMFILE", "EADDRNOTAVAIL"]) {
      const { sim, states } = simWith({ code });
      connectTimes(sim, 12);
      expect([states.failures(1), states.ejections(1)]).toEqual([0, 0]);
    }
  });

  test("a client that leaves during a trial gives it back", () => {
    const { sim, dials, states } = simWith({ code: null });
    states.setEjections(1, 1);
    const client = new Probe();
    sim.connect({ client });
    const trials = dials.filter((name) => name === "a").length;
    expect([trials, states.trialUntilS(1) > 0]).toEqual([1, true]);
    client.link.farReset();
    sim.settle();
    expect([states.trialUntilS(1), states.ejections(1)]).toEqual([0, 1]);
  });
});

test("while one connection tries an endpoint, whoever would choose it chooses another one", () => {
  const counts = privateCounts();
  const endpoints = [endpointSpec(1), endpointSpec(2)];
  const spec = backendSpec({ endpoints, outliers: SPEC });
  const [backend, ofAnother] = [new Backend(spec, { counts }), new Backend(spec, { counts })];
  const { states } = counts.table;
  // The emptiest, by far.
  for (let count = 0; count < 9; count++) counts.add(2);
  states.setEjections(1, 1);
  expect([backend.pick([]), backend.acquire(0)?.slot, backend.attempt?.isTrial]).toEqual([0, 1, true]);
  for (const each of [backend, ofAnother]) expect(each.pick([])).toBe(1);
  // Found out too late, it is another choice, and nothing is counted.
  states.endTrial(1);
  expect(ofAnother.pick([])).toBe(0);
  expect(backend.pick([])).toBe(0);
  expect(backend.acquire(0)?.slot).toBe(1);
  // So that nothing but the trial is in the way.
  counts.subtract(1);
  const active = counts.total(1);
  expect([ofAnother.acquire(0), counts.total(1)]).toEqual([null, active]);
  expect(ofAnother.pick([])).toBe(1);
});

test("the log has a bounded number of lines", () => {
  const lines: unknown[] = [];
  const clock = new Clock();
  const log = new EjectionLog({ info: () => {}, warn: (fields: unknown) => lines.push(fields) } as never, clock);
  const events = log.of("all");
  for (let round = 0; round < 100; round++) events.ejected(endpointSpec(1, { name: "a" }), 10_000);
  expect(lines).toHaveLength(20);
  clock.advance(10_001);
  events.ejected(endpointSpec(1, { name: "a" }), 10_000);
  expect(lines.at(-1)).toEqual({ backend: "all", endpoint: "a", seconds: 10, not_told: 80 });
});
