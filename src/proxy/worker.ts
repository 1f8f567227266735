// The data plane of one process: a snapshot brought to life, and the next one after it. It owns the listeners and the connections; the counts
// are shared with the other processes of the daemon.

import { assert } from "../base/assert.ts";
import { Timer } from "../base/clock.ts";
import type { BoundSocket, Runtime, StreamSocket } from "../runtime/runtime.ts";
import { type CountRow, DAEMON_SLOT } from "../snapshot/counts.ts";
import type { Meters } from "../snapshot/meters.ts";
import { type ListenerSpec, placeOf, type Snapshot } from "../snapshot/snapshot.ts";
import type { AccessLog } from "../telemetry/access-log.ts";
import { FlightRecorder } from "../telemetry/flight-recorder.ts";
import type { Log } from "../telemetry/log.ts";
import type { SpanExports, SpanSink } from "../telemetry/span-export.ts";
import type { Policy } from "./authorize.ts";
import { Backend } from "./balance.ts";
import { ByteSweep } from "./byte-sweep.ts";
import { Connection } from "./connection.ts";
import { ConnectionList } from "./connection-list.ts";
import { Drain } from "./drain.ts";
import { EjectionLog } from "./ejection-log.ts";
import { Ending } from "./ending.ts";
import { Enforcement } from "./enforce.ts";
import type { Leg } from "./leg.ts";
import { Listener, type ListenerRules, listenerRules } from "./listener.ts";
import { OnDown } from "./on-down.ts";
import { Parts } from "./parts.ts";
import { Pending, pendingBudget } from "./pending.ts";
import { type MadeInPieces, makeInPieces } from "./pieces.ts";
import { BackendBandwidth } from "./rate-limit-bandwidth.ts";

/** A proxied connection has two descriptors. At EMFILE Bun's accept loop spins, so the limit is kept well away. */
const DESCRIPTORS_PER_CONNECTION = 2;
/** Descriptors reserved for log files, timers, listening sockets and sockets that are being closed. */
const RESERVED_DESCRIPTORS = 256;

/** How often to check whether descriptors have run out: the platform's accept loop would then spin without reporting it. */
const DESCRIPTORS_LOOK_MS = 500;
/** How long the number of processes is cached. */
const PROCESSES_LOOK_MS = 1000;

/** Gives the worker a descriptor of its own for a listener's socket. */
export type Sockets = (spec: ListenerSpec) => BoundSocket;

export interface WorkerOptions {
  readonly runtime: Runtime;
  readonly snapshot: Snapshot;
  readonly sockets: Sockets;
  readonly counts: CountRow;
  /** Null when the access log is off. */
  readonly accessLog: AccessLog | null;
  /** A source of numbers from 0 up to 1, for balancing. Default `Math.random`. */
  readonly random?: () => number;
  /** Default: nothing is logged. */
  readonly log?: Pick<Log, "info" | "warn"> | null;
}

/** A snapshot, built: all that can fail has succeeded. */
export interface Prepared {
  readonly snapshot: Snapshot;
  readonly policies: readonly Policy[];
  readonly backends: readonly Backend[];
  readonly rules: readonly ListenerRules[];
  readonly parts: Parts;
}

/** The data plane. */
export class Worker {
  readonly runtime: Runtime;
  readonly accessLog: AccessLog | null;
  /** Where records go besides the access log; null when there is no exporter. */
  spans: SpanSink | null = null;
  /** Makes the ids of this process's connections differ from those of other processes. */
  readonly instanceId: string;
  readonly counts: CountRow;
  readonly recorder = new FlightRecorder();
  /** What happened, for metrics. */
  readonly meters: Meters;
  /** Connections that wait for their client: for its first bytes or its part of the handshake. */
  readonly pending: Pending;
  /** Limits of bandwidth that the connections of a backend share. */
  readonly bandwidth = new BackendBandwidth((rate) => this.partOf(rate));
  #listeners: readonly Listener[];
  #built: Prepared;
  readonly #random: () => number;
  readonly #connections = new ConnectionList();
  readonly #descriptorLimit: number;
  #exports: SpanExports | null = null;
  readonly #enforcement: Enforcement;
  readonly #onDown: OnDown;
  readonly #byteSweep: ByteSweep;
  readonly #ejections: EjectionLog | null;
  #nextId = 1;
  /** Processes of the daemon that relay, and when to count them again. */
  #processes = 1;
  #processesLookMs = 0;
  /** While there are connections. */
  readonly #descriptorLook = new Timer(() => this.lookForDescriptors());
  /** Called when the last connection of a draining worker has ended. */
  #drained: (() => void) | null = null;
  #aborted = 0;

  /** Throws a ProxyError when the snapshot cannot be built or a socket cannot be opened. */
  constructor({ runtime, snapshot, sockets, counts, accessLog, random = Math.random, log = null }: WorkerOptions) {
    this.runtime = runtime;
    this.counts = counts;
    this.meters = counts.table.meters;
    this.accessLog = accessLog;
    this.#random = random;
    this.instanceId = Math.floor(random() * 2 ** 32)
      .toString(16)
      .padStart(8, "0");
    this.#descriptorLimit = runtime.descriptorLimit();
    this.#ejections = log === null ? null : new EjectionLog(log, runtime.clock);
    this.#enforcement = new Enforcement(runtime);
    this.pending = new Pending(runtime.clock);
    this.#built = this.#build(snapshot, null);
    // No connection could be delayed by it yet.
    for (const part of partsOf(this.#built)) while (part.makeSome());
    this.#onDown = new OnDown({ clock: runtime.clock, states: counts.table.states, connections: this.#connections });
    this.#onDown.follow(snapshot.backends);
    this.#byteSweep = new ByteSweep(runtime.clock, this.#connections);
    this.bandwidth.follow(snapshot.backends);
    this.#listeners = this.#built.rules.map((rules) => new Listener(this, rules, sockets(rules.spec)));
  }

  get listeners(): readonly Listener[] {
    return this.#listeners;
  }

  /** Number of the snapshot that new connections use. */
  get generation(): number {
    return this.#built.snapshot.generation;
  }

  /** In the order in which they came. */
  get connections(): Iterable<Connection> {
    return this.#connections;
  }

  /** Connections held now. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  /** Whether as many connections wait for their clients as may. */
  get isPendingFull(): boolean {
    return this.pending.size >= this.#pendingBudget;
  }

  /** Whether this process or the daemon has no room for another connection. */
  get isFull(): boolean {
    const { maxConnections } = this.#built.snapshot;
    if (this.#connections.size >= possibleConnections(this.#descriptorLimit)) return true;
    return maxConnections > 0 && this.counts.total(DAEMON_SLOT) >= maxConnections;
  }

  /** How many connections of this process may wait for their clients. */
  get #pendingBudget(): number {
    const { maxConnections, maxPendingHandshakes } = this.#built.snapshot;
    const possible = possibleConnections(this.#descriptorLimit);
    const room = maxConnections === 0 ? possible : Math.min(possible, this.shareOf(maxConnections));
    return pendingBudget(room, maxPendingHandshakes);
  }

  /** This process's part of a limit of the daemon, where it has to be divided beforehand; at least 1. */
  shareOf(limit: number): number {
    return Math.ceil(this.partOf(limit));
  }

  /** This process's part of a rate of the daemon: every process that relays has an equal part, those that only finish connections included. */
  partOf(rate: number): number {
    const { clock } = this.runtime;
    if (clock.nowMs >= this.#processesLookMs) {
      this.#processes = Math.max(1, this.counts.table.owners().length);
      this.#processesLookMs = clock.nowMs + PROCESSES_LOOK_MS;
    }
    return rate / this.#processes;
  }

  /** A client waits for a place: ends connections that have been pending for too long. */
  makeRoom(): void {
    if (this.isFull) this.pending.makeRoom();
    else if (this.isPendingFull) this.pending.makeRoomWithin(this.#pendingBudget);
  }

  /** Counts a connection of the daemon and of a listener, if both have room for it. */
  countIn({ slot, maxConnections }: ListenerSpec): boolean {
    if (!this.counts.addWithin(DAEMON_SLOT, this.#built.snapshot.maxConnections)) return false;
    if (this.counts.addWithin(slot, maxConnections)) {
      this.counts.count(slot, "opened", 1);
      if (this.isFull) this.#updateAccepting();
      return true;
    }
    this.counts.subtract(DAEMON_SLOT);
    return false;
  }

  /** The current rules of a listener; undefined when no listener has its name any more. */
  rulesOf({ spec: { name } }: Listener): ListenerRules | undefined {
    return this.#built.rules.find(({ spec }) => spec.name === name);
  }

  /** The policy of that name, as of now. */
  policyNamed(name: string): Policy | undefined {
    return this.#built.policies.find((policy) => policy.name === name);
  }

  /** The backend of that name, as of now. */
  backendNamed(name: string): Backend | undefined {
    return this.#built.backends.find(({ spec }) => spec.name === name);
  }

  /** Builds another snapshot without using it. Throws a ProxyError when it cannot be built. */
  prepare(snapshot: Snapshot): Prepared {
    return this.#build(snapshot, this.#built.parts);
  }

  /** Builds the rest of what was prepared, in pieces, so that the relay hardly waits. If it is not awaited, the first use builds what is missing. */
  async complete(prepared: Prepared): Promise<void> {
    await makeInPieces(partsOf(prepared));
  }

  #build(snapshot: Snapshot, served: Parts | null): Prepared {
    const { runtime, counts } = this;
    const parts = new Parts(runtime, served);
    const policies = snapshot.policies.map((spec) => parts.policy(spec));
    const backends = snapshot.backends.map((spec) => {
      const origination = spec.origination === null ? null : parts.origination(spec.origination);
      const previous = served === null ? null : (this.backendNamed(spec.name) ?? null);
      const events = this.#ejections?.of(spec.name) ?? null;
      return new Backend(spec, { counts, origination, previous, random: this.#random, events });
    });
    const rules = snapshot.listeners.map((spec) => listenerRules(parts, spec, policies, backends));
    return { snapshot, policies, backends, rules, parts };
  }

  /**
   * Switches to a snapshot that was prepared. Listeners whose place stays are not interrupted; connections of a removed listener may last
   * for the drain timeout. Live connections that the new rules would refuse are ended within a second.
   */
  commit(prepared: Prepared, sockets: Sockets): void {
    // A draining worker does not listen any more, but the connections that it still relays are subject to the new rules.
    if (this.#drained === null) this.#listenAs(prepared, sockets);
    this.#built = prepared;
    this.#updateAccepting();
    this.#enforcement.start(this.#connections);
    this.#onDown.follow(prepared.snapshot.backends);
    this.bandwidth.follow(prepared.snapshot.backends);
    if (this.#exports !== null) this.exportTo(this.#exports);
  }

  /** Exports spans as the current snapshot says, and later ones. */
  exportTo(exports: SpanExports): void {
    this.#exports = exports;
    this.spans = exports.follow(this.#built.snapshot.collector);
  }

  /** Makes the connection of an accepted socket. Called by its listener. */
  accepted(listener: Listener, socket: StreamSocket<Leg>): Connection {
    const connection = new Connection(listener, socket, this.#nextId++);
    if (this.#connections.size === 0) {
      this.runtime.clock.arm(this.#descriptorLook, DESCRIPTORS_LOOK_MS);
      this.#byteSweep.start();
    }
    this.#connections.add(connection);
    return connection;
  }

  /** Stops accepting while descriptors have run out. */
  lookForDescriptors(): void {
    for (const listener of this.#listeners) listener.lookForDescriptors();
    if (this.#connections.size > 0) this.runtime.clock.arm(this.#descriptorLook, DESCRIPTORS_LOOK_MS);
  }

  /** Forgets an ended connection, and uncounts it if it was counted. Called by its listener. */
  released(connection: Connection, isCounted: boolean): void {
    const wasFull = this.isFull || this.isPendingFull;
    if (isCounted) this.#countOut(connection.countedBy);
    // It was never admitted, but it was opened.
    else this.counts.count(connection.countedBy.slot, "opened", 1);
    this.#connections.delete(connection);
    this.pending.delete(connection);
    if (this.#connections.size === 0) {
      this.runtime.clock.disarm(this.#descriptorLook);
      this.#byteSweep.stop();
    }
    if (wasFull) this.#updateAccepting();
    this.#drained?.();
  }

  /**
   * Stops accepting and lets connections finish, until the drain timeout aborts those that remain; idle ones are ended before that, a few at
   * a time. Resolves with how many were aborted. `others`: the places that another process accepts from. The accept queues of the other places are
   * served until they are empty, so the caller must have stopped new connections. To be called once.
   */
  drain(others: readonly string[]): Promise<number> {
    assert(this.#drained === null, "a worker is drained once");
    for (const listener of this.#listeners) {
      // The accept queue of a socket of the service manager is left to the process that it starts next.
      if (others.includes(placeOf(listener.spec)) || listener.spec.address.kind === "systemd") listener.close();
      else listener.retire(this.#built.snapshot.drainTimeoutMs);
    }
    const { promise, resolve } = Promise.withResolvers<number>();
    const drain = new Drain({
      clock: this.runtime.clock,
      connections: this.#connections,
      windowMs: this.#built.snapshot.drainTimeoutMs,
      deadline: () => this.abort(),
    });
    this.#drained = () => {
      if (this.#connections.size > 0 || this.#listeners.some(({ isClosed }) => !isClosed)) return;
      drain.stop();
      resolve(this.#aborted);
    };
    this.#drained();
    return promise;
  }

  /** Called by a retired listener when it has closed. */
  closed(): void {
    this.#drained?.();
  }

  /** Ends every connection now and stops accepting. */
  abort(): void {
    for (const listener of this.#listeners) listener.close();
    this.#aborted += this.#connections.size;
    for (const connection of [...this.#connections]) connection.end(new Ending("drain_timeout"));
    this.#drained?.();
  }

  /** Gives the listeners that stay their new rules, accepts on new ones, and retires the rest. */
  #listenAs({ snapshot, rules }: Prepared, sockets: Sockets): void {
    const kept = new Map(this.#listeners.map((listener) => [placeOf(listener.spec), listener]));
    this.#listeners = rules.map((each) => {
      const place = placeOf(each.spec);
      const listener = kept.get(place);
      kept.delete(place);
      if (listener === undefined) return new Listener(this, each, sockets(each.spec));
      listener.replaceRules(each);
      return listener;
    });
    for (const listener of kept.values()) this.#retire(listener, snapshot.drainTimeoutMs);
  }

  /** Accepts only what is left in a listener's accept queue, and gives its connections this long to finish. */
  #retire(listener: Listener, drainTimeoutMs: number): void {
    listener.retire(drainTimeoutMs);
    const connections = (): Connection[] => [...this.#connections].filter((each) => each.listener === listener);
    new Drain({
      clock: this.runtime.clock,
      connections: connections(),
      windowMs: drainTimeoutMs,
      deadline() {
        for (const each of connections()) each.end(new Ending("drain_timeout", "the listener was removed"));
      },
    });
  }

  /** Undoes `countIn`. */
  #countOut({ slot }: ListenerSpec): void {
    this.counts.subtract(slot);
    this.counts.subtract(DAEMON_SLOT);
  }

  #updateAccepting(): void {
    for (const listener of this.#listeners) listener.updateAccepting();
  }
}

/** What is built in pieces. */
function* partsOf({ policies, rules, backends }: Prepared): Generator<MadeInPieces, void> {
  yield* policies;
  for (const { router } of rules) yield router;
  yield* backends;
}

function possibleConnections(descriptorLimit: number): number {
  return Math.max(1, Math.floor((descriptorLimit - RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION));
}
