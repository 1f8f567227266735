// What we report to the service manager (sd_notify(3)): that we serve, reload or end, one status line, and, where it
// watches over us, that we are well. Without a manager every call here does nothing.

import type { ServiceManager } from "../runtime/runtime.ts";
import type { Log } from "../telemetry/log.ts";

/** What the status line tells. */
export interface ServiceState {
  readonly generation: number;
  /** 0 = both planes in one process. */
  readonly workers: number;
  readonly connections: number;
  /** Why the last reload was refused; "" when it was not. */
  readonly refused: string;
}

/** Of a reason in the status line: a notice of more than 4096 bytes is not read. */
const LONGEST_REASON = 500;

export interface ServiceNoticesOptions {
  readonly manager: ServiceManager | null;
  readonly log: Log;
  /** Asked before each sign of life: without one for long enough the manager restarts us. */
  isHealthy(): boolean;
}

/** The notices of one daemon, in an order that the manager understands. */
export class ServiceNotices {
  readonly #options: ServiceNoticesOptions;
  #stopping = false;
  #lastStatus = "";
  #hasFailed = false;
  #isHealthy = true;
  #watchdog: ReturnType<typeof setInterval> | null = null;

  constructor(options: ServiceNoticesOptions) {
    this.#options = options;
  }

  /** We serve, from now on or again. Also begins the signs of life. */
  ready(state: ServiceState): void {
    const { manager } = this.#options;
    // After STOPPING=1 there is no way back.
    if (manager === null || this.#stopping) return;
    // A successor takes over with this: the manager's idea of which process is the service is set right.
    this.#tell(["READY=1", `MAINPID=${manager.pid}`, this.#statusLine(statusText(state))]);
    this.#startWatchdog();
  }

  /** We read the config anew. `ready` has to follow, whatever becomes of it. */
  reloading(): void {
    const { manager } = this.#options;
    if (manager === null || this.#stopping) return;
    this.#tell(["RELOADING=1", `MONOTONIC_USEC=${manager.monotonicMicroseconds()}`, this.#statusLine("reloading")]);
  }

  /** We drain, and end afterwards. */
  stopping(state: ServiceState): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#tell(["STOPPING=1", this.#statusLine(`draining, ${statusText(state)}`)]);
  }

  /** How we are. Told only when it differs from the last time. */
  status(state: ServiceState): void {
    const text = `${this.#stopping ? "draining, " : ""}${statusText(state)}`;
    if (text !== this.#lastStatus) this.#tell([this.#statusLine(text)]);
  }

  /** Ends the signs of life; for a process that another one has taken over from, and at the end. */
  close(): void {
    if (this.#watchdog !== null) clearInterval(this.#watchdog);
    this.#watchdog = null;
  }

  #startWatchdog(): void {
    const watchdogMs = this.#options.manager?.watchdogMs ?? 0;
    if (watchdogMs === 0 || this.#watchdog !== null) return;
    this.#signOfLife();
    this.#watchdog = setInterval(() => this.#signOfLife(), watchdogMs / 2);
  }

  #signOfLife(): void {
    const { isHealthy, log } = this.#options;
    const isWell = isHealthy();
    if (isWell) this.#tell(["WATCHDOG=1"]);
    if (isWell !== this.#isHealthy && !isWell)
      log.error("not well: the service manager gets no sign of life until this is over, and may restart the service");
    this.#isHealthy = isWell;
  }

  #statusLine(text: string): string {
    this.#lastStatus = text;
    return `STATUS=${text}`;
  }

  #tell(lines: readonly string[]): void {
    const failure = this.#options.manager?.notify(lines.join("\n")) ?? "";
    if (failure !== "" && !this.#hasFailed)
      this.#options.log.warn({ code: failure }, "the service manager cannot be told how the service is");
    this.#hasFailed = failure !== "";
  }
}

/** `generation 3, 2 workers, 1,204 connections`, and, when it was, that and why the last reload was refused. */
export function statusText({ generation, workers, connections, refused }: ServiceState): string {
  const relaying = workers === 0 ? "one process" : counted(workers, "worker");
  const reason = refused === "" ? "" : `; reload refused: ${oneLine(refused)}`;
  return `generation ${generation}, ${relaying}, ${counted(connections, "connection")}${reason}`;
}

function oneLine(text: string): string {
  const line = text.replaceAll(/\s+/g, " ");
  return line.length > LONGEST_REASON ? `${line.slice(0, LONGEST_REASON)} …` : line;
}

function counted(count: number, noun: string): string {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}
