// The commands of `bunnel`: argv → command → exit code.

import { Command, CommanderError } from "commander";
import { registerCheck } from "./check.ts";
import { registerDrain } from "./drain.ts";
import { registerExplain } from "./explain.ts";
import { registerPki } from "./pki.ts";
import { registerReference } from "./reference.ts";
import { registerReload } from "./reload.ts";
import { registerRun } from "./run.ts";
import { registerSchema } from "./schema.ts";
import { registerStatus } from "./status.ts";
import { registerVersion } from "./version.ts";

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** What the commands may touch, all together. */
export type ProgramIo = Parameters<typeof registerRun>[1] &
  Parameters<typeof registerCheck>[1] &
  Parameters<typeof registerExplain>[1] &
  Parameters<typeof registerPki>[1] &
  Parameters<typeof registerStatus>[1] &
  Parameters<typeof registerVersion>[1];

/** Runs the command that the arguments name, to its end. Resolves with the exit code. */
export async function start(io: ProgramIo): Promise<number> {
  const program = new Command("bunnel")
    .description("A node-level L4 proxy: terminates mTLS, balances connections, passes opaque streams through.")
    .exitOverride()
    .showHelpAfterError("(--help tells what there is)")
    .configureOutput({ outputError: (text, write) => write(text) });

  let exitCode = 0;
  const finish = (code: number): void => {
    exitCode = code;
  };
  registerRun(program, io, finish);
  registerStatus(program, io, finish);
  registerReload(program, io, finish);
  registerDrain(program, io, finish);
  registerCheck(program, io, finish);
  registerExplain(program, io, finish);
  registerSchema(program, io, finish);
  registerReference(program, io, finish);
  registerPki(program, io, finish);
  registerVersion(program, io, finish);

  try {
    await program.parseAsync();
  } catch (thrown) {
    if (thrown instanceof CommanderError) exitCode = thrown.exitCode === 0 ? 0 : EXIT_USAGE;
    else {
      io.err(thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown));
      exitCode = EXIT_FAILED;
    }
  }
  return exitCode;
}
