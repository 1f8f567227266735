// `bunnel schema`: the JSON Schema of the config, for editors (`# yaml-language-server: $schema=…`) and for other
// tools.

import type { Command } from "commander";
import { configJsonSchema } from "../config/schema.ts";

export interface SchemaIo {
  /** A text without its last line end, for standard output. */
  out(text: string): void;
}

/** Prints the schema, indented. Exit code: 0. */
export function schema(io: SchemaIo): number {
  io.out(JSON.stringify(configJsonSchema(), null, 2));
  return 0;
}

/** Puts `schema` under `program`; `finish` gets its exit code. */
export function registerSchema(program: Command, io: SchemaIo, finish: (exitCode: number) => void): void {
  program
    .command("schema")
    .description("print the JSON Schema of the config")
    .action(() => finish(schema(io)));
}
