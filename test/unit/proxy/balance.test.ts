import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { SHARE_OF_NEW } from "../../../src/proxy/balance/least-connections.ts";
import { Backend } from "../../../src/proxy/balance.ts";
import { type CountRow, privateCounts } from "../../../src/snapshot/counts.ts";
import type { EndpointStates } from "../../../src/snapshot/endpoint-states.ts";
import type { BackendSpec, EndpointSpec } from "../../../src/snapshot/snapshot.ts";
import { mulberry32 } from "../../support/sim-schedule.ts";
import { backendSpec, endpointSpec } from "../../support/sim-snapshot.ts";

type Balance = BackendSpec["balance"];

const NOW_S = Date.UTC(2026, 0, 1) / 1000;
const BALANCERS = [
  "least_connections",
  "round_robin",
  "random",
  "power_of_two",
  "least_latency",
  "source_hash",
] as const satisfies readonly Balance[];

describe("least_connections", () => {
  test("always gives an endpoint of the least load per weight that may take one, as a naive search does", () => {
    fc.assert(
      fc.property(
        fc.array(anyEndpoint, { minLength: 1, maxLength: 6 }),
        fc.array(anyStep, { maxLength: 60 }),
        fc.constantFrom(0, 30, 60, 100),
        playSteps,
      ),
      { numRuns: 500 },
    );
  });

  test("spreads ties evenly: after any number of picks no endpoint is more than one ahead", () => {
    for (const size of [2, 3, 7]) {
      const backend = backendOf(
        "least_connections",
        Array.from({ length: size }, () => ({})),
      );
      const picks = new Array<number>(size).fill(0);
      for (let count = 1; count <= 10 * size; count++) {
        const index = backend.pick([]);
        picks[index] = (picks[index] as number) + 1;
        backend.release(acquired(backend, index));
        expect(Math.max(...picks) - Math.min(...picks)).toBeLessThanOrEqual(1);
      }
    }
  });

  test("is fair to the endpoints of a tie even while others come and go", () => {
    const backend = backendOf("least_connections", [{}, {}, {}]);
    const picks = [0, 0, 0];
    for (let round = 0; round < 300; round++) {
      // One endpoint after the other is busy for a while, so that each pick has another tie.
      const busy = acquired(backend, round % 3);
      const index = backend.pick([]);
      expect(index).not.toBe(round % 3);
      picks[index] = (picks[index] as number) + 1;
      backend.release(busy);
    }
    expect(Math.max(...picks) - Math.min(...picks)).toBeLessThanOrEqual(2);
  });

  test("gives idle endpoints their turns by weight, while connections come one at a time", () => {
    const backend = backendOf("least_connections", [{ weight: 1 }, { weight: 3 }]);
    const picks = Array.from({ length: 400 }, () => {
      const endpoint = taken(backend);
      backend.release(endpoint);
      return endpoint.slot;
    });
    expect(picks.filter((slot) => slot === 0)).toHaveLength(100);
  });

  // Regression: by connections / weight before the new one, the endpoints of weight 1 had a fifth more than their share.
  test("over unequal endpoints loads are even on average while connections come and go", () => {
    const random = mulberry32(3);
    const backend = backendOf(
      "least_connections",
      Array.from({ length: 100 }, (_, slot) => ({ weight: 1 + (slot % 4) })),
    );
    const sums = new Array<number>(100).fill(0);
    const held = Array.from({ length: 800 }, () => taken(backend));
    for (let step = 0; step < 20_000; step++) {
      const [leaving] = held.splice(Math.floor(random() * held.length), 1) as [EndpointSpec];
      backend.release(leaving);
      held.push(taken(backend));
      if (step % 20 === 0)
        for (const slot of sums.keys()) sums[slot] = (sums[slot] as number) + backend.activeOf(endpointSpec(slot));
    }
    const loads = sums.map((sum, slot) => sum / (1 + (slot % 4)));
    expect((Math.max(...loads) * 100) / loads.reduce((a, b) => a + b)).toBeLessThan(1.1);
  });

  test("holds connections in proportion to weights", () => {
    const backend = backendOf("least_connections", [{ weight: 3 }, { weight: 1 }]);
    const held = Array.from({ length: 400 }, () => taken(backend).slot);
    expect(held.filter((slot) => slot === 0)).toHaveLength(300);
  });
});

describe("round_robin", () => {
  test("is nginx's smooth cycle, exactly, and repeats", () => {
    const backend = backendOf("round_robin", [{ weight: 5 }, { weight: 1 }, { weight: 1 }]);
    const cycle = Array.from({ length: 14 }, () => backend.pick([]));
    expect(cycle).toEqual([0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
  });

  test("does not look at load, but at limits", () => {
    const backend = backendOf("round_robin", [{}, { maxConnections: 1 }]);
    const picks = Array.from({ length: 6 }, () => {
      const index = backend.pick([]);
      acquired(backend, index);
      return index;
    });
    expect(picks.filter((index) => index === 1)).toHaveLength(1);
  });
});

describe("random", () => {
  test("draws by weight", () => {
    const backend = backendOf("random", [{ weight: 1 }, { weight: 3 }]);
    const picks = Array.from({ length: 4000 }, () => backend.pick([]));
    expect(picks.filter((index) => index === 1).length / 4000).toBeCloseTo(0.75, 1);
  });

  test("stays within the candidates when chance gives its largest value", () => {
    const spec = backendSpec({ balance: "random", endpoints: [endpointSpec(0), endpointSpec(1), endpointSpec(2)] });
    const backend = new Backend(spec, { counts: privateCounts(), random: () => 1 - 2 ** -53 });
    expect(backend.pick([])).toBe(2);
    expect(backend.pick([2])).toBe(1);
  });
});

describe("power_of_two", () => {
  test("never takes the most loaded of three, as it always meets a better one", () => {
    const backend = backendOf("power_of_two", [{}, {}, {}]);
    for (let count = 0; count < 5; count++) acquired(backend, 1);
    for (let count = 0; count < 500; count++) expect(backend.pick([])).not.toBe(1);
  });

  test("draws evenly among equals", () => {
    const backend = backendOf("power_of_two", [{}, {}, {}, {}]);
    const picks = Array.from({ length: 4000 }, () => backend.pick([]));
    for (let index = 0; index < 4; index++)
      expect(picks.filter((picked) => picked === index).length / 4000).toBeCloseTo(0.25, 1);
  });

  test("meets every pair equally often", () => {
    const backend = backendOf("power_of_two", [{}, {}, {}]);
    acquired(backend, 0);
    acquired(backend, 0);
    acquired(backend, 1);
    const picks = Array.from({ length: 4000 }, () => backend.pick([]));
    // The idle one wins two of the three pairs.
    expect(picks.filter((index) => index === 2).length / 4000).toBeCloseTo(2 / 3, 1);
  });

  test("takes the only one there is", () => {
    expect(backendOf("power_of_two", [{}]).pick([])).toBe(0);
  });
});

for (const balance of BALANCERS) {
  describe(`${balance}: what may be picked`, () => {
    test("a backup only when no other endpoint can take one", () => {
      const backend = backendOf(balance, [{ maxConnections: 1 }, { backup: true }, { maxConnections: 1 }]);
      const first = taken(backend);
      const second = taken(backend);
      expect([first.slot, second.slot].sort()).toEqual([0, 2]);
      expect(backend.pick([])).toBe(1);
      backend.release(first);
      expect(backend.pick([])).toBe(first.slot);
    });

    test("nothing that was tried, and -1 when nothing is left", () => {
      const backend = backendOf(balance, [{}, {}, { backup: true }]);
      expect(backend.pick([0])).toBe(1);
      expect(backend.pick([0, 1])).toBe(2);
      expect(backend.pick([0, 1, 2])).toBe(-1);
    });

    test("another zone only when none of ours can take one, and before a backup", () => {
      const parts = [{ isNear: false }, { maxConnections: 1 }, { backup: true }];
      const backend = backendOf(balance, parts);
      expect(backend.pick([])).toBe(1);
      const taken = acquired(backend, 1);
      expect(backend.pick([])).toBe(0);
      expect(backend.pick([0])).toBe(2);
      backend.release(taken);
      expect(backend.pick([])).toBe(1);
    });

    test("none that drains, also not in a panic", () => {
      expect(backendOf(balance, [{ state: "drain" }, {}]).pick([])).toBe(1);
      const { backend, states } = stateful({ balance, panicThreshold: 100 }, [{ state: "drain" }, {}]);
      states.setHealth(1, "down");
      expect(backend.pick([])).toBe(1);
      expect(backend.pick([1])).toBe(-1);
    });

    test("none that is down, and of the ejected only when there is no other; at once, whoever says so", () => {
      const { backend, states } = stateful({ balance }, [{}, {}, {}]);
      expect(backend.pick([1, 2])).toBe(0);
      states.setHealth(0, "down");
      expect(backend.pick([1, 2])).toBe(-1);
      states.setEjectedUntilS(1, NOW_S + 5);
      for (let count = 0; count < 20; count++) expect(backend.pick([])).toBe(2);
      // Nobody is well any more.
      states.setEjectedUntilS(2, NOW_S + 5);
      expect([1, 2]).toContain(backend.pick([]));
      expect(backend.pick([1, 2])).toBe(-1);
      states.setHealth(0, "up");
      expect(backend.pick([])).toBe(0);
    });

    test("one whose ejection has ended, without anybody saying so", () => {
      const time = { nowMs: NOW_S * 1000 };
      const { backend, states } = stateful({ balance }, [{}, {}], time);
      states.setEjectedUntilS(0, NOW_S + 5);
      time.nowMs += 4999;
      expect(backend.pick([1])).toBe(-1);
      time.nowMs += 1;
      expect(backend.pick([1])).toBe(0);
    });

    test("in a panic all that are below their limits", () => {
      const { backend, states } = stateful({ balance, panicThreshold: 50 }, [{ maxConnections: 1 }, {}, {}, {}]);
      states.setHealth(0, "down");
      states.setEjectedUntilS(1, NOW_S + 5);
      expect([backend.pick([2, 3])]).toEqual([-1]);
      states.setHealth(2, "down");
      expect(backend.pick([1, 2, 3])).toBe(0);
      expect(backend.pick([0, 2, 3])).toBe(1);
      acquired(backend, 0);
      expect(backend.pick([1, 2, 3])).toBe(-1);
    });
  });
}

test("backends that share a table of counts see each other's connections", () => {
  const counts = privateCounts();
  const spec = backendSpec({ endpoints: [endpointSpec(0), endpointSpec(1)] });
  const [first, second] = [new Backend(spec, { counts }), new Backend(spec, { counts })];
  acquired(first, 0);
  expect(second.pick([])).toBe(1);
});

test("releasing more often than was acquired is a defect, and says so", () => {
  const backend = backendOf("random", [{}]);
  expect(() => backend.release(endpointSpec(0))).toThrow("given back was taken");
});

describe("a slow start", () => {
  for (const balance of ["least_connections", "round_robin", "random", "least_latency"] as const) {
    test(`${balance}: begins with a tenth, grows evenly, and ends`, () => {
      const time = { nowMs: NOW_S * 1000 };
      const { backend, states } = stateful({ balance, slowStartMs: 100_000 }, [{}, {}], time);
      states.setBackSinceS(0, NOW_S);
      for (const slot of [0, 1]) states.setLatency(slot, 1000, time.nowMs);
      const share = (): number => {
        const held = Array.from({ length: 2200 }, () => taken(backend));
        for (const endpoint of held) backend.release(endpoint);
        return held.filter(({ slot }) => slot === 0).length / held.length;
      };
      expect(share()).toBeCloseTo(1 / 11, 1.3);
      time.nowMs += 50_000;
      for (const slot of [0, 1]) states.setLatency(slot, 1000, time.nowMs);
      expect(share()).toBeCloseTo(1 / 3, 1.3);
      time.nowMs += 51_000;
      for (const slot of [0, 1]) states.setLatency(slot, 1000, time.nowMs);
      expect(share()).toBeCloseTo(1 / 2, 1.3);
    });
  }
});

test("least_connections keeps 100 unequal endpoints within 5 % of their shares, on a trace of unequal connections", () => {
  const random = mulberry32(3);
  const parts = Array.from({ length: 100 }, () => ({ weight: 1 + Math.floor(random() * 10) }));
  const backend = backendOf("least_connections", parts);
  const weights = parts.reduce((sum, { weight }) => sum + weight, 0);
  // Connections of some endpoints last ten times as long, as they do when those are slow.
  const slowness = parts.map(() => 1 + 9 * random());
  const ends: { readonly at: number; readonly endpoint: EndpointSpec }[][] = Array.from({ length: 4000 }, () => []);
  const worst: number[] = [];
  let active = 0;
  for (let tick = 0; tick < ends.length; tick++) {
    for (const { endpoint } of ends[tick] ?? []) {
      backend.release(endpoint);
      active--;
    }
    for (let arrivals = 0; arrivals < 40; arrivals++) {
      const endpoint = taken(backend);
      active++;
      const lasts = 1 + Math.floor(-Math.log(1 - random()) * 100 * (slowness[endpoint.slot] as number));
      ends[tick + lasts]?.push({ at: tick, endpoint });
    }
    if (tick < 2000 || tick % 10 !== 0) continue;
    const loads = backend.spec.endpoints.map((endpoint) => backend.activeOf(endpoint) / endpoint.weight);
    worst.push(Math.max(...loads) / (active / weights));
  }
  expect(Math.max(...worst)).toBeLessThanOrEqual(1.05);
});

test("a choice by counts is void when another process has been quicker", () => {
  for (const balance of ["least_connections", "least_latency"] as const) {
    const { backend, counts } = stateful({ balance }, [{}, {}]);
    const index = backend.pick([]);
    counts.add(index);
    expect(backend.acquire(index)).toBeNull();
    expect(backend.pick([])).toBe(1 - index);
  }
});

const anyEndpoint = fc.record({
  weight: fc.integer({ min: 1, max: 4 }),
  maxConnections: fc.integer({ min: 0, max: 3 }),
  backup: fc.boolean(),
  isNear: fc.boolean(),
  state: fc.constantFrom("active" as const, "active" as const, "active" as const, "drain" as const),
});
const anyChange = fc.record({
  slot: fc.integer({ min: 0, max: 5 }),
  health: fc.constantFrom("up" as const, "up" as const, "down" as const, "unknown" as const),
  /** Seconds from now; it may be over. */
  ejectedFor: fc.constantFrom(-1, 0, 0, 1, 60),
});
/** Acquire, having tried some; or (a number) release one of those that are held; or another state of one. */
const anyStep = fc.oneof(
  fc.record({ tried: fc.uniqueArray(fc.integer({ min: 0, max: 5 }), { maxLength: 3 }) }),
  fc.nat(),
  anyChange,
);
type Change = Omit<typeof anyChange extends fc.Arbitrary<infer T> ? T : never, "slot">;

function playSteps(
  parts: readonly Partial<EndpointSpec>[],
  steps: readonly ({ readonly tried: readonly number[] } | number | (Change & { readonly slot: number }))[],
  panicThreshold: number,
): void {
  const endpoints = parts.map((part, slot) => endpointSpec(slot, part));
  const { backend, states } = stateful({ panicThreshold }, parts);
  const changes = endpoints.map((): Change => ({ health: "unknown", ejectedFor: 0 }));
  const load = new Array<number>(endpoints.length).fill(0);
  const held: EndpointSpec[] = [];
  for (const step of steps) {
    if (typeof step === "number") {
      const [released] = held.length > 0 ? held.splice(step % held.length, 1) : [];
      if (released === undefined) continue;
      backend.release(released);
      load[released.slot] = (load[released.slot] as number) - 1;
    } else if ("slot" in step) {
      if (step.slot >= endpoints.length) continue;
      states.setHealth(step.slot, step.health);
      states.setEjectedUntilS(step.slot, NOW_S + step.ejectedFor);
      changes[step.slot] = step;
    } else {
      const preferred = naivelyPreferred(endpoints, changes, panicThreshold);
      const best = naivelyBest(endpoints, load, [...step.tried, ...preferred.others]);
      const picked = backend.pick(step.tried);
      if (best.length === 0) expect(picked).toBe(-1);
      else expect(best).toContain(picked);
      if (picked < 0) continue;
      held.push(acquired(backend, picked));
      load[picked] = (load[picked] as number) + 1;
    }
    for (const endpoint of endpoints) expect(backend.activeOf(endpoint)).toBe(load[endpoint.slot] as number);
  }
}

/** The slots of those that may not be chosen for how they are. */
function naivelyPreferred(
  endpoints: readonly EndpointSpec[],
  changes: readonly Change[],
  panicThreshold: number,
): { readonly others: readonly number[] } {
  const active = endpoints.filter(({ state }) => state === "active");
  const notDown = active.filter(({ slot }) => changes[slot]?.health !== "down");
  const usable = notDown.filter(({ slot }) => (changes[slot]?.ejectedFor ?? 0) <= 0);
  const isPanic = (100 * usable.length) / active.length < panicThreshold;
  const chosen = isPanic ? active : usable.length > 0 ? usable : notDown;
  return { others: endpoints.filter((endpoint) => !chosen.includes(endpoint)).map(({ slot }) => slot) };
}

function naivelyBest(endpoints: readonly EndpointSpec[], load: readonly number[], tried: readonly number[]): number[] {
  const mayTake = ({ slot, maxConnections }: EndpointSpec): boolean =>
    !tried.includes(slot) && (maxConnections === 0 || (load[slot] as number) < maxConnections);
  const groups = [false, true].flatMap((backup) =>
    [true, false].map((isNear) =>
      endpoints.filter((each) => each.backup === backup && each.isNear === isNear && mayTake(each)),
    ),
  );
  const candidates = groups.find((group) => group.length > 0) ?? [];
  // Twelve is divisible by every weight in use, so the quotients are exact.
  const quotient = ({ slot, weight }: EndpointSpec): number => ((load[slot] as number) + SHARE_OF_NEW) * (12 / weight);
  const least = Math.min(...candidates.map(quotient));
  const best = candidates.filter((endpoint) => quotient(endpoint) === least).map(({ slot }) => slot);
  // All that are idle are equal.
  const idle = candidates.filter(({ slot }) => load[slot] === 0).map(({ slot }) => slot);
  return best.some((slot) => load[slot] === 0) ? [...best, ...idle] : best;
}

function backendOf(balance: Balance, parts: readonly Partial<EndpointSpec>[]): Backend {
  const endpoints = parts.map((part, slot) => endpointSpec(slot, part));
  return new Backend(backendSpec({ balance, endpoints }), { counts: privateCounts(), random: mulberry32(5) });
}

/** A backend of which the states and the time can be set. */
function stateful(
  spec: Partial<BackendSpec>,
  parts: readonly Partial<EndpointSpec>[],
  time = { nowMs: NOW_S * 1000 },
): { readonly backend: Backend; readonly states: EndpointStates; readonly counts: CountRow } {
  const counts = privateCounts();
  const endpoints = parts.map((part, slot) => endpointSpec(slot, part));
  const options = { counts, random: mulberry32(5), wallClockMs: () => time.nowMs };
  return { backend: new Backend(backendSpec({ ...spec, endpoints }), options), states: counts.table.states, counts };
}

function acquired(backend: Backend, index: number): EndpointSpec {
  const endpoint = backend.acquire(index);
  if (endpoint === null) throw new Error("another process has been quicker, and there is none");
  return endpoint;
}

function taken(backend: Backend): EndpointSpec {
  return acquired(backend, backend.pick([]));
}
