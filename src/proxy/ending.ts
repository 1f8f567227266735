// How the cold path says that a connection ends here: a step of its life gives back either its value or an Ending.

import type { CloseReason } from "../telemetry/close-reason.ts";

/** A close reason with what is known beyond it. */
export class Ending {
  readonly reason: CloseReason;
  /** The errno, X.509 reason or parser's complaint; "" when the reason says it all. Shown in the log, so never holds raw peer bytes. */
  readonly detail: string;

  constructor(reason: CloseReason, detail = "") {
    this.reason = reason;
    this.detail = detail;
  }
}
