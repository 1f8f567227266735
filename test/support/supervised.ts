// A real daemon with worker processes, as scenarios about its processes need it: its admin API on a unix socket, its config rewritten, its upgrades
// followed from one supervisor to the next, and in the end not one process of it left.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Readiness } from "../../src/admin/readiness.ts";
import type { Status } from "../../src/snapshot/status.ts";
import { type Outcome, run } from "./child.ts";
import { bunnel, type Daemon, startDaemon } from "./daemon.ts";
import { eventually } from "./eventually.ts";
import { temporaryDirectory } from "./temporary.ts";
import { endNow, isAlive, workersOf } from "./worker-processes.ts";

/** How long an upgrade may take. */
const UPGRADE_MS = 15_000;

/** To be declared with `await using`. */
export class Supervised implements AsyncDisposable {
  readonly daemon: Daemon;
  readonly adminPath: string;
  /** Every supervisor so far, the one of now last. */
  readonly supervisors: number[];
  readonly #head: string;
  /** Workers that were seen. */
  readonly #seen = new Set<number>();

  constructor(daemon: Daemon, adminPath: string, head: string) {
    this.daemon = daemon;
    this.adminPath = adminPath;
    this.supervisors = [daemon.pid];
    this.#head = head;
    this.#look();
  }

  /** Of the supervisor that serves. */
  get pid(): number {
    return this.supervisors.at(-1) as number;
  }

  /** Of the supervisor that serves. */
  get workers(): readonly number[] {
    this.#look();
    return workersOf(this.pid);
  }

  async status(): Promise<Status> {
    return (await this.#ask("/api/v1/status")) as Status;
  }

  async readiness(): Promise<Readiness> {
    return (await this.#ask("/readyz")) as Readiness;
  }

  /** Lines of the operational log with that message. */
  told(message: string): readonly Record<string, unknown>[] {
    return this.daemon.log.filter(({ msg }) => msg === message);
  }

  write(config: string): void {
    writeFileSync(join(this.daemon.directory, "bunnel.yaml"), `${this.#head}\n${config}`);
  }

  /** `bunnel reload`, with that config. */
  async reload(config: string): Promise<Outcome> {
    this.write(config);
    return await this.command("reload");
  }

  /** A command that asks the daemon. */
  async command(name: string, ...args: readonly string[]): Promise<Outcome> {
    // Where it is could not be read from a config that is broken.
    return await run(bunnel(name, "--admin", `unix:${this.adminPath}`, ...args));
  }

  /** SIGUSR2, until the successor has taken over. */
  async upgrade(): Promise<number> {
    this.#look();
    const before = this.told(UPGRADED).length;
    process.kill(this.pid, "SIGUSR2");
    return await this.upgraded(before);
  }

  /** Waits until one more than `before` successors have taken over. */
  async upgraded(before: number): Promise<number> {
    const line = await eventually(
      () => `it was upgraded: ${this.daemon.child.story}`,
      () => this.told(UPGRADED)[before],
      UPGRADE_MS,
    );
    this.supervisors.push(Number(line.pid));
    return this.pid;
  }

  /** Until a message is in the log so many times. */
  async says(message: string, times = 1): Promise<Record<string, unknown>> {
    return await eventually(
      () => `"${message}" was said ${times} times: ${this.daemon.child.story}`,
      () => this.told(message)[times - 1],
      UPGRADE_MS,
    );
  }

  /** Until everybody who serves goes by the same generation, with so many workers. */
  async untilServing(workers: number): Promise<Status> {
    return await eventually(
      () => `${workers} workers served: ${this.daemon.child.story}`,
      async () => {
        const status = await this.status().catch(() => null);
        const serving = status?.workers.filter(
          ({ state, generation }) => state === "serving" && generation === status.generation,
        );
        return serving?.length === workers ? status : null;
      },
      UPGRADE_MS,
    );
  }

  /** Fails unless every process that there ever was has ended. */
  async untilAllGone(patienceMs?: number): Promise<void> {
    await eventually(
      () => `all had ended, but ${this.#left()} had not: ${this.daemon.child.story}`,
      () => this.#left().length === 0,
      patienceMs,
    );
  }

  #left(): readonly number[] {
    return [...this.supervisors, ...this.#seen].filter(isAlive);
  }

  #look(): void {
    for (const supervisor of this.supervisors) for (const pid of workersOf(supervisor)) this.#seen.add(pid);
  }

  async #ask(path: string): Promise<unknown> {
    return await (await fetch(`http://bunnel${path}`, { unix: this.adminPath, keepalive: false })).json();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#look();
    for (const pid of this.#left()) endNow(pid);
    await this.daemon[Symbol.asyncDispose]();
  }
}

/** The message of an upgrade that came about. */
export const UPGRADED = "upgraded: another process serves now, and this one finishes what it has";

/** Starts a daemon; `config` says how many workers there are, but nothing of the admin API and the access log. */
export async function startSupervised(config: string): Promise<Supervised> {
  const adminPath = join(temporaryDirectory("bunnel-admin-"), "admin.sock");
  const admin = `admin: { address: "unix:${adminPath}" }`;
  const daemon = await startDaemon(`${admin}\n${config}`);
  return new Supervised(daemon, adminPath, `${admin}\naccess_log: { output: ./access.log }`);
}
