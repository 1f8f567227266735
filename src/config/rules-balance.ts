// Rules that concern several of the fields for balancing.

import { formatDuration } from "../base/units.ts";
import type { Path } from "./problems.ts";
import type { Report } from "./report.ts";
import type { BackendConfig, Config } from "./schema.ts";

/** Zones that compare with nothing, a slow start of what has no weights to grow, a backend that nobody can reach. */
export function checkBalance(report: Report, backendName: string, { backend, zone }: BalanceRules): void {
  const path: Path = ["backends", backendName];
  if (backend.balance === "source_hash" && backend.slow_start > 0)
    report.error(
      [...path, "slow_start"],
      "has no effect with `balance: source_hash`, where each source has its endpoint at once",
      [...path, "balance"],
    );
  for (const [index, endpoint] of backend.endpoints.entries()) {
    if (endpoint.zone !== undefined && zone === undefined)
      report.error(
        [...path, "endpoints", index, "zone"],
        "has no effect without a `zone` at the top of the file, which says where this node is",
      );
  }
  if (backend.endpoints.every(({ state }) => state === "drain"))
    report.warning([...path, "endpoints"], "all have `state: drain`, so no connection will be given to any");
}

/** Ejections that could not be, and such as would shrink. */
export function checkOutliers(report: Report, backendName: string, { outliers, endpoints }: BackendConfig): void {
  if (outliers === undefined) return;
  const path: Path = ["backends", backendName, "outliers"];
  if (outliers.max_ejection < outliers.ejection)
    report.error(
      [...path, "max_ejection"],
      `${formatDuration(outliers.max_ejection)} is shorter than \`ejection\` (${formatDuration(outliers.ejection)})`,
      path,
    );
  if (endpoints.filter(({ state }) => state !== "drain").length < 2)
    report.warning(path, "has no effect: the only endpoint of a backend is never ejected");
}

/** A queue that nobody could ever have to wait in, and limits of which one hides the other. */
export function checkQueue(report: Report, backendName: string, backend: BackendConfig): void {
  const path: Path = ["backends", backendName];
  const { max_connections: most, max_pending_connects: mostPending, queue, endpoints } = backend;
  const isLimited = most > 0 || mostPending > 0 || endpoints.some(({ max_connections }) => max_connections > 0);
  if (queue.size > 0 && !isLimited)
    report.error(
      [...path, "queue", "size"],
      "has no effect without a limit: `max_connections` of the backend or its endpoints, or `max_pending_connects`",
      path,
    );
  if (most > 0 && mostPending > most)
    report.error([...path, "max_pending_connects"], `has no effect above \`max_connections\` (${most})`, path);
}

export interface BalanceRules {
  readonly backend: BackendConfig;
  /** This node's. */
  readonly zone: Config["zone"];
}
