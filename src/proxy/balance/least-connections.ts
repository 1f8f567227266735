// The endpoint with the fewest connections for its weight, the new one counted in part. Those that have equally few take turns, by weight.

import type { Balancer, Group } from "./balancer.ts";
import type { Candidates } from "./candidates.ts";

/**
 * How much of the new connection is counted at an endpoint that has others. With none of it, endpoints of little weight are ahead of all others most of the
 * time, for one connection is much for them; with half of it loads are even on average; with all of it the highest load of a moment is the lowest possible. (So are
 * seats given to parties: Adams, Webster and D'Hondt.) In bench/studies/balance-trace.ts this is as good as the best of them in each respect.
 */
export const SHARE_OF_NEW = 0.75;
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

  choose(candidates: Candidates, { start, end }: Group): number {
    const { slots, totals, limits, turns } = candidates;
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
      const turn = turns[place] as number;
      const load = active * turn + SHARE_OF_NEW * turn;
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
        ceiling = load * (1 + TOLERANCE);
      } else {
        // Who is overdue is due now, and nobody can be due earlier: only fewer connections are better.
        earlier = Number.NEGATIVE_INFINITY;
        ceiling = floor;
      }
    }
    if (best < 0) return -1;
    const chosen = bestActive === 0 ? this.#firstIdle(candidates, { start, end }, best) : best;
    this.chosenActive = bestActive;
    this.#time = Math.max(time, dues[chosen] as number);
    dues[chosen] = this.#time + (turns[chosen] as number);
    return chosen;
  }

  /** All that are idle are equal, or those of little weight would never have a turn while few connections come. */
  #firstIdle({ slots, totals, limits }: Candidates, { start, end }: Group, best: number): number {
    const dues = this.#due;
    let first = best;
    for (let place = start; place < end && (dues[first] as number) > this.#time; place++) {
      if ((dues[place] as number) >= (dues[first] as number)) continue;
      if (totals[slots[place] as number] === 0 && (limits[place] as number) > 0) first = place;
    }
    return first;
  }
}
