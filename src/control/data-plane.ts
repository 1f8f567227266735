// What the control plane needs of whatever relays, be it in this process or in others.

import type { Address } from "../base/address.ts";
import type { LogFile } from "../runtime/logs.ts";
import type { Heard, Question } from "../snapshot/inspection.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { WorkerStatus } from "../snapshot/status.ts";

/** One or more processes that relay by the same snapshot. */
export interface DataPlane {
  /** What is served. */
  readonly snapshot: Snapshot;
  /** Where it listens. */
  readonly listening: readonly { readonly listener: string; readonly address: Address }[];
  readonly workers: readonly WorkerStatus[];
  /** Workers that died and were restarted. */
  readonly restarts: number;
  /** Goes over to another snapshot, whole or not at all: rejects with the ProxyError of what cannot be, and then nothing has changed. */
  publish(snapshot: Snapshot): Promise<void>;
  /** Goes on with this many processes, as far as it has any of its own. */
  resize(workers: number): void;
  /** Sets whether another daemon accepts from the same listening sockets, for as long as an upgrade takes. */
  share(shared: boolean): void;
  /**
   * Lets connections finish within the drain time-out; how many had to be aborted. `others` are the places that somebody else accepts from, from now
   * on. Whoever waits in another queue is served, and nobody joins it. To be called once.
   */
  drain(others: readonly string[]): Promise<number>;
  /** Has the workers write their access logs to this file from now on. The caller keeps owning it. */
  passLogFile(file: LogFile): void;
  /** Resolves once nobody of it accepts any more from the places that somebody else accepts from, since it drains; after a second in any case. */
  stopped(): Promise<void>;
  /** Ends every connection now. */
  abort(): void;
  /** Asks every process. One that ends meanwhile is not in the answer. */
  ask<Q extends Question>(question: Q): Promise<Heard<Q>>;
}
