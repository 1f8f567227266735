// The third implementation of the runtime seam, beside those on real sockets: a seeded network in virtual time. Worker, listeners and
// connections are built on it unchanged. A link between the proxy and a program is in sim-link.ts, time and chance in sim-schedule.ts.

import { type Address, formatAddress, type ListenAddress } from "../../src/base/address.ts";
import { type Clock, Timer } from "../../src/base/clock.ts";
import { ProxyError } from "../../src/base/errors.ts";
import { isSignedBy } from "../../src/runtime/bun/tls.ts";
import type { Files } from "../../src/runtime/files.ts";
import type { Http } from "../../src/runtime/http.ts";
import type { LogFile, LogSink } from "../../src/runtime/logs.ts";
import type {
  BoundSocket,
  ClientContext,
  ClientIdentity,
  Dial,
  DialOptions,
  DialResult,
  ListeningSocket,
  ListenOptions,
  OriginateTlsOptions,
  Runtime,
  ServerContext,
  ServerIdentity,
  SocketHandlers,
  StreamSocket,
  TerminateTlsOptions,
  TlsResult,
  TransferOutcome,
} from "../../src/runtime/runtime.ts";
import { originate, terminate } from "./sim-handshake.ts";
import { type Program, type Quirks, SimLink } from "./sim-link.ts";
import type { Schedule } from "./sim-schedule.ts";
import { SimSocket } from "./sim-socket.ts";

/** What becomes of a dial: it connects to a program, fails with an errno, or nothing is heard. */
export type DialPlan =
  | { readonly kind: "connects"; readonly afterMs: number; readonly program: Program }
  | { readonly kind: "fails"; readonly afterMs: number; readonly code: string }
  | { readonly kind: "silence" };

export interface SimRuntimeOptions {
  readonly schedule: Schedule;
  readonly quirks: Quirks;
  readonly descriptorLimit?: number;
  /** Whether it can transfer. Default false. */
  readonly transfers?: boolean;
  /** Default: it cannot. */
  readonly reach?: Runtime["reach"];
  /** Answers a dial. `data` is what the dialler gave. */
  dialled(address: Address, data: unknown): DialPlan;
  /** Called after each event that the proxy was told. */
  observe?(socket: SimSocket): void;
}

export class SimRuntime implements Runtime {
  readonly name = "sim";
  readonly refusals = [];
  /** The data plane speaks no HTTP. */
  readonly http: Http = { serve: noHttp, fetch: noHttp };
  /** The data plane opens no file; every path leads to none. */
  readonly files: Files = {
    readText: noFiles,
    exists: () => false,
    stamp: () => "ENOENT",
    list: noFiles,
    writeText: noFiles,
    remove: noFiles,
    makeDirectory: noFiles,
  };
  readonly processes = null;
  readonly reach: Runtime["reach"];
  readonly serviceManager = null;
  readonly clock: Clock;
  readonly transfer:
    | ((from: StreamSocket<unknown>, to: StreamSocket<unknown>, limitBytes: number, outcome: TransferOutcome) => void)
    | null;
  /** Every link that the proxy ever had a socket on. */
  readonly links: SimLink[] = [];
  /** Sockets handed to the proxy, by `accept`. */
  accepted = 0;
  readonly #options: SimRuntimeOptions;
  readonly #schedule: Schedule;
  readonly #queues = new Map<string, SimQueue>();

  constructor(options: SimRuntimeOptions) {
    this.#options = options;
    this.#schedule = options.schedule;
    this.clock = options.schedule.clock;
    this.reach = options.reach ?? null;
    // Only sockets of this runtime come here.
    this.transfer = options.transfers
      ? (from, to, limitBytes, outcome) =>
          (from as SimSocket).link.transferTo((to as SimSocket).link, limitBytes, outcome)
      : null;
  }

  endOrderly(socket: StreamSocket<unknown>): void {
    (socket as SimSocket).endsOrderly = true;
  }

  unsentBytes(socket: StreamSocket<unknown>): number {
    return (socket as SimSocket).link.unconsumedBytes;
  }

  giveBackMemory(): void {}

  preciseNowMs(): number {
    return this.#schedule.nowMs;
  }

  sha256(bytes: Uint8Array): string {
    return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
  }

  descriptorLimit(): number {
    return this.#options.descriptorLimit ?? 65_536;
  }

  bind(address: ListenAddress): BoundSocket {
    const key = formatAddress(address);
    if (address.kind === "systemd") throw new ProxyError("ENOTPASSED", `the simulation has no ${key}`);
    if (this.#queues.has(key)) throw new ProxyError("EADDRINUSE", `cannot listen on ${key}: EADDRINUSE`);
    const queue = new SimQueue(address, () => this.#queues.delete(key));
    this.#queues.set(key, queue);
    return new SimBoundSocket(queue);
  }

  listen<S>(options: ListenOptions<S>): ListeningSocket {
    return new SimListener(this.#schedule, options.socket as SimBoundSocket, ({ program, ip, port }) => {
      this.accepted++;
      const link = this.#link(program);
      const socket = new SimSocket(link, ip, port);
      // The listener's handlers take sockets whose `data` the accept call sets, here as on a real runtime.
      link.attach(socket, options.handlers as SocketHandlers<unknown>);
      program.connected(link);
      options.accept(socket as StreamSocket<S>);
      if (socket.data === undefined) this.#schedule.violation("accept did not set socket.data");
    });
  }

  /** A program connects to the proxy from `ip` and `port`. False when nobody listens there. */
  connect(address: ListenAddress, program: Program, ip: string, port: number): boolean {
    const queue = this.#queues.get(formatAddress(address));
    return queue?.join({ program, ip, port }) ?? false;
  }

  dial<S>(options: DialOptions<S>): Dial<S> {
    const plan = this.#options.dialled(options.address, options.data);
    const { promise, resolve } = Promise.withResolvers<DialResult<S>>();
    let settled = false;
    const settle = (result: DialResult<S>): void => {
      if (settled) return;
      settled = true;
      this.clock.disarm(deadline);
      resolve(result);
    };
    const deadline = new Timer(() => settle({ ok: false, code: "ETIMEDOUT" }));
    this.clock.arm(deadline, options.timeoutMs);
    if (plan.kind !== "silence") {
      this.#schedule.after(plan.afterMs, () => {
        if (settled) return;
        if (plan.kind === "fails") {
          settle({ ok: false, code: plan.code });
          return;
        }
        const link = this.#link(plan.program);
        const socket = new SimSocket(link, undefined, undefined);
        socket.data = options.data;
        socket.endsOrderly = options.endsOrderly ?? false;
        link.attach(socket, options.handlers as SocketHandlers<unknown>);
        settle({ ok: true, socket: socket as StreamSocket<S> });
        plan.program.connected(link);
      });
    }
    return { result: promise, cancel: () => settle({ ok: false, code: "CANCELLED" }) };
  }

  serverContext(identity: ServerIdentity): ServerContext {
    return { identity };
  }

  terminateTls<S>(plain: StreamSocket<unknown>, options: TerminateTlsOptions<S>): Promise<TlsResult<S>> {
    return terminate(this.#schedule, plain as SimSocket, options);
  }

  clientContext(identity: ClientIdentity): ClientContext {
    return { identity };
  }

  originateTls<S>(plain: StreamSocket<unknown>, options: OriginateTlsOptions<S>): Promise<TlsResult<S>> {
    return originate(this.#schedule, plain as SimSocket, options);
  }

  readonly socketState = null;

  peerCertificate(socket: StreamSocket<unknown>): Uint8Array | null {
    const { link, peerCertificate } = socket as SimSocket;
    return link.gone ? null : peerCertificate;
  }

  /** The real thing: scripts may hold real certificates, and what is none is signed by nobody. */
  isSignedBy(certificate: Uint8Array, issuer: Uint8Array): boolean {
    return isSignedBy(certificate, issuer);
  }

  inheritedSockets(): ReadonlyMap<string, BoundSocket> {
    return new Map();
  }

  userExists(): boolean {
    return false;
  }

  dropPrivileges(user: string): void {
    throw new ProxyError("EUSER", `there is no user ${user}: the simulation has none`);
  }

  commandLine(): readonly string[] {
    return [];
  }

  resolve(name: string): Promise<string> {
    return Promise.reject(new ProxyError("ENOTFOUND", `${name}: the simulation has no names`));
  }

  openLogSink(): LogSink {
    return { write() {}, droppedLines: 0, moveTo() {}, flush: () => Promise.resolve() };
  }

  openLogFile(path: string): LogFile {
    return noFiles(path);
  }

  #link(program: Program): SimLink {
    const { quirks, observe } = this.#options;
    const link = new SimLink(this.#schedule, quirks, program, (socket) => observe?.(socket));
    this.links.push(link);
    return link;
  }
}

function noFiles(path: string): never {
  throw new ProxyError("ENOENT", `${path}: the simulation has no files`);
}

function noHttp(): never {
  throw new ProxyError("EAFNOSUPPORT", "the simulation has no HTTP");
}

interface Newcomer {
  readonly program: Program;
  readonly ip: string;
  readonly port: number;
}

/** Those who have connected to an address and wait to be accepted. */
class SimQueue {
  readonly address: Address;
  readonly newcomers: Newcomer[] = [];
  readonly wakeUps = new Set<() => void>();
  readonly #freed: () => void;
  #holds = 1;
  #takesNewcomers = true;

  constructor(address: Address, freed: () => void) {
    this.address = address;
    this.#freed = freed;
  }

  join(newcomer: Newcomer): boolean {
    if (!this.#takesNewcomers) return false;
    this.newcomers.push(newcomer);
    for (const wakeUp of this.wakeUps) wakeUp();
    return true;
  }

  hold(): void {
    this.#holds++;
  }

  turnAway(): void {
    this.#takesNewcomers = false;
  }

  letGo(): void {
    if (--this.#holds > 0) return;
    this.#freed();
    // As the kernel does to those who wait in the queue.
    for (const { program } of this.newcomers.splice(0)) program.reset();
  }
}

class SimBoundSocket implements BoundSocket {
  readonly queue: SimQueue;
  #closed = false;

  constructor(queue: SimQueue) {
    this.queue = queue;
  }

  get address(): Address {
    return this.queue.address;
  }

  share(): BoundSocket {
    this.queue.hold();
    return new SimBoundSocket(this.queue);
  }

  turnAway(): void {
    this.queue.turnAway();
  }

  close(): void {
    if (!this.#closed) this.queue.letGo();
    this.#closed = true;
  }
}

class SimListener implements ListeningSocket {
  readonly #schedule: Schedule;
  readonly #bound: SimBoundSocket;
  readonly #accept: (newcomer: Newcomer) => void;
  readonly #wakeUp = (): void => this.#planAccept();
  #paused = true;
  #isClosed = false;

  constructor(schedule: Schedule, bound: SimBoundSocket, accept: (newcomer: Newcomer) => void) {
    this.#schedule = schedule;
    this.#bound = bound;
    this.#accept = accept;
    bound.queue.wakeUps.add(this.#wakeUp);
  }

  get address(): Address {
    return this.#bound.address;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (this.#isClosed) this.#schedule.violation("a closed listener was resumed");
    this.#paused = false;
    this.#planAccept();
  }

  hasWaiting(): boolean {
    return this.#bound.queue.newcomers.length > 0;
  }

  close(): void {
    this.#isClosed = true;
    this.#bound.queue.wakeUps.delete(this.#wakeUp);
    this.#bound.close();
  }

  #planAccept(): void {
    this.#schedule.after(0, () => {
      if (this.#paused || this.#isClosed) return;
      const newcomer = this.#bound.queue.newcomers.shift();
      if (newcomer !== undefined) this.#accept(newcomer);
      if (this.hasWaiting()) this.#planAccept();
    });
  }
}
