// The last closes of this process, kept so that an operator can look at them whatever the access log is set to. Records are kept as they are, about 1 KB
// each with their texts, and made into lines only when somebody asks.

import type { CloseRecord } from "./access-log.ts";

/** How many are kept. */
export const KEPT_CLOSES = 1000;

/** A ring of records. */
export class FlightRecorder {
  readonly #ring: CloseRecord[] = [];
  #count = 0;

  keep(record: CloseRecord): void {
    this.#ring[this.#count % KEPT_CLOSES] = record;
    this.#count++;
  }

  /** Number of the newest: they count from 1. */
  get last(): number {
    return this.#count;
  }

  /** Undefined when there is none of this number, or not any more. */
  record(number: number): CloseRecord | undefined {
    const isKept = number >= 1 && number <= this.#count && number > this.#count - KEPT_CLOSES;
    return isKept ? this.#ring[(number - 1) % KEPT_CLOSES] : undefined;
  }
}
