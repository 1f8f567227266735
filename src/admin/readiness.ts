// GET /readyz: whether a connection that came now would be served by the current config.

import type { Status } from "../snapshot/status.ts";

/** The body of GET /readyz. Its field names are public. */
export interface Readiness {
  readonly ready: boolean;
  readonly state: Status["state"];
  /** Number of the snapshot that everybody should serve. */
  readonly generation: number;
  readonly workers: readonly {
    readonly worker: number;
    readonly state: Status["workers"][number]["state"];
    readonly generation: number;
  }[];
  /** Why it is not ready; empty when it is. */
  readonly reasons: readonly string[];
}

/** Ready: serving, and every worker by the snapshot of now. One that finishes what it has while others have its place is not asked. */
export function readinessOf({ state, generation, workers }: Status): Readiness {
  const reasons: string[] = [];
  if (state !== "serving") reasons.push(`the daemon is ${state}`);
  const asked = state === "serving" ? workers.filter((each) => each.state !== "draining") : workers;
  if (asked.length === 0) reasons.push("there is no worker");
  for (const each of asked) {
    if (each.state !== "serving") reasons.push(`worker ${each.worker} is ${each.state}`);
    else if (each.generation !== generation)
      reasons.push(`worker ${each.worker} goes by generation ${each.generation}, not ${generation}`);
  }
  return {
    ready: reasons.length === 0,
    state,
    generation,
    workers: workers.map((each) => ({ worker: each.worker, state: each.state, generation: each.generation })),
    reasons,
  };
}
