// An endpoint by chance, by weight. Drawn from sums of weights that are kept; an endpoint that may not take a connection is drawn again. Where most may not,
// so that drawing would go on for long, those that may are gone through instead. Either way each of them has the chance of its weight.

import type { Balancer, Group } from "./balancer.ts";
import type { Candidates } from "./candidates.ts";

/** Draws before all are gone through. Each is some 20 ns; where nine in ten may not take a connection 32 draws find one that may in 29 of 30 cases. */
const MOST_DRAWS = 32;

/** By weight. */
export class WeightedRandom implements Balancer {
  readonly chosenActive = -1;
  readonly #random: () => number;
  /** By place: its weight and those of its group before it, without those that take no connection. */
  readonly #sums: Float64Array;
  /**
   * What is drawn lies in one of as many equal parts as its group has places: by part, the first place whose sum is above where the part begins. Whoever was drawn
   * is there or a place or two behind it (cutpoints; Chen and Asau, 1974).
   */
  readonly #cutpoints: Int32Array;
  /** Places that may take a connection, when all were gone through. */
  readonly #free: Int32Array;
  #freeCount = 0;
  #revision = -1;

  /** `random` gives from 0 up to 1. */
  constructor(places: number, random: () => number) {
    this.#random = random;
    this.#sums = new Float64Array(places);
    this.#cutpoints = new Int32Array(places);
    this.#free = new Int32Array(places);
  }

  choose(candidates: Candidates, group: Group): number {
    return this.draw(candidates, group);
  }

  /** -1 = none. */
  draw(candidates: Candidates, group: Group): number {
    this.#freeCount = 0;
    return this.#draw(candidates, group, -1);
  }

  /** Another one than the place that was drawn last; -1 = none. */
  drawOther(candidates: Candidates, group: Group, first: number): number {
    // Who may take a connection is known when all were gone through for the first one.
    return this.#freeCount > 0 ? this.#drawFree(candidates, first) : this.#draw(candidates, group, first);
  }

  #draw(candidates: Candidates, group: Group, except: number): number {
    if (candidates.revision !== this.#revision) this.#sumUp(candidates);
    const { start, end } = group;
    const sums = this.#sums;
    const total = sums[end - 1] as number;
    if (total === 0) return -1;
    for (let draws = 0; draws < MOST_DRAWS; draws++) {
      const chance = this.#random();
      const drawn = chance * total;
      // The first whose sum is above what was drawn.
      let place = this.#cutpoints[start + Math.floor(chance * (end - start))] as number;
      while (place < end - 1 && (sums[place] as number) <= drawn) place++;
      if (place !== except && candidates.mayTake(place)) return place;
    }
    this.#goThrough(candidates, group);
    return this.#drawFree(candidates, except);
  }

  #goThrough({ slots, totals, limits }: Candidates, { start, end }: Group): void {
    let count = 0;
    for (let place = start; place < end; place++)
      if ((totals[slots[place] as number] as number) < (limits[place] as number)) this.#free[count++] = place;
    this.#freeCount = count;
  }

  #drawFree({ weights }: Candidates, except: number): number {
    const free = this.#free;
    const count = this.#freeCount;
    let total = 0;
    for (let at = 0; at < count; at++) if (free[at] !== except) total += weights[free[at] as number] as number;
    let left = this.#random() * total;
    let last = -1;
    for (let at = 0; at < count && (left >= 0 || last < 0); at++) {
      const place = free[at] as number;
      if (place === except) continue;
      last = place;
      left -= weights[place] as number;
    }
    return last;
  }

  /** Sets the sums up for the limits and weights there are now, also of what is set aside for a moment. */
  #sumUp(candidates: Candidates): void {
    const { revision, groups, weights } = candidates;
    this.#revision = revision;
    for (const { start, end } of groups) {
      let sum = 0;
      for (let place = start; place < end; place++) {
        if (candidates.isCandidate(place)) sum += weights[place] as number;
        this.#sums[place] = sum;
      }
      let place = start;
      for (let part = 0; part < end - start; part++) {
        while (place < end - 1 && (this.#sums[place] as number) <= (part / (end - start)) * sum) place++;
        this.#cutpoints[start + part] = place;
      }
    }
  }
}
