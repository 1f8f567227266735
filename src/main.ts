#!/usr/bin/env bun

// argv → command. The only file that knows everyone: it gives each command what it may touch, and turns its answer into an exit code.

import { Command, CommanderError } from "commander";
import { runtime } from "#runtime";
import packageJson from "../package.json" with { type: "json" };
import { registerCheck } from "./cli/check.ts";
import { registerExplain } from "./cli/explain.ts";
import { registerPki } from "./cli/pki.ts";
import { registerReference } from "./cli/reference.ts";
import { registerRun } from "./cli/run.ts";
import { registerRunWorker } from "./cli/run-worker.ts";
import { registerSchema } from "./cli/schema.ts";
import { registerVersion } from "./cli/version.ts";

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

const io = {
  out: (line: string): void => void process.stdout.write(`${line}\n`),
  err: (line: string): void => void process.stderr.write(`${line}\n`),
  files: runtime.files,
  runtime,
  environment: process.env,
  userId: process.getuid?.() ?? -1,
  version: packageJson.version,
  runtimeVersion: `${runtime.name} ${process.versions.bun ?? process.version}`,
  onSignal: (name: NodeJS.Signals, handler: () => void): void => void process.on(name, handler),
  onDefect(handler: (thrown: unknown) => void): void {
    process.on("uncaughtException", handler);
    process.on("unhandledRejection", handler);
  },
};

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
registerRunWorker(program, io, finish);
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
process.exit(exitCode);
