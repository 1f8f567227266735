// A running daemon: what it does when a signal, an operator or the end of a process asks something of it.

import { formatAddress } from "../base/address.ts";
import { messageOf } from "../base/errors.ts";
import type { Control, StreamTally } from "../control/control.ts";
import type { DataPlane } from "../control/data-plane.ts";
import { handOver, type SuccessorStart } from "../control/hand-over.ts";
import type { HealthChecks } from "../control/health/health-checks.ts";
import type { ListeningSockets } from "../control/listening-sockets.ts";
import type { LiveConfig } from "../control/live-config.ts";
import { backendMeters, byteSums, certificateStatus, listenerMeters, policyStatus } from "../control/meter-status.ts";
import { sweepRows } from "../control/row-sweep.ts";
import type { ServiceNotices, ServiceState } from "../control/service-manager.ts";
import type { ChildProcess, Processes, Runtime, SharedMemory } from "../runtime/runtime.ts";
import { type CountTable, DAEMON_SLOT, DROPPED_LINES, DROPPED_SPANS } from "../snapshot/counts.ts";
import type { Heard, Question } from "../snapshot/inspection.ts";
import type { BytesBlock, Meters } from "../snapshot/meters.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { Status, WorkerStatus } from "../snapshot/status.ts";
import type { Log } from "../telemetry/log.ts";
import { type PassedSignal, StandIn } from "./stand-in.ts";

/** What an upgrade needs. */
export interface Succession extends SuccessorStart {
  readonly processes: Processes;
  readonly commandLine: Runtime["commandLine"];
  readonly memory: SharedMemory;
  readonly sockets: ListeningSockets;
}

export interface DaemonParts {
  readonly log: Log;
  readonly liveConfig: LiveConfig;
  readonly plane: DataPlane;
  readonly health: HealthChecks;
  readonly counts: CountTable;
  readonly version: string;
  /** `bun 1.4.5`. */
  readonly runtimeVersion: string;
  readonly pid: number;
  /** Goes on with the access log in a new file of the same name. */
  reopenLog(): void;
  /** Reports to the service manager. */
  readonly notices: ServiceNotices;
  /** Null where the platform knows no successor. */
  readonly succession: Succession | null;
}

/** Between two status lines to the service manager. */
const STATUS_MS = 5000;

/** How often to check whether predecessors have ended. */
const LOOK_MS = 100;

/** How a daemon came to its end. */
export interface DaemonEnd {
  /** Connections that had to be aborted. */
  readonly aborted: number;
  /** For the process that has taken our place, and that we have to wait for; null when there is none. */
  readonly standIn: StandIn | null;
}

/** The daemon, from the moment it serves. */
export class Daemon implements Control {
  readonly #parts: DaemonParts;
  readonly streams: StreamTally = { open: 0, dropped: 0 };
  readonly #startedMs = Date.now();
  readonly #end = Promise.withResolvers<DaemonEnd>();
  #state: "serving" | "draining" = "serving";
  /** Set when another process has taken over and this one stays for its PID. */
  #standIn: StandIn | null = null;
  /** A successor that is being started. */
  #heir: ChildProcess | null = null;
  #upgrading = false;
  /** SIGUSR1 came during the upgrade: the successor may have opened the access log under its old name. */
  #owesReopening = false;
  /** Whether a signal or an operator has asked for the end. */
  #toldToStop = false;
  /** Whether they have asked twice, and do not want to wait for connections. */
  #isHurried = false;
  /** Called when another process has taken over, which speaks for the service from then on. */
  onLeaving: (() => Promise<void>) | null = null;
  /** Called when an upgrade was abandoned. */
  onAbandoned: (() => Promise<void>) | null = null;
  readonly #telling: ReturnType<typeof setInterval>;

  constructor(parts: DaemonParts) {
    this.#parts = parts;
    this.#telling = setInterval(() => parts.notices.status(this.#serviceState), STATUS_MS);
  }

  /** Logs and reports to the service manager that the daemon accepts. */
  announce(): void {
    this.#note("serving");
    const { log, plane, notices } = this.#parts;
    for (const { listener, address } of plane.listening)
      log.info({ listener, address: formatAddress(address) }, "listening");
    notices.ready(this.#serviceState);
  }

  /** Whether any worker relays. */
  get isWell(): boolean {
    // A worker that does not answer still counts: it is killed after half a minute.
    const isRelaying = ({ state }: WorkerStatus): boolean => state !== "starting" && state !== "waiting to restart";
    return this.#parts.plane.workers.some(isRelaying);
  }

  /** Its end, once all that it had to finish is finished. */
  get ended(): Promise<DaemonEnd> {
    return this.#end.promise;
  }

  /** Acts as a signal asks. */
  signalled(signal: PassedSignal): void {
    this.#standIn?.signalled(signal);
    if (signal === "SIGTERM" || signal === "SIGINT") this.#stop(signal);
    // Also after an upgrade: the connections that we still have write lines.
    else if (signal === "SIGUSR1") {
      this.#owesReopening = this.#upgrading;
      this.#parts.reopenLog();
    }
    // Other signals are only forwarded, by the stand-in above.
    else if (this.#standIn !== null) return;
    else if (signal === "SIGHUP") void this.reload();
    else void this.upgrade();
  }

  async reload(): Promise<readonly string[]> {
    if (this.#upgrading) {
      const problem = "an upgrade is under way, which reads the config anew";
      this.#parts.log.warn(problem);
      return [problem];
    }
    const { liveConfig, notices } = this.#parts;
    notices.reloading();
    const problems = await liveConfig.reload();
    notices.ready(this.#serviceState);
    return problems;
  }

  drain(): void {
    if (this.#state === "serving") this.#stop("asked by an operator");
  }

  /** Upgrades to the program on the disk; when that fails, keeps serving. */
  async upgrade(): Promise<void> {
    const { log, plane, counts, succession, liveConfig, notices } = this.#parts;
    if (succession === null || this.#state === "draining" || this.#upgrading) {
      log.warn("no upgrade: the daemon is draining, or is being upgraded already");
      return;
    }
    this.#upgrading = true;
    this.#owesReopening = false;
    const { processes, memory, sockets } = succession;
    log.info("upgrading: the program on the disk is started beside this one");
    try {
      // Nothing that is handed over may change meanwhile.
      await liveConfig.hold();
      if (this.#isEnding) return;
      plane.share(true);
      const { generation } = plane.snapshot;
      const estate = {
        queues: new Map(sockets.held),
        memory,
        slots: liveConfig.slots,
        meters: liveConfig.meters.entries,
        generation,
      };
      const { pid, places } = await handOver(processes, succession, estate, (child) => {
        this.#heir = child;
      });
      if (this.#isEnding) return;
      // Not earlier: before it accepts, it may not handle the signal yet.
      if (this.#owesReopening) processes.signal(pid, "SIGUSR1");
      this.#state = "draining";
      // The service is the successor now: our status would be taken for its own.
      clearInterval(this.#telling);
      notices.close();
      liveConfig.drain();
      const isFirst = !succession.isOrphan && !processes.isChild;
      if (isFirst) this.#standIn = new StandIn({ ...this.#parts, ...succession, successor: pid });
      this.#finish(places);
      await Promise.all([plane.stopped(), this.onLeaving?.()]);
      // New connections and admin requests are the successor's from now on.
      log.info(
        { pid, connections: this.#connections },
        "upgraded: another process serves now, and this one finishes what it has",
      );
    } catch (thrown) {
      // We are ending, and have killed the successor ourselves.
      if (this.#isEnding) return;
      // The successor may have noted itself as the supervisor, which a stand-in would follow.
      this.#note("serving");
      plane.share(false);
      liveConfig.release();
      await this.onAbandoned?.();
      // Its workers have no supervisor left that would reclaim their rows.
      sweepRows({ counts, processes, plane });
      log.error({ problem: messageOf(thrown) }, "upgrade abandoned: the running program serves on");
    } finally {
      this.#heir = null;
      this.#upgrading = false;
    }
  }

  status(): Status {
    const { plane, health, counts, liveConfig, version, runtimeVersion, pid } = this.#parts;
    const { snapshot } = plane;
    const { meters } = counts;
    const bytes = byteSums(meters, liveConfig.meters.bytesBlocks);
    const nowMs = Date.now();
    return {
      version,
      runtime: runtimeVersion,
      pid,
      started_at: new Date(this.#startedMs).toISOString(),
      uptime_s: Math.round((Date.now() - this.#startedMs) / 1000),
      state: this.#state,
      generation: snapshot.generation,
      config: liveConfig.status,
      connections: this.#connections,
      connections_elsewhere: this.connectionsElsewhere,
      access_log: { dropped_lines_total: counts.traffic(DAEMON_SLOT, DROPPED_LINES) },
      telemetry: { dropped_spans_total: counts.traffic(DAEMON_SLOT, DROPPED_SPANS) },
      workers: plane.workers,
      worker_restarts: plane.restarts,
      event_loop_lag_ms: counts.lagMs(0),
      admin: { streams: this.streams.open, dropped_streams_total: this.streams.dropped },
      listeners: snapshot.listeners.map((listener, index) => ({
        listener: listener.name,
        address: addressOf(plane, index),
        connections: counts.total(listener.slot),
        connections_total: counts.traffic(listener.slot, "opened"),
        ...listenerMeters(meters, listener, bytes),
      })),
      backends: snapshot.backends.map((backend) => ({
        backend: backend.name,
        ...backendMeters(meters, backend, bytes),
        overloads_total: counts.traffic(backend.slot, "failed"),
        endpoints: backend.endpoints.map((endpoint) => ({
          endpoint: endpoint.name,
          connections: counts.total(endpoint.slot),
          connections_total: counts.traffic(endpoint.slot, "opened"),
          connect_failures_total: counts.traffic(endpoint.slot, "failed"),
          ...health.status(endpoint.slot),
          ejected_until: ejectedUntil(counts.states, endpoint.slot),
        })),
      })),
      policies: snapshot.policies.map((policy) => policyStatus(meters, policy)),
      certificates: liveConfig.certificates.map((each) => certificateStatus(each, nowMs)),
    };
  }

  get snapshot(): Snapshot {
    return this.#parts.plane.snapshot;
  }

  get connectionsElsewhere(): number {
    return this.#elsewhere.reduce((sum, { row }) => sum + this.#parts.counts.held(row, DAEMON_SLOT), 0);
  }

  get meters(): Meters {
    return this.#parts.counts.meters;
  }

  get bytesBlocks(): readonly BytesBlock[] {
    return this.#parts.liveConfig.meters.bytesBlocks;
  }

  ask<Q extends Question>(question: Q): Promise<Heard<Q>> {
    return this.#parts.plane.ask(question);
  }

  /** To be checked again after every await. */
  get #isEnding(): boolean {
    return this.#state === "draining";
  }

  get #serviceState(): ServiceState {
    const { plane } = this.#parts;
    const workers = plane.workers.filter(({ worker, state }) => worker > 0 && state === "serving").length;
    const refused = this.#parts.liveConfig.status.last_reload_problems.join("; ");
    return { generation: plane.snapshot.generation, workers, connections: this.#connections, refused };
  }

  /** Processes that relay for this daemon, but were started by a predecessor or a successor. */
  get #elsewhere(): ReturnType<CountTable["owners"]> {
    const { counts, plane, pid, succession } = this.#parts;
    if (succession === null) return [];
    const ours = new Set([pid, ...plane.workers.map((worker) => worker.pid)]);
    return counts.owners().filter(({ owner }) => !ours.has(owner));
  }

  get #connections(): number {
    return this.#parts.counts.total(DAEMON_SLOT);
  }

  #stop(why: string): void {
    const { log, plane, liveConfig, notices } = this.#parts;
    if (this.#state === "draining" && !this.#toldToStop) {
      // It drains because of an upgrade; a service manager that stops the service signals both processes.
      this.#toldToStop = true;
      log.info({ signal: why, connections: this.#connections }, "draining already");
      return;
    }
    this.#toldToStop = true;
    if (this.#state === "draining") {
      log.warn({ signal: why, connections: this.#connections }, "second signal: ending at once");
      this.#isHurried = true;
      plane.abort();
      return;
    }
    // It has not taken over yet, so nothing is lost with it.
    this.#heir?.kill("SIGKILL");
    this.#state = "draining";
    this.#note("draining");
    log.info({ signal: why, connections: this.#connections }, "draining");
    notices.stopping(this.#serviceState);
    liveConfig.drain();
    const deadlineMs = Date.now() + plane.snapshot.drainTimeoutMs;
    this.#finish([], () => this.#othersEnded(deadlineMs));
  }

  /** Notes our state for a stand-in process. */
  #note(state: "serving" | "draining"): void {
    const { counts, pid } = this.#parts;
    counts.noteSupervisor({ pid, state, exitCode: 0 });
  }

  /** Waits for predecessors that still have connections: a service manager takes our end for the end of the service, and systemd then kills what is left. */
  async #othersEnded(deadlineMs: number): Promise<void> {
    const processes = this.#parts.succession?.processes;
    while (
      !this.#isHurried &&
      Date.now() < deadlineMs &&
      this.#elsewhere.some(({ owner }) => processes?.isAlive(owner))
    )
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }

  /** `others`: the addresses whose sockets another process accepts from. `last` is awaited before the end. */
  #finish(others: readonly string[], last: () => Promise<void> = async () => {}): void {
    const { plane, liveConfig } = this.#parts;
    void plane.drain(others).then(async (aborted) => {
      await last();
      liveConfig.stop();
      clearInterval(this.#telling);
      this.#parts.notices.close();
      this.#end.resolve({ aborted, standIn: this.#standIn });
    }, this.#end.reject);
  }
}

/** ISO 8601; null when it is not ejected, or has succeeded since. */
function ejectedUntil(states: CountTable["states"], slot: number): string | null {
  return states.ejections(slot) === 0 ? null : new Date(states.ejectedUntilS(slot) * 1000).toISOString();
}

function addressOf({ listening }: DataPlane, index: number): string {
  const address = listening[index]?.address;
  return address === undefined ? "" : formatAddress(address);
}
