// Both planes in one process (`workers: 0`): for development, for tests, and for hosts with one core.

import type { DataPlane } from "../control/data-plane.ts";
import { ListeningSockets } from "../control/listening-sockets.ts";
import { Inspector } from "../proxy/inspect.ts";
import { type Prepared, Worker, type WorkerOptions } from "../proxy/worker.ts";
import type { BoundSocket } from "../runtime/runtime.ts";
import { privateCounts } from "../snapshot/counts.ts";
import type { AnswerTo, Heard, Question } from "../snapshot/inspection.ts";
import { placeOf, type Snapshot } from "../snapshot/snapshot.ts";
import type { WorkerStatus } from "../snapshot/status.ts";

/** What the one process is made of. Sockets and counts are its own unless they are given. */
export interface OneProcessOptions extends Omit<WorkerOptions, "sockets" | "counts"> {
  readonly sockets?: ListeningSockets;
  readonly counts?: WorkerOptions["counts"];
}

/** A worker beside the control plane. */
export class OneProcess implements DataPlane {
  readonly worker: Worker;
  readonly restarts = 0;
  listening: DataPlane["listening"];
  readonly #sockets: ListeningSockets;
  readonly #startedMs = Date.now();
  readonly #pid: number;
  #snapshot: Snapshot;
  #draining = false;
  readonly #inspector: Inspector;

  /** Opens every listener, or none: throws the ProxyError of the first that cannot be had. */
  constructor({ sockets, counts = privateCounts(), ...options }: OneProcessOptions) {
    this.#sockets = sockets ?? new ListeningSockets(options.runtime);
    this.#snapshot = options.snapshot;
    this.#pid = options.runtime.processes?.pid ?? 0;
    const opened = this.#sockets.open(options.snapshot.listeners);
    try {
      this.worker = new Worker({ ...options, counts, sockets: (spec) => this.#sockets.of(spec).share() });
    } catch (thrown) {
      this.#sockets.forget(opened);
      throw thrown;
    }
    this.#inspector = new Inspector(this.worker, 0);
    this.listening = this.#sockets.addressesOf(options.snapshot.listeners);
  }

  get snapshot(): Snapshot {
    return this.#snapshot;
  }

  get workers(): readonly WorkerStatus[] {
    return [
      {
        worker: 0,
        pid: this.#pid,
        state: this.#draining ? "draining" : "serving",
        generation: this.worker.generation,
        uptime_s: Math.round((Date.now() - this.#startedMs) / 1000),
        restarts: 0,
        connections: this.worker.connectionCount,
        // The supervisor's is this process's.
        event_loop_lag_ms: this.worker.counts.table.lagMs(0),
      },
    ];
  }

  async publish(snapshot: Snapshot): Promise<void> {
    const opened = this.#draining ? [] : await this.#sockets.openPatiently(snapshot.listeners);
    try {
      const prepared = this.worker.prepare(snapshot);
      await this.worker.complete(prepared);
      this.#goOverTo(prepared);
    } catch (thrown) {
      this.#sockets.forget(opened);
      throw thrown;
    }
  }

  /** Goes over to another snapshot, whole or not at all: throws the ProxyError of what cannot be built or bound, and then nothing has changed. */
  apply(snapshot: Snapshot): void {
    this.#goOverTo(this.worker.prepare(snapshot));
  }

  #goOverTo(prepared: Prepared): void {
    const { worker } = this;
    const { snapshot } = prepared;
    // What drains is held to new rules, but listens nowhere any more.
    const opened = this.#draining ? [] : this.#sockets.open(snapshot.listeners);
    const shares = new Map<string, BoundSocket>();
    try {
      for (const spec of snapshot.listeners)
        if (opened.includes(placeOf(spec))) shares.set(placeOf(spec), this.#sockets.of(spec).share());
      worker.commit(prepared, (spec) => shares.get(placeOf(spec)) ?? this.#sockets.of(spec).share());
    } catch (thrown) {
      for (const share of shares.values()) share.close();
      this.#sockets.forget(opened);
      throw thrown;
    }
    this.#snapshot = snapshot;
    if (this.#draining) return;
    this.#sockets.keepOnly(snapshot.listeners);
    this.listening = this.#sockets.addressesOf(snapshot.listeners);
  }

  resize(): void {
    // There is one process.
  }

  share(): void {
    // Nobody outlives this process.
  }

  passLogFile(): void {
    // There is no other process.
  }

  drain(others: readonly string[]): Promise<number> {
    this.#draining = true;
    this.#sockets.close(others);
    return this.worker.drain(others);
  }

  async stopped(): Promise<void> {
    // Draining began with it.
  }

  abort(): void {
    this.worker.abort();
  }

  async ask<Q extends Question>(question: Q): Promise<Heard<Q>> {
    const answer = (await this.#inspector.answer(question)) as AnswerTo<Q>;
    return { answers: [{ worker: 0, answer }], silent: [] };
  }
}
