// `bunnel reference`: the page of all config fields, as config/reference.md holds it.

import type { Command } from "commander";
import { referencePage } from "../config/reference.ts";

export interface ReferenceIo {
  /** A text without its last line end, for standard output. */
  out(text: string): void;
}

/** Prints the page. Exit code: 0. */
export function reference(io: ReferenceIo): number {
  io.out(referencePage().trimEnd());
  return 0;
}

/** Puts `reference` under `program`; `finish` gets its exit code. */
export function registerReference(program: Command, io: ReferenceIo, finish: (exitCode: number) => void): void {
  program
    .command("reference")
    .description("print the reference page of the config, as Markdown")
    .action(() => finish(reference(io)));
}
