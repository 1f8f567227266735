// `bunnel run`: from a config file to a serving daemon, and from a signal to its end. With no config it serves the embedded default.

import type { Command } from "commander";
import { formatAddress } from "../base/address.ts";
import { messageOf } from "../base/errors.ts";
import { type LoadResult, loadConfigFile } from "../config/load.ts";
import { formatProblem, type PlacedProblem } from "../config/problems.ts";
import type { DataPlane } from "../control/data-plane.ts";
import { LiveConfig } from "../control/live-config.ts";
import type { Files } from "../runtime/files.ts";
import type { LogSink, Runtime } from "../runtime/runtime.ts";
import { AccessLog } from "../telemetry/access-log.ts";
import { createLog, type Log } from "../telemetry/log.ts";
import { EXIT_BAD_CONFIG } from "./check.ts";
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
  /** Calls the handler at each of these signals, from now on. */
  onSignal(name: "SIGTERM" | "SIGINT" | "SIGHUP" | "SIGUSR2", handler: () => void): void;
  /** Tells of exceptions that nothing caught: defects. From now on they do not end the process. */
  onDefect(handler: (thrown: unknown) => void): void;
}

/** Puts `run` under `program`; `finish` is told its exit code. */
export function registerRun(program: Command, io: RunIo, finish: (exitCode: number) => void): void {
  program
    .command("run")
    .description("serve; without a config, the embedded default: a development PKI and three echo endpoints")
    .option("-c, --config <file>", "the config")
    .action(async (options: { config?: string }) => finish(await run(io, options.config)));
}

/** Serves until a signal ends it. Resolves with the exit code: 0 drained, 1 failed or forced, 78 bad config. */
export async function run(io: RunIo, configPath: string | undefined): Promise<number> {
  const { runtime } = io;
  let embedded: Quickstart | null = null;
  let loaded: LoadResult;
  let load: (() => LoadResult) | null = null;
  if (configPath === undefined) {
    try {
      embedded = await prepareQuickstart(io);
    } catch (thrown) {
      io.err(`the embedded default cannot be set up: ${messageOf(thrown)}`);
      return 1;
    }
    loaded = loadQuickstart(embedded);
  } else {
    load = () => loadConfigFile(configPath, io.files, io.environment);
    loaded = load();
  }
  if (!loaded.ok) return badConfig(io, loaded.problems);
  const { config } = loaded;
  const log = createLog(config.log);
  const liveConfig = new LiveConfig(loaded, { runtime, log, load, publish: (snapshot) => plane.publish(snapshot) });
  const compiled = await liveConfig.compileFirst();
  if (!compiled.ok) return badConfig(io, compiled.problems);

  for (const warning of compiled.warnings) log.warn(formatProblem(warning));
  let sink: LogSink | null = null;
  let accessLog: AccessLog | null = null;
  let plane: DataPlane;
  try {
    if (config.access_log.output !== "off") {
      sink = runtime.openLogSink(config.access_log.output);
      accessLog = new AccessLog(sink, config.access_log.format, runtime.clock);
    }
    plane = new OneProcess({ runtime, snapshot: compiled.snapshot, accessLog });
  } catch (thrown) {
    io.err(messageOf(thrown));
    return 1;
  }
  // Before it is announced: whoever waits for that may signal at once.
  const drained = untilDrained(io, { plane, liveConfig, log });
  announce(plane, log);
  liveConfig.start();
  if (embedded !== null) inviteToTry(io, embedded);
  const aborted = await drained;
  accessLog?.flush();
  await sink?.flush();
  if (sink !== null && sink.droppedLines > 0) log.warn({ lines: sink.droppedLines }, "access-log lines were dropped");
  log.info({ aborted }, "stopped");
  return aborted === 0 ? 0 : 1;
}

async function prepareQuickstart(io: RunIo): Promise<Quickstart> {
  const stateDirectory = defaultStateDirectory(io.environment, io.userId);
  const endpoints = ["echo-1", "echo-2", "echo-3"].map((name) => startEcho(io.runtime, name).address);
  return quickstart(io.files, { stateDirectory, endpoints });
}

function badConfig(io: RunIo, problems: readonly PlacedProblem[]): number {
  for (const problem of problems) io.err(formatProblem(problem));
  return EXIT_BAD_CONFIG;
}

function announce(plane: DataPlane, log: Log): void {
  for (const { listener, address } of plane.listening)
    log.info({ listener, address: formatAddress(address) }, "listening");
}

function inviteToTry(io: RunIo, { curlMtls, curlTcp }: Quickstart): void {
  io.out("bunnel serves its embedded default: three echo endpoints behind least-connections. Try:");
  io.out(`  ${curlMtls}`);
  io.out(`  ${curlTcp}`);
}

interface Serving {
  readonly plane: DataPlane;
  readonly liveConfig: LiveConfig;
  readonly log: Log;
}

/** Resolves once a signal has asked for the end and the connections have had theirs, with how many of them were aborted. */
function untilDrained(io: RunIo, { plane, liveConfig, log }: Serving): Promise<number> {
  io.onDefect((thrown) => log.error({ err: describe(thrown) }, "a defect in bunnel; please report it"));
  io.onSignal("SIGHUP", () => void liveConfig.reload());
  io.onSignal("SIGUSR2", () => log.warn("SIGUSR2 does nothing in this version: restart to change the program"));
  const { promise, resolve } = Promise.withResolvers<number>();
  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) {
      log.warn({ signal, connections: plane.connectionCount }, "second signal: ending at once");
      plane.abort();
      return;
    }
    stopping = true;
    log.info({ signal, connections: plane.connectionCount }, "draining");
    liveConfig.drain();
    resolve(plane.drain().finally(() => liveConfig.stop()));
  };
  io.onSignal("SIGTERM", () => stop("SIGTERM"));
  io.onSignal("SIGINT", () => stop("SIGINT"));
  return promise;
}

function describe(thrown: unknown): string {
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
}
