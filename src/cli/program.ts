// The commands of `bunnel`: argv → command → exit code.

import { Command, CommanderError } from "commander";
import type { CommandsIo } from "./commands.ts";
import { type RunIo, registerRun } from "./run.ts";

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** What the commands may touch, all together. */
export type ProgramIo = RunIo &
  CommandsIo & {
    /** The command and what follows it. */
    readonly args: readonly string[];
  };

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
  if (io.args[0] !== "run") (await import("./commands.ts")).registerCommands(program, io, finish);

  try {
    const [first, asked] = io.args;
    // The help of everything would answer what nobody has asked.
    if (first === "help" && asked !== undefined && !program.commands.some((command) => command.name() === asked))
      program.error(`error: unknown command '${asked}'`);
    await program.parseAsync(io.args, { from: "user" });
  } catch (thrown) {
    if (thrown instanceof CommanderError) {
      if (thrown.code === "commander.excessArguments" && /\.ya?ml\b/.test(thrown.message))
        io.err("(a config is named with -c FILE)");
      exitCode = thrown.exitCode === 0 ? 0 : EXIT_USAGE;
    } else {
      io.err(thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown));
      exitCode = EXIT_FAILED;
    }
  }
  return exitCode;
}
