// `bunnel drain`: has the daemon accept nobody any more and end once its connections have.

import type { Command } from "commander";
import { type AskIo, type AskOptions, ask, withAskOptions } from "./ask.ts";

const TIMEOUT_MS = 10_000;

/** Begins it and does not wait for its end. Exit code: 0, 1 nobody answers, 78 the config does not say where to ask. */
export async function drain(io: AskIo, options: AskOptions): Promise<number> {
  const told = await ask(io, options, { method: "POST", path: "/api/v1/drain", timeoutMs: TIMEOUT_MS });
  if (typeof told === "number") return told;
  io.out("draining: no connection is accepted any more, and the daemon ends with its last one or at drain_timeout");
  return 0;
}

/** Puts `drain` under `program`; `finish` gets its exit code. */
export function registerDrain(program: Command, io: AskIo, finish: (exitCode: number) => void): void {
  withAskOptions(program.command("drain"))
    .description("have the running daemon stop accepting, let its connections finish, and end")
    .action(async (options: AskOptions) => finish(await drain(io, options)));
}
