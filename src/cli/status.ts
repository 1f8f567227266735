// `bunnel status`: what the daemon is doing, for a person or as JSON.

import type { Command } from "commander";
import { formatAddress } from "../base/address.ts";
import type { Status } from "../snapshot/status.ts";
import { type AskIo, type AskOptions, ask, withAskOptions } from "./ask.ts";
import { printableJson } from "./printable.ts";
import { statusScreen } from "./status-screen.ts";

export interface StatusOptions extends AskOptions {
  /** The status as it is, and all of it. */
  readonly json?: boolean;
}

const TIMEOUT_MS = 10_000;

/** Exit code: 0, 1 nobody answers, 78 the config does not say where to ask. */
export async function status(io: AskIo, options: StatusOptions): Promise<number> {
  const told = await ask(io, options, { method: "GET", path: "/api/v1/status", timeoutMs: TIMEOUT_MS });
  if (typeof told === "number") return told;
  const { json, address } = told;
  if (options.json === true) io.out(printableJson(json, 2));
  else if (isStatus(json)) for (const line of statusScreen(json)) io.out(line);
  else {
    io.err(`the daemon at ${formatAddress(address)} is of a version whose status this one cannot read; try --json`);
    return 1;
  }
  return 0;
}

/** Puts `status` under `program`; `finish` gets its exit code. */
export function registerStatus(program: Command, io: AskIo, finish: (exitCode: number) => void): void {
  withAskOptions(program.command("status"))
    .description("say what the running daemon is doing")
    .option("--json", "all of it, for programs")
    .action(async (options: StatusOptions) => finish(await status(io, options)));
}

/** Whether it is a status that this version can read. Fields are only ever added, so these stand for the others. */
export function isStatus(json: unknown): json is Status {
  if (typeof json !== "object" || json === null) return false;
  const { version, config, workers, listeners, backends, certificates } = json as Partial<
    Record<keyof Status, unknown>
  >;
  const isList = [workers, listeners, backends, certificates].every(Array.isArray);
  return isList && typeof version === "string" && typeof config === "object" && config !== null;
}
