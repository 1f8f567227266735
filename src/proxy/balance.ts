// Which endpoint a connection goes to. The counts of active connections live in one table for the whole daemon, a column for each endpoint, so
// that they are exact however many listeners, routes and processes share a backend.

import { unreachable } from "../base/assert.ts";
import type { CountRow } from "../snapshot/counts.ts";
import type { BackendSpec, EndpointSpec } from "../snapshot/snapshot.ts";
import type { Origination } from "./originate.ts";

/** What a backend shares with others, and what is built for it. */
export interface BackendOptions {
  readonly counts: CountRow;
  readonly origination?: Origination | null;
  /** From 0 up to 1. Default `Math.random`. */
  readonly random?: () => number;
}

/** A group of interchangeable endpoints, the choice among them, and what is spoken to them. */
export class Backend {
  readonly spec: BackendSpec;
  /** Null where no TLS is spoken to them. */
  readonly origination: Origination | null;
  readonly #counts: CountRow;
  readonly #random: () => number;
  /** Smooth weighted round robin: what each endpoint has saved up since its last turn. */
  readonly #credit: Float64Array;
  /** Active connections of each endpoint, as of the pick. */
  readonly #active: Int32Array;

  constructor(spec: BackendSpec, { counts, origination = null, random = Math.random }: BackendOptions) {
    this.spec = spec;
    this.origination = origination;
    this.#counts = counts;
    this.#random = random;
    this.#credit = new Float64Array(spec.endpoints.length);
    this.#active = new Int32Array(spec.endpoints.length);
  }

  /**
   * The index of an endpoint below its own limit that is not in `tried`, or -1. Backup endpoints are considered only when there is no
   * other. The pick is not counted: `acquire` is.
   */
  pick(tried: readonly number[]): number {
    // Other processes change the counts meanwhile; a choice is made by those of one moment.
    for (const [index, { slot }] of this.spec.endpoints.entries()) this.#active[index] = this.#counts.total(slot);
    const regular = this.#pickAmong(tried, false);
    return regular >= 0 ? regular : this.#pickAmong(tried, true);
  }

  /**
   * Counts a connection to the endpoint that was picked, from before it is dialled. Null when another process has been quicker, so that it
   * would be the wrong choice now: then pick again.
   */
  acquire(index: number): EndpointSpec | null {
    const endpoint = this.#endpoint(index);
    const isStillRight =
      this.spec.balance === "least_connections"
        ? this.#counts.addIfStill(endpoint.slot, this.#active[index] as number)
        : this.#counts.addWithin(endpoint.slot, endpoint.maxConnections);
    if (isStillRight) this.#counts.count(endpoint.slot, "opened", 1);
    return isStillRight ? endpoint : null;
  }

  release(endpoint: EndpointSpec): void {
    this.#counts.subtract(endpoint.slot);
  }

  /** Releases an endpoint that could not be connected to. */
  failed(endpoint: EndpointSpec): void {
    this.#counts.count(endpoint.slot, "failed", 1);
    this.release(endpoint);
  }

  /** Active connections of an endpoint, of the whole daemon. */
  activeOf(endpoint: EndpointSpec): number {
    return this.#counts.total(endpoint.slot);
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
    return endpoint.maxConnections === 0 || (this.#active[index] as number) < endpoint.maxConnections;
  }

  /** Sign of load(a) - load(b), where load is active / weight; by cross-multiplication, so exactly. */
  #compareLoad(a: number, b: number): number {
    const first = this.#endpoint(a);
    const second = this.#endpoint(b);
    return (this.#active[a] as number) * second.weight - (this.#active[b] as number) * first.weight;
  }

  #endpoint(index: number): EndpointSpec {
    return this.spec.endpoints[index] as EndpointSpec;
  }
}
