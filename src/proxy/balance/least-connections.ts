// The endpoint with the fewest connections for its weight. Those that have equally few take turns, by weight.

import type { Balancer, Group } from "./balancer.ts";
import type { Candidates } from "./candidates.ts";

/** Loads that differ by less than this part of them are equal: 3 × ⅓ may not be 1. Loads that do differ differ by more than a millionth. */
const TOLERANCE = 1e-9;

/**
 * Turns are by virtual time (as in start-time fair queueing; Goyal, Vin and Cheng, 1996): an endpoint is due again 1 / weight after its last turn, and of a
 * tie the first that is due is chosen. Who has not been part of ties for long does not save up turns for it. In contrast to smooth weighted round
 * robin, that needs no second pass, for which the tie would have to be known.
 */
export class LeastConnections implements Balancer {
  chosenActive = 0;
  /** By place: when it is due, in virtual time. */
  readonly #due: Float64Array;
  /** The virtual time: when the last that was chosen was due. */
  #time = 0;

  constructor(places: number) {
    this.#due = new Float64Array(places);
  }

  choose({ slots, totals, limits, turns }: Candidates, { start, end }: Group): number {
    const dues = this.#due;
    const time = this.#time;
    let best = -1;
    let bestActive = 0;
    // Of a tie, when one has to be due to be better.
    let earlier = 0;
    // What is not below the first is worse than the best so far, what is below the second is better.
    let ceiling = Number.POSITIVE_INFINITY;
    let floor = Number.POSITIVE_INFINITY;
    for (let place = start; place < end; place++) {
      const active = totals[slots[place] as number] as number;
      const load = active * (turns[place] as number);
      if (load >= ceiling) continue;
      const due = dues[place] as number;
      if (load >= floor && due >= earlier) continue;
      // Last, for it is seldom asked.
      if (active >= (limits[place] as number)) continue;
      best = place;
      bestActive = active;
      floor = load * (1 - TOLERANCE);
      if (due > time) {
        earlier = due;
        ceiling = load === 0 ? Number.MIN_VALUE : load * (1 + TOLERANCE);
      } else {
        // Who is overdue is due now, and nobody can be due earlier: only fewer connections are better.
        earlier = Number.NEGATIVE_INFINITY;
        ceiling = floor;
        if (active === 0) break;
      }
    }
    if (best >= 0) {
      this.chosenActive = bestActive;
      this.#time = Math.max(time, earlier);
      dues[best] = this.#time + (turns[best] as number);
    }
    return best;
  }
}
