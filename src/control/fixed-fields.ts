// The fields of a config that are no part of a snapshot: what describes the process itself. A reload takes over some of them; the others stay as
// they were when the process was started.

import type { Config } from "../config/schema.ts";
import { sameData } from "./same-data.ts";

/** Opened, written or given up once, at the start. */
const FIXED = ["log", "access_log", "admin", "user", "pid_file"] as const;

/** The fields in which `now` differs from what the process was started with, and which only a restart takes over. */
export function fixedChanges(started: Config, now: Config): string[] {
  const changed: string[] = FIXED.filter((field) => !sameData(started[field], now[field]));
  // From one process to several or back is another program; any other number is a matter of starting some.
  if ((started.workers === 0) !== (now.workers === 0)) changed.unshift("workers");
  return changed;
}

/** Whether a reload takes over something that is no part of the snapshot. */
export function changedAround(before: Config, now: Config): boolean {
  const resized = before.workers !== now.workers && before.workers !== 0 && now.workers !== 0;
  return resized || before.watch_config !== now.watch_config;
}
