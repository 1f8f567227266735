// The export of spans of one process, as the snapshots want it.

import type { CountRow } from "../snapshot/counts.ts";
import { DAEMON_SLOT, DROPPED_SPANS } from "../snapshot/counts.ts";
import type { Log } from "../telemetry/log.ts";
import { SpanExport, type SpanExports, type SpanSettings } from "../telemetry/span-export.ts";

/** What the export needs. */
export interface SpanParts {
  readonly version: string;
  /** As connections of this process have it in their ids. */
  readonly instance: string;
  readonly worker: number;
  readonly log: Log;
  readonly counts: CountRow;
}

/** Exports to one collector at a time. */
export class Spans implements SpanExports {
  readonly #parts: SpanParts;
  #collector = "";
  #export: SpanExport | null = null;
  /** Of those before. */
  #closing: Promise<unknown> = Promise.resolve();

  constructor(parts: SpanParts) {
    this.#parts = parts;
  }

  /** Resolves once nothing more has to be loaded for this export. */
  get loaded(): Promise<void> {
    return this.#export?.loaded ?? Promise.resolve();
  }

  /** Exports to this one from now on; null: to none. What another one is owed is sent to it yet. */
  follow(collector: SpanSettings | null): SpanExport | null {
    const words = JSON.stringify(collector);
    if (words === this.#collector) return this.#export;
    this.#collector = words;
    this.#closing = this.close();
    const { counts, ...parts } = this.#parts;
    const dropped = (spans: number): void => counts.count(DAEMON_SLOT, DROPPED_SPANS, spans);
    this.#export = collector === null ? null : new SpanExport(collector, { ...parts, dropped });
    return this.#export;
  }

  /** Sends what has gathered, as far as the collector takes it in time. */
  async close(): Promise<void> {
    await Promise.all([this.#closing, this.#export?.close()]);
  }
}
