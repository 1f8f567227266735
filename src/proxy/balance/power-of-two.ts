// The less loaded of two endpoints that are drawn by weight (Mitzenmacher, 2001): nearly as even as the least loaded of all, and all processes may choose at once.

import type { Balancer, Group } from "./balancer.ts";
import type { Candidates } from "./candidates.ts";
import { SHARE_OF_NEW } from "./least-connections.ts";
import { WeightedRandom } from "./random.ts";

/** Draws two different ones, where there are two. */
export class PowerOfTwo implements Balancer {
  readonly chosenActive = -1;
  readonly #draws: WeightedRandom;

  /** `random` gives from 0 up to 1. */
  constructor(places: number, random: () => number) {
    this.#draws = new WeightedRandom(places, random);
  }

  choose(candidates: Candidates, group: Group): number {
    const first = this.#draws.draw(candidates, group);
    const second = first < 0 ? -1 : this.#draws.drawOther(candidates, group, first);
    if (second < 0) return first;
    const { weights } = candidates;
    const firstLoad = (candidates.activeAt(first) + SHARE_OF_NEW) * (weights[second] as number);
    return (candidates.activeAt(second) + SHARE_OF_NEW) * (weights[first] as number) < firstLoad ? second : first;
  }
}
