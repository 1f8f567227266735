// What an operator can ask of the daemon from outside: the admin API's and the signals' view of the control plane.

import type { Status } from "../snapshot/status.ts";

/** The daemon, to whoever may command it. */
export interface Control {
  status(): Status;
  /** Reads the config anew. Resolves with why it was refused, or with an empty list. */
  reload(): Promise<readonly string[]>;
  /** Begins to drain and to end, as SIGTERM does. */
  drain(): void;
}
