// One simulated world: a worker on the simulated network, many clients with scripts of their own, and the judgement on what became of each.
// Everything in it follows from the seed.

import { Clock } from "../../src/base/clock.ts";
import { OneProcess } from "../../src/cli/one-process.ts";
import { Leg } from "../../src/proxy/leg.ts";
import type { Worker } from "../../src/proxy/worker.ts";
import type { BackendSpec, ListenerSpec, Snapshot } from "../../src/snapshot/snapshot.ts";
import { AccessLog, type CloseRecord } from "../../src/telemetry/access-log.ts";
import type { Quirks } from "../support/sim-link.ts";
import { type DialPlan, SimRuntime } from "../support/sim-runtime.ts";
import { Schedule } from "../support/sim-schedule.ts";
import {
  backendSpec,
  endpointSpec,
  listenerSpec,
  routeSpec,
  ruleSpec,
  SIM_TERMINATION,
  snapshotSpec,
} from "../support/sim-snapshot.ts";
import type { SimSocket } from "../support/sim-socket.ts";
import { Judge } from "./judge.ts";
import { Party } from "./party.ts";
import { type ClientScript, drawClient, drawServerPlan, LISTENERS } from "./scripts.ts";

const CONNECTIONS = 60;
/** Clients arrive within this time. */
const ARRIVAL_MS = 4000;
const HOLD_LIMIT_BYTES = 64 * 1024;

/** A client, the servers that were dialled for it, and the records of its end. */
export interface Case {
  readonly script: ClientScript;
  readonly client: Party;
  readonly records: CloseRecord[];
  server: Party | null;
  /** How the last dial was to end. */
  lastDial: DialPlan | null;
}

/** What a run comes to. */
export interface Outcome {
  readonly violations: readonly string[];
  readonly accepted: number;
  readonly reasons: ReadonlyMap<string, number>;
}

/** How fast connections and bytes may come in a world. */
export type WorldRates = Partial<
  Pick<BackendSpec, "maxBandwidth" | "maxBackendBandwidth"> & Pick<ListenerSpec, "maxConnectionsPerSecond">
>;

/** Runs the world of a seed to its end. */
export function runWorld(seed: number, rates: WorldRates = {}): Outcome {
  return new World(seed, rates).run();
}

class World {
  readonly schedule: Schedule;
  readonly runtime: SimRuntime;
  readonly plane: OneProcess;
  readonly worker: Worker;
  readonly snapshot: Snapshot;
  readonly #quirks: Quirks;
  readonly #judge: Judge;
  readonly #cases = new Map<number, Case>();
  readonly #reasons = new Map<string, number>();
  /** Legs whose held bytes have been delivered: from then on they keep less. */
  readonly #flushed = new Set<Leg>();
  #nextPort = 1;

  constructor(seed: number, rates: WorldRates) {
    const schedule = new Schedule(seed);
    this.schedule = schedule;
    this.#quirks = drawQuirks(schedule);
    this.snapshot = drawSnapshot(schedule, rates);
    this.runtime = new SimRuntime({
      schedule,
      quirks: this.#quirks,
      transfers: schedule.chance(0.5),
      dialled: (_, data) => this.#dialled(data as Leg),
      observe: (socket) => this.#observe(socket),
    });
    this.#judge = new Judge(schedule, this.snapshot);
    const written = (record: CloseRecord): void => this.#written(record);
    // The real access log, so that its formatting is exercised; the record is judged at the moment it is written.
    const accessLog = new (class extends AccessLog {
      override write(record: CloseRecord): void {
        super.write(record);
        written(record);
      }
    })({ write() {} }, new Clock(), { format: schedule.chance(0.5) ? "json" : "text" });
    this.plane = new OneProcess({ runtime: this.runtime, snapshot: this.snapshot, accessLog, random: schedule.random });
    this.worker = this.plane.worker;
  }

  run(): Outcome {
    const { schedule } = this;
    for (let count = 0; count < CONNECTIONS; count++) {
      schedule.after(schedule.random() * ARRIVAL_MS, () => this.#connect(drawClient(schedule)));
    }
    const drains = schedule.chance(0.25);
    if (drains) schedule.after(schedule.random() * 2 * ARRIVAL_MS, () => this.#drain());
    schedule.run();
    this.#checkQuiet();
    if (!drains) this.#probeLimits();
    for (const one of this.#cases.values()) this.#judge.atTheEnd(one);
    return { violations: schedule.violations, accepted: this.runtime.accepted, reasons: this.#reasons };
  }

  #connect(script: ClientScript): void {
    const port = this.#nextPort++;
    const client = new Party(this.schedule, `client ${port}`, script.plan, script.preamble);
    const one: Case = { script, client, records: [], server: null, lastDial: null };
    const { address } = this.snapshot.listeners[script.listener] as ListenerSpec;
    if (this.runtime.connect(address, client, script.ip, port)) this.#cases.set(port, one);
  }

  #drain(): void {
    this.#judge.drainDueMs = this.schedule.nowMs + this.snapshot.drainTimeoutMs;
    void this.plane.drain([]);
  }

  #dialled({ connection }: Leg): DialPlan {
    const one = this.#cases.get(connection.direct.port) as Case;
    const { schedule } = this;
    const calm = one.script.isCalm;
    const afterMs = schedule.chance(0.3) ? 0 : schedule.random() * (calm ? 300 : 700);
    const kind = calm || schedule.chance(0.8) ? "connects" : schedule.pick(["fails", "silence"] as const);
    if (kind === "fails")
      one.lastDial = { kind, afterMs, code: schedule.pick(["ECONNREFUSED", "EHOSTUNREACH", "ETIMEDOUT"]) };
    else if (kind === "silence") one.lastDial = { kind };
    else {
      const server = new Party(schedule, `server of ${one.client.name}`, drawServerPlan(schedule, one.script));
      server.other = one.client;
      const connected = server.connected.bind(server);
      // A dial that was given up never gets here.
      server.connected = (link) => {
        one.server = server;
        one.client.other = server;
        connected(link);
      };
      one.lastDial = { kind, afterMs, program: server };
    }
    return one.lastDial;
  }

  #observe({ data: leg, link }: SimSocket): void {
    if (!(leg instanceof Leg)) return;
    const isHeld = leg.flow === 0;
    if (!isHeld && leg.pendingBytes === 0) this.#flushed.add(leg);
    const limit = this.#quirks.maxReadBytes + (this.#flushed.has(leg) ? 0 : HOLD_LIMIT_BYTES);
    if (leg.pendingBytes > limit)
      this.schedule.violation(`${leg.pendingBytes} bytes are pending on a leg, over ${limit}`);
    if (isHeld && link.closeTold !== null && link.program instanceof Party) link.program.brokeWhileHeld = true;
  }

  #written(record: CloseRecord): void {
    const port = Number(record.downstreamDirect.split(":").at(-1));
    const one = this.#cases.get(port);
    if (one === undefined) {
      this.schedule.violation(`a record of an unknown connection: ${record.downstreamDirect}`);
      return;
    }
    one.records.push(record);
    this.#reasons.set(record.closeReason, (this.#reasons.get(record.closeReason) ?? 0) + 1);
    this.#judge.atRecord(one, record, this.#openOf(one));
    // A runtime may take a moment to tell that what was aborted is closed.
    this.schedule.after(5, () => this.#checkTimers());
  }

  /** Without a connection nothing waits for a deadline. */
  #checkTimers(): void {
    const { armed } = this.runtime.clock;
    // A listener that is retired looks at its queue for a while, whoever waits there.
    const drains = this.#judge.drainDueMs < Number.POSITIVE_INFINITY;
    if (drains && this.worker.listeners.some(({ isClosed }) => !isClosed)) return;
    // And one at its rate looks whether it may accept again.
    if (this.worker.listeners.some(({ spec }) => spec.maxConnectionsPerSecond > 0)) return;
    if (this.worker.connectionCount === 0 && armed > 0) this.schedule.violation(`${armed} timers without a connection`);
  }

  /** Other connections of the same source on the same listener that have no record yet. */
  #openOf({ script, client }: Case): number {
    let open = 0;
    for (const one of this.#cases.values()) {
      if (one.client === client || one.script.listener !== script.listener || one.script.source !== script.source)
        continue;
      if (one.client.connectedMs >= 0 && one.records.length === 0) open++;
    }
    return open;
  }

  #checkQuiet(): void {
    const { schedule, worker } = this;
    if (worker.connectionCount !== 0) schedule.violation(`${worker.connectionCount} connections are left`);
    if (this.runtime.clock.armed !== 0) schedule.violation(`${this.runtime.clock.armed} timers are left`);
    const open = this.runtime.links.filter((link) => link.closeTold === null).length;
    if (open > 0) schedule.violation(`${open} sockets are left open`);
    for (const { name, endpoints, slot, connectsSlot, retriesSlot } of this.snapshot.backends) {
      const own = [slot, connectsSlot, retriesSlot].map((each) => worker.counts.total(each));
      if (own.some((count) => count !== 0)) schedule.violation(`${name} still counts ${own.join(", ")}`);
      for (const endpoint of endpoints) {
        if (worker.counts.table.states.trialUntilS(endpoint.slot) !== 0)
          schedule.violation(`${endpoint.name} is still being tried`);
        const active = worker.backendNamed(name)?.activeOf(endpoint);
        if (active !== 0) schedule.violation(`${endpoint.name} still counts ${active}`);
      }
    }
  }

  /** A count that leaked would show now: each source may have as many connections as its limit says, at once. */
  #probeLimits(): void {
    const index = LISTENERS.limited;
    const { maxConnectionsPerSource } = this.snapshot.listeners[index] as ListenerSpec;
    const first = this.#nextPort;
    for (const source of ["10.0.0.1", "10.0.0.2", "10.0.0.3"]) {
      for (let count = 0; count < maxConnectionsPerSource; count++) {
        const script = drawClient(this.schedule, { listener: index, source });
        this.schedule.after(this.schedule.random() * 10, () => this.#connect(script));
      }
    }
    this.schedule.run();
    for (const [port, { records }] of this.#cases) {
      if (port >= first && records[0]?.closeReason === "limit_reached")
        this.schedule.violation(`a probe of the limits was refused: ${records[0]?.detail}`);
    }
    this.#checkQuiet();
  }
}

function drawQuirks(schedule: Schedule): Quirks {
  const latencyMs = schedule.pick([0, 1, 20, 150]);
  return {
    latencyMs,
    maxReadBytes: schedule.pick([200, 1500, 16_384, 200_000]),
    // A round trip takes a buffer's worth at the most, and no transfer should take minutes.
    sendBufferBytes: schedule.pick([latencyMs > 1 ? 2048 : 256, 8192, 65_536, 400_000]),
    shortWrite: schedule.pick([0, 0.1, 0.5]),
    spuriousDrain: schedule.pick([0, 0.2, 0.8]),
    closeAtOnce: schedule.pick([0, 0.5, 1]),
    resetDiscards: schedule.pick([0, 0.5, 1]),
    abortDiscards: 0.5,
    resetToldWithinMs: schedule.pick([0, 2, 50, 300]),
  };
}

function drawSnapshot(schedule: Schedule, { maxConnectionsPerSecond = 0, ...bandwidth }: WorldRates): Snapshot {
  const endpointLimit = schedule.chance(0.2) ? 4 : 0;
  const listener = (index: number, spec: Partial<ListenerSpec> = {}): ListenerSpec =>
    listenerSpec({
      name: `listener-${index}`,
      address: { kind: "tcp", host: "127.0.0.1", port: 1000 + index },
      maxConnectionsPerSecond,
      ...spec,
    });
  return snapshotSpec({
    maxConnections: schedule.pick([0, 40]),
    drainTimeoutMs: schedule.integer(0, 4000),
    policies: [{ name: "from-inside", mode: "enforce", meter: 92_000, rules: [ruleSpec({ source: ["10.0.0.0/30"] })] }],
    backends: [
      backendSpec({
        balance: schedule.pick([
          "least_connections",
          "round_robin",
          "random",
          "power_of_two",
          "least_latency",
          "source_hash",
        ]),
        endpoints: [0, 1, 2].map((slot) =>
          endpointSpec(slot, {
            weight: schedule.integer(1, 3),
            maxConnections: endpointLimit,
            backup: slot === 2 && schedule.chance(0.5),
          }),
        ),
        connectAttempts: schedule.integer(1, 5),
        retryBudget: schedule.pick([0, 0.2, 1]),
        maxConnections: schedule.pick([0, 0, 0, 8]),
        maxPendingConnects: schedule.pick([0, 0, 0, 2]),
        queueSize: schedule.pick([0, 3, 100]),
        queueTimeoutMs: schedule.pick([100, 1000]),
        outliers: schedule.chance(0.5)
          ? { failures: schedule.integer(1, 3), ejectionMs: 1000, maxEjectionMs: 2000, maxEjectionPercent: 70 }
          : null,
        idleTimeoutMs: schedule.pick([6000, 8000]),
        halfCloseIdleTimeoutMs: schedule.pick([0, 4500]),
        maxLifetimeMs: schedule.pick([0, 0, 0, 3000]),
        ...bandwidth,
      }),
    ],
    listeners: [
      listener(LISTENERS.opaque),
      listener(LISTENERS.passthrough, { routes: [routeSpec({ match: { sni: ["*.example"] }, tls: "passthrough" })] }),
      listener(LISTENERS.terminate, {
        routes: [routeSpec({ tls: "terminate", termination: SIM_TERMINATION, policy: 0 })],
      }),
      listener(LISTENERS.behindProxy, { acceptProxyProtocol: true, trustedSources: ["10.1.0.0/24"] }),
      listener(LISTENERS.limited, { maxConnections: 6, maxConnectionsPerSource: 2 }),
    ],
  });
}
