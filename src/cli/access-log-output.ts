// The access log of one process, from the file that it goes to up to its last line.

import type { LogSink, Runtime } from "../runtime/runtime.ts";
import { AccessLog } from "../telemetry/access-log.ts";
import { watchDroppedLines } from "../telemetry/dropped-lines.ts";
import type { Log } from "../telemetry/log.ts";

export interface AccessLogOptions {
  /** stdout, stderr, off or a path. */
  readonly output: string;
  readonly format: "json" | "text";
  /** Which process writes it; 0 = there is one. */
  readonly worker: number;
}

/** An access log that was opened, or none. */
export class AccessLogOutput {
  /** Null when it is off. */
  readonly accessLog: AccessLog | null;
  readonly #log: Log;
  readonly #sink: LogSink | null;
  readonly #stopWatching: () => void;

  /** Throws ProxyError when the file cannot be opened. */
  constructor({ output, format, worker }: AccessLogOptions, runtime: Pick<Runtime, "openLogSink" | "clock">, log: Log) {
    this.#log = log;
    this.#sink = output === "off" ? null : runtime.openLogSink(output);
    this.#stopWatching = this.#sink === null ? () => {} : watchDroppedLines(this.#sink, log);
    this.accessLog = this.#sink === null ? null : new AccessLog(this.#sink, format, runtime.clock, worker);
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
