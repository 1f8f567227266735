#!/usr/bin/env bun

// argv → role. The only file that names a platform: it gives each role what it may touch, and turns its answer into an exit code.

import { runtime } from "#runtime";
import packageJson from "../package.json" with { type: "json" };

let hasPrinted = false;

/** Who reads it may leave before all is written, as `head` does: that is no failure. */
function print(text: string): void {
  if (!hasPrinted) process.stdout.on("error", () => undefined);
  hasPrinted = true;
  process.stdout.write(text);
}

const io = {
  args: process.argv.slice(2),
  out: (line: string): void => print(`${line}\n`),
  err: (line: string): void => void process.stderr.write(`${line}\n`),
  terminal: {
    size: () => (process.stdout.isTTY ? { columns: process.stdout.columns, rows: process.stdout.rows } : null),
    hasKeys: () => process.stdin.isTTY,
    write: print,
    onResize: (handler: () => void): void => void process.stdout.on("resize", handler),
    readKeys(handler: (keys: string) => void): void {
      const { stdin } = process;
      for (const event of ["data", "end"]) stdin.removeAllListeners(event);
      // Twice: a shell that has had the terminal in between has changed it behind our back. The end of a terminal is as the key for it.
      stdin.setRawMode(false).setRawMode(true).setEncoding("utf8");
      stdin.on("data", handler).on("end", () => handler("\x04"));
    },
    restoreKeys: (): void => void (process.stdin.isRaw && process.stdin.setRawMode(false).pause()),
  },
  files: runtime.files,
  runtime,
  environment: process.env,
  userId: process.getuid?.() ?? -1,
  version: packageJson.version,
  runtimeVersion: `${runtime.name} ${process.versions.bun ?? process.versions.deno ?? process.version}`,
  onSignal: (name: NodeJS.Signals, handler: () => void): void => void process.on(name, handler),
  onDefect(handler: (thrown: unknown) => void): void {
    process.on("uncaughtException", handler);
    process.on("unhandledRejection", handler);
  },
};

// A worker has no use for what commands need, and there are many workers.
const role = io.args[0] === "worker" ? import("./cli/run-worker.ts") : import("./cli/program.ts");
const exitCode = await (await role).start(io);
// The end of the process would lose what is still on its way into a pipe.
if (hasPrinted) await new Promise<void>((resolve) => void process.stdout.end(resolve));
process.exit(exitCode);
