// `bunnel check`: says everything that is wrong with a config, with the certificates it names, and opens nothing. The
// loading itself is here for the other commands that take a config too.

import type { Command } from "commander";
import type { Address } from "../base/address.ts";
import { messageOf } from "../base/errors.ts";
import { type LoadedConfig, type LoadResult, loadConfigFile } from "../config/load.ts";
import { formatProblem, type PlacedProblem } from "../config/problems.ts";
import type { Environment } from "../config/substitute.ts";
import { compile } from "../control/compile.ts";
import type { Files } from "../runtime/files.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import { defaultStateDirectory, loadQuickstart, quickstart } from "./quickstart.ts";

/** EX_CONFIG of sysexits.h: something in the configuration is wrong. */
export const EXIT_BAD_CONFIG = 78;

/** The echo endpoints of the embedded default are not started here, so where they would be does not matter. */
const ECHOES = [1, 2, 3].map((port): Address => ({ kind: "tcp", host: "127.0.0.1", port }));

/** What commands that read a config may touch. */
export interface ConfigIo {
  /** A line, without its end, for standard output. */
  out(line: string): void;
  /** The same for standard error. */
  err(line: string): void;
  readonly files: Pick<Files, "readText" | "list" | "stamp">;
  /** For `${NAME}` in the config. */
  readonly environment: Environment;
  /** Judges certificates and keys; nothing is opened. */
  readonly runtime: Pick<Runtime, "serverContext" | "clientContext" | "isSignedBy" | "userExists" | "refusals">;
}

/** What `check` may touch besides: the embedded default has its PKI in files. */
export interface CheckIo extends ConfigIo {
  readonly files: Files;
  readonly userId: number;
}

export interface CheckOptions {
  /** Path of the file. Default: the embedded default, whose PKI is made when it is not there, as by a run. */
  readonly config?: string;
}

/** Checks a config file. Exit code: 0, 78 with every problem on standard error, 1 when the embedded default cannot be set up. */
export async function check(io: CheckIo, { config }: CheckOptions): Promise<number> {
  let checked: CheckedConfig | null;
  if (config !== undefined) checked = await readConfig(io, config);
  else {
    try {
      const stateDirectory = defaultStateDirectory(io.environment, io.userId);
      checked = await judge(io, loadQuickstart(await quickstart(io.files, { stateDirectory, endpoints: ECHOES })));
    } catch (thrown) {
      io.err(`the embedded default cannot be set up: ${messageOf(thrown)}`);
      return 1;
    }
  }
  if (checked === null) return EXIT_BAD_CONFIG;
  const { listeners, policies, backends } = checked.snapshot;
  const counts = [
    count(listeners.length, "listener"),
    count(
      listeners.reduce((sum, listener) => sum + listener.routes.length, 0),
      "route",
    ),
    count(policies.length, "policy", "policies"),
    count(backends.length, "backend"),
    count(
      backends.reduce((sum, backend) => sum + backend.endpoints.length, 0),
      "endpoint",
    ),
  ];
  io.out(`${config ?? "the embedded default"}: ok, ${counts.join(", ")}`);
  return 0;
}

export interface CheckedConfig {
  readonly loaded: LoadedConfig;
  /** For looking at: the names of endpoints have not been resolved. */
  readonly snapshot: Snapshot;
}

/**
 * Loads and compiles a config file without resolving names. Null when it is bad: all its problems have been printed
 * then.
 */
export function readConfig(io: ConfigIo, path: string): Promise<CheckedConfig | null> {
  return judge(io, loadConfigFile(path, io.files, io.environment));
}

async function judge(io: ConfigIo, loaded: LoadResult): Promise<CheckedConfig | null> {
  if (!loaded.ok) return printProblems(io, loaded.problems);
  const { files, runtime } = io;
  const compiled = await compile(loaded, {
    generation: 1,
    files,
    runtime,
    resolve: null,
    slots: new Map(),
    nowMs: Date.now(),
    served: null,
  });
  if (!compiled.ok) return printProblems(io, compiled.problems);
  for (const warning of compiled.warnings) io.err(`warning: ${formatProblem(warning)}`);
  return { loaded, snapshot: compiled.snapshot };
}

/** Puts `check` under `program`; `finish` gets its exit code. */
export function registerCheck(program: Command, io: CheckIo, finish: (exitCode: number) => void): void {
  program
    .command("check")
    .description("say everything that is wrong with a config; opens nothing")
    .option("-c, --config <file>", "the config (default: the embedded one)")
    .action(async (options: CheckOptions) => finish(await check(io, options)));
}

function printProblems(io: ConfigIo, problems: readonly PlacedProblem[]): null {
  for (const problem of problems) io.err(formatProblem(problem));
  return null;
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}
