// The control plane's side of several processes: it keeps the queues, decides by which snapshot everybody goes, and replaces workers that end.
// It relays nothing, so whatever kills a worker leaves the queues, the counts and the other workers as they are.

import { messageOf, ProxyError } from "../base/errors.ts";
import type { BoundSocket, Processes, SharedMemory } from "../runtime/runtime.ts";
import { type CountTable, DAEMON_SLOT } from "../snapshot/counts.ts";
import type { ToWorker } from "../snapshot/messages.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { WorkerStatus } from "../snapshot/status.ts";
import type { Log } from "../telemetry/log.ts";
import type { DataPlane } from "./data-plane.ts";
import type { ListeningSockets } from "./listening-sockets.ts";
import { type WorkerEnd, WorkerProcess } from "./worker-process.ts";

/** A worker that has lived for so long did not die of its start: its successor is started at once. */
const STEADY_MS = 10_000;
const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 30_000;
/** Waiting for so long for the next start is called a crash loop. */
const LOOP_WAIT_MS = 1000;
/** What a worker is given beyond the drain time-out before it is killed. */
const DRAIN_GRACE_MS = 5000;
/** A successor looks so often whether workers of its predecessor have died with it. */
const SWEEP_MS = 100;

/** What does not change while the supervisor runs. */
export type WorkerSettings = Pick<Extract<ToWorker, { kind: "start" }>, "version" | "log" | "accessLog" | "user">;

export interface SupervisorOptions {
  readonly processes: Processes;
  readonly log: Log;
  readonly sockets: ListeningSockets;
  readonly memory: SharedMemory;
  readonly counts: CountTable;
  readonly settings: WorkerSettings;
  readonly workers: number;
  readonly snapshot: Snapshot;
}

/** A place for a worker: whoever takes it has the same number. */
interface Place {
  readonly worker: number;
  process: WorkerProcess | null;
  /** Of the table of counts; 0 = none. */
  row: number;
  restarts: number;
  /** Starts that failed in a row. */
  failures: number;
  waiting: ReturnType<typeof setTimeout> | null;
}

/** Workers, and what they have in common. */
export class Supervisor implements DataPlane {
  readonly #options: SupervisorOptions;
  readonly #places: Place[];
  /** Processes that finish while another one has their place. */
  readonly #leaving = new Map<WorkerProcess, { readonly place: Place; readonly row: number }>();
  listening: DataPlane["listening"] = [];
  #snapshot: Snapshot;
  #restarts = 0;
  #ending = false;
  #aborted = 0;
  #ended: (() => void) | null = null;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#snapshot = options.snapshot;
    this.#places = Array.from({ length: options.workers }, (_, index) => newPlace(index + 1));
  }

  /** Opens the queues and starts the workers. Rejects with a ProxyError when a listener cannot be had or a worker does not come up. */
  async start(): Promise<void> {
    const { sockets } = this.#options;
    sockets.open(this.#snapshot.listeners);
    this.listening = sockets.addressesOf(this.#snapshot.listeners);
    try {
      await Promise.all(this.#places.map((place) => this.#startWorker(place).ready));
    } catch (thrown) {
      this.#ending = true;
      for (const { process } of this.#places) process?.kill();
      throw new ProxyError("EWORKER", `a worker does not start: ${messageOf(thrown)}`);
    }
  }

  get snapshot(): Snapshot {
    return this.#snapshot;
  }

  get restarts(): number {
    return this.#restarts;
  }

  get workers(): readonly WorkerStatus[] {
    const { counts } = this.#options;
    const status = (place: Place, process: WorkerProcess | null, row: number): WorkerStatus => ({
      worker: place.worker,
      pid: process?.pid ?? 0,
      state: process?.state ?? "waiting to restart",
      generation: process?.generation ?? 0,
      uptime_s: process === null ? 0 : Math.round((Date.now() - process.startedMs) / 1000),
      restarts: place.restarts,
      connections: row === 0 ? 0 : counts.held(row, DAEMON_SLOT),
    });
    return [
      ...this.#places.map((place) => status(place, place.process, place.row)),
      ...[...this.#leaving].map(([process, { place, row }]) => status(place, process, row)),
    ];
  }

  async publish(snapshot: Snapshot): Promise<void> {
    const { sockets } = this.#options;
    const opened = this.#ending ? [] : await sockets.openPatiently(snapshot.listeners);
    const queues = new Map(opened.map((place) => [place, sockets.held.get(place) as BoundSocket]));
    const asked = this.#all();
    const problems = await Promise.all(asked.map((process) => process.prepare(snapshot, queues)));
    const problem = problems.find((text) => text !== "");
    if (problem !== undefined) {
      for (const process of asked) process.abandon();
      sockets.forget(opened);
      throw new ProxyError("EWORKER", problem);
    }
    this.#snapshot = snapshot;
    for (const process of asked) process.commit();
    // Whoever was started meanwhile was given the snapshot of before.
    for (const process of this.#all()) if (!asked.includes(process)) await this.#bringUpToDate(process);
    if (this.#ending) return;
    sockets.keepOnly(snapshot.listeners);
    this.listening = sockets.addressesOf(snapshot.listeners);
  }

  /** Has another number of workers from now on. Those that are too many finish what they have. */
  resize(workers: number): void {
    for (const place of this.#places.splice(workers)) {
      if (place.waiting !== null) clearTimeout(place.waiting);
      if (place.process === null) continue;
      place.process.drain("leave");
      this.#leaves(place);
    }
    while (this.#places.length < workers) {
      const place = newPlace(this.#places.length + 1);
      this.#places.push(place);
      this.#startWorker(place);
    }
  }

  drain(queues: "leave" | "empty"): Promise<number> {
    this.#ending = true;
    this.#options.sockets.close(queues);
    for (const place of this.#places) if (place.waiting !== null) clearTimeout(place.waiting);
    for (const { process } of this.#places) process?.drain(queues);
    const tooLong = setTimeout(() => {
      for (const process of this.#all()) process.kill();
    }, this.#snapshot.drainTimeoutMs + DRAIN_GRACE_MS);
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#ended = () => {
      if (this.#all().length > 0) return;
      clearTimeout(tooLong);
      resolve(this.#aborted);
    };
    this.#ended();
    return promise;
  }

  abort(): void {
    for (const process of this.#all()) process.abort();
  }

  /** Takes back the rows of processes that have died together with the supervisor that would have done it. Ends when all rows are ours. */
  sweep(): void {
    const { counts, processes } = this.#options;
    const ours = new Set(this.#all().map(({ pid }) => pid));
    const strangers = counts.owners().filter(({ owner }) => owner !== processes.pid && !ours.has(owner));
    for (const { row, owner } of strangers)
      if (!processes.isAlive(owner)) counts.reclaim(row, this.#snapshot.slotCount);
    if (strangers.length > 0 && !this.#ending) setTimeout(() => this.sweep(), SWEEP_MS);
  }

  #all(): readonly WorkerProcess[] {
    const present = this.#places.flatMap(({ process }) => (process === null ? [] : [process]));
    return [...present, ...this.#leaving.keys()];
  }

  #startWorker(place: Place): WorkerProcess {
    const { processes, counts, memory, sockets, settings } = this.#options;
    const row = counts.claim(processes.pid);
    if (row === null) throw new ProxyError("ENOSPC", "no row is free in the table of counts");
    const process = new WorkerProcess({
      processes,
      memory,
      queues: sockets.held,
      start: { ...settings, worker: place.worker, row: row.number, snapshot: this.#snapshot },
      onLeaving: () => {
        if (place.process !== process) return;
        this.#options.log.warn(
          { worker: place.worker, pid: process.pid },
          "a worker was told to end; another takes its place",
        );
        this.#leaves(place);
        this.#startWorker(place);
      },
      onEnd: (end) => this.#workerEnded(place, process, end),
    });
    counts.assign(row.number, process.pid);
    place.process = process;
    place.row = row.number;
    return process;
  }

  /** Its process finishes what it has; the place is free. */
  #leaves(place: Place): void {
    if (place.process === null) return;
    this.#leaving.set(place.process, { place, row: place.row });
    place.process = null;
    place.row = 0;
  }

  #workerEnded(place: Place, process: WorkerProcess, { how, inOrder }: WorkerEnd): void {
    const { counts, log } = this.#options;
    const row = this.#leaving.get(process)?.row ?? place.row;
    const connections = counts.held(row, DAEMON_SLOT);
    counts.reclaim(row, this.#snapshot.slotCount);
    this.#aborted += process.aborted;
    const hadPlace = place.process === process;
    this.#leaving.delete(process);
    if (hadPlace) {
      place.process = null;
      place.row = 0;
    }
    if (!inOrder) log.error({ worker: place.worker, pid: process.pid, how, connections }, "a worker has ended");
    if (hadPlace && !this.#ending) this.#restart(place, Date.now() - process.startedMs);
    this.#ended?.();
  }

  #restart(place: Place, livedMs: number): void {
    const { log } = this.#options;
    place.failures = livedMs >= STEADY_MS ? 0 : place.failures + 1;
    const waitMs = place.failures <= 1 ? 0 : Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (place.failures - 2));
    if (waitMs >= LOOP_WAIT_MS)
      log.error({ worker: place.worker, failures: place.failures, wait_ms: waitMs }, "a worker ends again and again");
    place.waiting = setTimeout(() => {
      place.waiting = null;
      place.restarts++;
      this.#restarts++;
      const process = this.#startWorker(place);
      process.ready.then(
        () => log.info({ worker: place.worker, pid: process.pid }, "a worker was started anew"),
        () => {},
      );
    }, waitMs);
  }

  async #bringUpToDate(process: WorkerProcess): Promise<void> {
    if ((await process.prepare(this.#snapshot, new Map())) === "") process.commit();
  }
}

function newPlace(worker: number): Place {
  return { worker, process: null, row: 0, restarts: 0, failures: 0, waiting: null };
}
