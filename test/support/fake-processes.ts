// Processes that are only pretended, for tests of what starts and commands them: each does as it is told, at once, unless a test says which messages
// it does not obey, and then speaks and ends for it.

import type { ChannelHandlers, ChildProcess, Passable, Processes } from "../../src/runtime/runtime.ts";
import { type FromWorker, Joiner, type ToWorker } from "../../src/snapshot/messages.ts";

/** A worker that a supervisor has started. */
export class FakeWorker {
  readonly pid: number;
  /** What it was told, pings left out and snapshots whole. */
  readonly told: ToWorker[] = [];
  /** What was passed with each of these. */
  readonly passed: (readonly Passable[])[] = [];
  /** Kinds of messages that it takes without doing anything. */
  readonly ignores: Set<ToWorker["kind"]>;
  /** How it ended; null while it lives. */
  ended: { readonly code: number | null; readonly signal: string | null } | null = null;
  #generation = 0;
  readonly #pieces = new Joiner();
  #handlers: ChannelHandlers | null = null;
  readonly #exit = Promise.withResolvers<{ readonly code: number | null; readonly signal: string | null }>();

  constructor(pid: number, ignores: Iterable<ToWorker["kind"]>) {
    this.pid = pid;
    this.ignores = new Set(ignores);
  }

  get kinds(): readonly string[] {
    return this.told.map(({ kind }) => kind);
  }

  say(message: FromWorker): void {
    this.#handlers?.message(message, { socket: unexpected, memory: unexpected, logFile: unexpected });
  }

  exit(code: number | null, signal: string | null = null): void {
    if (this.ended !== null) return;
    this.ended = { code, signal };
    this.#handlers?.end();
    this.#exit.resolve(this.ended);
  }

  get child(): ChildProcess {
    return {
      pid: this.pid,
      exited: this.#exit.promise,
      kill: (signal) => this.exit(null, signal),
      channel: {
        send: (message, passes = []) => this.#receive(message as ToWorker, passes),
        listen: (handlers) => {
          this.#handlers = handlers;
        },
        close: () => {},
      },
    };
  }

  #receive(sent: ToWorker, passes: readonly Passable[]): void {
    if (this.ended !== null) return;
    if (sent.kind === "pieces") {
      this.#pieces.add(sent.pieces);
      return;
    }
    const hasSnapshot = sent.kind === "start" || sent.kind === "prepare";
    const message = hasSnapshot ? { ...sent, snapshot: this.#pieces.join(sent.snapshot) } : sent;
    if (message.kind !== "ping") {
      this.told.push(message);
      this.passed.push(passes);
    }
    if (message.kind === "start" || message.kind === "prepare") this.#generation = message.snapshot.generation;
    // Never within the call: a channel does not answer in there either.
    if (!this.ignores.has(message.kind)) queueMicrotask(() => this.#obey(message));
  }

  #obey(message: ToWorker): void {
    if (this.ended !== null) return;
    if (message.kind === "ping") this.say({ kind: "pong" });
    if (message.kind === "prepare") this.say({ kind: "prepared" });
    if (message.kind === "start" || message.kind === "commit")
      this.say({ kind: "serving", generation: this.#generation });
    if (message.kind === "drain" || message.kind === "abort") {
      this.say({ kind: "draining" });
      this.say({ kind: "drained", aborted: 0 });
      this.exit(0);
    }
  }
}

/** The processes of one test. */
export class FakeProcesses implements Processes {
  readonly pid = 1;
  readonly processors = 2;
  readonly isChild = false;
  readonly workers: FakeWorker[] = [];
  /** For those that are started from now on. */
  ignores: readonly ToWorker["kind"][] = [];
  /** What the next starts throw. */
  failures: Error[] = [];

  start(): ChildProcess {
    const failure = this.failures.shift();
    if (failure !== undefined) throw failure;
    const worker = new FakeWorker(100 + this.workers.length, this.ignores);
    this.workers.push(worker);
    return worker.child;
  }

  startOrphan(): ChildProcess {
    return this.start();
  }

  isAlive(pid: number): boolean {
    return this.workers.some((worker) => worker.pid === pid && worker.ended === null);
  }

  signal(): never {
    return unexpected();
  }

  parent(): never {
    return unexpected();
  }

  shareMemory(): never {
    return unexpected();
  }
}

function unexpected(): never {
  throw new Error("a fake process has no such thing");
}
