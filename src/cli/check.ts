// `bunnel check`: says everything that is wrong with a config, with the certificates it names, and opens nothing. The
// loading itself is here for the other commands that take a config too.

import type { Command } from "commander";
import { type ConfigFiles, type LoadedConfig, loadConfigFile } from "../config/load.ts";
import { formatProblem, type PlacedProblem } from "../config/problems.ts";
import type { Environment } from "../config/yaml.ts";
import { compile } from "../control/compile.ts";
import type { Runtime, ServerIdentity } from "../runtime/runtime.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";

/** EX_CONFIG of sysexits.h: something in the configuration is wrong. */
export const EXIT_BAD_CONFIG = 78;

/** What commands that read a config may touch. */
export interface ConfigIo {
  /** A line, without its end, for standard output. */
  out(line: string): void;
  /** The same for standard error. */
  err(line: string): void;
  readonly files: ConfigFiles;
  /** For `${NAME}` in the config. */
  readonly environment: Environment;
  /** Judges certificates and keys; nothing is opened. */
  readonly runtime: Pick<Runtime, "serverContext">;
}

export interface CheckOptions {
  /** Path of the file. */
  readonly config: string;
}

/** Checks a config file. Exit code: 0, or 78 with every problem on standard error. */
export async function check(io: ConfigIo, options: CheckOptions): Promise<number> {
  const checked = await readConfig(io, options.config);
  if (checked === null) return EXIT_BAD_CONFIG;
  const { listeners, policies, backends, slotCount } = checked.snapshot;
  const counts = [
    count(listeners.length, "listener"),
    count(
      listeners.reduce((sum, listener) => sum + listener.routes.length, 0),
      "route",
    ),
    count(policies.length, "policy", "policies"),
    count(backends.length, "backend"),
    count(slotCount, "endpoint"),
  ];
  io.out(`${options.config}: ok, ${counts.join(", ")}`);
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
export async function readConfig(io: ConfigIo, path: string): Promise<CheckedConfig | null> {
  const loaded = loadConfigFile(path, io.files, io.environment);
  if (!loaded.ok) return printProblems(io, loaded.problems);
  const { files, runtime } = io;
  const validate = (identity: ServerIdentity): void => void runtime.serverContext(identity);
  const compiled = await compile(loaded, { generation: 1, files, validate, resolve: null, nowMs: Date.now() });
  if (!compiled.ok) return printProblems(io, compiled.problems);
  for (const warning of compiled.warnings) io.err(`warning: ${formatProblem(warning)}`);
  return { loaded, snapshot: compiled.snapshot };
}

/** Puts `check` under `program`; `finish` is told its exit code. */
export function registerCheck(program: Command, io: ConfigIo, finish: (exitCode: number) => void): void {
  program
    .command("check")
    .description("say everything that is wrong with a config; opens nothing")
    .requiredOption("-c, --config <file>", "the config")
    .action(async (options: CheckOptions) => finish(await check(io, options)));
}

function printProblems(io: ConfigIo, problems: readonly PlacedProblem[]): null {
  for (const problem of problems) io.err(formatProblem(problem));
  return null;
}

function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}
