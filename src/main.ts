#!/usr/bin/env bun

// argv → role. The only file that names a platform: it gives each role what it may touch, and turns its answer into an exit code.

import { runtime } from "#runtime";
import packageJson from "../package.json" with { type: "json" };

const io = {
  args: process.argv.slice(2),
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

// A worker has no use for what commands need, and there are many workers.
const role = io.args[0] === "worker" ? import("./cli/run-worker.ts") : import("./cli/program.ts");
process.exit(await (await role).start(io));
