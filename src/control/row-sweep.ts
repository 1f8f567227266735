// Rows of the table of counts whose processes have died together with the supervisor that would have taken them back. A successor looks for them
// from the moment that it takes over, until all rows are its own.

import type { Processes } from "../runtime/runtime.ts";
import type { CountTable } from "../snapshot/counts.ts";
import type { WorkerStatus } from "../snapshot/status.ts";

const SWEEP_MS = 100;

export interface RowSweepOptions {
  readonly counts: CountTable;
  readonly processes: Processes;
  readonly plane: { readonly workers: readonly WorkerStatus[]; readonly snapshot: { readonly slotCount: number } };
}

/** Takes back what the dead have left, until nobody but this daemon has a row. Returns what stops it. */
export function sweepRows({ counts, processes, plane }: RowSweepOptions): () => void {
  const look = (): void => {
    const ours = new Set([processes.pid, ...plane.workers.map(({ pid }) => pid)]);
    const strangers = counts.owners().filter(({ owner }) => !ours.has(owner));
    for (const { row, owner } of strangers) {
      if (processes.isAlive(owner)) continue;
      // Its supervisor may be alive and do the same.
      if (counts.reassign(row, owner, processes.pid)) counts.reclaim(row, plane.snapshot.slotCount);
    }
    if (strangers.length === 0) clearInterval(timer);
  };
  const timer = setInterval(look, SWEEP_MS);
  return () => clearInterval(timer);
}
