// Starting the data plane, as one process or as workers, on the state that all processes of the daemon share.

import { ProxyError } from "../base/errors.ts";
import type { Config } from "../config/schema.ts";
import type { DataPlane } from "../control/data-plane.ts";
import type { Inheritance } from "../control/hand-over.ts";
import { ListeningSockets } from "../control/listening-sockets.ts";
import { Supervisor } from "../control/supervisor.ts";
import type { Worker } from "../proxy/worker.ts";
import type { Runtime, SharedMemory } from "../runtime/runtime.ts";
import { type CountRow, CountTable, DAEMON_TABLE, privateMemory } from "../snapshot/counts.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { AccessLog } from "../telemetry/access-log.ts";
import type { Log } from "../telemetry/log.ts";

/** What all processes of a daemon share. */
export interface Shared {
  readonly sockets: ListeningSockets;
  readonly counts: CountTable;
  /** Null where the platform has none: then there is one process. */
  readonly memory: SharedMemory | null;
}

/** The state that all processes of the daemon share: new, or taken over from the predecessor. */
export function shareState(runtime: Runtime, inheritance: Inheritance | null): Shared {
  const sockets = new ListeningSockets(runtime);
  for (const [place, socket] of inheritance?.queues ?? []) sockets.adopt(place, socket);
  const bytes = CountTable.bytes(DAEMON_TABLE);
  // Another version may lay the table out differently; its connections are then not counted in ours.
  const isKnown = inheritance !== null && CountTable.fits(inheritance.memory, DAEMON_TABLE);
  const memory = isKnown ? inheritance.memory : (runtime.processes?.shareMemory(bytes) ?? null);
  return { sockets, memory, counts: new CountTable(memory ?? privateMemory(bytes), DAEMON_TABLE) };
}

/** What a data plane is made of. */
export interface PlaneParts extends Shared {
  readonly runtime: Runtime;
  readonly version: string;
  readonly config: Config;
  readonly log: Log;
  /** Of this process, for when it relays itself. */
  readonly openAccessLog: (counts: CountRow) => AccessLog | null;
  /** Called where this process relays itself; resolves once all is loaded for that. */
  readonly relays: (worker: Worker, counts: CountRow) => Promise<void>;
  readonly snapshot: Snapshot;
  /** Whether a predecessor accepts from the same listening sockets. */
  readonly isHeir: boolean;
  /** Called once all sockets are bound and before privileges are dropped. If it throws, the start has failed. */
  accepting(): void;
}

/** Starts the data plane. Opens the listening sockets that the predecessor has not passed on, and closes those that the config does not use. */
export async function startPlane(parts: PlaneParts): Promise<DataPlane> {
  const { runtime, version, config, log, openAccessLog, relays, snapshot, sockets, counts, memory, isHeir, accepting } =
    parts;
  const { processes } = runtime;
  // Throws now if one of them is wrong; `bind` hands them out later.
  runtime.inheritedSockets();
  const workers = workerCount(runtime, config.workers);
  if (workers === 0) {
    const row = counts.claim(processes?.pid ?? 1);
    if (row === null) throw new ProxyError("ENOSPC", "no row is free in the table of counts");
    // Loaded only here: a supervisor relays nothing and should not hold the relay's code in memory.
    const { OneProcess } = await import("./one-process.ts");
    const plane = new OneProcess({
      runtime,
      snapshot,
      accessLog: openAccessLog(row),
      sockets,
      counts: row,
      log,
    });
    await relays(plane.worker, row);
    sockets.leaveUnused(snapshot.listeners);
    accepting();
    if (config.user !== undefined) runtime.dropPrivileges(config.user);
    return plane;
  }
  if (processes === null || memory === null)
    throw new ProxyError("ENOSYS", `workers: ${workers}: this platform has no worker processes; write workers: 0`);
  const { access_log: accessLog, user = null } = config;
  const settings = { version, log: config.log, accessLog, user };
  const supervisor = new Supervisor({
    processes,
    log,
    sockets,
    memory,
    counts,
    settings,
    workers,
    snapshot,
    shared: isHeir,
  });
  await supervisor.start();
  sockets.leaveUnused(snapshot.listeners);
  try {
    accepting();
  } catch (thrown) {
    supervisor.abort();
    throw thrown;
  }
  return supervisor;
}

/** How many processes relay; 0 = this one. */
export function workerCount({ processes }: Runtime, workers: Config["workers"]): number {
  // Where there is only one process, it is the one worker, too.
  if (processes === null) return workers === "auto" || workers === 1 ? 0 : workers;
  return workers === "auto" ? processes.processors : workers;
}
