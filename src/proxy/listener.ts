// A bound address: admits connections, counts them, and stops accepting while a limit or rate is reached, so that new connections wait in the
// accept queue instead of being refused. Limits hold for the whole daemon: another process may fill the last place between our check and our
// accept. A connection that was accepted then waits here, unread, as it would in the accept queue.

import { formatAddress } from "../base/address.ts";
import { Timer } from "../base/clock.ts";
import { messageOf, ProxyError } from "../base/errors.ts";
import { formatHostPort } from "../base/ip.ts";
import { CidrSet } from "../protocol/cidr.ts";
import type { BoundSocket, ListeningSocket, StreamSocket } from "../runtime/runtime.ts";
import type { ListenerSpec, RouteSpec } from "../snapshot/snapshot.ts";
import type { Policy } from "./authorize.ts";
import type { Backend } from "./balance.ts";
import { type Connection, serve } from "./connection.ts";
import { Ending } from "./ending.ts";
import type { Termination } from "./handshake.ts";
import type { Leg } from "./leg.ts";
import type { Parts } from "./parts.ts";
import { Pending, pendingBudget } from "./pending.ts";
import { ConnectionRate, SourceRates } from "./rate-limit.ts";
import { legHandlers } from "./relay.ts";
import type { Router } from "./router.ts";
import { containsSource, SourceAddress } from "./source-address.ts";
import type { Worker } from "./worker.ts";

/** How long to wait for a descriptor when accepting could not be resumed. */
const RESUME_RETRY_MS = 1000;
/** Accepting resumes only with so many descriptors to spare: a connection takes two, and a log file may have to be opened. */
const SPARE_DESCRIPTORS = 4;
/** How often to check whether other processes of the daemon have made room. */
const ROOM_LOOK_MS = 20;
/** How often a retired listener's accept queue is checked. The first check is as late: TCP handshakes that were under way have reached the queue by then. */
const QUEUE_LOOK_MS = 100;

/** A route with what it needs at run time. */
export interface ActiveRoute {
  readonly spec: RouteSpec;
  readonly termination: Termination | null;
  readonly policy: Policy | null;
  readonly backend: Backend;
}

/** What a new snapshot may change about a listener. */
export interface ListenerRules {
  readonly spec: ListenerSpec;
  readonly router: Router;
  readonly routes: readonly ActiveRoute[];
  readonly allowed: CidrSet | null;
  readonly trusted: CidrSet;
  /** Whether any route, or a PROXY header, makes us wait for the client's first bytes. */
  readonly asksClients: boolean;
}

/** Builds the rules of a listener. Throws ProxyError `BAD_TLS_MATERIAL`. */
export function listenerRules(
  parts: Parts,
  spec: ListenerSpec,
  policies: readonly Policy[],
  backends: readonly Backend[],
): ListenerRules {
  return {
    spec,
    router: parts.router(spec.routes),
    routes: spec.routes.map((route) => ({
      spec: route,
      termination: route.termination === null ? null : parts.termination(route.termination),
      policy: route.policy < 0 ? null : (policies[route.policy] as Policy),
      backend: backends[route.backend] as Backend,
    })),
    allowed: spec.allowSources.length > 0 ? new CidrSet(spec.allowSources) : null,
    trusted: new CidrSet(spec.trustedSources),
    asksClients: spec.acceptProxyProtocol || spec.routes.some(({ tls }) => tls !== "none"),
  };
}

/** One listener of the snapshot, bound. */
export class Listener {
  readonly worker: Worker;
  #rules: ListenerRules;
  /** Connections of each source, kept only when they are limited; a source without any has no entry. */
  readonly #perSource = new Map<string, number>();
  readonly #rate = new ConnectionRate();
  readonly #sourceRates = new SourceRates();
  readonly #socket: ListeningSocket;
  /** Text of the one address that clients can have dialled; null when there are several. */
  readonly #boundAddress: string | null;
  /** Known from the socket only: a listener's own address may be `systemd:NAME`. */
  readonly #isUnix: boolean;
  /** Accepted although a limit was reached: they wait unread. */
  readonly #waiting = new Set<Connection>();
  /** Connections that wait for their clients. */
  readonly #pending: Pending;
  #paused = true;
  #closed = false;
  /** When a retired listener closes even if clients still wait; 0 while it is not retired. */
  #closesAtMs = 0;
  readonly #recheck = new Timer(() => {
    this.#makeRoom();
    this.updateAccepting();
  });
  /** Duplicated to find out whether descriptors are left. */
  readonly #bound: BoundSocket;
  /** Whether descriptors had run out at the last check. */
  #isStarved = false;
  readonly #emptying = new Timer(() => this.#closeWhenEmpty());

  /** Keeps `bound` and accepts from it. */
  constructor(worker: Worker, rules: ListenerRules, bound: BoundSocket) {
    this.worker = worker;
    this.#rules = rules;
    this.#pending = new Pending(worker.runtime.clock);
    this.#bound = bound;
    const { address } = bound;
    const isWildcard = address.kind === "tcp" && (address.host === "0.0.0.0" || address.host === "::");
    this.#isUnix = address.kind === "unix";
    this.#boundAddress = isWildcard ? null : formatAddress(address);
    this.#socket = worker.runtime.listen<Leg>({
      socket: bound,
      handlers: legHandlers,
      accept: (socket) => this.#accept(socket),
    });
    this.updateAccepting();
  }

  get spec(): ListenerSpec {
    return this.#rules.spec;
  }

  get router(): Router {
    return this.#rules.router;
  }

  /** Replaces the rules, from the next connection on. */
  replaceRules(rules: ListenerRules): void {
    this.#rules = rules;
    this.updateAccepting();
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  route(index: number): ActiveRoute {
    return this.#rules.routes[index] as ActiveRoute;
  }

  /** The address that the client dialled. Only a wildcard listener has to ask the kernel. */
  localAddress(socket: StreamSocket<Leg>): string {
    if (this.#boundAddress !== null) return this.#boundAddress;
    const { ip, port } = new SourceAddress(socket.localAddress, socket.localPort);
    return formatHostPort(ip, port);
  }

  /** Whether whoever connected may speak at all: where a PROXY header is required, only a trusted proxy may. */
  admitDirect({ direct }: Connection): Ending | null {
    // A unix socket is reached by file permission, which is trust of another kind.
    if (this.#isUnix) return null;
    // Reset before it was accepted: the kernel has forgotten the address, but still has bytes, and no rule about sources would see them.
    if (direct.ip === "") return new Ending("downstream_reset", "before it was accepted");
    if (!this.spec.acceptProxyProtocol) return null;
    if (direct.bytes !== null && this.#rules.trusted.contains(direct.bytes)) return null;
    return new Ending("source_denied", "not in trusted_sources");
  }

  /** Whether the true source is allowed and within its limit; counts it. */
  admitSource(connection: Connection): Ending | null {
    const { source } = connection;
    const { allowed } = this.#rules;
    if (allowed !== null && !containsSource(allowed, source)) {
      return new Ending("source_denied", "not in allow_sources");
    }
    const limit = this.spec.maxConnectionsPerSource;
    const count = limit === 0 ? 0 : (this.#perSource.get(source.ip) ?? 0);
    if (limit > 0 && count >= limit) return new Ending("limit_reached", `max_connections_per_source ${limit}`);
    const perSecond = this.spec.maxConnectionsPerSecondPerSource;
    if (perSecond > 0 && !this.#sourceRates.admits(source.ip, perSecond, connection.clock.nowMs))
      return new Ending("limit_reached", `max_connections_per_second_per_source ${perSecond}`);
    if (limit === 0) return null;
    this.#perSource.set(source.ip, count + 1);
    connection.countedSource = true;
    return null;
  }

  /** The next step needs bytes from the client. */
  awaitsClient(connection: Connection): void {
    this.#pending.add(connection);
    this.worker.pending.add(connection);
  }

  /** The client has sent all that was needed. */
  heardClient(connection: Connection): void {
    this.#pending.delete(connection);
    this.worker.pending.delete(connection);
    if (this.#paused) this.updateAccepting();
  }

  /** Uncounts an ended connection. */
  release(connection: Connection): void {
    this.#pending.delete(connection);
    const isCounted = !this.#waiting.delete(connection);
    if (connection.countedSource) {
      const { ip } = connection.source;
      const count = this.#perSource.get(ip) ?? 0;
      if (count > 1) this.#perSource.set(ip, count - 1);
      else this.#perSource.delete(ip);
    }
    this.worker.released(connection, isCounted);
    this.updateAccepting();
  }

  /** Accepts while there is room in the listener and in the process, and otherwise does not. */
  updateAccepting(): void {
    if (this.#closed) return;
    if (this.#waiting.size > 0) this.#serveWaiting();
    const full = this.#waiting.size > 0 || this.#isFull();
    if (full) this.worker.runtime.clock.arm(this.#recheck, ROOM_LOOK_MS);
    if (full === this.#paused) return;
    if (full) {
      this.#socket.pause();
      this.#paused = true;
      return;
    }
    try {
      if (this.#isStarved) this.#probeDescriptors();
      this.#socket.resume();
      this.#paused = false;
      this.#isStarved = false;
    } catch (thrown) {
      // No descriptor is left for it, taken by something beside our connections.
      if (!(thrown instanceof ProxyError)) throw thrown;
      this.#isStarved = true;
      this.worker.runtime.clock.arm(this.#recheck, RESUME_RETRY_MS);
    }
  }

  #serveWaiting(): void {
    for (const connection of this.#waiting) {
      if (!this.worker.countIn(this.spec)) break;
      this.#waiting.delete(connection);
      this.#serve(connection);
    }
  }

  /** Stops accepting when descriptors have run out, whoever took them. It goes on by itself when there are some again. */
  lookForDescriptors(): void {
    if (this.#closed || this.#paused) return;
    try {
      this.#probeDescriptors();
    } catch (thrown) {
      if (!(thrown instanceof ProxyError)) throw thrown;
      this.#isStarved = true;
      this.#paused = true;
      this.#socket.pause();
      this.worker.runtime.clock.arm(this.#recheck, RESUME_RETRY_MS);
    }
  }

  /** Throws a ProxyError when fewer than SPARE_DESCRIPTORS are left. */
  #probeDescriptors(): void {
    const held: BoundSocket[] = [];
    try {
      while (held.length < SPARE_DESCRIPTORS) held.push(this.#bound.share());
    } finally {
      for (const share of held) share.close();
    }
  }

  /** Closes once the accept queue is empty, or after `withinMs` at the latest. New SYNs are dropped already. */
  retire(withinMs: number): void {
    if (this.#closed || this.#closesAtMs > 0) return;
    const { clock } = this.worker.runtime;
    this.#closesAtMs = clock.nowMs + Math.max(withinMs, QUEUE_LOOK_MS);
    clock.arm(this.#emptying, QUEUE_LOOK_MS);
  }

  /** Stops accepting. Connections in the accept queue are reset, unless another process accepts from it. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const { clock } = this.worker.runtime;
    clock.disarm(this.#recheck);
    clock.disarm(this.#emptying);
    this.#socket.close();
  }

  #closeWhenEmpty(): void {
    const { clock } = this.worker.runtime;
    const waits = this.#socket.hasWaiting() || this.#waiting.size > 0;
    if (waits && clock.nowMs < this.#closesAtMs) {
      clock.arm(this.#emptying, QUEUE_LOOK_MS);
      return;
    }
    this.close();
    this.worker.closed();
  }

  #isFull(): boolean {
    if (this.worker.isFull || this.#isAtLimit() || this.#isTooFast()) return true;
    // Opaque streams wait for nobody, and do not have to wait for those who do.
    return this.#rules.asksClients && (this.worker.isPendingFull || this.#pending.size >= this.#pendingBudget());
  }

  #isAtLimit(): boolean {
    const { slot, maxConnections } = this.spec;
    return maxConnections > 0 && this.worker.counts.total(slot) >= maxConnections;
  }

  /** Whether the rate is used up, so that the next connection has to wait although there is room. */
  #isTooFast(): boolean {
    const { maxConnectionsPerSecond } = this.spec;
    if (maxConnectionsPerSecond === 0) return false;
    const { worker } = this;
    return this.#rate.isUsedUp(worker.partOf(maxConnectionsPerSecond), worker.runtime.clock.nowMs);
  }

  #pendingBudget(): number {
    const { maxConnections } = this.spec;
    return maxConnections === 0 ? Number.POSITIVE_INFINITY : pendingBudget(this.worker.shareOf(maxConnections));
  }

  /** Ends connections that only wait for their client where others wait for a place. */
  #makeRoom(): void {
    if (this.#waiting.size === 0 && !(this.#paused && this.#socket.hasWaiting())) return;
    const budget = this.#pendingBudget();
    if (this.#isAtLimit()) this.#pending.makeRoom();
    else if (this.#pending.size >= budget) this.#pending.makeRoomWithin(budget);
    else this.worker.makeRoom();
  }

  #accept(socket: StreamSocket<Leg>): void {
    const connection = this.worker.accepted(this, socket);
    socket.data = connection.downstream;
    const { maxConnectionsPerSecond } = this.spec;
    if (maxConnectionsPerSecond > 0)
      this.#rate.count(this.worker.partOf(maxConnectionsPerSecond), connection.clock.nowMs);
    if (this.worker.countIn(this.spec)) this.#serve(connection);
    else {
      this.#waiting.add(connection);
      connection.downstream.paused = true;
      socket.pause();
    }
    this.updateAccepting();
  }

  #serve(connection: Connection): void {
    connection.admitted(this.spec);
    serve(connection).catch((defect) => connection.end(new Ending("internal_error", messageOf(defect))));
  }
}
