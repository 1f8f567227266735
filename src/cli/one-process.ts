// Both planes in one process (`workers: 0`): for development, for tests, and for hosts with one core.

import type { Address } from "../base/address.ts";
import type { DataPlane } from "../control/data-plane.ts";
import { ListeningSockets } from "../control/listening-sockets.ts";
import { Worker, type WorkerOptions } from "../proxy/worker.ts";
import type { BoundSocket } from "../runtime/runtime.ts";
import { privateCounts } from "../snapshot/counts.ts";
import { placeOf, type Snapshot } from "../snapshot/snapshot.ts";

/** What the one process is made of, but what it makes itself. */
export type OneProcessOptions = Omit<WorkerOptions, "sockets" | "counts">;

/** A worker beside the control plane. */
export class OneProcess implements DataPlane {
  readonly worker: Worker;
  readonly #sockets: ListeningSockets;
  #snapshot: Snapshot;
  #draining = false;

  /** Opens every listener, or none: throws the ProxyError of the first that cannot be had. */
  constructor(options: OneProcessOptions, sockets = new ListeningSockets(options.runtime)) {
    this.#sockets = sockets;
    this.#snapshot = options.snapshot;
    sockets.open(options.snapshot.listeners);
    try {
      this.worker = new Worker({
        ...options,
        counts: privateCounts(),
        sockets: (spec) => sockets.of(spec).share(),
      });
    } catch (thrown) {
      sockets.keepOnly([]);
      throw thrown;
    }
  }

  get listening(): readonly { readonly listener: string; readonly address: Address }[] {
    return this.#snapshot.listeners.map((spec) => ({
      listener: spec.name,
      address: this.#sockets.of(spec).address,
    }));
  }

  get connectionCount(): number {
    return this.worker.connectionCount;
  }

  async publish(snapshot: Snapshot): Promise<void> {
    if (!this.#draining) await this.#sockets.openPatiently(snapshot.listeners);
    this.apply(snapshot);
  }

  /** Goes over to another snapshot, whole or not at all: throws the ProxyError of what cannot be built or bound, and then nothing has changed. */
  apply(snapshot: Snapshot): void {
    // What drains is held to new rules, but listens nowhere any more.
    if (this.#draining) return this.worker.commit(this.worker.prepare(snapshot), (spec) => this.#sockets.of(spec));
    const opened = this.#sockets.open(snapshot.listeners);
    const shares = new Map<string, BoundSocket>();
    try {
      const prepared = this.worker.prepare(snapshot);
      for (const spec of snapshot.listeners)
        if (opened.includes(placeOf(spec))) shares.set(placeOf(spec), this.#sockets.of(spec).share());
      this.worker.commit(prepared, (spec) => shares.get(placeOf(spec)) ?? this.#sockets.of(spec));
    } catch (thrown) {
      for (const share of shares.values()) share.close();
      this.#sockets.forget(opened);
      throw thrown;
    }
    this.#snapshot = snapshot;
    this.#sockets.keepOnly(snapshot.listeners);
  }

  drain(): Promise<number> {
    this.#draining = true;
    this.#sockets.turnAway();
    this.#sockets.close();
    return this.worker.drain({ queues: "empty" });
  }

  abort(): void {
    this.worker.abort();
  }
}
