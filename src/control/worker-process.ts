// One worker as its supervisor sees it: a process, a channel to it, and what it has last said of itself.

import { ProxyError } from "../base/errors.ts";
import type { BoundSocket, ChildProcess, Passable, Processes } from "../runtime/runtime.ts";
import type { FromWorker, PassedQueue, ToWorker } from "../snapshot/messages.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";

/** A worker that has not answered for so long hangs, and is ended. */
const SILENCE_MS = 30_000;
const PING_MS = 1000;
/** How long a worker may take to answer to a snapshot. */
const ANSWER_MS = 20_000;

/** How a worker ended. */
export interface WorkerEnd {
  /** For people: `killed by SIGKILL`, `exit code 1`. */
  readonly how: string;
  /** It had been asked to end, and said that it was done. */
  readonly inOrder: boolean;
}

export type WorkerState = "starting" | "serving" | "draining";

export interface WorkerProcessOptions {
  readonly processes: Processes;
  readonly start: Omit<Extract<ToWorker, { kind: "start" }>, "kind" | "queues">;
  /** What goes with the first message: the table of counts. */
  readonly memory: Passable;
  readonly queues: ReadonlyMap<string, BoundSocket>;
  /** It ends of its own accord, and serves to its end. */
  onLeaving(): void;
  onEnd(end: WorkerEnd): void;
}

/** A worker that was started. */
export class WorkerProcess {
  readonly pid: number;
  readonly startedMs = Date.now();
  state: WorkerState = "starting";
  /** Of the snapshot that it goes by. */
  generation = 0;
  /** Connections that it had to abort when it drained. */
  aborted = 0;
  readonly #child: ChildProcess;
  readonly #ready = Promise.withResolvers<void>();
  /** Who waits for the answer to `prepare`: "" is yes. */
  #answer: ((problem: string) => void) | null = null;
  #heardMs = Date.now();
  #hung = false;
  readonly #ping: ReturnType<typeof setInterval>;

  constructor(options: WorkerProcessOptions) {
    const { processes, start, memory, queues } = options;
    this.#child = processes.start(["worker"]);
    this.pid = this.#child.pid;
    // Nobody may wait for it.
    this.#ready.promise.catch(() => {});
    this.#child.channel.listen({ message: (message) => this.#receive(message as FromWorker, options), end() {} });
    this.#send({ kind: "start", ...start, queues: described(queues) }, [memory, ...queues.values()]);
    this.#ping = setInterval(() => this.#checkOn(), PING_MS);
    void this.#child.exited.then(({ code, signal }) => {
      clearInterval(this.#ping);
      this.#child.channel.close();
      const how = signal === null ? `exit code ${code}` : `killed by ${signal}${this.#hung ? ", as it hung" : ""}`;
      this.#ready.reject(new ProxyError("EWORKER", how));
      this.#answered("");
      options.onEnd({ how, inOrder: this.state === "draining" && code === 0 });
    });
  }

  /** Resolves once it accepts; rejects with a ProxyError when it ends before. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Has it build a snapshot. "" or why it cannot; also "" when it ends meanwhile: its successor starts with the one that is served then. */
  prepare(snapshot: Snapshot, queues: ReadonlyMap<string, BoundSocket>): Promise<string> {
    this.#send({ kind: "prepare", snapshot, queues: described(queues) }, [...queues.values()]);
    return new Promise((resolve) => {
      const tooLong = setTimeout(() => this.#endHung(), ANSWER_MS);
      this.#answer = (problem) => {
        clearTimeout(tooLong);
        resolve(problem);
      };
    });
  }

  commit(): void {
    this.#send({ kind: "commit" });
  }

  abandon(): void {
    this.#send({ kind: "abandon" });
  }

  drain(queues: "leave" | "empty"): void {
    this.state = "draining";
    this.#send({ kind: "drain", queues });
  }

  abort(): void {
    this.#send({ kind: "abort" });
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  #send(message: ToWorker, passes: readonly Passable[] = []): void {
    this.#child.channel.send(message, passes);
  }

  #receive(message: FromWorker, { onLeaving }: WorkerProcessOptions): void {
    this.#heardMs = Date.now();
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
        this.#ready.reject(new ProxyError("EWORKER", message.problem));
        this.#answered(message.problem);
        break;
      case "leaving":
        this.state = "draining";
        onLeaving();
        break;
      case "drained":
        this.aborted = message.aborted;
        break;
      case "pong":
        break;
    }
  }

  #answered(problem: string): void {
    this.#answer?.(problem);
    this.#answer = null;
  }

  #checkOn(): void {
    if (Date.now() - this.#heardMs > SILENCE_MS) this.#endHung();
    else this.#send({ kind: "ping" });
  }

  #endHung(): void {
    this.#hung = true;
    this.kill();
  }
}

function described(queues: ReadonlyMap<string, BoundSocket>): readonly PassedQueue[] {
  return [...queues].map(([place, { address }]) => ({ place, address }));
}
