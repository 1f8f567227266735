// The control plane's side of several processes: it keeps the queues, decides by which snapshot everybody goes, and replaces workers that end.
// It relays nothing, so whatever kills a worker leaves the queues, the counts and the other workers as they are.

import { messageOf, ProxyError } from "../base/errors.ts";
import type { LogFile } from "../runtime/logs.ts";
import type { BoundSocket, Processes, SharedMemory } from "../runtime/runtime.ts";
import { type CountTable, DAEMON_SLOT } from "../snapshot/counts.ts";
import type { Answered, AnswerTo, Heard, Question } from "../snapshot/inspection.ts";
import type { ToWorker } from "../snapshot/messages.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { WorkerStatus } from "../snapshot/status.ts";
import type { Log } from "../telemetry/log.ts";
import type { DataPlane } from "./data-plane.ts";
import type { ListeningSockets } from "./listening-sockets.ts";
import { type WorkerEnd, type WorkerPatience, WorkerProcess } from "./worker-process.ts";

/** A worker that has lived for so long did not die of its start: its successor is started at once. */
const STEADY_MS = 10_000;
const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 30_000;
/** Waiting for so long for the next start is called a crash loop. */
const LOOP_WAIT_MS = 1000;
/** How long a worker that drains is waited for to say so. */
const STOP_MS = 1000;
/** What a worker is given beyond the drain time-out before it is killed. */
const DRAIN_GRACE_MS = 5000;

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
  /** Whether the queues are a predecessor's too, until it lets go. */
  readonly shared: boolean;
  readonly patience?: WorkerPatience;
}

/** A place for a worker: whoever takes it has the same number. */
interface Place {
  readonly worker: number;
  holder: WorkerProcess | null;
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
  #state: "starting" | "serving" | "ending" = "starting";
  /** Another daemon has the queues too. */
  #shared: boolean;
  #aborted = 0;
  readonly #killing: ReturnType<typeof setTimeout>[] = [];
  #ended: (() => void) | null = null;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#snapshot = options.snapshot;
    this.#shared = options.shared;
    this.#places = Array.from({ length: options.workers }, (_, index) => newPlace(index + 1));
  }

  /** Opens the queues and starts the workers. Rejects with a ProxyError when a listener cannot be had or a worker does not come up. */
  async start(): Promise<void> {
    const { sockets } = this.#options;
    const opened = sockets.open(this.#snapshot.listeners);
    this.listening = sockets.addressesOf(this.#snapshot.listeners);
    try {
      await Promise.all(this.#places.map((place) => this.#startWorker(place).ready));
      this.#state = "serving";
    } catch (thrown) {
      // A predecessor goes on: whom its clients have come to already finishes them, as any worker does that loses its supervisor.
      for (const holder of this.#all()) if (!this.#shared || holder.state === "starting") holder.kill();
      sockets.forget(opened);
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
    const status = (place: Place, holder: WorkerProcess | null, row: number): WorkerStatus => ({
      worker: place.worker,
      pid: holder?.pid ?? 0,
      state: holder?.shownState ?? "waiting to restart",
      generation: holder?.generation ?? 0,
      uptime_s: holder === null ? 0 : Math.round((Date.now() - holder.startedMs) / 1000),
      restarts: place.restarts,
      connections: row === 0 ? 0 : counts.held(row, DAEMON_SLOT),
      event_loop_lag_ms: row === 0 ? 0 : counts.lagMs(row),
    });
    return [
      ...this.#places.map((place) => status(place, place.holder, place.row)),
      ...[...this.#leaving].map(([holder, { place, row }]) => status(place, holder, row)),
    ];
  }

  async publish(snapshot: Snapshot): Promise<void> {
    const { sockets } = this.#options;
    const opened = this.#state === "ending" ? [] : await sockets.openPatiently(snapshot.listeners);
    const queues = new Map(opened.map((place) => [place, sockets.held.get(place) as BoundSocket]));
    const asked = this.#all();
    const answers = await Promise.all(asked.map((holder) => holder.prepare(snapshot, queues)));
    const problem = answers.find((answer) => answer !== null && answer !== "");
    // One that ends meanwhile is no word against the snapshot; all of them may well be.
    const isAnswered = asked.length === 0 || answers.includes("");
    if (problem !== undefined || !isAnswered) {
      for (const holder of asked) holder.abandon();
      sockets.forget(opened);
      throw new ProxyError("EWORKER", problem ?? "every worker has ended instead of going over to it");
    }
    this.#snapshot = snapshot;
    for (const holder of asked) holder.commit();
    // Whoever was started meanwhile was given the snapshot of before.
    const late = this.#all().filter((holder) => !asked.includes(holder));
    await Promise.all(late.map((holder) => this.#bringUpToDate(holder, queues)));
    if (this.#state === "ending") {
      // Everything else has been given up already.
      sockets.forget(opened);
      return;
    }
    sockets.keepOnly(snapshot.listeners);
    this.listening = sockets.addressesOf(snapshot.listeners);
  }

  /** Has another number of workers from now on, but not none. Those that are too many finish what they have. */
  resize(workers: number): void {
    if (workers === 0 || this.#state !== "serving") return;
    for (const place of this.#places.splice(workers)) {
      if (place.waiting !== null) clearTimeout(place.waiting);
      this.#leaves(place);
    }
    while (this.#places.length < workers) {
      const place = newPlace(this.#places.length + 1);
      this.#places.push(place);
      this.#replace(place);
    }
  }

  share(shared: boolean): void {
    this.#shared = shared;
    for (const holder of this.#all()) holder.share(shared);
  }

  drain(others: readonly string[]): Promise<number> {
    this.#state = "ending";
    this.#options.sockets.close(others);
    for (const place of this.#places) if (place.waiting !== null) clearTimeout(place.waiting);
    for (const { holder } of this.#places) holder?.drain(others);
    this.#killIn(this.#snapshot.drainTimeoutMs + DRAIN_GRACE_MS);
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#ended = () => {
      if (this.#all().length > 0) return;
      for (const timer of this.#killing) clearTimeout(timer);
      resolve(this.#aborted);
    };
    this.#ended();
    return promise;
  }

  async stopped(): Promise<void> {
    const { promise: tooLong, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, STOP_MS);
    await Promise.race([Promise.all(this.#all().map((holder) => holder.stopped)), tooLong]);
    clearTimeout(timer);
  }

  passLogFile(file: LogFile): void {
    for (const holder of this.#all()) holder.passLogFile(file);
  }

  abort(): void {
    for (const holder of this.#all()) holder.abort();
    this.#killIn(DRAIN_GRACE_MS);
  }

  async ask<Q extends Question>(question: Q): Promise<Heard<Q>> {
    const present = [
      ...this.#places.map(({ worker, holder }) => ({ worker, holder })),
      ...[...this.#leaving].map(([holder, { place }]) => ({ worker: place.worker, holder })),
    ];
    const answers: Answered<Q>[] = [];
    const silent: number[] = [];
    const asking = present.map(async ({ worker, holder }) => {
      // Before it serves it has no connections.
      if (holder === null || holder.generation === 0) return;
      const answered = await holder.ask(question);
      // Of the same version: what it answers is what it was asked for.
      if (answered !== null) answers.push({ worker, answer: answered.answer as AnswerTo<Q> });
      else if (this.#all().includes(holder)) silent.push(worker);
    });
    await Promise.all(asking);
    return { answers, silent };
  }

  /** Ends those that should have ended by then. */
  #killIn(ms: number): void {
    const kill = (): void => {
      for (const holder of this.#all()) holder.kill();
    };
    this.#killing.push(setTimeout(kill, ms));
  }

  #all(): readonly WorkerProcess[] {
    const present = this.#places.flatMap(({ holder }) => (holder === null ? [] : [holder]));
    return [...present, ...this.#leaving.keys()];
  }

  /** Throws when there is no room for another process. */
  #startWorker(place: Place): WorkerProcess {
    const { processes, counts, memory, sockets, settings, patience } = this.#options;
    const row = counts.claim(processes.pid);
    if (row === null) throw new ProxyError("ENOSPC", "no row is free in the table of counts");
    let holder: WorkerProcess;
    try {
      holder = new WorkerProcess({
        processes,
        memory,
        queues: sockets.held,
        start: { ...settings, worker: place.worker, row: row.number, shared: this.#shared, snapshot: this.#snapshot },
        ...(patience !== undefined && { patience }),
        onLine: ({ level, fields, message }) => this.#options.log[level]({ worker: place.worker, ...fields }, message),
        onLeaving: () => this.#wantsToEnd(place, holder),
        onEnd: (end) => this.#workerEnded(place, holder, end),
      });
    } catch (thrown) {
      counts.assign(row.number, 0);
      throw thrown;
    }
    counts.assign(row.number, holder.pid);
    place.holder = holder;
    place.row = row.number;
    return holder;
  }

  /** Another one takes its place, and it finishes what it has. */
  #wantsToEnd(place: Place, holder: WorkerProcess): void {
    // One that drains has been told already with whom it shares.
    if (place.holder !== holder || this.#state === "ending") return;
    this.#options.log.warn(
      { worker: place.worker, pid: holder.pid },
      "a worker was told to end; another takes its place",
    );
    this.#leaves(place);
    this.#replace(place);
  }

  /** Its process finishes what it has; the place is free. */
  #leaves(place: Place): void {
    const { holder } = place;
    if (holder === null) return;
    holder.drain([...this.#options.sockets.held.keys()]);
    this.#leaving.set(holder, { place, row: place.row });
    place.holder = null;
    place.row = 0;
  }

  #workerEnded(place: Place, holder: WorkerProcess, { how, inOrder }: WorkerEnd): void {
    const { counts, log } = this.#options;
    const row = this.#leaving.get(holder)?.row ?? place.row;
    const connections = counts.held(row, DAEMON_SLOT);
    this.#reclaim(row, holder.pid);
    this.#aborted += holder.aborted;
    const hadPlace = place.holder === holder;
    this.#leaving.delete(holder);
    if (hadPlace) {
      place.holder = null;
      place.row = 0;
    }
    if (!inOrder && this.#state === "ending") this.#aborted += connections;
    // At the start this is told to who started us.
    if (!inOrder && this.#state !== "starting")
      log.error({ worker: place.worker, pid: holder.pid, how, connections }, "a worker has ended");
    if (hadPlace && this.#state === "serving") this.#restart(place, Date.now() - holder.startedMs);
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
      this.#replace(place);
    }, waitMs);
  }

  /** Starts a worker in a free place, now or as soon as that is possible. */
  #replace(place: Place): void {
    const { log } = this.#options;
    let holder: WorkerProcess;
    try {
      holder = this.#startWorker(place);
    } catch (thrown) {
      log.error({ worker: place.worker, problem: messageOf(thrown) }, "a worker cannot be started");
      this.#restart(place, 0);
      return;
    }
    holder.ready.then(
      () => log.info({ worker: place.worker, pid: holder.pid }, "a worker was started anew"),
      () => {},
    );
  }

  async #bringUpToDate(holder: WorkerProcess, queues: ReadonlyMap<string, BoundSocket>): Promise<void> {
    // It has closed those that its own snapshot does not use.
    const answer = await holder.prepare(this.#snapshot, queues);
    if (answer === "") holder.commit();
    // The one in its place will start with what is served now.
    else if (answer !== null) holder.kill();
  }

  /** Takes back a row that a process has left. Who else wants to comes too late. */
  #reclaim(row: number, owner: number): void {
    const { counts, processes } = this.#options;
    if (counts.reassign(row, owner, processes.pid)) counts.reclaim(row, this.#snapshot.slotCount);
  }
}

function newPlace(worker: number): Place {
  return { worker, holder: null, row: 0, restarts: 0, failures: 0, waiting: null };
}
