// The commands beside `run`. A daemon does not load them: it would keep them in memory for all its life.

import type { Command } from "commander";
import { registerBench } from "./bench.ts";
import { registerCheck } from "./check.ts";
import { registerCloses } from "./closes.ts";
import { registerConnections } from "./connections.ts";
import { registerDrain } from "./drain.ts";
import { registerExplain } from "./explain.ts";
import { registerPki } from "./pki.ts";
import { registerReference } from "./reference.ts";
import { registerReload } from "./reload.ts";
import { registerSchema } from "./schema.ts";
import { registerStatus } from "./status.ts";
import { registerTop } from "./top.ts";
import { registerVersion } from "./version.ts";

/** What they may touch, all together. */
export type CommandsIo = Parameters<typeof registerBench>[1] &
  Parameters<typeof registerCheck>[1] &
  Parameters<typeof registerConnections>[1] &
  Parameters<typeof registerExplain>[1] &
  Parameters<typeof registerPki>[1] &
  Parameters<typeof registerStatus>[1] &
  Parameters<typeof registerTop>[1] &
  Parameters<typeof registerVersion>[1];

/** Puts them all under `program`; `finish` gets the exit code of the one that ran. */
export function registerCommands(program: Command, io: CommandsIo, finish: (exitCode: number) => void): void {
  registerStatus(program, io, finish);
  registerTop(program, io, finish);
  registerConnections(program, io, finish);
  registerCloses(program, io, finish);
  registerReload(program, io, finish);
  registerDrain(program, io, finish);
  registerCheck(program, io, finish);
  registerExplain(program, io, finish);
  registerSchema(program, io, finish);
  registerReference(program, io, finish);
  registerPki(program, io, finish);
  registerBench(program, io, finish);
  registerVersion(program, io, finish);
}
