// Which endpoint a connection goes to. The counts of active connections live in one table for the whole data plane, a column for each
// endpoint, so that they are exact however many listeners and routes share a backend.

import { assert, unreachable } from "../base/assert.ts";
import type { BackendSpec, EndpointSpec } from "../snapshot/snapshot.ts";
import type { Origination } from "./originate.ts";

/** Active connections, by endpoint slot. One table outlives every snapshot, so that an endpoint which stays keeps its count. */
export class ActiveCounts {
  #counts: Int32Array;

  constructor(slotCount: number) {
    this.#counts = new Int32Array(slotCount);
  }

  /** Makes room for slots up to this number. */
  grow(slotCount: number): void {
    if (slotCount <= this.#counts.length) return;
    const larger = new Int32Array(slotCount);
    larger.set(this.#counts);
    this.#counts = larger;
  }

  of(slot: number): number {
    return this.#counts[slot] as number;
  }

  add(slot: number, difference: 1 | -1): void {
    this.#counts[slot] = this.of(slot) + difference;
  }
}

/** What a backend shares with others, and what is built for it. */
export interface BackendOptions {
  readonly active: ActiveCounts;
  readonly origination?: Origination | null;
  /** From 0 up to 1. Default `Math.random`. */
  readonly random?: () => number;
}

/** A group of interchangeable endpoints, the choice among them, and what is spoken to them. */
export class Backend {
  readonly spec: BackendSpec;
  /** Null where no TLS is spoken to them. */
  readonly origination: Origination | null;
  readonly #active: ActiveCounts;
  readonly #random: () => number;
  /** Smooth weighted round robin: what each endpoint has saved up since its last turn. */
  readonly #credit: Float64Array;

  constructor(spec: BackendSpec, { active, origination = null, random = Math.random }: BackendOptions) {
    this.spec = spec;
    this.origination = origination;
    this.#active = active;
    this.#random = random;
    this.#credit = new Float64Array(spec.endpoints.length);
  }

  /**
   * The index of an endpoint below its own limit that is not in `tried`, or -1. Backup endpoints are considered only when there is no
   * other. The pick is not counted: `acquire` is.
   */
  pick(tried: readonly number[]): number {
    const regular = this.#pickAmong(tried, false);
    return regular >= 0 ? regular : this.#pickAmong(tried, true);
  }

  /** Counts a connection to the endpoint, from before it is dialled. */
  acquire(index: number): EndpointSpec {
    const endpoint = this.#endpoint(index);
    this.#active.add(endpoint.slot, 1);
    return endpoint;
  }

  release(endpoint: EndpointSpec): void {
    assert(this.activeOf(endpoint) > 0, "an endpoint is released as often as it was acquired");
    this.#active.add(endpoint.slot, -1);
  }

  activeOf(endpoint: EndpointSpec): number {
    return this.#active.of(endpoint.slot);
  }

  #pickAmong(tried: readonly number[], backup: boolean): number {
    switch (this.spec.balance) {
      case "least_connections":
        return this.#roundRobin(tried, backup, this.#leastLoaded(tried, backup));
      case "round_robin":
        return this.#roundRobin(tried, backup, -1);
      case "random":
        return this.#weightedRandom(tried, backup, -1);
      case "power_of_two":
        return this.#powerOfTwo(tried, backup);
      default:
        return unreachable(this.spec.balance);
    }
  }

  /** An endpoint with the fewest active connections for its weight, or -1. */
  #leastLoaded(tried: readonly number[], backup: boolean): number {
    let best = -1;
    for (let index = 0; index < this.spec.endpoints.length; index++) {
      if (!this.#mayTake(index, tried, backup)) continue;
      if (best < 0 || this.#compareLoad(index, best) < 0) best = index;
    }
    return best;
  }

  /**
   * Smooth weighted round robin (as in nginx): every candidate gains its weight, the richest wins and pays the sum. With `tiedWith` only
   * endpoints of the same load as that one are candidates, which makes ties of least connections fair.
   */
  #roundRobin(tried: readonly number[], backup: boolean, tiedWith: number): number {
    let best = -1;
    let total = 0;
    for (let index = 0; index < this.spec.endpoints.length; index++) {
      if (!this.#mayTake(index, tried, backup)) continue;
      if (tiedWith >= 0 && this.#compareLoad(index, tiedWith) !== 0) continue;
      const { weight } = this.#endpoint(index);
      const credit = (this.#credit[index] as number) + weight;
      this.#credit[index] = credit;
      total += weight;
      if (best < 0 || credit > (this.#credit[best] as number)) best = index;
    }
    if (best >= 0) this.#credit[best] = (this.#credit[best] as number) - total;
    return best;
  }

  /** By weight, leaving out `except`. */
  #weightedRandom(tried: readonly number[], backup: boolean, except: number): number {
    let total = 0;
    let last = -1;
    for (let index = 0; index < this.spec.endpoints.length; index++) {
      if (index !== except && this.#mayTake(index, tried, backup)) total += this.#endpoint(index).weight;
    }
    let left = this.#random() * total;
    for (let index = 0; index < this.spec.endpoints.length; index++) {
      if (index === except || !this.#mayTake(index, tried, backup)) continue;
      last = index;
      left -= this.#endpoint(index).weight;
      if (left < 0) break;
    }
    return last;
  }

  /** The less loaded of two that are drawn by weight (Mitzenmacher, 2001). */
  #powerOfTwo(tried: readonly number[], backup: boolean): number {
    const first = this.#weightedRandom(tried, backup, -1);
    const second = first < 0 ? -1 : this.#weightedRandom(tried, backup, first);
    return second >= 0 && this.#compareLoad(second, first) < 0 ? second : first;
  }

  #mayTake(index: number, tried: readonly number[], backup: boolean): boolean {
    const endpoint = this.#endpoint(index);
    if (endpoint.backup !== backup || tried.includes(index)) return false;
    return endpoint.maxConnections === 0 || this.activeOf(endpoint) < endpoint.maxConnections;
  }

  /** Sign of load(a) - load(b), where load is active / weight; by cross-multiplication, so exactly. */
  #compareLoad(a: number, b: number): number {
    const first = this.#endpoint(a);
    const second = this.#endpoint(b);
    return this.activeOf(first) * second.weight - this.activeOf(second) * first.weight;
  }

  #endpoint(index: number): EndpointSpec {
    return this.spec.endpoints[index] as EndpointSpec;
  }
}
