// A worker on a simulated network that does nothing by chance, for tests that put one situation together by hand.

import type { Address } from "../../src/base/address.ts";
import { Clock } from "../../src/base/clock.ts";
import { OneProcess } from "../../src/cli/one-process.ts";
import type { Worker } from "../../src/proxy/worker.ts";
import type { CountRow } from "../../src/snapshot/counts.ts";
import type { ListenerSpec, Snapshot } from "../../src/snapshot/snapshot.ts";
import { AccessLog, type CloseRecord } from "../../src/telemetry/access-log.ts";
import type { HandshakeScript, Program, Quirks, SimLink } from "./sim-link.ts";
import { type DialPlan, SimRuntime } from "./sim-runtime.ts";
import { Schedule } from "./sim-schedule.ts";
import { snapshotSpec } from "./sim-snapshot.ts";

export const ORDERLY: Quirks = {
  latencyMs: 0,
  maxReadBytes: 65_536,
  sendBufferBytes: 65_536,
  shortWrite: 0,
  spuriousDrain: 0,
  closeAtOnce: 1,
  resetDiscards: 0,
  abortDiscards: 0,
  resetToldWithinMs: 0,
};

/** A program at the far end that only notes what it sees; the test makes it act, through `link`. */
export class Probe implements Program {
  text = "";
  fins = 0;
  resets = 0;
  readonly handshake?: HandshakeScript;
  #link: SimLink | null = null;
  #connected: (link: SimLink) => void;

  constructor(connected: (link: SimLink) => void = () => {}, handshake?: HandshakeScript) {
    this.#connected = connected;
    if (handshake !== undefined) this.handshake = handshake;
  }

  get link(): SimLink {
    if (this.#link === null) throw new Error("the probe is not connected");
    return this.#link;
  }

  get isConnected(): boolean {
    return this.#link !== null;
  }

  send(text: string): void {
    this.link.farSend(new TextEncoder().encode(text));
  }

  connected(link: SimLink): void {
    this.#link = link;
    if (this.handshake !== undefined) link.farSend(this.handshake.hello);
    this.#connected(link);
  }

  data(bytes: Uint8Array): void {
    this.text += new TextDecoder().decode(bytes);
  }

  fin(): void {
    this.fins++;
  }

  reset(): void {
    this.resets++;
  }

  /** Set by a test that wants that moment. */
  secured(): void {}
}

export interface SimWorkerOptions {
  readonly snapshot?: Partial<Snapshot>;
  readonly quirks?: Partial<Quirks>;
  readonly descriptorLimit?: number;
  /** Whether the runtime can transfer. */
  readonly transfers?: boolean;
  /** Default: shared with nobody. */
  readonly counts?: CountRow;
  /** Default: connects at once to a new server. */
  dialled?(server: Probe, address: Address): DialPlan;
}

export class SimWorker {
  readonly schedule = new Schedule(1);
  readonly runtime: SimRuntime;
  readonly plane: OneProcess;
  readonly worker: Worker;
  readonly records: CloseRecord[] = [];
  /** One for each dial, in order. */
  readonly servers: Probe[] = [];
  readonly #snapshot: Snapshot;
  #nextPort = 1;

  constructor(options: SimWorkerOptions = {}) {
    this.#snapshot = snapshotSpec(options.snapshot);
    this.runtime = new SimRuntime({
      schedule: this.schedule,
      quirks: { ...ORDERLY, ...options.quirks },
      ...(options.transfers !== undefined && { transfers: options.transfers }),
      ...(options.descriptorLimit !== undefined && { descriptorLimit: options.descriptorLimit }),
      dialled: (address) => {
        const server = new Probe();
        this.servers.push(server);
        return options.dialled?.(server, address) ?? { kind: "connects", afterMs: 0, program: server };
      },
    });
    const { records } = this;
    const accessLog = new (class extends AccessLog {
      override write(record: CloseRecord): void {
        records.push(record);
      }
    })({ write() {} }, new Clock(), { format: "json" });
    this.plane = new OneProcess({
      runtime: this.runtime,
      snapshot: this.#snapshot,
      accessLog,
      random: this.schedule.random,
      ...(options.counts !== undefined && { counts: options.counts }),
    });
    this.worker = this.plane.worker;
  }

  /** The server that was dialled last. */
  get server(): Probe {
    const server = this.servers.at(-1);
    if (server === undefined) throw new Error("nobody was dialled");
    return server;
  }

  get reasons(): string[] {
    return this.records.map(({ closeReason }) => closeReason);
  }

  /** Connects a client to a listener and lets all that follows happen, as far as it takes no time. */
  connect(options: { readonly client?: Probe; readonly ip?: string; readonly listener?: number } = {}): Probe {
    const { client = new Probe(), ip = "10.0.0.1", listener = 0 } = options;
    const { address } = this.#snapshot.listeners[listener] as ListenerSpec;
    if (!this.runtime.connect(address, client, ip, this.#nextPort++)) throw new Error("nobody listens there");
    this.settle();
    return client;
  }

  /** Lets happen what takes a moment. */
  settle(forMs = 10): void {
    this.schedule.run(forMs);
  }
}
