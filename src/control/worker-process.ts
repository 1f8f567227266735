// One worker as its supervisor sees it: a process, a channel to it, and what it has last said of itself.

import { ProxyError } from "../base/errors.ts";
import type { LogFile } from "../runtime/logs.ts";
import type { BoundSocket, ChildProcess, Passable, Processes } from "../runtime/runtime.ts";
import type { Question } from "../snapshot/inspection.ts";
import { type FromWorker, type PassedQueue, type ToWorker, takeApart } from "../snapshot/messages.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";

/** How long to wait for a worker. One that takes longer is considered hung, and is killed. */
export interface WorkerPatience {
  /** Between two pings. */
  readonly pingMs: number;
  /** Pings that may be unanswered. Not a time: if this process itself was stopped for a while, no worker has hung. */
  readonly silentPings: number;
  /** For the answer to a snapshot. */
  readonly answerMs: number;
  /** For the answer to a question about its connections. A worker that does not answer one is not killed. */
  readonly questionMs: number;
}

const PATIENCE: WorkerPatience = { pingMs: 1000, silentPings: 30, answerMs: 20_000, questionMs: 5000 };

/** A worker with more unanswered pings than this is shown as `not answering`. One may be under way at any moment. */
const TELLING_PINGS = 3;

/** How a worker ended. */
export interface WorkerEnd {
  /** For people: `killed by SIGKILL`, `exit code 1`. */
  readonly how: string;
  /** Whether it was told to drain and ended with exit code 0. */
  readonly inOrder: boolean;
}

/** The answer to a question; `answer` is of the type that belongs to the question. */
export interface WorkerAnswer {
  readonly answer: unknown;
}

export type WorkerState = "starting" | "serving" | "draining";

export interface WorkerProcessOptions {
  readonly processes: Processes;
  readonly start: Omit<Extract<ToWorker, { kind: "start" }>, "kind" | "queues">;
  /** What goes with the first message: the table of counts. */
  readonly memory: Passable;
  readonly queues: ReadonlyMap<string, BoundSocket>;
  /** Default: half a minute. */
  readonly patience?: WorkerPatience;
  /** It has to end, and is to be told to drain. */
  onLeaving(): void;
  /** It has something to say in the operational log. */
  onLine(line: Extract<FromWorker, { kind: "log" }>): void;
  onEnd(end: WorkerEnd): void;
}

/** A worker that was started. */
export class WorkerProcess {
  readonly pid: number;
  readonly startedMs = Date.now();
  state: WorkerState = "starting";
  /** Of the snapshot that it uses; 0 before the first. */
  generation = 0;
  /** Connections that it had to abort when it drained. */
  aborted = 0;
  readonly #child: ChildProcess;
  readonly #ready = Promise.withResolvers<void>();
  readonly #stopped = Promise.withResolvers<void>();
  /** Resolves the pending `prepare`; "" means prepared. */
  #answer: ((problem: string | null) => void) | null = null;
  /** Resolves pending questions, by their number. */
  readonly #asked = new Map<number, (answered: WorkerAnswer | null) => void>();
  #questions = 0;
  readonly #patience: WorkerPatience;
  readonly #ping: ReturnType<typeof setInterval>;
  /** Pings since it was last heard. */
  #silentPings = 0;
  /** Why it does not start, or was killed by us; "" otherwise. */
  #reason = "";

  constructor(options: WorkerProcessOptions) {
    const { processes, start, memory, queues, patience = PATIENCE } = options;
    this.#patience = patience;
    this.#child = processes.start(["worker"]);
    this.pid = this.#child.pid;
    // Perhaps nobody awaits it, and that is no unhandled rejection.
    this.#ready.promise.catch(() => {});
    this.#child.channel.listen({
      message: (message) => this.#receive(message as FromWorker, options),
      // Without its channel it could not be controlled any more.
      end: () => this.kill(),
    });
    const snapshot = this.#sendAhead(start.snapshot);
    this.#send({ kind: "start", ...start, snapshot, queues: described(queues) }, [memory, ...queues.values()]);
    this.#ping = setInterval(() => this.#checkOn(), patience.pingMs);
    void this.#child.exited.then(({ code, signal }) => {
      clearInterval(this.#ping);
      this.#stopped.resolve();
      this.#child.channel.close();
      const end = signal === null ? `exit code ${code}` : `killed by ${signal}`;
      const how = this.#reason === "" ? end : `${end}: ${this.#reason}`;
      this.#ready.reject(new ProxyError("EWORKER", this.#reason || how));
      this.#answered(null);
      for (const resolve of this.#asked.values()) resolve(null);
      options.onEnd({ how, inOrder: this.state === "draining" && code === 0 });
    });
  }

  /** Resolves once it accepts; rejects with a ProxyError when it ends before. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Resolves once it no longer accepts from sockets that others accept from: when it drains, or has ended. */
  get stopped(): Promise<void> {
    return this.#stopped.promise;
  }

  /** Its state as shown to operators. */
  get shownState(): WorkerState | "not answering" {
    return this.state === "serving" && this.#silentPings > TELLING_PINGS ? "not answering" : this.state;
  }

  /** Has it build a snapshot without using it yet. Resolves with "", or with why it cannot; with null when it ends without an answer. */
  prepare(snapshot: Snapshot, queues: ReadonlyMap<string, BoundSocket>): Promise<string | null> {
    const rest = this.#sendAhead(snapshot);
    this.#send({ kind: "prepare", snapshot: rest, queues: described(queues) }, [...queues.values()]);
    return new Promise((resolve) => {
      const tooLong = setTimeout(() => this.#endHung("it did not answer to a snapshot"), this.#patience.answerMs);
      this.#answer = (problem) => {
        clearTimeout(tooLong);
        resolve(problem);
      };
    });
  }

  /** Asks about its connections. Resolves with null when it ends, or does not answer in time. */
  ask(question: Question): Promise<WorkerAnswer | null> {
    const number = ++this.#questions;
    this.#send({ kind: "ask", number, question });
    const { promise, resolve } = Promise.withResolvers<WorkerAnswer | null>();
    const tooLong = setTimeout(resolve, this.#patience.questionMs, null);
    this.#asked.set(number, resolve);
    return promise.finally(() => {
      clearTimeout(tooLong);
      this.#asked.delete(number);
    });
  }

  commit(): void {
    this.#send({ kind: "commit" });
  }

  abandon(): void {
    this.#send({ kind: "abandon" });
  }

  /** See the message. */
  share(shared: boolean): void {
    this.#send({ kind: "share", shared });
  }

  /** `others`: the addresses whose sockets another process accepts from. */
  drain(others: readonly string[]): void {
    this.state = "draining";
    this.#send({ kind: "drain", others });
  }

  /** See the message. */
  passLogFile(file: LogFile): void {
    this.#send({ kind: "log file" }, [file]);
  }

  abort(): void {
    this.#send({ kind: "abort" });
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  /** Sends most of a snapshot ahead, and returns the rest for the caller's message. */
  #sendAhead(snapshot: Snapshot): Snapshot {
    const { ahead, rest } = takeApart(snapshot);
    for (const message of ahead) this.#send(message);
    return rest;
  }

  #send(message: ToWorker, passes: readonly Passable[] = []): void {
    this.#child.channel.send(message, passes);
  }

  #receive(message: FromWorker, { onLeaving, onLine }: WorkerProcessOptions): void {
    this.#silentPings = 0;
    switch (message.kind) {
      case "serving":
        this.generation = message.generation;
        if (this.state === "starting") this.state = "serving";
        this.#ready.resolve();
        break;
      case "prepared":
        this.#answered("");
        break;
      case "refused":
        // A worker that cannot start ends by itself; that does not speak against a new snapshot.
        if (this.generation === 0) this.#reason = message.problem;
        else this.#answered(message.problem);
        break;
      case "leaving":
        onLeaving();
        break;
      case "draining":
        this.#stopped.resolve();
        break;
      case "drained":
        this.aborted = message.aborted;
        break;
      case "log":
        onLine(message);
        break;
      case "pong":
        break;
      case "answer":
        this.#asked.get(message.number)?.(message);
        break;
    }
  }

  #answered(problem: string | null): void {
    this.#answer?.(problem);
    this.#answer = null;
  }

  #checkOn(): void {
    if (++this.#silentPings > this.#patience.silentPings) this.#endHung("it did not answer any more");
    else this.#send({ kind: "ping" });
  }

  #endHung(reason: string): void {
    this.#reason = reason;
    this.kill();
  }
}

function described(queues: ReadonlyMap<string, BoundSocket>): readonly PassedQueue[] {
  return [...queues].map(([place, { address }]) => ({ place, address }));
}
