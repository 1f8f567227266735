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
import { childrenOf, endNow, isAlive, workersOf } from "./worker-processes.ts";

/** How long an upgrade may take. */
const UPGRADE_MS = 9_000;

/** To be declared with `await using`. */
export class Supervised implements AsyncDisposable {
  readonly daemon: Daemon;
  /** `unix:/PATH` or `127.0.0.1:PORT`. */
  readonly admin: string;
  /** Every supervisor so far, the one of now last. */
  readonly supervisors: number[];
  readonly #head: string;
  /** Workers that were seen. */
  readonly #seen = new Set<number>();

  constructor(daemon: Daemon, admin: string, head: string) {
    this.daemon = daemon;
    this.admin = admin;
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

  get adminPath(): string {
    return this.admin.slice("unix:".length);
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
    return await run(bunnel(name, "--admin", this.admin, ...args));
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

  /** Also at a successor that does not serve yet. */
  #look(): void {
    const heirs = this.supervisors.flatMap((pid) => childrenOf(pid));
    for (const pid of [...this.supervisors, ...heirs]) for (const child of childrenOf(pid)) this.#seen.add(child);
  }

  async #ask(path: string): Promise<unknown> {
    const isPath = this.admin.startsWith("unix:");
    const where = isPath ? { unix: this.adminPath } : {};
    // A connection that stays would go on with who is about to leave.
    return await (
      await fetch(`http://${isPath ? "bunnel" : this.admin}${path}`, { ...where, keepalive: false })
    ).json();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#look();
    for (const pid of this.#left()) endNow(pid);
    await this.daemon[Symbol.asyncDispose]();
  }
}

/** The message of an upgrade that came about. */
export const UPGRADED = "upgraded: another process serves now, and this one finishes what it has";

export interface SupervisedOptions {
  /** Where the admin API is: `127.0.0.1:PORT`. Default: a unix socket. */
  readonly admin?: string;
}

/** Starts a daemon; `config` says how many workers there are, but nothing of the admin API and the access log. */
export async function startSupervised(config: string, options: SupervisedOptions = {}): Promise<Supervised> {
  const adminPath = join(temporaryDirectory("bunnel-admin-"), "admin.sock");
  const { admin = `unix:${adminPath}` } = options;
  const head = `admin: { address: "${admin}" }`;
  const daemon = await startDaemon(`${head}\n${config}`);
  return new Supervised(daemon, admin, `${head}\naccess_log: { output: ./access.log }`);
}
