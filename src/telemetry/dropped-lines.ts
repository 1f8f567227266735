// Says that log lines are being dropped, once for each time that it happens, and when it is over. The service goes on meanwhile: a full disk is no
// reason to end connections.

import type { Log } from "./log.ts";

const LOOK_MS = 1000;

/** Called about dropped lines. */
export interface DroppedLinesListener {
  readonly log: Pick<Log, "warn" | "info">;
  /** So many more. */
  dropped(lines: number): void;
  /** How often to check. Default: each second. */
  readonly lookMs?: number;
}

/** Looks at a sink from now on, until the function that it gives is called, which counts a last time. */
export function watchDroppedLines(
  sink: { readonly droppedLines: number },
  { log, dropped, lookMs = LOOK_MS }: DroppedLinesListener,
): () => void {
  let seen = sink.droppedLines;
  /** Lines that were dropped before it began; -1 while none are. */
  let before = -1;
  const look = (): void => {
    const { droppedLines } = sink;
    if (droppedLines > seen) dropped(droppedLines - seen);
    if (droppedLines > seen && before < 0) {
      before = seen;
      log.warn("access-log lines are being dropped: the disk is full, or whoever reads them is too slow");
    } else if (droppedLines === seen && before >= 0) {
      log.info({ lines: droppedLines - before }, "no access-log lines are being dropped any more");
      before = -1;
    }
    seen = droppedLines;
  };
  const looking = setInterval(look, lookMs);
  return () => {
    clearInterval(looking);
    if (sink.droppedLines > seen) dropped(sink.droppedLines - seen);
  };
}
