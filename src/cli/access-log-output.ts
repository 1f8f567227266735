// The access log of one process, from the file that it goes to up to its last line.

import type { LogFile, LogSink } from "../runtime/logs.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type CountRow, DAEMON_SLOT, DROPPED_LINES } from "../snapshot/counts.ts";
import type { ToWorker } from "../snapshot/messages.ts";
import { AccessLog } from "../telemetry/access-log.ts";
import { watchDroppedLines } from "../telemetry/dropped-lines.ts";
import type { Log } from "../telemetry/log.ts";

/** What the config says of it. */
export type AccessLogSettings = Extract<ToWorker, { kind: "start" }>["accessLog"];

/** What an access log needs. */
export interface AccessLogParts {
  readonly runtime: Pick<Runtime, "openLogSink" | "clock">;
  readonly log: Log;
  /** Where lines are counted that were dropped. */
  readonly counts: CountRow;
  /** Which process writes it; 0 = there is one. */
  readonly worker: number;
}

/** An access log that was opened, or none. */
export class AccessLogOutput {
  /** Null when it is off. */
  readonly accessLog: AccessLog | null;
  readonly #log: Log;
  readonly #sink: LogSink | null;
  /** Looks a last time. */
  readonly #stopWatching: () => void;

  /** Throws ProxyError when the file cannot be opened. */
  constructor({ output, ...rules }: AccessLogSettings, { runtime, log, counts, worker }: AccessLogParts) {
    this.#log = log;
    this.#sink = output === "off" ? null : runtime.openLogSink(output);
    const dropped = (lines: number): void => counts.count(DAEMON_SLOT, DROPPED_LINES, lines);
    this.#stopWatching = this.#sink === null ? () => {} : watchDroppedLines(this.#sink, { log, dropped });
    this.accessLog = this.#sink === null ? null : new AccessLog(this.#sink, runtime.clock, { ...rules, worker });
  }

  /** Goes on in another file, which is this log's from now on. */
  moveTo(file: LogFile): void {
    if (this.#sink === null) file.close();
    else this.#sink.moveTo(file);
  }

  /** Writes out what has gathered, as far as the target takes it. */
  async close(): Promise<void> {
    this.accessLog?.flush();
    await this.#sink?.flush();
    this.#stopWatching();
    const { droppedLines = 0 } = this.#sink ?? {};
    if (droppedLines > 0) this.#log.warn({ lines: droppedLines }, "access-log lines were dropped");
  }
}
