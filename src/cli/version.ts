// `bunnel version`: what runs, on what.

import type { Command } from "commander";

export interface VersionIo {
  /** A line, without its end, for standard output. */
  out(line: string): void;
  /** The program's own version, from package.json. */
  readonly version: string;
  /** The runtime and its version, such as `bun 1.4.5`. */
  readonly runtimeVersion: string;
}

/** Prints one line. Exit code: 0. */
export function version(io: VersionIo): number {
  io.out(lineOf(io));
  return 0;
}

/** Puts `version` under `program`, and `--version` for those who try that; `finish` gets its exit code. */
export function registerVersion(program: Command, io: VersionIo, finish: (exitCode: number) => void): void {
  program.version(lineOf(io), "--version", "print the version");
  program
    .command("version")
    .description("print the version")
    .action(() => finish(version(io)));
}

function lineOf({ version, runtimeVersion }: VersionIo): string {
  return `bunnel ${version} (${runtimeVersion})`;
}
