// Each endpoint in its turn, by weight and as evenly as can be: smooth weighted round robin, as nginx has it. Every candidate gains its weight, the richest is
// chosen and pays what all have gained.

import type { Balancer, Group } from "./balancer.ts";
import type { Candidates } from "./candidates.ts";

/** Does not look at load, but at limits. */
export class RoundRobin implements Balancer {
  readonly chosenActive = -1;
  /** By place: what it has saved up since its last turn. */
  readonly #credits: Float64Array;

  constructor(places: number) {
    this.#credits = new Float64Array(places);
  }

  choose({ slots, totals, limits, weights }: Candidates, { start, end }: Group): number {
    const credits = this.#credits;
    let best = -1;
    let most = Number.NEGATIVE_INFINITY;
    let gained = 0;
    for (let place = start; place < end; place++) {
      if ((totals[slots[place] as number] as number) >= (limits[place] as number)) continue;
      const weight = weights[place] as number;
      const credit = (credits[place] as number) + weight;
      credits[place] = credit;
      gained += weight;
      if (credit > most) {
        best = place;
        most = credit;
      }
    }
    if (best >= 0) credits[best] = most - gained;
    return best;
  }
}
