// The endpoints of a backend as a balancer reads them: numbers in arrays side by side, so that one pass over a thousand takes a microsecond or two. A
// place in the arrays is not an index of the backend: endpoints are in the order of their groups, those to be preferred first.
//
// What seldom changes (health, ejection, slow start) is worked into limits and weights. It is recomputed when the shared table says that something
// has changed, and now and then. The counts of connections are read from the table at every choice.

import type { CountTable } from "../../snapshot/counts.ts";
import type { BackendSpec, EndpointSpec } from "../../snapshot/snapshot.ts";
import type { Group } from "./balancer.ts";

/** A limit that nothing reaches. */
const NO_LIMIT = 2 ** 31 - 1;
/** How often to recompute even without a notice: a process may have died between a change and its notice. */
const LONGEST_LOOK_MS = 1000;
/** Steps of a slow start that is shorter than as many seconds. */
const SLOW_START_STEPS = 20;
/** The part of its weight that an endpoint begins a slow start with. */
const FIRST_SHARE = 0.1;

/** How an endpoint stands: one that drains takes none; of the others those of a higher standing are preferred to all of a lower one. */
const DRAINING = 0;
const DOWN = 1;
const EJECTED = 2;
const USABLE = 3;

/** The endpoints of one backend. The arrays are to be read only. */
export class Candidates {
  /** By place: the endpoint's index in the backend. */
  readonly indices: Int32Array;
  /** By place: its slot, the index of its connections in `totals`. */
  readonly slots: Int32Array;
  /** By place: it takes another connection while it has fewer than this; 0 = it takes none. */
  readonly limits: Int32Array;
  /** By place: its weight, as it is now. */
  readonly weights: Float64Array;
  /** By place: 1 / weight. */
  readonly turns: Float64Array;
  /** Connections of all processes, by slot. */
  readonly totals: Int32Array;
  /** In order of preference: the first group that has an endpoint is used. */
  readonly groups: readonly Group[];
  /** Changes whenever a limit or a weight does, except when an endpoint is only set aside. */
  revision = 0;
  readonly #spec: BackendSpec;
  readonly #table: CountTable;
  /** By index: the opposite of `indices`. */
  readonly #places: Int32Array;
  /** The limits while nothing is set aside. */
  readonly #ownLimits: Int32Array;
  readonly #standings: Uint8Array;
  /** `EndpointStates.changes` when the limits and weights were last computed. */
  #seen = 0;
  #nextLookMs = 0;

  constructor(spec: BackendSpec, table: CountTable) {
    const ranks = spec.endpoints.map(rankOf);
    // A sort keeps the order of equals.
    const order = [...ranks.keys()].sort((a, b) => (ranks[a] as number) - (ranks[b] as number));
    const count = order.length;
    this.#spec = spec;
    this.#table = table;
    this.totals = table.totals;
    this.indices = Int32Array.from(order);
    this.slots = Int32Array.from(order, (index) => endpointAt(spec, index).slot);
    this.groups = groupsOf(order.map((index) => ranks[index] as number));
    this.limits = new Int32Array(count);
    this.weights = new Float64Array(count);
    this.turns = new Float64Array(count);
    this.#ownLimits = new Int32Array(count);
    this.#standings = new Uint8Array(count);
    this.#places = new Int32Array(count);
    for (const [place, index] of order.entries()) this.#places[index] = place;
  }

  /** Sees to it that limits and weights are those of this moment, in ms since 1970. While nothing is set aside. */
  look(nowMs: number): void {
    const { changes } = this.#table.states;
    // A wall clock may be set back.
    const isEarly = nowMs < this.#nextLookMs && this.#nextLookMs - nowMs <= LONGEST_LOOK_MS;
    if (changes === this.#seen && isEarly) return;
    // The change count was read before the states: a change in between is seen the next time.
    this.#seen = changes;
    this.#nextLookMs = nowMs + LONGEST_LOOK_MS;
    const least = this.#leastStanding(nowMs);
    for (let place = 0; place < this.slots.length; place++) {
      const { maxConnections } = endpointAt(this.#spec, this.indices[place] as number);
      const limit = (this.#standings[place] as number) >= least ? maxConnections || NO_LIMIT : 0;
      const weight = this.#weightAt(place, nowMs);
      if (limit === this.#ownLimits[place] && weight === this.weights[place]) continue;
      this.#ownLimits[place] = limit;
      this.limits[place] = limit;
      this.weights[place] = weight;
      this.turns[place] = 1 / weight;
      this.revision++;
    }
  }

  /** Lets those of these indices take no connection, until they are set back. */
  setAside(indices: readonly number[]): void {
    for (const index of indices) {
      if (index < this.#places.length) this.limits[this.#places[index] as number] = 0;
    }
  }

  setBack(indices: readonly number[]): void {
    for (const index of indices) {
      const place = this.#places[index];
      if (place !== undefined) this.limits[place] = this.#ownLimits[place] as number;
    }
  }

  /** Whether any endpoint takes connections at all, as of the last look. */
  get isAny(): boolean {
    return this.#ownLimits.some((limit) => limit > 0);
  }

  /** Whether the endpoint takes connections at all, as of the last look. */
  isCandidate(place: number): boolean {
    return (this.#ownLimits[place] as number) > 0;
  }

  /** Whether the endpoint may take a connection now. */
  mayTake(place: number): boolean {
    return (this.totals[this.slots[place] as number] as number) < (this.limits[place] as number);
  }

  /** Whether the endpoint of this index was well, as of the last look: one that is not is used only for want of others. */
  isUsable(index: number): boolean {
    return this.#standings[this.#places[index] as number] === USABLE;
  }

  /** Active connections of the endpoint. */
  activeAt(place: number): number {
    return this.totals[this.slots[place] as number] as number;
  }

  /** Finds out how each endpoint stands, and which standing is enough to be a candidate. */
  #leastStanding(nowMs: number): number {
    let usable = 0;
    let draining = 0;
    for (let place = 0; place < this.slots.length; place++) {
      const standing = this.#standingOf(place, nowMs);
      this.#standings[place] = standing;
      if (standing === USABLE) usable++;
      if (standing === DRAINING) draining++;
    }
    if (usable * 100 < this.#spec.panicThreshold * (this.slots.length - draining)) return DOWN;
    // An ejection is a suspicion: it makes others preferred, and does not leave nobody.
    return usable === 0 ? EJECTED : USABLE;
  }

  #standingOf(place: number, nowMs: number): number {
    const { states } = this.#table;
    const slot = this.slots[place] as number;
    if (endpointAt(this.#spec, this.indices[place] as number).state === "drain") return DRAINING;
    if (states.health(slot) === "down") return DOWN;
    let endsMs = states.ejectedUntilS(slot) * 1000;
    // After an ejection one connection at a time tries it: for all others it is as if that went on.
    if (endsMs <= nowMs && states.ejections(slot) > 0) endsMs = states.trialUntilS(slot) * 1000;
    if (endsMs <= nowMs) return USABLE;
    this.#lookAt(endsMs);
    return EJECTED;
  }

  /** The weight that is configured, or in a slow start a growing part of it. */
  #weightAt(place: number, nowMs: number): number {
    const { weight } = endpointAt(this.#spec, this.indices[place] as number);
    const { slowStartMs } = this.#spec;
    const backSinceMs = this.#table.states.backSinceS(this.slots[place] as number) * 1000;
    if (slowStartMs === 0 || backSinceMs === 0 || nowMs - backSinceMs >= slowStartMs) return weight;
    this.#lookAt(nowMs + slowStartMs / SLOW_START_STEPS);
    return weight * Math.max(FIRST_SHARE, (nowMs - backSinceMs) / slowStartMs);
  }

  #lookAt(atMs: number): void {
    this.#nextLookMs = Math.min(this.#nextLookMs, atMs);
  }
}

/** Own zone first, then the others, and after them the backups in the same order. */
function rankOf({ backup, isNear }: EndpointSpec): number {
  return (backup ? 2 : 0) + (isNear ? 0 : 1);
}

function groupsOf(ranks: readonly number[]): readonly Group[] {
  const starts = [...ranks.keys()].filter((place) => ranks[place] !== ranks[place - 1]);
  return starts.map((start, at) => ({ start, end: starts[at + 1] ?? ranks.length }));
}

function endpointAt({ endpoints }: BackendSpec, index: number): EndpointSpec {
  return endpoints[index] as EndpointSpec;
}
