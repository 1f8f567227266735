// The operational log of a worker. Its supervisor writes the lines: a worker logs little, and a logger of its own would cost each worker more memory
// than its connections. A worker that has lost its supervisor writes them itself.

import type { Log, LogOptions } from "../telemetry/log.ts";

const LEVELS = ["debug", "info", "warn", "error", "fatal"] as const;
export type LogLevel = (typeof LEVELS)[number];

/** Where lines go: to the supervisor. */
export type SendLine = (level: LogLevel, fields: Readonly<Record<string, unknown>>, message: string) => void;

/** A log that sends its lines to the supervisor; after `own` this process writes them itself. */
export class WorkerLog {
  readonly log: Log;
  #send: SendLine;

  constructor(send: SendLine) {
    this.#send = send;
    const say =
      (level: LogLevel) =>
      (...said: readonly unknown[]): void => {
        const [fields] = said;
        this.#send(level, typeof fields === "string" ? {} : (fields as Record<string, unknown>), String(said.at(-1)));
      };
    // pino's own type has many forms; two of them are used.
    this.log = Object.fromEntries(LEVELS.map((level) => [level, say(level)])) as unknown as Log;
  }

  /** Loads a logger of this process's own. */
  async own(options: LogOptions, worker: number): Promise<void> {
    const { createLog } = await import("../telemetry/log.ts");
    const log = createLog(options, { worker });
    this.#send = (level, fields, message) => log[level](fields, message);
  }
}
