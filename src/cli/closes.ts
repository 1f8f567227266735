// `bunnel closes`: why connections ended, of the last thousand that each worker remembers. The answer to "why was my client refused?".

import { type Command, InvalidArgumentError } from "commander";
import { didYouMean } from "../config/nearest.ts";
import type { CloseLine } from "../snapshot/inspection.ts";
import { CLOSE_REASONS } from "../telemetry/close-reason.ts";
import { type AskOptions, ask, withAskOptions } from "./ask.ts";
import { closeLines } from "./close-text.ts";
import { type ListIo, parseLimit, tellSilent, withQuery } from "./connections.ts";
import { printableJson } from "./printable.ts";
import { outputColumns } from "./terminal.ts";

export interface ClosesOptions extends AskOptions {
  readonly listener?: string;
  readonly backend?: string;
  readonly reason?: string;
  readonly text?: string;
  /** Default 100. */
  readonly limit?: number;
  /** Those that ended well, too. */
  readonly all?: boolean;
  readonly json?: boolean;
}

const TIMEOUT_MS = 10_000;
const DEFAULT_ROWS = 100;

/** Shows the last closes, newest first. Exit code: 0, 1 nobody answers, 2 usage, 78 the config is wrong. */
export async function closes(io: ListIo, options: ClosesOptions): Promise<number> {
  const { listener, backend, reason, text, limit = DEFAULT_ROWS } = options;
  // Who asks for a reason means it, whether it is a failure or not.
  const failed = options.all === true || reason !== undefined ? undefined : "true";
  const path = withQuery("/api/v1/closes", { failed, listener, backend, reason, text, limit: String(limit) });
  const told = await ask(io, options, { method: "GET", path, timeoutMs: TIMEOUT_MS });
  if (typeof told === "number") return told;
  const lines = closesIn(told.json);
  if (options.json === true) for (const close of lines) io.out(printableJson(close));
  else for (const close of lines) for (const line of closeLines(close, outputColumns(io.terminal))) io.out(line);
  if (lines.length === 0)
    io.err(
      failed === undefined
        ? "no connection of that kind has ended lately"
        : "no connection of that kind has failed lately; --all shows those that ended well, too",
    );
  tellSilent(io, told.json);
  return 0;
}

/** What GET /api/v1/closes says. */
export function closesIn(json: Readonly<Record<string, unknown>>): readonly CloseLine[] {
  return Array.isArray(json.closes) ? json.closes : [];
}

function parseReason(text: string): string {
  if (Object.hasOwn(CLOSE_REASONS, text)) return text;
  const known = Object.keys(CLOSE_REASONS);
  const advice = didYouMean(text, known) || `; there are ${known.join(", ")}`;
  throw new InvalidArgumentError(`There is no such reason${advice}`);
}

const EXAMPLES = `
Examples:
  bunnel closes -c edge.yaml                            who was refused, cut or failed lately, and why
  bunnel closes --text 10.1.2.3                         what became of a client
  bunnel closes --reason policy_denied --listener edge
  bunnel closes --json | jq -r .close_reason | sort | uniq -c

The newest come first, of the last 1,000 that each worker remembers; the access log has all.
In a terminal lines are folded to its width; elsewhere each connection is one line.
--json prints the objects of the access log, one a line.`;

/** Puts `closes` under `program`; `finish` gets its exit code. */
export function registerCloses(program: Command, io: ListIo, finish: (exitCode: number) => void): void {
  withAskOptions(program.command("closes"))
    .description("tell why connections failed lately, in words")
    .option("--listener <name>", "only of this listener")
    .option("--backend <name>", "only to this backend")
    .option("--reason <reason>", "only with this close reason", parseReason)
    .option("--text <text>", "only with this anywhere in the record: a client's address, a name, a rule")
    .option("--limit <n>", `connections at most, 1 to 1000 (default: ${DEFAULT_ROWS})`, parseLimit)
    .option("--all", "those that ended well, too")
    .option("--json", "for programs: an object a line, as in the access log")
    .addHelpText("after", EXAMPLES)
    .action(async (options: ClosesOptions) => finish(await closes(io, options)));
}
