// `bunnel reload`: has the daemon reload its config, and prints the result.

import type { Command } from "commander";
import { type AskIo, type AskOptions, ask, withAskOptions } from "./ask.ts";

/** A reload resolves host names, which slow name servers may delay. */
const TIMEOUT_MS = 60_000;

/** Prints the generation that is served now, or every problem. Exit code: 0, 1 refused or nobody answers, 78 the config does not say where to ask. */
export async function reload(io: AskIo, options: AskOptions): Promise<number> {
  const told = await ask(io, options, { method: "POST", path: "/api/v1/reload", timeoutMs: TIMEOUT_MS });
  if (typeof told === "number") return told;
  const { ok, generation, problems, warnings } = told.json;
  if (ok === true) {
    for (const warning of Array.isArray(warnings) ? warnings : []) io.err(`warning: ${String(warning)}`);
    io.out(`reloaded: generation ${String(generation)} is served`);
    return 0;
  }
  for (const problem of Array.isArray(problems) ? problems : []) io.err(String(problem));
  io.err("the reload was refused, and nothing has changed");
  return 1;
}

/** Puts `reload` under `program`; `finish` gets its exit code. */
export function registerReload(program: Command, io: AskIo, finish: (exitCode: number) => void): void {
  withAskOptions(program.command("reload"))
    .description("have the running daemon read its config anew; exit code 1 when it refuses it")
    .action(async (options: AskOptions) => finish(await reload(io, options)));
}
