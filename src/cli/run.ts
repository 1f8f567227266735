// `bunnel run`: from a config file to a serving daemon, and from a signal to its end. With no config it serves the embedded default.

import { type Command, Option } from "commander";
import { type Admin, startAdmin } from "../admin/admin.ts";
import { messageOf, ProxyError } from "../base/errors.ts";
import { type LoadResult, loadConfigFile } from "../config/load.ts";
import { formatProblem, type PlacedProblem } from "../config/problems.ts";
import type { Config } from "../config/schema.ts";
import type { DataPlane } from "../control/data-plane.ts";
import { type Inheritance, takeOver } from "../control/hand-over.ts";
import { HealthChecks } from "../control/health/health-checks.ts";
import { ListeningSockets } from "../control/listening-sockets.ts";
import { LiveConfig } from "../control/live-config.ts";
import { PidFile } from "../control/pid-file.ts";
import { sweepRows } from "../control/row-sweep.ts";
import { ServiceNotices } from "../control/service-manager.ts";
import { Supervisor } from "../control/supervisor.ts";
import type { Files } from "../runtime/files.ts";
import type { LogSink, Runtime, SharedMemory } from "../runtime/runtime.ts";
import { CountTable, DAEMON_TABLE, privateMemory } from "../snapshot/counts.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import { AccessLog } from "../telemetry/access-log.ts";
import { watchDroppedLines } from "../telemetry/dropped-lines.ts";
import { createLog, type Log } from "../telemetry/log.ts";
import { EXIT_BAD_CONFIG } from "./check.ts";
import { Daemon } from "./daemon.ts";
import { startEcho } from "./echo.ts";
import { OneProcess } from "./one-process.ts";
import { defaultStateDirectory, loadQuickstart, type Quickstart, quickstart } from "./quickstart.ts";

/** What the daemon may touch. */
export interface RunIo {
  /** A line, without its end, for standard output. */
  out(line: string): void;
  /** The same for standard error. */
  err(line: string): void;
  readonly files: Files;
  readonly runtime: Runtime;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly userId: number;
  readonly version: string;
  readonly runtimeVersion: string;
  /** Calls the handler at each of these signals, from now on. */
  onSignal(name: Signal, handler: () => void): void;
  /** Tells of exceptions that nothing caught: defects. From now on they do not end the process. */
  onDefect(handler: (thrown: unknown) => void): void;
}

type Signal = "SIGTERM" | "SIGINT" | "SIGHUP" | "SIGUSR2";
const SIGNALS: readonly Signal[] = ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"];

export interface RunOptions {
  readonly config?: string;
  /** We were started by a running daemon, to take its place. */
  readonly takeOver?: boolean;
}

/** Puts `run` under `program`; `finish` is told its exit code. */
export function registerRun(program: Command, io: RunIo, finish: (exitCode: number) => void): void {
  program
    .command("run")
    .description("serve; without a config, the embedded default: a development PKI and three echo endpoints")
    .option("-c, --config <file>", "the config")
    .addOption(new Option("--take-over").hideHelp())
    .action(async (options: RunOptions) => finish(await run(io, options)));
}

/** Serves until a signal ends it. Resolves with the exit code: 0 drained, 1 failed or forced, 78 bad config. */
export async function run(io: RunIo, options: RunOptions): Promise<number> {
  const { runtime } = io;
  let inheritance: Inheritance | null;
  try {
    inheritance = await inherit(io, options);
  } catch (thrown) {
    io.err(messageOf(thrown));
    return 1;
  }
  // Who waits for us tells it in its log.
  const tell = (problem: string): void => (inheritance === null ? io.err(problem) : inheritance.decline(problem));
  let embedded: Quickstart | null = null;
  let loaded: LoadResult;
  let load: (() => LoadResult) | null = null;
  if (options.config === undefined) {
    try {
      embedded = await prepareQuickstart(io);
    } catch (thrown) {
      tell(`the embedded default cannot be set up: ${messageOf(thrown)}`);
      return 1;
    }
    loaded = loadQuickstart(embedded);
  } else {
    const path = options.config;
    load = () => loadConfigFile(path, io.files, io.environment);
    loaded = load();
  }
  if (!loaded.ok) return badConfig(tell, loaded.problems);
  const { config } = loaded;
  const log = createLog(config.log);

  let plane: DataPlane | null = null;
  let health: HealthChecks | null = null;
  const liveConfig = new LiveConfig(loaded, {
    runtime,
    log,
    load,
    publish: async (snapshot) => {
      health?.prepare(snapshot);
      await plane?.publish(snapshot);
      health?.adopt(snapshot);
    },
    adopted: ({ workers }) => plane?.resize(workerCount(runtime, workers)),
    ...(inheritance !== null && { before: { ...inheritance, slots: new Map(inheritance.slots) } }),
  });
  const compiled = await liveConfig.compileFirst();
  if (!compiled.ok) return badConfig(tell, compiled.problems);
  for (const warning of compiled.warnings) log.warn(formatProblem(warning));

  const pidFile = pidFileOf(io, config);
  // Before any process is started: it would be handed the variables that tell of the manager.
  const manager = runtime.serviceManager;
  const shared = shareState(runtime, inheritance);
  const logs = new AccessLogs(runtime);
  const { counts } = shared;
  health = new HealthChecks({ runtime, log, states: counts.states, before: inheritance?.slots.values() ?? [] });
  // Before anybody relays: an endpoint may have to be probed before it is used.
  health.prepare(compiled.snapshot);
  try {
    if (inheritance === null) pidFile?.claim();
    plane = await startPlane(io, {
      config,
      log,
      logs,
      snapshot: compiled.snapshot,
      isHeir: inheritance !== null,
      ...shared,
    });
  } catch (thrown) {
    tell(messageOf(thrown));
    pidFile?.release();
    return 1;
  }
  const { processes } = runtime;
  const args = ["run", ...(options.config === undefined ? [] : ["-c", options.config]), "--take-over"];
  const environment = manager?.environment ?? {};
  const succession =
    processes !== null && shared.memory !== null
      ? { processes, args, environment, ...shared, memory: shared.memory }
      : null;
  const { version, runtimeVersion } = io;
  const pid = processes?.pid ?? 0;
  const notices = new ServiceNotices({ manager, log, isHealthy: () => daemon.isWell });
  const parts = { log, liveConfig, plane, health, counts, version, runtimeVersion, pid, notices, succession };
  const daemon = new Daemon(parts);
  // Before it is announced: whoever waits for that may signal at once.
  for (const signal of SIGNALS) io.onSignal(signal, () => daemon.signalled(signal));
  const onDefect = (thrown: unknown): void =>
    log.error({ err: describe(thrown) }, "a defect in bunnel; please report it");
  io.onDefect(onDefect);
  let admin: Admin | null = null;
  try {
    const { address } = config.admin;
    const isHeir = inheritance !== null;
    if (address !== null) admin = await startAdmin({ address, control: daemon, runtime, takeOver: isHeir, onDefect });
  } catch (thrown) {
    tell(messageOf(thrown));
    pidFile?.release();
    plane.abort();
    return 1;
  }
  daemon.announce();
  liveConfig.start();
  if (inheritance !== null) {
    inheritance.accept([...shared.sockets.held.keys()]);
    plane.share(false);
    if (processes !== null) sweepRows({ counts, processes, plane });
    takeFile(pidFile, log);
  }
  if (embedded !== null) inviteToTry(io, embedded);
  // An upgrade can no longer be abandoned: from here on the states are ours to write.
  health.adopt(plane.snapshot);
  health.start();
  void daemon.leaving.then(() => health.stop());
  void daemon.leaving.then(() => admin?.close());
  const { aborted, standIn } = await daemon.ended;
  health.stop();
  await admin?.close();
  await logs.close(log);
  pidFile?.release();
  log.info({ aborted }, "stopped");
  const exitCode = aborted === 0 ? 0 : 1;
  if (standIn !== null) return await standIn.ended();
  if (counts.supervisor.pid === pid) counts.noteSupervisor({ pid, state: "ended", exitCode });
  return exitCode;
}

function pidFileOf({ runtime, files }: RunIo, { pid_file: path }: Config): PidFile | null {
  const pid = runtime.processes?.pid;
  if (path === undefined || pid === undefined) return null;
  return new PidFile({ path, pid, files, commandLine: runtime.commandLine });
}

/** Once the predecessor has let go: an upgrade that is abandoned leaves the file as it was. */
function takeFile(pidFile: PidFile | null, log: Log): void {
  try {
    pidFile?.claim({ takeOver: true });
  } catch (thrown) {
    log.warn({ problem: messageOf(thrown) }, "the PID file still names the predecessor");
  }
}

interface Shared {
  readonly sockets: ListeningSockets;
  readonly counts: CountTable;
  /** Null where the platform has none: then there is one process. */
  readonly memory: SharedMemory | null;
}

async function inherit(io: RunIo, { takeOver: isHeir }: RunOptions): Promise<Inheritance | null> {
  const { processes } = io.runtime;
  return isHeir && processes !== null ? await takeOver(processes) : null;
}

/** What all processes of the daemon have in common: new, or that of the predecessor. */
function shareState(runtime: Runtime, inheritance: Inheritance | null): Shared {
  const sockets = new ListeningSockets(runtime);
  for (const [place, socket] of inheritance?.queues ?? []) sockets.adopt(place, socket);
  const bytes = CountTable.bytes(DAEMON_TABLE);
  // Another version may count otherwise; its connections are then not among ours.
  const isKnown = inheritance !== null && CountTable.fits(inheritance.memory, DAEMON_TABLE);
  const memory = isKnown ? inheritance.memory : (runtime.processes?.shareMemory(bytes) ?? null);
  return { sockets, memory, counts: new CountTable(memory ?? privateMemory(bytes), DAEMON_TABLE) };
}

interface PlaneParts extends Shared {
  readonly config: Config;
  readonly log: Log;
  readonly logs: AccessLogs;
  readonly snapshot: Snapshot;
  /** A predecessor has the queues too. */
  readonly isHeir: boolean;
}

/** Opens what the predecessor has not left, and gives back to it what is not used. */
async function startPlane(io: RunIo, parts: PlaneParts): Promise<DataPlane> {
  const { runtime, version } = io;
  const { config, log, logs, snapshot, sockets, counts, memory, isHeir } = parts;
  const { processes } = runtime;
  // What is wrong with them is told now. Listeners get them by `bind`.
  runtime.inheritedSockets();
  const workers = workerCount(runtime, config.workers);
  if (workers === 0) {
    const row = counts.claim(processes?.pid ?? 1);
    if (row === null) throw new ProxyError("ENOSPC", "no row is free in the table of counts");
    const plane = new OneProcess({
      runtime,
      snapshot,
      accessLog: logs.open(config.access_log, log),
      sockets,
      counts: row,
    });
    sockets.leaveUnused(snapshot.listeners);
    if (config.user !== undefined) runtime.dropPrivileges(config.user);
    return plane;
  }
  if (processes === null || memory === null)
    throw new ProxyError("ENOSYS", `workers: ${workers}: this platform has no worker processes; write workers: 0`);
  const { access_log: accessLog, user = null } = config;
  const settings = { version, log: config.log, accessLog, user };
  const supervisor = new Supervisor({
    processes,
    log,
    sockets,
    memory,
    counts,
    settings,
    workers,
    snapshot,
    shared: isHeir,
  });
  await supervisor.start();
  sockets.leaveUnused(snapshot.listeners);
  return supervisor;
}

function workerCount({ processes }: Runtime, workers: Config["workers"]): number {
  return workers === "auto" ? (processes?.processors ?? 0) : workers;
}

/** The access log of this process, if it keeps one. */
class AccessLogs {
  readonly #runtime: Runtime;
  #sink: LogSink | null = null;
  #log: AccessLog | null = null;
  #stopWatching: (() => void) | null = null;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  open({ output, format }: Config["access_log"], log: Log): AccessLog | null {
    if (output === "off") return null;
    this.#sink = this.#runtime.openLogSink(output);
    this.#stopWatching = watchDroppedLines(this.#sink, log);
    this.#log = new AccessLog(this.#sink, format, this.#runtime.clock);
    return this.#log;
  }

  /** Writes out what has gathered. */
  async close(log: Log): Promise<void> {
    this.#log?.flush();
    await this.#sink?.flush();
    this.#stopWatching?.();
    const { droppedLines = 0 } = this.#sink ?? {};
    if (droppedLines > 0) log.warn({ lines: droppedLines }, "access-log lines were dropped");
  }
}

async function prepareQuickstart(io: RunIo): Promise<Quickstart> {
  const stateDirectory = defaultStateDirectory(io.environment, io.userId);
  const endpoints = ["echo-1", "echo-2", "echo-3"].map((name) => startEcho(io.runtime, name).address);
  return quickstart(io.files, { stateDirectory, endpoints });
}

function badConfig(tell: (problem: string) => void, problems: readonly PlacedProblem[]): number {
  tell(problems.map(formatProblem).join("\n"));
  return EXIT_BAD_CONFIG;
}

function inviteToTry(io: RunIo, { curlMtls, curlTcp }: Quickstart): void {
  io.out("bunnel serves its embedded default: three echo endpoints behind least-connections. Try:");
  io.out(`  ${curlMtls}`);
  io.out(`  ${curlTcp}`);
}

function describe(thrown: unknown): string {
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
}
