// The real binary, as an operator runs it: a config file in a directory of its own, a process, its two logs. Scenarios see nothing
// else of bunnel.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CloseReason, CloseSide, Phase } from "../../src/telemetry/close-reason.ts";
import { Child } from "./child.ts";
import { eventually } from "./eventually.ts";
import { endNow, processesWith, workersOf } from "./worker-processes.ts";

const MAIN = join(import.meta.dir, "../../src/main.ts");

/** Whether scenarios drive the program on Deno. */
export const IS_DENO = process.env.BUNNEL_TEST_RUNTIME === "deno";

/** A line of the JSON access log. Fields that say nothing of a connection are absent. */
export interface AccessLine {
  readonly level: number;
  readonly time: number;
  readonly id: string;
  readonly listener: string;
  readonly route?: string;
  readonly backend?: string;
  readonly endpoint?: string;
  readonly attempts?: number;
  readonly downstream: string;
  readonly downstream_direct?: string;
  readonly local: string;
  readonly sni?: string;
  readonly alpn?: string;
  readonly identity?: {
    readonly uri: readonly string[];
    readonly dns: readonly string[];
    readonly cn: readonly string[];
  };
  readonly refused_certificate?: string;
  readonly tls_version?: string;
  readonly tls_cipher?: string;
  readonly tls_resumed?: boolean;
  readonly bytes_up: number;
  readonly bytes_down: number;
  readonly duration_ms: number;
  readonly close_reason: CloseReason;
  readonly close_side: CloseSide;
  readonly phase: Phase;
  readonly termination: string;
  readonly error?: string;
  readonly detail?: string;
  readonly tried?: readonly { readonly endpoint: string; readonly result: string; readonly ms: number }[];
  readonly policy?: string;
  readonly policy_rule?: string;
}

/** A running daemon. To be declared with `await using`. */
export class Daemon implements AsyncDisposable {
  /** Holds the config and the access log; removed in the end. */
  readonly directory: string;
  readonly child: Child;
  readonly #addresses = new Map<string, string>();

  constructor(directory: string, child: Child) {
    this.directory = directory;
    this.child = child;
  }

  /** Waits until it listens. Throws with what it printed when it does not. */
  async started(): Promise<this> {
    const isListening = (line: Record<string, unknown>): boolean => line.msg === "listening";
    await this.child.comesTo("it listened", () => this.log.some(isListening));
    return this;
  }

  get pid(): number {
    return this.child.pid;
  }

  /** The lines of the operational log, on standard error; those that are no JSON are left out. */
  get log(): readonly Record<string, unknown>[] {
    const lines = this.child.stderr.split("\n").slice(0, -1);
    return lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** Where a listener with port 0 was bound: `127.0.0.1:40001`. */
  async address(listener: string): Promise<string> {
    const known = this.#addresses.get(listener);
    if (known !== undefined) return known;
    const line = await eventually(
      () => `listener ${listener} was announced: ${this.child.story}`,
      () => this.log.find(({ msg, listener: name }) => msg === "listening" && name === listener),
    );
    const address = String(line.address);
    this.#addresses.set(listener, address);
    return address;
  }

  async port(listener: string): Promise<number> {
    return Number((await this.address(listener)).split(":").at(-1));
  }

  /** The access log so far. Lines appear a fraction of a second after the connection's end. */
  get records(): readonly AccessLine[] {
    const path = join(this.directory, "access.log");
    if (!existsSync(path)) return [];
    const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line) as AccessLine);
  }

  /** The first record that fits, as soon as it is there. */
  record(fits: (line: AccessLine) => boolean = () => true): Promise<AccessLine> {
    return eventually(
      () => `there was a fitting record; there are ${JSON.stringify(this.records, null, 1)}\n${this.child.story}`,
      () => this.records.find(fits),
    );
  }

  /** The records once there are `count`, oldest first. */
  async recorded(count: number, patienceMs?: number): Promise<readonly AccessLine[]> {
    await eventually(
      () => `there were ${count} records; there are ${this.records.length}\n${this.child.story}`,
      () => this.records.length >= count,
      patienceMs,
    );
    return this.records;
  }

  /** Descriptors that it has open. */
  get descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** Resident memory, in bytes. */
  get residentBytes(): number {
    return 1024 * Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))?.[1]);
  }

  /** Ends it in order, and gives the exit code. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number> {
    this.child.signal(signal);
    return await this.exitCode();
  }

  /** Its exit code, once it has ended. */
  async exitCode(): Promise<number> {
    await eventually(
      () => `it ended: ${this.child.story}`,
      () => this.child.hasExited,
    );
    return await this.child.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Workers that lose their supervisor drain, and that may take long. An upgrade leaves other supervisors.
    const supervisors = new Set([...(this.child.hasExited ? [] : [this.pid]), ...processesWith(this.directory)]);
    const workers = [...supervisors].flatMap(workersOf);
    for (const pid of [...supervisors, ...workers]) endNow(pid);
    await this.child[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export interface DaemonOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** A command and its arguments to start the program with, such as prlimit. */
  readonly under?: readonly string[];
}

/** Starts the daemon on a config, whose access log goes to a file, and waits until it listens. */
export async function startDaemon(config: string, { env, under = [] }: DaemonOptions = {}): Promise<Daemon> {
  const directory = mkdtempSync(join(tmpdir(), "bunnel-scenario-"));
  const path = join(directory, "bunnel.yaml");
  // Unless a scenario is about them: one process, which is what is looked at from outside, and no port that others may have.
  const defaults = ["workers: 0", "admin: { address: off }", "access_log: { output: ./access.log }"].filter(
    (line) => !config.includes(`${line.split(":")[0]}:`),
  );
  writeFileSync(path, [...defaults, config].join("\n"));
  const daemon = new Daemon(
    directory,
    new Child([...under, ...bunnel("run", "-c", path)], env === undefined ? {} : { env }),
  );
  try {
    return await daemon.started();
  } catch (thrown) {
    await daemon[Symbol.asyncDispose]();
    throw thrown;
  }
}

/** The command line of the program with these arguments. */
export function bunnel(...args: readonly string[]): string[] {
  if (IS_DENO) return [...DENO, MAIN, ...args];
  return [process.execPath, MAIN, ...args];
}

/** Deno with what README.md says that it needs, by which scenarios run when BUNNEL_TEST_RUNTIME says so. */
const DENO: readonly string[] = [
  join(import.meta.dir, "../../node_modules/.bin/deno"),
  "run",
  "--no-prompt",
  "--allow-net",
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-sys=uid,hostname",
];
