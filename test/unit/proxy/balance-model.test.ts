// A million steps of what can happen to the picker, in several workers that share a table, beside a model that does the same with plain arrays: connections that
// come and go, endpoints that are added, removed, weighted, limited, ejected, down or drained, another balancer, and workers that die. Nothing may be
// counted that is not held, or held and not counted; and nobody may be chosen who could not be.

import { expect, test } from "bun:test";
import { SHARE_OF_NEW } from "../../../src/proxy/balance/least-connections.ts";
import { Backend } from "../../../src/proxy/balance.ts";
import { type CountRow, CountTable, MAX_SLOTS, privateMemory } from "../../../src/snapshot/counts.ts";
import type { BackendSpec, EndpointSpec } from "../../../src/snapshot/snapshot.ts";
import { mulberry32 } from "../../support/sim-schedule.ts";
import { backendSpec, endpointSpec } from "../../support/sim-snapshot.ts";

const STEPS = Number(process.env.PICKER_STEPS ?? 1_000_000);
const SEED = Number(process.env.PICKER_SEED ?? 11);
const WORKERS = 4;
const SLOTS = 40;
/** So many endpoints or fewer are in the config at a time. */
const MOST_ENDPOINTS = 24;
const MOST_HELD = 600;
/** The choice is compared with a naive one in one of so many steps; everything that is counted, in one of so many. */
const COMPARE_EVERY = 8;
const COUNT_EVERY = 5000;

interface Worker {
  counts: CountRow;
  backend: Backend;
  readonly held: EndpointSpec[];
}

class World {
  readonly random = mulberry32(SEED);
  readonly table: CountTable;
  readonly workers: Worker[] = [];
  /** Connections by slot, and how its endpoint is. */
  readonly active = new Array<number>(SLOTS).fill(0);
  readonly isDown = new Array<boolean>(SLOTS).fill(false);
  readonly ejectedUntilS = new Array<number>(SLOTS).fill(0);
  readonly seen = { connected: 0, full: 0, lostRaces: 0, deaths: 0, configs: 0, panics: 0 };
  nowMs = Date.UTC(2026, 0, 1);
  spec: BackendSpec;
  #owner = 1;

  constructor() {
    const size = { rows: WORKERS + 2, columns: MAX_SLOTS };
    this.table = new CountTable(privateMemory(CountTable.bytes(size)), size);
    this.spec = this.#drawSpec();
    for (let index = 0; index < WORKERS; index++) {
      const counts = this.#claim();
      this.workers.push({ counts, backend: this.#newBackend(counts, null), held: [] });
    }
  }

  below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  step(number: number): void {
    const kind = this.random();
    const worker = this.workers[this.below(WORKERS)] as Worker;
    if (kind < 0.52) this.#connect(worker, number % COMPARE_EVERY === 0);
    else if (kind < 0.98) this.#release(worker);
    else if (kind < 0.993) this.#changeState(this.below(SLOTS));
    else if (kind < 0.998) this.nowMs += this.below(4000);
    else if (kind < 0.9998) this.#reconfigure();
    else this.#die(worker);
    if (number % COUNT_EVERY === 0) this.countAll();
  }

  /** Everything that is counted is held by somebody. */
  countAll(): void {
    for (let slot = 0; slot < SLOTS; slot++) {
      const held = this.workers.map((each) => each.held.filter((endpoint) => endpoint.slot === slot).length);
      expect(this.table.total(slot)).toBe(this.active[slot] as number);
      expect(this.workers.map(({ counts }) => counts.held(slot))).toEqual(held);
      expect(held.reduce((sum, count) => sum + count, 0)).toBe(this.active[slot] as number);
    }
  }

  releaseAll(): void {
    for (const worker of this.workers) while (worker.held.length > 0) this.#release(worker);
  }

  #connect(worker: Worker, compares: boolean): void {
    if (worker.held.length >= MOST_HELD) return;
    const tried = this.random() < 0.1 ? [this.below(this.spec.endpoints.length)] : [];
    const source = { bytes: Uint8Array.of(10, 0, this.below(256), this.below(256)) };
    for (;;) {
      const index = worker.backend.pick(tried, source);
      if (compares) this.#compare(index, tried);
      if (index < 0) {
        this.seen.full++;
        return;
      }
      // Now and then another worker is quicker.
      if (this.random() < 0.02) this.#race(this.workers[this.below(WORKERS)] as Worker, index);
      const endpoint = worker.backend.acquire(index);
      if (endpoint !== null) {
        this.#took(worker, endpoint);
        return;
      }
      this.seen.lostRaces++;
    }
  }

  #race({ backend, held }: Worker, index: number): void {
    backend.pick([]);
    const endpoint = backend.acquire(index);
    if (endpoint === null) return;
    held.push(endpoint);
    this.active[endpoint.slot] = (this.active[endpoint.slot] as number) + 1;
  }

  #took(worker: Worker, endpoint: EndpointSpec): void {
    const { slot, maxConnections } = endpoint;
    const active = (this.active[slot] as number) + 1;
    this.active[slot] = active;
    if (this.table.total(slot) !== active || (maxConnections > 0 && active > maxConnections))
      throw new Error(`slot ${slot}: ${this.table.total(slot)} counted, ${active} held, at most ${maxConnections}`);
    this.seen.connected++;
    if (this.random() < 0.1) {
      worker.backend.failed(endpoint, "ECONNREFUSED");
      this.active[slot] = active - 1;
      return;
    }
    worker.backend.connected(endpoint, this.random() * 20);
    worker.held.push(endpoint);
  }

  #release({ backend, held }: Worker): void {
    if (held.length === 0) return;
    const at = this.below(held.length);
    const endpoint = held[at] as EndpointSpec;
    held[at] = held.at(-1) as EndpointSpec;
    held.pop();
    // Also when the endpoint has left the config meanwhile.
    backend.release(endpoint);
    const active = (this.active[endpoint.slot] as number) - 1;
    this.active[endpoint.slot] = active;
    if (this.table.total(endpoint.slot) !== active || active < 0) throw new Error(`slot ${endpoint.slot}: ${active}`);
  }

  #compare(picked: number, tried: readonly number[]): void {
    const { endpoints, panicThreshold, balance } = this.spec;
    const serving = endpoints.filter(({ state }) => state === "active");
    const notDown = serving.filter(({ slot }) => !this.isDown[slot]);
    const usable = notDown.filter(({ slot }) => (this.ejectedUntilS[slot] as number) * 1000 <= this.nowMs);
    const isPanic = usable.length * 100 < serving.length * panicThreshold;
    if (isPanic) this.seen.panics++;
    const known = isPanic ? serving : usable.length > 0 ? usable : notDown;
    const free = known.filter((endpoint) => {
      const { slot, maxConnections } = endpoint;
      const isTried = tried.includes(endpoints.indexOf(endpoint));
      return !isTried && (maxConnections === 0 || (this.active[slot] as number) < maxConnections);
    });
    const rank = ({ backup, isNear }: EndpointSpec): number => Number(backup) * 2 + Number(!isNear);
    const first = Math.min(...free.map(rank));
    const group = free.filter((endpoint) => rank(endpoint) === first);
    const chosen = endpoints[picked];
    const isRight = chosen === undefined ? free.length === 0 : group.includes(chosen);
    if (!isRight) throw new Error(`${chosen?.name ?? "nobody"} was chosen of ${group.map(({ name }) => name)}`);
    if (balance !== "least_connections" || chosen === undefined) return;
    const load = ({ slot, weight }: EndpointSpec): number => ((this.active[slot] as number) + SHARE_OF_NEW) / weight;
    const least = group.filter((endpoint) => load(endpoint) <= Math.min(...group.map(load)) + 1e-9);
    // All that are idle are equal.
    const isIdle = ({ slot }: EndpointSpec): boolean => this.active[slot] === 0;
    if (!least.includes(chosen) && !(isIdle(chosen) && least.some(isIdle)))
      throw new Error(`${chosen.name} has not the fewest`);
  }

  #changeState(slot: number): void {
    const { states } = this.table;
    const isDown = this.random() < 0.3;
    this.isDown[slot] = isDown;
    states.setHealth(slot, isDown ? "down" : "up");
    const untilS = Math.floor(this.nowMs / 1000) + this.below(6) - 2;
    this.ejectedUntilS[slot] = untilS;
    states.setEjectedUntilS(slot, untilS);
    // Only seen where there is a slow start, which none of the checked choices has.
    states.setBackSinceS(slot, untilS);
  }

  #reconfigure(): void {
    this.seen.configs++;
    this.spec = this.#drawSpec();
    for (const worker of this.workers) worker.backend = this.#newBackend(worker.counts, worker.backend);
  }

  #drawSpec(): BackendSpec {
    // Large tables would be all that this test does.
    const balances = ["least_connections", "round_robin", "random", "power_of_two", "least_latency"] as const;
    const slots = [...Array(SLOTS).keys()].filter(() => this.random() < 0.5).slice(0, MOST_ENDPOINTS);
    const limit = this.random() < 0.3 ? 1 + this.below(60) : 0;
    const balance = this.random() < 0.02 ? "source_hash" : (balances[this.below(balances.length)] ?? "random");
    return backendSpec({
      balance,
      panicThreshold: this.below(2) * this.below(101),
      slowStartMs: balance === "least_connections" ? 0 : this.below(2) * 5000,
      endpoints: (slots.length === 0 ? [0] : slots).map((slot) =>
        endpointSpec(slot, {
          weight: 1 + this.below(9),
          maxConnections: limit === 0 ? 0 : limit + this.below(5),
          backup: this.random() < 0.15,
          isNear: this.random() < 0.7,
          state: this.random() < 0.1 ? "drain" : "active",
        }),
      ),
    });
  }

  /** What it held is given back, and another one takes its place. */
  #die(worker: Worker): void {
    this.seen.deaths++;
    for (const { slot } of worker.held) this.active[slot] = (this.active[slot] as number) - 1;
    worker.held.length = 0;
    this.table.reclaim(worker.counts.number, SLOTS);
    worker.counts = this.#claim();
    worker.backend = this.#newBackend(worker.counts, null);
  }

  #claim(): CountRow {
    const counts = this.table.claim(this.#owner++);
    if (counts === null) throw new Error("a row is not given back");
    return counts;
  }

  #newBackend(counts: CountRow, previous: Backend | null): Backend {
    return new Backend(this.spec, { counts, previous, random: this.random, wallClockMs: () => this.nowMs });
  }
}

test(`${STEPS} steps leave no negative count and leak none (seed ${SEED})`, () => {
  const world = new World();
  for (let number = 1; number <= STEPS; number++) world.step(number);
  world.countAll();
  world.releaseAll();
  world.countAll();
  expect(world.active.every((count) => count === 0)).toBe(true);
  // It is worth its while only if everything has happened.
  for (const count of Object.values(world.seen)) expect(count).toBeGreaterThan(STEPS / 10_000);
}, 60_000);
