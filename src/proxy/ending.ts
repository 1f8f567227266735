// How the cold path says that a connection ends here: a step of its life returns either its value or an Ending.

import type { CloseReason } from "../telemetry/close-reason.ts";

/** The text, if it is an errno, a reason of the TLS library or a code of X.509 and nothing else; or "". */
export function errorIn(text: string): string {
  return /^[A-Z][A-Z0-9_]+$/.test(text) ? text : "";
}

/** A close reason with what is known beyond it. */
export class Ending {
  readonly reason: CloseReason;
  /** For people: what happened, to whom; "" when the reason says it all. Shown in the log, so never holds raw peer bytes. */
  readonly detail: string;
  /** For programs: the errno, the reason of the TLS library or the X.509 code; "" where there is none. */
  readonly error: string;

  /** A detail that is a code is the error, too, unless another one is given. */
  constructor(reason: CloseReason, detail = "", error = errorIn(detail)) {
    this.reason = reason;
    this.detail = detail;
    this.error = error;
  }
}

/** Both directions have ended in order. One for all: most connections end so. */
export const COMPLETED = new Ending("completed");
