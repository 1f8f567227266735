// What the control plane needs of whatever relays, be it in this process or in others.

import type { Address } from "../base/address.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";

/** One or more processes that relay by the same snapshot. */
export interface DataPlane {
  /** Where it listens. */
  readonly listening: readonly { readonly listener: string; readonly address: Address }[];
  /** Connections that it holds. */
  readonly connectionCount: number;
  /** Goes over to another snapshot, whole or not at all: rejects with the ProxyError of what cannot be, and then nothing has changed. */
  publish(snapshot: Snapshot): Promise<void>;
  /** Accepts nobody who comes from now on, and lets connections finish within the drain time-out. How many had to be aborted. */
  drain(): Promise<number>;
  /** Ends every connection now. */
  abort(): void;
}
