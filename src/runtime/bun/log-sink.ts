// Where access-log lines go. Writing to a pipe whose reader has stalled, or to a full disk, must not stop the relay, so one asynchronous
// write is in flight at a time and lines gather behind it up to a limit; beyond it they are dropped and counted.

import { openSync, write } from "node:fs";
import { codeOf, messageOf, ProxyError } from "../../base/errors.ts";
import type { LogSink } from "../runtime.ts";

/** Text kept while a write is in flight: some 8,000 lines. */
const LIMIT_BYTES = 4 * 1024 * 1024;

/** A sink on a descriptor, which stays open for the life of the process. */
export class BunLogSink implements LogSink {
  droppedLines = 0;
  readonly #descriptor: number;
  #gathered: string[] = [];
  #gatheredBytes = 0;
  #writing = false;
  #idle: (() => void)[] = [];

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  write(lines: string): void {
    if (this.#gatheredBytes + lines.length > LIMIT_BYTES) {
      this.droppedLines += countLines(lines);
      return;
    }
    this.#gathered.push(lines);
    this.#gatheredBytes += lines.length;
    if (!this.#writing) this.#writeGathered();
  }

  flush(): Promise<void> {
    if (!this.#writing) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #writeGathered(): void {
    const bytes = Buffer.from(this.#gathered.join(""));
    this.#gathered = [];
    this.#gatheredBytes = 0;
    this.#writing = true;
    this.#writeFrom(bytes, 0);
  }

  #writeFrom(bytes: Buffer, offset: number): void {
    write(this.#descriptor, bytes, offset, bytes.length - offset, null, (error, written) => {
      // A non-blocking pipe that is full says EAGAIN; its reader is given a moment.
      if (error !== null && codeOf(error) === "EAGAIN") setTimeout(() => this.#writeFrom(bytes, offset), 10);
      else if (error === null && offset + written < bytes.length) this.#writeFrom(bytes, offset + written);
      else {
        if (error !== null) this.droppedLines += countLines(bytes.toString("latin1", offset));
        this.#finished();
      }
    });
  }

  #finished(): void {
    this.#writing = false;
    if (this.#gathered.length > 0) {
      this.#writeGathered();
      return;
    }
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}

/** See `Runtime.openLogSink`. */
export function openLogSink(target: string): LogSink {
  if (target === "stdout") return new BunLogSink(1);
  if (target === "stderr") return new BunLogSink(2);
  try {
    return new BunLogSink(openSync(target, "a", 0o640));
  } catch (thrown) {
    throw new ProxyError(codeOf(thrown), `cannot open the log file ${target}: ${messageOf(thrown)}`);
  }
}

function countLines(text: string): number {
  let count = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) count++;
  return count;
}
