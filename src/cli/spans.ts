// The export of spans of one process, where the config asks for it.

import type { CountRow } from "../snapshot/counts.ts";
import { DAEMON_SLOT, DROPPED_SPANS } from "../snapshot/counts.ts";
import type { ToWorker } from "../snapshot/messages.ts";
import type { Log } from "../telemetry/log.ts";
import { SpanExport } from "../telemetry/span-export.ts";

/** What the export needs. */
export interface SpanParts {
  readonly version: string;
  /** As connections of this process have it in their ids. */
  readonly instance: string;
  readonly worker: number;
  readonly log: Log;
  readonly counts: CountRow;
}

/** Null when nothing is to be exported. */
export function openSpans(
  settings: Extract<ToWorker, { kind: "start" }>["otlp"],
  { counts, ...parts }: SpanParts,
): SpanExport | null {
  if (settings === null) return null;
  return new SpanExport(settings, { ...parts, dropped: (spans) => counts.count(DAEMON_SLOT, DROPPED_SPANS, spans) });
}
