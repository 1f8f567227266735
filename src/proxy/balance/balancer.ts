// What a balancer is: it chooses one endpoint among the candidates of one group. Each kind is a file beside this one.

import type { Source } from "../source-address.ts";
import type { Candidates } from "./candidates.ts";

/** One way to choose. It may keep a state of its own for each place in `candidates`. */
export interface Balancer {
  /** Connections of the endpoint that was chosen last, as they were counted then, where the choice is right only while there are as many; else -1. */
  readonly chosenActive: number;
  /** The place of an endpoint of this group that may take a connection; -1 when none of them may. */
  choose(candidates: Candidates, group: Group, asker: Asker): number;
}

/** Endpoints that are chosen among together: the places from `start` up to, but not including, `end`. */
export interface Group {
  readonly start: number;
  readonly end: number;
}

/** Who is to be connected, and when. */
export interface Asker {
  /** Milliseconds since 1970. */
  readonly nowMs: number;
  /** Without bytes on a unix socket. */
  readonly source: Source;
}
