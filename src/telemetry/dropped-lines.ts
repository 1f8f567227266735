// Says that log lines are being dropped, once for each time that it happens, and when it is over. The service goes on meanwhile: a full disk is no
// reason to end connections.

import type { Log } from "./log.ts";

const LOOK_MS = 1000;

/** Looks at a sink from now on, until the function that it gives is called. */
export function watchDroppedLines(sink: { readonly droppedLines: number }, log: Log, lookMs = LOOK_MS): () => void {
  let seen = sink.droppedLines;
  /** Lines that were dropped before it began; -1 while none are. */
  let before = -1;
  const look = setInterval(() => {
    const { droppedLines } = sink;
    if (droppedLines > seen && before < 0) {
      before = seen;
      log.warn("access-log lines are being dropped: the disk is full, or whoever reads them is too slow");
    } else if (droppedLines === seen && before >= 0) {
      log.info({ lines: droppedLines - before }, "no access-log lines are being dropped any more");
      before = -1;
    }
    seen = droppedLines;
  }, lookMs);
  return () => clearInterval(look);
}
