// The data plane of one process: one snapshot brought to life. It owns the listeners, the counts and the connections.

import { assert } from "../base/assert.ts";
import { Timer } from "../base/clock.ts";
import type { Runtime, StreamSocket } from "../runtime/runtime.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { AccessLog } from "../telemetry/access-log.ts";
import { Policy } from "./authorize.ts";
import { Backend } from "./balance.ts";
import { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";
import type { Leg } from "./leg.ts";
import { Listener } from "./listener.ts";

/** A proxied connection has two descriptors. At EMFILE Bun's accept loop spins, so the limit is kept well away. */
const DESCRIPTORS_PER_CONNECTION = 2;
/** Left for log files, timers, the listeners themselves and sockets on their way out. */
const RESERVED_DESCRIPTORS = 256;

export interface WorkerOptions {
  readonly runtime: Runtime;
  readonly snapshot: Snapshot;
  /** Null when no record is wanted. */
  readonly accessLog: AccessLog | null;
  /** From 0 up to 1, for balancing. Default `Math.random`. */
  readonly random?: () => number;
}

/** The data plane. */
export class Worker {
  readonly runtime: Runtime;
  readonly accessLog: AccessLog | null;
  readonly listeners: readonly Listener[];
  readonly #snapshot: Snapshot;
  readonly #policies: readonly Policy[];
  readonly #backends: readonly Backend[];
  readonly #connections = new Set<Connection>();
  readonly #limit: number;
  #nextId = 1;
  /** Called when the last connection of a draining worker has ended. */
  #drained: (() => void) | null = null;
  #aborted = 0;

  /** Opens every listener, or none: throws the ProxyError of the first that cannot be had. */
  constructor({ runtime, snapshot, accessLog, random = Math.random }: WorkerOptions) {
    this.runtime = runtime;
    this.accessLog = accessLog;
    this.#snapshot = snapshot;
    const active = new Int32Array(snapshot.slotCount);
    this.#policies = snapshot.policies.map((spec) => new Policy(spec));
    this.#backends = snapshot.backends.map((spec) => new Backend(spec, active, random));
    this.#limit = connectionLimit(snapshot.maxConnections, runtime.descriptorLimit());
    this.listeners = this.#listen();
  }

  /** Connections held now. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  get isFull(): boolean {
    return this.#connections.size >= this.#limit;
  }

  policy(index: number): Policy {
    return this.#policies[index] as Policy;
  }

  backend(index: number): Backend {
    return this.#backends[index] as Backend;
  }

  /** Makes the connection of an accepted socket. Called by its listener. */
  accepted(listener: Listener, socket: StreamSocket<Leg>): Connection {
    const connection = new Connection(listener, socket, this.#nextId++);
    const wasFull = this.isFull;
    this.#connections.add(connection);
    if (this.isFull && !wasFull) this.#updateAccepting();
    return connection;
  }

  /** Forgets an ended connection. Called by its listener. */
  released(connection: Connection): void {
    const wasFull = this.isFull;
    this.#connections.delete(connection);
    if (wasFull) this.#updateAccepting();
    if (this.#connections.size === 0) this.#drained?.();
  }

  /**
   * Stops accepting and lets connections finish, until the drain time-out aborts those that remain. Resolves with how many were
   * aborted. To be called once.
   */
  drain(): Promise<number> {
    assert(this.#drained === null, "a worker is drained once");
    for (const listener of this.listeners) listener.close();
    const { promise, resolve } = Promise.withResolvers<number>();
    const deadline = new Timer(() => this.abort());
    this.#drained = () => {
      this.runtime.clock.disarm(deadline);
      resolve(this.#aborted);
    };
    if (this.#connections.size === 0) this.#drained();
    else this.runtime.clock.arm(deadline, this.#snapshot.drainTimeoutMs);
    return promise;
  }

  /** Ends every connection now. */
  abort(): void {
    this.#aborted += this.#connections.size;
    for (const connection of [...this.#connections]) connection.end(new Ending("drain_timeout"));
  }

  #listen(): readonly Listener[] {
    const listeners: Listener[] = [];
    try {
      for (const spec of this.#snapshot.listeners) listeners.push(new Listener(this, spec));
    } catch (thrown) {
      for (const listener of listeners) listener.close();
      throw thrown;
    }
    return listeners;
  }

  #updateAccepting(): void {
    for (const listener of this.listeners) listener.updateAccepting();
  }
}

function connectionLimit(configured: number, descriptorLimit: number): number {
  const possible = Math.max(1, Math.floor((descriptorLimit - RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION));
  return configured === 0 ? possible : Math.min(configured, possible);
}
