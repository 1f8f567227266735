// The endpoint that is likely to answer soonest: the one with the least latency × (connections + 1) / weight. Latency is the time to connect and to say the first
// byte (first-byte.ts), as a peak-EWMA like Finagle's: a sample above the average replaces it at once, those below pull it down slowly; and it fades while there are
// none, so that an endpoint that was slow is tried again.
//
// Latencies are in the shared table, so all processes learn from each other's connections. What this process reads of them is kept for a moment.

import type { EndpointStates } from "../../snapshot/endpoint-states.ts";
import type { Asker, Balancer, Group } from "./balancer.ts";
import type { Candidates } from "./candidates.ts";

/** Time in which a latency without samples falls to 1 / e. */
const FADE_MS = 10_000;
/** An endpoint fades no further than this: of several that nobody has used for long, the faster one is still known. */
const LONGEST_FADE_MS = 100_000;
/** How long latencies are taken for what they were read as. */
const READ_MS = 50;
/** Latency of an endpoint that is being tried for the first time, as long as nothing is known: longer than any other. */
const UNKNOWN_US = 1e12;
const MOST_US = 2 ** 31 - 1;
/** Times in the table wrap around after as many bits. */
const TIME_BITS = 31;

/** How long it took, and when that was, in ms since 1970. */
export interface LatencySample {
  readonly us: number;
  readonly nowMs: number;
}

/** Has to be told how long endpoints took. */
export class LeastLatency implements Balancer {
  /** Two processes that at once try an endpoint of which nothing is known would be the beginning of a stampede. */
  chosenActive = 0;
  readonly #states: EndpointStates;
  /** By place: latency / weight, faded; 0 = nothing is known. */
  readonly #costs: Float64Array;
  /** By slot. */
  readonly #places: ReadonlyMap<number, number>;
  #revision = -1;
  #readMs = 0;

  constructor(slots: Int32Array, states: EndpointStates) {
    this.#states = states;
    this.#costs = new Float64Array(slots.length);
    this.#places = new Map([...slots.entries()].map(([place, slot]) => [slot, place]));
  }

  /** Notes how long a connection to a slot took to be made and answered, or to fail. This process uses it at once, the others soon after. */
  took({ turns }: Candidates, slot: number, sample: LatencySample): void {
    addLatency(this.#states, slot, sample);
    const place = this.#places.get(slot);
    if (place !== undefined) this.#costs[place] = this.#states.latencyUs(slot) * (turns[place] as number);
  }

  choose(candidates: Candidates, { start, end }: Group, { nowMs }: Asker): number {
    if (Math.abs(nowMs - this.#readMs) >= READ_MS || candidates.revision !== this.#revision)
      this.#read(candidates, nowMs);
    const { slots, totals, limits, turns } = candidates;
    const costs = this.#costs;
    let best = -1;
    let bestActive = 0;
    let least = Number.POSITIVE_INFINITY;
    for (let place = start; place < end; place++) {
      const active = totals[slots[place] as number] as number;
      const each = costs[place] as number;
      let cost = each * (active + 1);
      if (cost >= least || active >= (limits[place] as number)) continue;
      // Of what is not known, one connection at a time finds out.
      if (each === 0) cost = active * UNKNOWN_US * (turns[place] as number);
      if (cost >= least) continue;
      best = place;
      bestActive = active;
      least = cost;
    }
    if (best >= 0) {
      this.chosenActive = bestActive;
      this.#chosen(candidates, best);
    }
    return best;
  }

  /** One that has faded is tried by one connection, not by all that come before its answer: until the next reading it is as slow as it was. */
  #chosen({ slots, turns }: Candidates, place: number): void {
    const latency = this.#states.latencyUs(slots[place] as number);
    if (latency > 0) this.#costs[place] = latency * (turns[place] as number);
  }

  #read({ revision, slots, turns }: Candidates, nowMs: number): void {
    this.#revision = revision;
    this.#readMs = nowMs;
    for (let place = 0; place < slots.length; place++)
      this.#costs[place] = fadedLatency(this.#states, slots[place] as number, nowMs) * (turns[place] as number);
  }
}

/** Latency of a slot in microseconds as of a moment, ms since 1970; 0 = not known. */
export function fadedLatency(states: EndpointStates, slot: number, nowMs: number): number {
  const latency = states.latencyUs(slot);
  return latency === 0 ? 0 : latency * Math.exp(-Math.min(sinceSample(states, slot, nowMs), LONGEST_FADE_MS) / FADE_MS);
}

/** Takes a sample into the latency of a slot. Of samples that several processes have in one moment, one may be lost. */
export function addLatency(states: EndpointStates, slot: number, sample: LatencySample): void {
  const { nowMs } = sample;
  const us = Math.max(1, Math.min(Math.round(sample.us), MOST_US));
  const average = states.latencyUs(slot);
  const kept = Math.exp(-sinceSample(states, slot, nowMs) / FADE_MS);
  const next = us >= average ? us : Math.max(1, Math.round(average * kept + us * (1 - kept)));
  states.setLatency(slot, next, nowMs);
}

/** Milliseconds; a time that is still to come, of a process whose clock is a little ahead, is now. */
function sinceSample(states: EndpointStates, slot: number, nowMs: number): number {
  const unused = 32 - TIME_BITS;
  return Math.max(0, ((nowMs - states.latencyAtMs(slot)) << unused) >> unused);
}
