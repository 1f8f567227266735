// Ejections in the operational log, a bounded number of lines in a time: where everything fails at once, one line more or less says nothing new.

import type { Clock } from "../base/clock.ts";
import type { EndpointSpec } from "../snapshot/snapshot.ts";
import type { Log } from "../telemetry/log.ts";
import type { EjectionEvents } from "./outliers.ts";

const MOST_LINES = 20;
const WINDOW_MS = 10_000;

/** Of one process: each writes of what it has decided itself. */
export class EjectionLog {
  readonly #log: Pick<Log, "info" | "warn">;
  readonly #clock: Clock;
  #windowEndsMs = Number.NEGATIVE_INFINITY;
  #lines = 0;
  #skipped = 0;

  constructor(log: Pick<Log, "info" | "warn">, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** For the endpoints of a backend. */
  of(backend: string): EjectionEvents {
    return {
      ejected: ({ name }: EndpointSpec, forMs: number) =>
        this.#tell("warn", { backend, endpoint: name, seconds: forMs / 1000 }, "an endpoint fails, and is ejected"),
      back: ({ name }: EndpointSpec) =>
        this.#tell("info", { backend, endpoint: name }, "an endpoint that was ejected is back"),
    };
  }

  #tell(level: "info" | "warn", fields: Readonly<Record<string, unknown>>, text: string): void {
    const { nowMs } = this.#clock;
    if (nowMs >= this.#windowEndsMs) {
      this.#windowEndsMs = nowMs + WINDOW_MS;
      this.#lines = 0;
    }
    if (this.#lines++ >= MOST_LINES) {
      this.#skipped++;
      return;
    }
    this.#log[level](this.#skipped === 0 ? fields : { ...fields, not_told: this.#skipped }, text);
    this.#skipped = 0;
  }
}
