import { describe, expect, test } from "bun:test";
import { addLatency, fadedLatency } from "../../../src/proxy/balance/least-latency.ts";
import { Backend } from "../../../src/proxy/balance.ts";
import { CountTable, privateMemory } from "../../../src/snapshot/counts.ts";
import { EndpointStates, STATE_CELLS } from "../../../src/snapshot/endpoint-states.ts";
import type { EndpointSpec } from "../../../src/snapshot/snapshot.ts";
import { backendSpec, endpointSpec } from "../../support/sim-snapshot.ts";

const START_MS = Date.UTC(2026, 0, 1);

/** Backends of several processes that share a table and a time. */
function processes(count: number, parts: readonly Partial<EndpointSpec>[]) {
  const time = { nowMs: START_MS };
  const size = { rows: count + 1, columns: 64 };
  const table = new CountTable(privateMemory(CountTable.bytes(size)), size);
  const endpoints = parts.map((part, slot) => endpointSpec(slot, part));
  const spec = backendSpec({ balance: "least_latency", endpoints, connectTimeoutMs: 500 });
  const backends = Array.from({ length: count }, (_, index) => {
    const counts = table.claim(index + 1);
    if (counts === null) throw new Error("there are rows");
    return new Backend(spec, { counts, wallClockMs: () => time.nowMs });
  });
  return { backends, table, time };
}

function taken(backend: Backend): EndpointSpec {
  for (let tries = 0; tries < 10; tries++) {
    const endpoint = backend.acquire(backend.pick([]));
    if (endpoint !== null) return endpoint;
  }
  throw new Error("nobody else changes the counts");
}

describe("a latency", () => {
  const newStates = (): EndpointStates => new EndpointStates(new Int32Array(2 * STATE_CELLS));

  test("rises at once with a slower sample, and falls slowly with faster ones", () => {
    const states = newStates();
    addLatency(states, 0, { us: 1000, nowMs: START_MS });
    addLatency(states, 0, { us: 9000, nowMs: START_MS + 1 });
    expect(states.latencyUs(0)).toBe(9000);
    addLatency(states, 0, { us: 1000, nowMs: START_MS + 2 });
    expect(states.latencyUs(0)).toBeGreaterThan(8990);
    for (let second = 1; second <= 10; second++) addLatency(states, 0, { us: 1000, nowMs: START_MS + 1000 * second });
    expect(states.latencyUs(0)).toBeCloseTo(1000 + 8000 / Math.E, -2);
  });

  test("fades while there are no samples, and never to nothing", () => {
    const states = newStates();
    expect(fadedLatency(states, 0, START_MS)).toBe(0);
    addLatency(states, 0, { us: 5000, nowMs: START_MS });
    expect(fadedLatency(states, 0, START_MS + 10_000)).toBeCloseTo(5000 / Math.E, 3);
    expect(fadedLatency(states, 0, START_MS + 3_600_000)).toBeGreaterThan(0);
  });

  test("is as new as can be for a process whose clock is behind, and whatever the time that wraps around", () => {
    const states = newStates();
    for (const atMs of [START_MS, 2 ** 31 * 800 - 5, 2 ** 31 * 800 + 5]) {
      states.setLatency(0, 5000, atMs);
      expect(fadedLatency(states, 0, atMs - 900)).toBe(5000);
      expect(fadedLatency(states, 0, atMs + 10_000)).toBeCloseTo(5000 / Math.E, 3);
    }
  });
});

describe("least_latency", () => {
  test("tries each of which nothing is known by one connection, in all processes together, and waits for what comes of it", () => {
    const { backends, time } = processes(2, [{}, {}, {}, {}]);
    const [first, second] = backends as [Backend, Backend];
    const tried = [taken(first), taken(second), taken(first)];
    expect(tried.map(({ slot }) => slot)).toEqual([0, 1, 2]);
    first.connected(tried[0] as EndpointSpec, 20);
    time.nowMs += 60;
    // The fourth is still unknown; after that the one that is known is better than those that have not answered.
    expect(taken(second).slot).toBe(3);
    for (let count = 0; count < 5; count++) expect(taken(count % 2 === 0 ? first : second).slot).toBe(0);
  });

  test("two processes that choose the same one at once do not both have it", () => {
    const { backends } = processes(2, [{}, {}]);
    const [first, second] = backends as [Backend, Backend];
    expect([first.pick([]), second.pick([])]).toEqual([0, 0]);
    expect(first.acquire(0)?.slot).toBe(0);
    expect(second.acquire(0)).toBeNull();
    expect(second.pick([])).toBe(1);
  });

  test("gives connections so that latency × connections is even, by weight, and all processes learn of each sample", () => {
    const { backends, time } = processes(2, [{}, {}, { weight: 3 }]);
    const [first, second] = backends as [Backend, Backend];
    for (const [index, ms] of [1, 3, 3].entries()) first.connected(endpointSpec(index), ms);
    time.nowMs += 60;
    const held = Array.from({ length: 700 }, () => taken(second));
    const counts = [0, 1, 2].map((slot) => held.filter((endpoint) => endpoint.slot === slot).length);
    // 300 × 1 = 100 × 3 = 300 × 3 / 3
    for (const [slot, count] of [300, 100, 300].entries())
      expect(Math.abs((counts[slot] as number) - count)).toBeLessThan(5);
  });

  test("leaves a slow one alone, and tries it again after a while, with one connection at a time", () => {
    const { backends, time } = processes(1, [{}, {}]);
    const [backend] = backends as [Backend];
    const serve = (slowMs: number): number => {
      const endpoint = taken(backend);
      backend.connected(endpoint, 1);
      backend.answered(endpoint, endpoint.slot === 0 ? slowMs : 1);
      backend.release(endpoint);
      return endpoint.slot;
    };
    const slots: number[] = [];
    for (let tick = 0; tick < 200; tick++) {
      slots.push(serve(200));
      time.nowMs += 100;
    }
    // Once at first, when nothing was known: 200 ms fade to 1 in 53 s.
    expect(slots.filter((slot) => slot === 0)).toHaveLength(1);
    for (let tick = 0; tick < 400; tick++) {
      slots.push(serve(200));
      time.nowMs += 100;
    }
    expect(slots.filter((slot) => slot === 0)).toHaveLength(2);
    // It has faded again, and a burst comes before the answer.
    time.nowMs += 1;
    for (let tick = 0; tick < 520; tick++) {
      const endpoint = taken(backend);
      if (endpoint.slot === 0) break;
      backend.connected(endpoint, 1);
      backend.answered(endpoint, 1);
      backend.release(endpoint);
      time.nowMs += 100;
    }
    const burst = Array.from({ length: 20 }, () => taken(backend).slot);
    expect(burst.filter((slot) => slot === 0).length).toBe(0);
  });

  test("one that refuses at once is a slow one", () => {
    const { backends, time } = processes(1, [{}, {}]);
    const [backend] = backends as [Backend];
    backend.failed(taken(backend), "ECONNREFUSED");
    const endpoint = taken(backend);
    expect(endpoint.slot).toBe(1);
    backend.connected(endpoint, 2);
    backend.release(endpoint);
    time.nowMs += 1000;
    for (let count = 0; count < 10; count++) expect(taken(backend).slot).toBe(1);
  });

  test("does not take one that faded for quick because it could be connected to: the answer decides", () => {
    const { backends, table, time } = processes(1, [{}, {}]);
    const [backend] = backends as [Backend];
    for (const ms of [400, 1]) {
      const endpoint = taken(backend);
      backend.connected(endpoint, 1);
      backend.answered(endpoint, ms);
      backend.release(endpoint);
    }
    time.nowMs += 30_000;
    backend.connected(endpointSpec(0), 1);
    expect(table.states.latencyUs(0)).toBe(400_000);
    expect(fadedLatency(table.states, 0, time.nowMs)).toBeCloseTo(400_000 * Math.exp(-3), 0);
    // What is slower than anything before is known at once.
    backend.connected(endpointSpec(0), 450);
    expect(table.states.latencyUs(0)).toBe(450_000);
  });
});
