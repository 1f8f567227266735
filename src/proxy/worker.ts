// The data plane of one process: a snapshot brought to life, and the next one after it. It owns the listeners, the counts and the connections.

import { formatAddress } from "../base/address.ts";
import { assert } from "../base/assert.ts";
import { Timer } from "../base/clock.ts";
import { ProxyError } from "../base/errors.ts";
import type { Runtime, StreamSocket } from "../runtime/runtime.ts";
import type { ListenerSpec, Snapshot } from "../snapshot/snapshot.ts";
import type { AccessLog } from "../telemetry/access-log.ts";
import { Policy } from "./authorize.ts";
import { ActiveCounts, Backend } from "./balance.ts";
import { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";
import { Enforcement } from "./enforce.ts";
import type { Leg } from "./leg.ts";
import { Listener, type ListenerRules, listenerRules } from "./listener.ts";
import { Origination } from "./originate.ts";

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

/** A snapshot, built: all that can fail but binding has succeeded. */
interface Built {
  readonly snapshot: Snapshot;
  readonly policies: readonly Policy[];
  readonly backends: readonly Backend[];
  readonly rules: readonly ListenerRules[];
}

/** The data plane. */
export class Worker {
  readonly runtime: Runtime;
  readonly accessLog: AccessLog | null;
  /** Tells this process's connections from those of others, in what is told to endpoints. */
  readonly instanceId: string;
  #listeners: readonly Listener[];
  #built: Built;
  readonly #active = new ActiveCounts(0);
  readonly #random: () => number;
  readonly #connections = new Set<Connection>();
  readonly #descriptorLimit: number;
  readonly #enforcement: Enforcement;
  #nextId = 1;
  /** Called when the last connection of a draining worker has ended. */
  #drained: (() => void) | null = null;
  #aborted = 0;

  /** Opens every listener, or none: throws the ProxyError of the first that cannot be had. */
  constructor({ runtime, snapshot, accessLog, random = Math.random }: WorkerOptions) {
    this.runtime = runtime;
    this.accessLog = accessLog;
    this.#random = random;
    this.instanceId = Math.floor(random() * 2 ** 32)
      .toString(16)
      .padStart(8, "0");
    this.#descriptorLimit = runtime.descriptorLimit();
    this.#enforcement = new Enforcement(runtime);
    this.#built = this.#build(snapshot);
    this.#listeners = this.#bind(this.#built.rules);
  }

  /** For fingerprints in records; null when none are kept. */
  get sha256(): Runtime["sha256"] | null {
    return this.accessLog === null ? null : this.runtime.sha256;
  }

  get listeners(): readonly Listener[] {
    return this.#listeners;
  }

  /** Number of the snapshot that new connections go by. */
  get generation(): number {
    return this.#built.snapshot.generation;
  }

  /** Connections held now. */
  get connectionCount(): number {
    return this.#connections.size;
  }

  get isFull(): boolean {
    return this.#connections.size >= connectionLimit(this.#built.snapshot.maxConnections, this.#descriptorLimit);
  }

  /** What a listener goes by now; undefined when no listener has its name any more. */
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

  /**
   * Goes over to another snapshot, whole or not at all: throws the ProxyError of what cannot be built or bound, and then nothing has changed.
   * Listeners whose address stays are not interrupted; connections of a listener that went may go on for the drain time-out. Live connections
   * that the new rules would refuse are ended within a second.
   */
  apply(snapshot: Snapshot): void {
    const built = this.#build(snapshot);
    // What drains listens no more, but what it still relays is held to the rules.
    if (this.#drained === null) this.#listenAs(built);
    this.#built = built;
    this.#updateAccepting();
    this.#enforcement.start(this.#connections);
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
    for (const listener of this.#listeners) listener.close();
    const { promise, resolve } = Promise.withResolvers<number>();
    const deadline = new Timer(() => this.abort());
    this.#drained = () => {
      this.runtime.clock.disarm(deadline);
      resolve(this.#aborted);
    };
    if (this.#connections.size === 0) this.#drained();
    else this.runtime.clock.arm(deadline, this.#built.snapshot.drainTimeoutMs);
    return promise;
  }

  /** Ends every connection now. */
  abort(): void {
    this.#aborted += this.#connections.size;
    for (const connection of [...this.#connections]) connection.end(new Ending("drain_timeout"));
  }

  #build(snapshot: Snapshot): Built {
    const { runtime } = this;
    this.#active.grow(snapshot.slotCount);
    const policies = snapshot.policies.map((spec) => new Policy(spec));
    const backends = snapshot.backends.map((spec) => {
      const origination = spec.origination === null ? null : new Origination(runtime, spec.origination);
      return new Backend(spec, { active: this.#active, origination, random: this.#random });
    });
    const rules = snapshot.listeners.map((spec) => listenerRules(runtime, spec, policies, backends));
    return { snapshot, policies, backends, rules };
  }

  #bind(rules: readonly ListenerRules[]): readonly Listener[] {
    const listeners: Listener[] = [];
    try {
      for (const each of rules) listeners.push(new Listener(this, each));
    } catch (thrown) {
      for (const listener of listeners) listener.close();
      throw thrown;
    }
    return listeners;
  }

  /** Binds what is new, lets what stays go by its new rules, and retires the rest. */
  #listenAs({ snapshot, rules }: Built): void {
    const before = this.#listeners;
    const kept = new Map(before.map((listener) => [placeOf(listener.spec), listener]));
    const wanted = new Set(rules.map(({ spec }) => placeOf(spec)));
    const retired = before.filter(({ spec }) => !wanted.has(placeOf(spec)));
    const added = this.#bindBeside(
      rules.filter(({ spec }) => !kept.has(placeOf(spec))),
      retired,
    );
    this.#listeners = rules.map((each) => {
      const place = placeOf(each.spec);
      const listener = kept.get(place) ?? added.find(({ spec }) => placeOf(spec) === place);
      assert(listener !== undefined, "a listener was kept or added");
      listener.replaceRules(each);
      return listener;
    });
    for (const listener of retired) this.#retire(listener, snapshot.drainTimeoutMs);
  }

  /** As `#bind`, and says so when the address in use is one that we are about to give up. */
  #bindBeside(rules: readonly ListenerRules[], retired: readonly Listener[]): readonly Listener[] {
    try {
      return this.#bind(rules);
    } catch (thrown) {
      const ours = retired.find(({ spec }) => rules.some((each) => samePort(spec, each.spec)));
      if (!(thrown instanceof ProxyError) || thrown.code !== "EADDRINUSE" || ours === undefined) throw thrown;
      const where = formatAddress(ours.spec.address);
      throw new ProxyError(
        thrown.code,
        `${thrown.message}; or it is our own listener "${ours.spec.name}" (${where}), which this config replaces: take it out in a reload of its own first, or restart`,
      );
    }
  }

  /** Accepts no more on a listener, and gives its connections this long. */
  #retire(listener: Listener, drainTimeoutMs: number): void {
    listener.close();
    const deadline = new Timer(() => {
      for (const connection of [...this.#connections])
        if (connection.listener === listener) connection.end(new Ending("drain_timeout", "the listener was removed"));
    });
    this.runtime.clock.arm(deadline, drainTimeoutMs);
  }

  #updateAccepting(): void {
    for (const listener of this.#listeners) listener.updateAccepting();
  }
}

/** Where a listener listens. With port 0 each has a port of its own. */
function placeOf({ name, address }: ListenerSpec): string {
  const text = formatAddress(address);
  return address.kind === "tcp" && address.port === 0 ? `${name} ${text}` : text;
}

function samePort({ address: first }: ListenerSpec, { address: second }: ListenerSpec): boolean {
  return first.kind === "tcp" && second.kind === "tcp" && first.port === second.port;
}

function connectionLimit(configured: number, descriptorLimit: number): number {
  const possible = Math.max(1, Math.floor((descriptorLimit - RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION));
  return configured === 0 ? possible : Math.min(configured, possible);
}
