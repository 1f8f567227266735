// `bunnel run`: from a config file to a serving daemon, and from a signal to its end. With no config it serves the embedded default.

import { type Command, Option } from "commander";
import { type Admin, startAdmin } from "../admin/admin.ts";
import { messageOf, ProxyError } from "../base/errors.ts";
import { type LoadedConfig, type LoadResult, loadConfigFile } from "../config/load.ts";
import { formatProblem, type PlacedProblem } from "../config/problems.ts";
import type { Config } from "../config/schema.ts";
import { OPEN_ACCESS } from "../control/admin-access.ts";
import type { DataPlane } from "../control/data-plane.ts";
import { type Inheritance, takeOver } from "../control/hand-over.ts";
import { HealthChecks } from "../control/health/health-checks.ts";
import { LiveConfig } from "../control/live-config.ts";
import { PidFile } from "../control/pid-file.ts";
import { sweepRows } from "../control/row-sweep.ts";
import { sameData } from "../control/same-data.ts";
import { ServiceNotices } from "../control/service-manager.ts";
import type { Worker } from "../proxy/worker.ts";
import type { Files } from "../runtime/files.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { CountRow } from "../snapshot/counts.ts";
import type { AccessLog } from "../telemetry/access-log.ts";
import { createLog, type Log } from "../telemetry/log.ts";
import { watchLoopLag } from "../telemetry/loop-lag.ts";
import { AccessLogOutput } from "./access-log-output.ts";
import { EXIT_BAD_CONFIG } from "./check.ts";
import { Daemon, type Succession } from "./daemon.ts";
import type { Quickstart } from "./quickstart.ts";
import { reopenLog } from "./reopen-log.ts";
import { Spans } from "./spans.ts";
import type { PassedSignal } from "./stand-in.ts";
import { type Shared, shareState, startPlane, workerCount } from "./start-plane.ts";

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
  /** Calls the handler with exceptions that nothing caught: defects. From now on they do not end the process. */
  onDefect(handler: (thrown: unknown) => void): void;
}

type Signal = PassedSignal;
const ENDING: readonly Signal[] = ["SIGTERM", "SIGINT"];
/** Unhandled, these would end the process, which is not what their sender wants. */
const ASKING: readonly Signal[] = ["SIGHUP", "SIGUSR1", "SIGUSR2"];

export interface RunOptions {
  readonly config?: string;
  /** We were started by a running daemon, to take its place. */
  readonly takeOver?: boolean;
}

/** Puts `run` under `program`; `finish` gets its exit code. */
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
  let inheritance: Inheritance | null = null;
  let started: Started;
  const early = new Set<Signal>();
  let hear = (signal: Signal): void => void early.add(signal);
  const listenTo = (signals: readonly Signal[]): void => {
    for (const signal of signals) io.onSignal(signal, () => hear(signal));
  };
  listenTo(ASKING);
  try {
    inheritance = await inherit(io, options);
    started = await start(io, options, { inheritance, relaying: () => listenTo(ENDING) });
  } catch (thrown) {
    if (!(thrown instanceof ProxyError)) throw thrown;
    // A predecessor writes the reason to its log.
    if (inheritance === null) io.err(thrown.message);
    else inheritance.decline(thrown.message);
    return thrown.code === BAD_CONFIG ? EXIT_BAD_CONFIG : 1;
  }
  const { daemon, plane, health, liveConfig, sockets, counts, pid, log, pidFile, embedded, accessLog, spans } = started;
  const { admin } = started;
  // A successor that was killed may have replaced our socket file by its own, which nobody listens on.
  if (admin?.address.kind === "unix") daemon.onAbandoned = started.reopenAdmin;
  runtime.giveBackMemory();
  daemon.announce();
  const stopLagWatch = watchLoopLag(runtime.preciseNowMs, (ms) => counts.noteLag(0, ms));
  liveConfig.start();
  if (inheritance !== null) {
    inheritance.accept([...sockets.held.keys()]);
    plane.share(false);
    if (runtime.processes !== null) sweepRows({ counts, processes: runtime.processes, plane });
    takeFile(pidFile, log);
  }
  if (embedded !== null) inviteToTry(io, embedded);
  // The upgrade can no longer be abandoned: from here on this process writes the endpoint states.
  health.adopt(plane.snapshot);
  health.start();
  daemon.onLeaving = async () => {
    health.stop();
    stopLagWatch();
    await admin?.close();
  };
  hear = (signal) => daemon.signalled(signal);
  for (const signal of early) hear(signal);
  const { aborted, standIn } = await daemon.ended;
  health.stop();
  stopLagWatch();
  await admin?.close();
  await Promise.all([accessLog()?.close(), spans()?.close()]);
  pidFile?.release();
  // Rows that this process used to relay itself: a successor waits for them to be free.
  for (const { row } of counts.owners().filter(({ owner }) => owner === pid))
    counts.reclaim(row, plane.snapshot.slotCount);
  log.info({ aborted }, "stopped");
  const exitCode = aborted === 0 ? 0 : 1;
  if (standIn !== null) return await standIn.ended();
  if (counts.supervisor.pid === pid) counts.noteSupervisor({ pid, state: "ended", exitCode });
  return exitCode;
}

/** The code of a ProxyError whose message is the problems of a config. */
const BAD_CONFIG = "EX_CONFIG";

/** A daemon that accepts, but has not said so yet. */
interface Started extends Shared {
  readonly daemon: Daemon;
  readonly plane: DataPlane;
  readonly health: HealthChecks;
  readonly liveConfig: LiveConfig;
  readonly pid: number;
  readonly log: Log;
  readonly pidFile: PidFile | null;
  readonly admin: Admin | null;
  /** Reopens it at the same address; a failure is logged. */
  readonly reopenAdmin: () => Promise<void>;
  readonly embedded: Quickstart | null;
  /** Of this process, if it relays itself and keeps one. */
  readonly accessLog: () => AccessLogOutput | null;
  /** The same. */
  readonly spans: () => Spans | null;
}

interface StartOptions {
  readonly inheritance: Inheritance | null;
  /** Called just before connections may be relayed: from then on a signal must not simply end the process. */
  relaying(): void;
}

/** From the config to a daemon that accepts. Throws a ProxyError when that fails, and then nothing is left open. */
async function start(io: RunIo, options: RunOptions, { inheritance, relaying }: StartOptions): Promise<Started> {
  const { runtime, version, runtimeVersion } = io;
  const isHeir = inheritance !== null;
  const { loaded, load, embedded } = await read(io, options);
  const { config } = loaded;
  const log = createLog(config.log);

  let plane: DataPlane | null = null;
  let health: HealthChecks | null = null;
  let admin: Admin | null = null;
  let access = OPEN_ACCESS;
  const reopenAdmin = async (): Promise<void> => {
    try {
      await admin?.reopen(access);
    } catch (thrown) {
      log.error({ problem: messageOf(thrown) }, "the admin API cannot be reached any more");
    }
  };
  const liveConfig = new LiveConfig(loaded, {
    runtime,
    log,
    load,
    publish: async (snapshot) => {
      health?.prepare(snapshot);
      await plane?.publish(snapshot);
      health?.adopt(snapshot);
    },
    adopted(now, nowAccess) {
      plane?.resize(workerCount(runtime, now.workers));
      // A change of `admin` takes a restart; changes of the files that it names do not.
      if (!sameData(now.admin, config.admin) || sameData(nowAccess, access)) return;
      access = nowAccess;
      if (admin === null) return;
      log.info("the admin API goes by the token and the certificates that lie on the disk now");
      void reopenAdmin();
    },
    ...(inheritance !== null && { before: { ...inheritance, slots: new Map(inheritance.slots) } }),
  });
  const compiled = await liveConfig.compileFirst();
  if (!compiled.ok) throw badConfig(compiled.problems);
  for (const warning of compiled.warnings) log.warn(formatProblem(warning));

  const pidFile = pidFileOf(io, config);
  // Before any process is started: it would be handed the variables that tell of the manager.
  const manager = runtime.serviceManager;
  const shared = shareState(runtime, inheritance);
  const { counts } = shared;
  const { snapshot } = compiled;
  health = new HealthChecks({ runtime, log, states: counts.states, before: inheritance?.slots.values() ?? [] });
  // Before anybody relays: an endpoint may have to be probed before it is used.
  health.prepare(snapshot);
  let accessLog: AccessLogOutput | null = null;
  const openAccessLog = (row: CountRow): AccessLog | null => {
    accessLog = new AccessLogOutput(config.access_log, { runtime, log, counts: row, worker: 0 });
    return accessLog.accessLog;
  };
  let spans: Spans | null = null;
  const relays = async (worker: Worker, row: CountRow): Promise<void> => {
    spans = new Spans({ version, instance: worker.instanceId, worker: 0, log, counts: row });
    worker.exportTo(spans);
    await spans.loaded;
  };
  try {
    if (!isHeir) pidFile?.check();
    const accepting = (): void => (isHeir ? undefined : pidFile?.claim());
    relaying();
    plane = await startPlane({
      runtime,
      version,
      config,
      log,
      openAccessLog,
      relays,
      snapshot,
      isHeir,
      accepting,
      ...shared,
    });
    const pid = runtime.processes?.pid ?? 0;
    const succession = successionOf(runtime, options, shared);
    const notices = new ServiceNotices({ manager, log, isHealthy: (): boolean => daemon.isWell });
    const { output } = config.access_log;
    const served = plane;
    const reopen = (): void => reopenLog({ runtime, log, output, own: accessLog, plane: served });
    const parts = { log, liveConfig, plane, health, counts, version, runtimeVersion, pid, notices, succession };
    const daemon = new Daemon({ ...parts, reopenLog: reopen });
    const onDefect = (thrown: unknown): void =>
      log.error({ err: describe(thrown) }, "a defect in bunnel; please report it");
    io.onDefect(onDefect);
    const { address } = config.admin;
    if (address !== null)
      admin = await startAdmin({ address, access, control: daemon, runtime, takeOver: isHeir, onDefect }).catch(
        (thrown) => {
          throw thrown instanceof ProxyError ? new ProxyError(thrown.code, `the admin API ${thrown.message}`) : thrown;
        },
      );
    const rest = { daemon, plane, health, liveConfig, pid, log, pidFile, admin, reopenAdmin, embedded };
    return { ...shared, ...rest, accessLog: () => accessLog, spans: () => spans };
  } catch (thrown) {
    pidFile?.release();
    // A successor's workers may have accepted clients of the daemon that keeps serving: they finish these when we are gone.
    if (!isHeir) plane?.abort();
    throw thrown;
  }
}

/** How a successor would be started; null where there cannot be one. */
function successionOf(runtime: Runtime, { config }: RunOptions, shared: Shared): Succession | null {
  const { processes, commandLine, serviceManager: manager } = runtime;
  const { memory, sockets } = shared;
  if (processes === null || memory === null) return null;
  const args = ["run", ...(config === undefined ? [] : ["-c", config]), "--take-over"];
  // The first process of a container adopts orphans itself, and the container ends with it.
  const isOrphan = manager !== null && processes.pid !== 1;
  return { processes, commandLine, args, environment: manager?.environment ?? {}, isOrphan, memory, sockets };
}

interface Read {
  readonly loaded: LoadedConfig;
  /** Reads it again; null where it is embedded. */
  readonly load: (() => LoadResult) | null;
  readonly embedded: Quickstart | null;
}

async function read(io: RunIo, { config: path }: RunOptions): Promise<Read> {
  const load = path === undefined ? null : (): LoadResult => loadConfigFile(path, io.files, io.environment);
  const { embedded, loaded } = load === null ? await prepareQuickstart(io) : { embedded: null, loaded: load() };
  if (!loaded.ok) throw badConfig(loaded.problems);
  return { loaded, load, embedded };
}

function pidFileOf({ runtime, files }: RunIo, { pid_file: path }: Config): PidFile | null {
  const pid = runtime.processes?.pid;
  if (path === undefined || pid === undefined) return null;
  return new PidFile({ path, pid, files, commandLine: runtime.commandLine });
}

/** To be called once the predecessor has stopped accepting: an abandoned upgrade leaves the file as it was. */
function takeFile(pidFile: PidFile | null, log: Log): void {
  try {
    pidFile?.claim({ takeOver: true });
  } catch (thrown) {
    log.warn({ problem: messageOf(thrown) }, "the PID file still names the predecessor");
  }
}

async function inherit(io: RunIo, { takeOver: isHeir }: RunOptions): Promise<Inheritance | null> {
  const { processes } = io.runtime;
  return isHeir && processes !== null ? await takeOver(processes) : null;
}

async function prepareQuickstart(io: RunIo): Promise<{ readonly embedded: Quickstart; readonly loaded: LoadResult }> {
  const { startEcho } = await import("./echo.ts");
  const { defaultStateDirectory, loadQuickstart, quickstart } = await import("./quickstart.ts");
  try {
    const stateDirectory = defaultStateDirectory(io.environment, io.userId);
    const endpoints = ["echo-1", "echo-2", "echo-3"].map((name) => startEcho(io.runtime, name).address);
    const embedded = await quickstart(io.files, { stateDirectory, endpoints });
    return { embedded, loaded: loadQuickstart(embedded) };
  } catch (thrown) {
    throw new ProxyError("EQUICKSTART", `the embedded default cannot be set up: ${messageOf(thrown)}`);
  }
}

function badConfig(problems: readonly PlacedProblem[]): ProxyError {
  return new ProxyError(BAD_CONFIG, problems.map(formatProblem).join("\n"));
}

function inviteToTry(io: RunIo, { curlMtls, curlTcp }: Quickstart): void {
  io.out("bunnel serves its embedded default: three echo endpoints behind least-connections. Try:");
  io.out(`  ${curlMtls}`);
  io.out(`  ${curlTcp}`);
}

function describe(thrown: unknown): string {
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
}
