import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Backend } from "../../../src/proxy/balance.ts";
import { privateCounts } from "../../../src/snapshot/counts.ts";
import type { BackendSpec, EndpointSpec } from "../../../src/snapshot/snapshot.ts";
import { mulberry32 } from "../../support/sim-schedule.ts";
import { backendSpec, endpointSpec } from "../../support/sim-snapshot.ts";

type Balance = BackendSpec["balance"];

describe("least_connections", () => {
  test("always gives an endpoint of the least load per weight that may take one, as a naive search does", () => {
    fc.assert(
      fc.property(
        fc.array(anyEndpoint, { minLength: 1, maxLength: 6 }),
        fc.array(anyStep, { maxLength: 60 }),
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

for (const balance of ["least_connections", "round_robin", "random", "power_of_two"] as const) {
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

const anyEndpoint = fc.record({
  weight: fc.integer({ min: 1, max: 4 }),
  maxConnections: fc.integer({ min: 0, max: 3 }),
  backup: fc.boolean(),
});
/** Acquire, having tried some; or (a number) release one of those that are held. */
const anyStep = fc.oneof(
  fc.record({ tried: fc.uniqueArray(fc.integer({ min: 0, max: 5 }), { maxLength: 3 }) }),
  fc.nat(),
);

function playSteps(
  parts: readonly Partial<EndpointSpec>[],
  steps: readonly ({ readonly tried: readonly number[] } | number)[],
): void {
  const endpoints = parts.map((part, slot) => endpointSpec(slot, part));
  const backend = backendOf("least_connections", parts);
  const load = new Array<number>(endpoints.length).fill(0);
  const held: EndpointSpec[] = [];
  for (const step of steps) {
    if (typeof step === "number") {
      const [released] = held.length > 0 ? held.splice(step % held.length, 1) : [];
      if (released === undefined) continue;
      backend.release(released);
      load[released.slot] = (load[released.slot] as number) - 1;
    } else {
      const best = naivelyBest(endpoints, load, step.tried);
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

function naivelyBest(endpoints: readonly EndpointSpec[], load: readonly number[], tried: readonly number[]): number[] {
  const mayTake = ({ slot, maxConnections }: EndpointSpec): boolean =>
    !tried.includes(slot) && (maxConnections === 0 || (load[slot] as number) < maxConnections);
  const regular = endpoints.filter((endpoint) => !endpoint.backup && mayTake(endpoint));
  const candidates =
    regular.length > 0 ? regular : endpoints.filter((endpoint) => endpoint.backup && mayTake(endpoint));
  // Twelve is divisible by every weight in use, so the quotients are exact.
  const quotient = ({ slot, weight }: EndpointSpec): number => ((load[slot] as number) * 12) / weight;
  const least = Math.min(...candidates.map(quotient));
  return candidates.filter((endpoint) => quotient(endpoint) === least).map(({ slot }) => slot);
}

function backendOf(balance: Balance, parts: readonly Partial<EndpointSpec>[]): Backend {
  const endpoints = parts.map((part, slot) => endpointSpec(slot, part));
  return new Backend(backendSpec({ balance, endpoints }), { counts: privateCounts(), random: mulberry32(5) });
}

function acquired(backend: Backend, index: number): EndpointSpec {
  const endpoint = backend.acquire(index);
  if (endpoint === null) throw new Error("another process has been quicker, and there is none");
  return endpoint;
}

function taken(backend: Backend): EndpointSpec {
  return acquired(backend, backend.pick([]));
}
