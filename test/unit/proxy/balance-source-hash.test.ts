import { describe, expect, test } from "bun:test";
import { MaglevTable, TABLE_SIZES } from "../../../src/proxy/balance/maglev.ts";
import { Backend } from "../../../src/proxy/balance.ts";
import { privateCounts } from "../../../src/snapshot/counts.ts";
import type { EndpointSpec } from "../../../src/snapshot/snapshot.ts";
import { mulberry32 } from "../../support/sim-schedule.ts";
import { backendSpec, endpointSpec } from "../../support/sim-snapshot.ts";

const SOURCES = Array.from({ length: 20_000 }, (_, index) => ({
  bytes: Uint8Array.of(10, index >> 16, (index >> 8) & 255, index & 255),
}));

function endpointsOf(parts: readonly Partial<EndpointSpec>[]): EndpointSpec[] {
  return parts.map((part, slot) => endpointSpec(slot, part));
}

function backendOf(endpoints: readonly EndpointSpec[], counts = privateCounts()): Backend {
  return new Backend(backendSpec({ balance: "source_hash", endpoints }), { counts, random: mulberry32(1) });
}

/** The name of each source's endpoint. */
function namesOf(backend: Backend): readonly string[] {
  return SOURCES.map((source) => backend.spec.endpoints[backend.pick([], source)]?.name ?? "none");
}

function countOf(names: readonly string[], name: string): number {
  return names.filter((each) => each === name).length;
}

describe("a table", () => {
  test("has a prime size, of a hundred entries for each endpoint as far as that goes", () => {
    for (const size of TABLE_SIZES) {
      for (let divisor = 2; divisor * divisor <= size; divisor++) expect(size % divisor).not.toBe(0);
    }
    const entries = (count: number) => Array.from({ length: count }, (_, index) => ({ name: `${index}`, weight: 1 }));
    for (const count of [1, 655, 656, 2000])
      expect(new MaglevTable(entries(count)).whole.length).toBeGreaterThanOrEqual(100 * count);
    expect(new MaglevTable(entries(20_000)).whole.length).toBe(TABLE_SIZES.at(-1) as number);
  });

  test("gives entries by weight, to less than a hundredth", () => {
    const entries = [1, 2, 3, 10, 1000].map((weight) => ({ name: `w${weight}`, weight }));
    const table = new MaglevTable(entries).whole;
    for (const [index, { weight }] of entries.entries())
      expect(
        Math.abs(table.filter((entry) => entry === index).length / table.length / (weight / 1016) - 1),
      ).toBeLessThan(0.01);
  });
});

test("a table is the same whether it is made in pieces or at once", () => {
  const entries = Array.from({ length: 3000 }, (_, index) => ({ name: `e${index}`, weight: 1 + (index % 3) }));
  const pieces = new MaglevTable(entries);
  while (pieces.makeSome());
  expect(pieces.whole).toEqual(new MaglevTable(entries).whole);
});

describe("source_hash", () => {
  test("gives a source the same endpoint each time, in each process, whatever the load and the order in the config", () => {
    const endpoints = endpointsOf([{}, {}, {}, {}]);
    const backend = backendOf(endpoints);
    const names = namesOf(backend);
    for (let count = 0; count < 50; count++) backend.acquire(0);
    expect(namesOf(backend)).toEqual(names);
    const other = namesOf(backendOf([...endpoints].reverse()));
    // A tie of two that want the same entry in the same turn goes to the one that stands first.
    expect(other.filter((name, index) => name !== names[index]).length / SOURCES.length).toBeLessThan(0.02);
  });

  test("gives each endpoint its share of the sources, by weight", () => {
    const names = namesOf(backendOf(endpointsOf([{}, { weight: 2 }, {}, { weight: 4 }])));
    for (const [slot, share] of [1 / 8, 2 / 8, 1 / 8, 4 / 8].entries())
      expect(countOf(names, endpointSpec(slot).name) / names.length / share).toBeCloseTo(1, 1);
  });

  for (const size of [3, 10, 100]) {
    test(`moves about 1 in ${size} sources when one of ${size} endpoints leaves for good, and hardly any but its own`, () => {
      const endpoints = endpointsOf(Array.from({ length: size }, () => ({})));
      const before = namesOf(backendOf(endpoints));
      const left = endpoints[1] as EndpointSpec;
      const after = namesOf(backendOf(endpoints.filter((endpoint) => endpoint !== left)));
      const moved = after.filter((name, index) => name !== before[index]).length;
      const own = countOf(before, left.name);
      expect(own / SOURCES.length).toBeLessThan(1.1 / size);
      expect(moved).toBeGreaterThanOrEqual(own);
      expect(moved - own).toBeLessThan(SOURCES.length * 0.015);
    });
  }

  test("moves hardly any but its own when one of several weights leaves", () => {
    const endpoints = endpointsOf(Array.from({ length: 20 }, (_, slot) => ({ weight: 1 + ((slot * 7) % 13) })));
    const before = namesOf(backendOf(endpoints));
    for (const left of endpoints.slice(0, 4)) {
      const after = namesOf(backendOf(endpoints.filter((endpoint) => endpoint !== left)));
      const moved = after.filter((name, index) => name !== before[index]).length;
      expect(moved - countOf(before, left.name)).toBeLessThan(SOURCES.length * 0.02);
    }
  });

  test("moves exactly its own sources when an endpoint cannot take connections for a while: to all the others, the same each time", () => {
    const counts = privateCounts();
    const backend = backendOf(endpointsOf(Array.from({ length: 10 }, () => ({}))), counts);
    const before = namesOf(backend);
    const { name } = endpointSpec(4);
    counts.table.states.setHealth(4, "down");
    const during = namesOf(backend);
    expect(namesOf(backend)).toEqual(during);
    const moved = during.filter((_, index) => before[index] === name);
    expect(during.filter((each, index) => each !== before[index]).length).toBe(moved.length);
    for (let slot = 0; slot < 10; slot++) {
      if (slot !== 4) expect(countOf(moved, endpointSpec(slot).name) / moved.length).toBeCloseTo(1 / 9, 1);
    }
    counts.table.states.setHealth(4, "up");
    expect(namesOf(backend)).toEqual(before);
  });

  test("finds the only one of a thousand that can take a connection", () => {
    const counts = privateCounts();
    const endpoints = endpointsOf(Array.from({ length: 1000 }, (_, slot) => ({ name: `e${slot}` })));
    const backend = backendOf(endpoints, counts);
    for (const { slot } of endpoints) if (slot !== 777) counts.table.states.setHealth(slot, "down");
    for (const source of SOURCES.slice(0, 100)) expect(backend.pick([], source)).toBe(777);
    expect(backend.pick([777], SOURCES[0])).toBe(-1);
  });

  test("places whoever has no address by chance", () => {
    const backend = backendOf(endpointsOf([{}, {}]));
    const picks = Array.from({ length: 1000 }, () => backend.pick([]));
    expect(picks.filter((index) => index === 0).length / picks.length).toBeCloseTo(0.5, 1);
  });

  test("has its tables made in pieces, takes them over where the endpoints are the same, and needs no more to choose", () => {
    const endpoints = endpointsOf(Array.from({ length: 2000 }, (_, slot) => ({ name: `e${slot}` })));
    const counts = privateCounts();
    const spec = backendSpec({ balance: "source_hash", endpoints });
    const made = new Backend(spec, { counts });
    let pieces = 1;
    while (made.makeSome()) pieces++;
    expect(pieces).toBeGreaterThan(10);
    const other = { ...spec, connectAttempts: 7 };
    expect(new Backend(other, { counts, previous: made }).makeSome()).toBe(false);
    // Whoever chooses in the middle of it waits for the rest.
    const begun = new Backend(other, { counts });
    expect(begun.makeSome()).toBe(true);
    expect(namesOf(begun)).toEqual(namesOf(made));
    expect(begun.makeSome()).toBe(false);
  });
});
