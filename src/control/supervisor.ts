// The control plane's side of several processes: it keeps the listening sockets, decides which snapshot is in force, and replaces workers that end.
// It relays nothing, so whatever kills a worker leaves the listening sockets, the counts and the other workers as they are.

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

/** A worker that has lived for this long did not die of its start: its replacement is started at once. */
const STEADY_MS = 10_000;
const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 30_000;
/** From this delay before the next start on, the log says that the worker is in a crash loop. */
const LOOP_WAIT_MS = 1000;
/** How long `stopped` waits for workers to confirm that they drain. */
const STOP_MS = 1000;
/** How long after the drain timeout a worker that is still there is killed. */
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
  /** Whether a predecessor still accepts from the same listening sockets. */
  readonly shared: boolean;
  readonly patience?: WorkerPatience;
}

/** What outlives a worker process: its number, and how the starts of its processes have gone. */
interface Seat {
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
  readonly #seats: Seat[];
  /** Processes that only finish their connections: their seat is another one's, or gone. */
  readonly #leaving = new Map<WorkerProcess, { readonly seat: Seat; readonly row: number }>();
  listening: DataPlane["listening"] = [];
  #snapshot: Snapshot;
  #restarts = 0;
  #state: "starting" | "serving" | "ending" = "starting";
  /** Another daemon accepts from the same listening sockets, for as long as an upgrade takes. */
  #shared: boolean;
  #aborted = 0;
  readonly #killing: ReturnType<typeof setTimeout>[] = [];
  #ended: (() => void) | null = null;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#snapshot = options.snapshot;
    this.#shared = options.shared;
    this.#seats = Array.from({ length: options.workers }, (_, index) => newSeat(index + 1));
  }

  /** Opens the listening sockets and starts the workers. Rejects with a ProxyError when a socket cannot be opened or a worker does not start. */
  async start(): Promise<void> {
    const { sockets } = this.#options;
    const opened = sockets.open(this.#snapshot.listeners);
    this.listening = sockets.addressesOf(this.#snapshot.listeners);
    try {
      await Promise.all(this.#seats.map((seat) => this.#startWorker(seat).ready));
      this.#state = "serving";
    } catch (thrown) {
      // A predecessor keeps serving. A worker of ours that already has clients finishes them, as any worker does that loses its supervisor.
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
    const status = (seat: Seat, holder: WorkerProcess | null, row: number): WorkerStatus => ({
      worker: seat.worker,
      pid: holder?.pid ?? 0,
      state: holder?.shownState ?? "waiting to restart",
      generation: holder?.generation ?? 0,
      uptime_s: holder === null ? 0 : Math.round((Date.now() - holder.startedMs) / 1000),
      restarts: seat.restarts,
      connections: row === 0 ? 0 : counts.held(row, DAEMON_SLOT),
      event_loop_lag_ms: row === 0 ? 0 : counts.lagMs(row),
    });
    return [
      ...this.#seats.map((seat) => status(seat, seat.holder, seat.row)),
      ...[...this.#leaving].map(([holder, { seat, row }]) => status(seat, holder, row)),
    ];
  }

  async publish(snapshot: Snapshot): Promise<void> {
    const { sockets } = this.#options;
    const opened = this.#state === "ending" ? [] : await sockets.openPatiently(snapshot.listeners);
    const queues = new Map(opened.map((place) => [place, sockets.held.get(place) as BoundSocket]));
    const asked = this.#all();
    const answers = await Promise.all(asked.map((holder) => holder.prepare(snapshot, queues)));
    const problem = answers.find((answer) => answer !== null && answer !== "");
    // A worker that ends meanwhile does not speak against the snapshot; if all of them end, it may be the reason.
    const isAnswered = asked.length === 0 || answers.includes("");
    if (problem !== undefined || !isAnswered) {
      for (const holder of asked) holder.abandon();
      sockets.forget(opened);
      throw new ProxyError("EWORKER", problem ?? "every worker has ended instead of going over to it");
    }
    this.#snapshot = snapshot;
    for (const holder of asked) holder.commit();
    // A worker that was started meanwhile was given the previous snapshot.
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

  /** Changes the number of workers; 0 is ignored. Surplus workers finish their connections. */
  resize(workers: number): void {
    if (workers === 0 || this.#state !== "serving") return;
    for (const seat of this.#seats.splice(workers)) {
      if (seat.waiting !== null) clearTimeout(seat.waiting);
      this.#leaves(seat);
    }
    while (this.#seats.length < workers) {
      const seat = newSeat(this.#seats.length + 1);
      this.#seats.push(seat);
      this.#replace(seat);
    }
  }

  share(shared: boolean): void {
    this.#shared = shared;
    for (const holder of this.#all()) holder.share(shared);
  }

  drain(others: readonly string[]): Promise<number> {
    this.#state = "ending";
    this.#options.sockets.close(others);
    for (const seat of this.#seats) if (seat.waiting !== null) clearTimeout(seat.waiting);
    for (const { holder } of this.#seats) holder?.drain(others);
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
      ...this.#seats.map(({ worker, holder }) => ({ worker, holder })),
      ...[...this.#leaving].map(([holder, { seat }]) => ({ worker: seat.worker, holder })),
    ];
    const answers: Answered<Q>[] = [];
    const silent: number[] = [];
    const asking = present.map(async ({ worker, holder }) => {
      // A worker has no connections before it serves.
      if (holder === null || holder.generation === 0) return;
      const answered = await holder.ask(question);
      // Of the same version: what it answers is what it was asked for.
      if (answered !== null) answers.push({ worker, answer: answered.answer as AnswerTo<Q> });
      else if (this.#all().includes(holder)) silent.push(worker);
    });
    await Promise.all(asking);
    return { answers, silent };
  }

  /** Kills, after `ms`, the workers that are still there. */
  #killIn(ms: number): void {
    const kill = (): void => {
      for (const holder of this.#all()) holder.kill();
    };
    this.#killing.push(setTimeout(kill, ms));
  }

  #all(): readonly WorkerProcess[] {
    const present = this.#seats.flatMap(({ holder }) => (holder === null ? [] : [holder]));
    return [...present, ...this.#leaving.keys()];
  }

  /** Throws a ProxyError when the table of counts has no row left, or the process cannot be started. */
  #startWorker(seat: Seat): WorkerProcess {
    const { processes, counts, memory, sockets, settings, patience } = this.#options;
    const row = counts.claim(processes.pid);
    if (row === null) throw new ProxyError("ENOSPC", "no row is free in the table of counts");
    let holder: WorkerProcess;
    try {
      holder = new WorkerProcess({
        processes,
        memory,
        queues: sockets.held,
        start: { ...settings, worker: seat.worker, row: row.number, shared: this.#shared, snapshot: this.#snapshot },
        ...(patience !== undefined && { patience }),
        onLine: ({ level, fields, message }) => this.#options.log[level]({ worker: seat.worker, ...fields }, message),
        onLeaving: () => this.#wantsToEnd(seat, holder),
        onEnd: (end) => this.#workerEnded(seat, holder, end),
      });
    } catch (thrown) {
      counts.assign(row.number, 0);
      throw thrown;
    }
    counts.assign(row.number, holder.pid);
    seat.holder = holder;
    seat.row = row.number;
    return holder;
  }

  /** A worker was told to end by somebody else: another one takes its seat, and it finishes its connections. */
  #wantsToEnd(seat: Seat, holder: WorkerProcess): void {
    // One that drains already knows which sockets others accept from.
    if (seat.holder !== holder || this.#state === "ending") return;
    this.#options.log.warn(
      { worker: seat.worker, pid: holder.pid },
      "a worker was told to end; another takes its place",
    );
    this.#leaves(seat);
    this.#replace(seat);
  }

  /** Frees the seat; its process finishes its connections. */
  #leaves(seat: Seat): void {
    const { holder } = seat;
    if (holder === null) return;
    holder.drain([...this.#options.sockets.held.keys()]);
    this.#leaving.set(holder, { seat, row: seat.row });
    seat.holder = null;
    seat.row = 0;
  }

  #workerEnded(seat: Seat, holder: WorkerProcess, { how, inOrder }: WorkerEnd): void {
    const { counts, log } = this.#options;
    const row = this.#leaving.get(holder)?.row ?? seat.row;
    const connections = counts.held(row, DAEMON_SLOT);
    this.#reclaim(row, holder.pid);
    this.#aborted += holder.aborted;
    const hadSeat = seat.holder === holder;
    this.#leaving.delete(holder);
    if (hadSeat) {
      seat.holder = null;
      seat.row = 0;
    }
    if (!inOrder && this.#state === "ending") this.#aborted += connections;
    // During the start, `start` rejects with the reason instead.
    if (!inOrder && this.#state !== "starting")
      log.error({ worker: seat.worker, pid: holder.pid, how, connections }, "a worker has ended");
    if (hadSeat && this.#state === "serving") this.#restart(seat, Date.now() - holder.startedMs);
    this.#ended?.();
  }

  #restart(seat: Seat, livedMs: number): void {
    const { log } = this.#options;
    seat.failures = livedMs >= STEADY_MS ? 0 : seat.failures + 1;
    const waitMs = seat.failures <= 1 ? 0 : Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (seat.failures - 2));
    if (waitMs >= LOOP_WAIT_MS)
      log.error({ worker: seat.worker, failures: seat.failures, wait_ms: waitMs }, "a worker ends again and again");
    seat.waiting = setTimeout(() => {
      seat.waiting = null;
      seat.restarts++;
      this.#restarts++;
      this.#replace(seat);
    }, waitMs);
  }

  /** Starts a worker in a free seat, now or as soon as that is possible. */
  #replace(seat: Seat): void {
    const { log } = this.#options;
    let holder: WorkerProcess;
    try {
      holder = this.#startWorker(seat);
    } catch (thrown) {
      log.error({ worker: seat.worker, problem: messageOf(thrown) }, "a worker cannot be started");
      this.#restart(seat, 0);
      return;
    }
    holder.ready.then(
      () => log.info({ worker: seat.worker, pid: holder.pid }, "a worker was started anew"),
      () => {},
    );
  }

  async #bringUpToDate(holder: WorkerProcess, queues: ReadonlyMap<string, BoundSocket>): Promise<void> {
    // It has closed the sockets that its own snapshot does not use.
    const answer = await holder.prepare(this.#snapshot, queues);
    if (answer === "") holder.commit();
    // Its replacement will start with the current snapshot.
    else if (answer !== null) holder.kill();
  }

  /** Gives back the row of a process that has ended, unless another process has taken it over already. */
  #reclaim(row: number, owner: number): void {
    const { counts, processes } = this.#options;
    if (counts.reassign(row, owner, processes.pid)) counts.reclaim(row, this.#snapshot.slotCount);
  }
}

function newSeat(worker: number): Seat {
  return { worker, holder: null, row: 0, restarts: 0, failures: 0, waiting: null };
}
