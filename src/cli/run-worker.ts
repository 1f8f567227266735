// A worker process: a data plane that does as its supervisor says. Operators do not start it; `bunnel run` does.

import { messageOf, ProxyError } from "../base/errors.ts";
import { Inspector } from "../proxy/inspect.ts";
import type { Prepared, Sockets } from "../proxy/worker.ts";
import { Worker } from "../proxy/worker.ts";
import type { BoundSocket, Channel, Passed, Processes, Runtime } from "../runtime/runtime.ts";
import { CountTable, DAEMON_TABLE } from "../snapshot/counts.ts";
import { type FromWorker, Joiner, type PassedQueue, type ToWorker } from "../snapshot/messages.ts";
import { placeOf, type Snapshot } from "../snapshot/snapshot.ts";
import { watchLoopLag } from "../telemetry/loop-lag.ts";
import { preloadSpanExport } from "../telemetry/span-export.ts";
import { AccessLogOutput } from "./access-log-output.ts";
import { Spans } from "./spans.ts";
import { WorkerLog } from "./worker-log.ts";

/** What a worker may touch. */
export interface WorkerIo {
  readonly runtime: Runtime;
  readonly version: string;
  /** A line, without its end, for standard error. */
  err(line: string): void;
  onSignal(name: "SIGTERM" | "SIGINT" | "SIGHUP" | "SIGUSR1" | "SIGUSR2", handler: () => void): void;
  onDefect(handler: (thrown: unknown) => void): void;
}

const EXIT_USAGE = 2;

type Start = Extract<ToWorker, { kind: "start" }>;

/** Works until its supervisor, or the lack of one, ends it. Resolves with the exit code. */
export async function start(io: WorkerIo): Promise<number> {
  const { processes } = io.runtime;
  if (processes?.isChild !== true) {
    io.err("`bunnel worker` is started by `bunnel run`, and does nothing by itself");
    return EXIT_USAGE;
  }
  return await new WorkerRole(io, processes).ended;
}

/** The role of a process that was started as a worker. */
class WorkerRole {
  readonly #io: WorkerIo;
  readonly #channel: Channel;
  readonly #ended = Promise.withResolvers<number>();
  #worker: Worker | null = null;
  #inspector: Inspector | null = null;
  readonly #lines = new WorkerLog((level, fields, message) => this.#send({ kind: "log", level, fields, message }));
  readonly #log = this.#lines.log;
  #started: Start | null = null;
  #output: AccessLogOutput | null = null;
  /** Of the snapshot that is coming. */
  readonly #pieces = new Joiner();
  /** Messages that wait until the start is possible; null when none have to. */
  #held: (() => void)[] | null = null;
  #spans: Spans | null = null;
  #prepared: Prepared | null = null;
  /** Queues that were passed to us and that nobody accepts from yet, by place. */
  readonly #queues = new Map<string, BoundSocket>();
  /** The others, but for those of the service manager; some of them may be closed by now. */
  readonly #accepting = new Map<string, BoundSocket>();
  /** Another daemon accepts from the same listening sockets, for as long as an upgrade takes. */
  #shared = false;
  #draining = false;
  #stopLagWatch = (): void => {};

  constructor(io: WorkerIo, processes: Processes) {
    this.#io = io;
    this.#channel = processes.parent();
    // A terminal sends these to everyone; the supervisor decides what they mean.
    for (const signal of ["SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const) io.onSignal(signal, () => {});
    io.onSignal("SIGTERM", () => this.#leave());
    io.onDefect((thrown) => this.#tellDefect(thrown));
    this.#channel.listen({
      message: (message, passed) => this.#take(message as ToWorker, passed),
      end: () => this.#orphaned(),
    });
  }

  /** The exit code, once it has come to an end. */
  get ended(): Promise<number> {
    return this.#ended.promise;
  }

  #tellDefect(thrown: unknown): void {
    const err = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
    this.#log.error({ err }, "a defect in bunnel; please report it");
  }

  /** Messages are handled in order, even where the start has to wait: after dropping privileges the program's files may be unreadable. */
  #take(message: ToWorker, passed: Passed): void {
    const receive = (): void => this.#receive(message, passed);
    if (this.#held !== null) this.#held.push(receive);
    else if (message.kind !== "start" || message.user === null || message.snapshot.collector === null) receive();
    else {
      this.#held = [receive];
      void preloadSpanExport().then(() => {
        for (const held of this.#held ?? []) held();
        this.#held = null;
      });
    }
  }

  #receive(message: ToWorker, passed: Passed): void {
    try {
      this.#act(message, passed);
    } catch (thrown) {
      const problem = messageOf(thrown);
      if (!(thrown instanceof ProxyError)) this.#tellDefect(thrown);
      if (message.kind === "start" || message.kind === "prepare") this.#send({ kind: "refused", problem });
      if (message.kind === "start") this.#ended.resolve(1);
      if (message.kind !== "commit") return;
      // It goes neither by the old snapshot nor by the new one.
      this.#log.error({ problem }, "this worker cannot go over to what it has prepared, and ends");
      this.#leave();
    }
  }

  #act(message: ToWorker, passed: Passed): void {
    switch (message.kind) {
      case "pieces":
        this.#pieces.add(message.pieces);
        break;
      case "start":
        this.#start(message, passed);
        break;
      case "prepare":
        this.#keep(message.queues, passed, 0);
        this.#prepare(this.#pieces.join(message.snapshot));
        break;
      case "commit":
        if (this.#prepared === null) break;
        this.#serving.commit(this.#prepared, this.#sockets);
        this.#tellServing(this.#prepared.snapshot.generation);
        this.#prepared = null;
        break;
      case "abandon":
        this.#prepared = null;
        this.#dropQueues();
        break;
      case "share":
        this.#shared = message.shared;
        break;
      case "drain":
        this.#drain(message.others);
        break;
      case "log file":
        this.#output?.moveTo(passed.logFile(0));
        break;
      case "abort":
        this.#worker?.abort();
        break;
      case "ping":
        this.#send({ kind: "pong" });
        break;
      case "ask":
        void this.#answer(message);
        break;
    }
  }

  #prepare(snapshot: Snapshot): void {
    const prepared = this.#serving.prepare(snapshot);
    this.#prepared = prepared;
    void this.#serving.complete(prepared).then(
      () => {
        if (this.#prepared === prepared) this.#send({ kind: "prepared" });
      },
      (thrown) => {
        this.#tellDefect(thrown);
        if (this.#prepared === prepared) this.#send({ kind: "refused", problem: messageOf(thrown) });
      },
    );
  }

  get #serving(): Worker {
    if (this.#worker === null) throw new ProxyError("EPROTO", "a worker is started first");
    return this.#worker;
  }

  /** Gives the queue of a listener to whoever accepts from it. */
  readonly #sockets: Sockets = (spec) => {
    const place = placeOf(spec);
    const queue = this.#queues.get(place);
    if (queue === undefined) throw new ProxyError("EPROTO", `the queue of listener ${spec.name} was not passed`);
    this.#queues.delete(place);
    if (spec.address.kind !== "systemd") this.#accepting.set(place, queue);
    return queue;
  };

  #start(message: Start, passed: Passed): void {
    const { runtime, version } = this.#io;
    if (message.version !== version) {
      const told = `the program on the disk is version ${version}, and what runs is ${message.version}: send SIGUSR2 to the supervisor to upgrade, or restart`;
      throw new ProxyError("EVERSION", told);
    }
    this.#started = message;
    this.#shared = message.shared;
    const counts = new CountTable(passed.memory(0), DAEMON_TABLE).row(message.row);
    const { worker } = message;
    this.#output = new AccessLogOutput(message.accessLog, { runtime, log: this.#log, counts, worker });
    const { accessLog } = this.#output;
    this.#keep(message.queues, passed, 1);
    if (message.user !== null) runtime.dropPrivileges(message.user);
    const snapshot = this.#pieces.join(message.snapshot);
    this.#worker = new Worker({ runtime, snapshot, accessLog, counts, sockets: this.#sockets, log: this.#log });
    const { instanceId: instance } = this.#worker;
    this.#spans = new Spans({ version, instance, worker, log: this.#log, counts });
    this.#worker.exportTo(this.#spans);
    this.#stopLagWatch = watchLoopLag(runtime.preciseNowMs, (ms) => counts.table.noteLag(counts.number, ms));
    this.#inspector = new Inspector(this.#worker, message.worker);
    runtime.giveBackMemory();
    this.#tellServing(snapshot.generation);
  }

  /** One that fails is not answered: whoever asks does not wait for ever. */
  async #answer({ number, question }: Extract<ToWorker, { kind: "ask" }>): Promise<void> {
    try {
      const answer = await this.#inspector?.answer(question);
      if (answer !== undefined) this.#send({ kind: "answer", number, answer });
    } catch (thrown) {
      this.#tellDefect(thrown);
    }
  }

  #tellServing(generation: number): void {
    this.#send({ kind: "serving", generation });
    this.#dropQueues();
  }

  #keep(queues: readonly PassedQueue[], passed: Passed, first: number): void {
    for (const [index, { place, address }] of queues.entries())
      this.#queues.set(place, passed.socket(first + index, address));
  }

  #dropQueues(): void {
    for (const queue of this.#queues.values()) queue.close();
    this.#queues.clear();
  }

  /** The supervisor starts another one, and then knows who accepts from which queue. */
  #leave(): void {
    if (!this.#draining) this.#send({ kind: "leaving" });
  }

  /** Without its supervisor nobody would tell it of new rules, and nobody takes its place. */
  #orphaned(): void {
    if (this.#worker === null) this.#ended.resolve(1);
    if (this.#worker === null) return;
    void this.#tellOrphaned();
    if (this.#draining) return;
    if (this.#shared) {
      this.#drain(this.#worker.listeners.map(({ spec }) => placeOf(spec)));
      return;
    }
    for (const queue of this.#accepting.values()) queue.turnAway();
    this.#drain([]);
  }

  /** A line that nobody else can write any more. Where it cannot be written either, nothing depends on it. */
  async #tellOrphaned(): Promise<void> {
    if (this.#started === null) return;
    await this.#lines.own(this.#started.log, this.#started.worker).catch(() => {});
    this.#log.warn("the supervisor is gone: this worker finishes what it has, and ends");
  }

  #drain(others: readonly string[]): void {
    if (this.#draining) return;
    this.#draining = true;
    if (this.#worker === null) {
      this.#ended.resolve(0);
      return;
    }
    const drained = this.#worker.drain(others);
    this.#send({ kind: "draining" });
    void drained.then(async (aborted) => {
      await Promise.all([this.#output?.close(), this.#spans?.close()]);
      this.#stopLagWatch();
      this.#send({ kind: "drained", aborted });
      this.#ended.resolve(0);
    });
  }

  #send(message: FromWorker): void {
    this.#channel.send(message);
  }
}
