// What an operator can ask of the daemon from outside: the admin API's and the signals' view of the control plane.

import type { Heard, Question } from "../snapshot/inspection.ts";
import type { BytesBlock, Meters } from "../snapshot/meters.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { Status } from "../snapshot/status.ts";

/** How those fare who follow the daemon by the admin API. */
export interface StreamTally {
  open: number;
  /** Ended, as they did not read what was sent. */
  dropped: number;
}

/** The daemon, to whoever may command it. */
export interface Control {
  status(): Status;
  /** What is served. It holds private keys. */
  readonly snapshot: Snapshot;
  /** Connections of processes from before an upgrade, who cannot be asked about them. */
  readonly connectionsElsewhere: number;
  /** For the admin API to note them. */
  readonly streams: StreamTally;
  /** What has happened, to be read only. */
  readonly meters: Meters;
  /** Where bytes are counted in them. */
  readonly bytesBlocks: readonly BytesBlock[];
  /** Asks every process that relays. One that ends meanwhile is not in the answer. */
  ask<Q extends Question>(question: Q): Promise<Heard<Q>>;
  /** Re-reads the config. Resolves with why it was refused, or with an empty list. */
  reload(): Promise<readonly string[]>;
  /** Begins to drain and to end, as SIGTERM does. */
  drain(): void;
}
