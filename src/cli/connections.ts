// `bunnel connections`: who is connected now, one connection with all that is known of it, and the end of one.

import { type Command, InvalidArgumentError } from "commander";
import type { ConnectionDetail, ConnectionFilter, ConnectionRow } from "../snapshot/inspection.ts";
import { type AskIo, type AskOptions, ask, sameDaemon, withAskOptions } from "./ask.ts";
import { connectionScreen, connectionTable } from "./connection-text.ts";
import { printableJson } from "./printable.ts";
import { count, counted } from "./quantities.ts";
import { outputColumns, type Terminal } from "./terminal.ts";

/** What commands may touch that show lists. */
export interface ListIo extends AskIo {
  readonly terminal: Pick<Terminal, "size">;
}

export interface ConnectionsOptions extends AskOptions, Partial<ConnectionFilter> {
  /** Rows at most. Default 100. */
  readonly limit?: number;
  readonly json?: boolean;
  /** Id of a connection that is to be ended. */
  readonly close?: string;
}

const PATH = "/api/v1/connections";
const TIMEOUT_MS = 10_000;
const MOST_ROWS = 1000;
const DEFAULT_ROWS = 100;
/** What ids look like. */
const ID = /^[0-9a-f]+-[0-9]+$/;

/** Shows live connections; with an id, that one. Exit code: 0, 1 nobody answers or there is no such connection, 2 usage, 78 the config is wrong. */
export async function connections(io: ListIo, id: string | undefined, options: ConnectionsOptions): Promise<number> {
  if (options.close !== undefined) return await close(io, options.close, options);
  if (id !== undefined) return await detail(io, id, options);
  const { listener, backend, endpoint, source, identity, text, limit = DEFAULT_ROWS } = options;
  const path = withQuery(PATH, { listener, backend, endpoint, source, identity, text, limit: String(limit) });
  const told = await ask(io, options, { method: "GET", path, timeoutMs: TIMEOUT_MS });
  if (typeof told === "number") return told;
  const { rows, matching, total, elsewhere } = connectionsIn(told.json);
  if (options.json === true) for (const row of rows) io.out(printableJson(row));
  else if (rows.length > 0) for (const line of connectionTable(rows, outputColumns(io.terminal))) io.out(line);
  // What follows is no part of the list.
  if (rows.length < matching) io.err(`the newest ${count(rows.length)} of ${count(matching)}; --limit shows more`);
  else if (rows.length === 0 && total > 0) io.err(`none of ${counted(total, "connection")} is of that kind`);
  else if (total + elsewhere === 0) io.err("there are no connections");
  if (elsewhere > 0)
    io.err(
      `${counted(elsewhere, "connection")} of processes from before an upgrade cannot be shown; the access log has their ends`,
    );
  tellSilent(io, told.json);
  return 0;
}

/** What GET /api/v1/connections says. */
export function connectionsIn(json: Readonly<Record<string, unknown>>): {
  readonly rows: readonly ConnectionRow[];
  /** How many there are that fit, and how many there are. */
  readonly matching: number;
  readonly total: number;
  /** Those that cannot be asked for. */
  readonly elsewhere: number;
} {
  const rows: readonly ConnectionRow[] = Array.isArray(json.connections) ? json.connections : [];
  const { matching, total, elsewhere } = json;
  const fitting = typeof matching === "number" ? matching : rows.length;
  return {
    rows,
    matching: fitting,
    total: typeof total === "number" ? total : fitting,
    elsewhere: Number(elsewhere ?? 0),
  };
}

/** Says whose rows are missing, if any are. */
export function tellSilent(io: Pick<ListIo, "err">, { silent_workers }: Readonly<Record<string, unknown>>): void {
  if (!Array.isArray(silent_workers)) return;
  for (const worker of silent_workers)
    io.err(`worker ${Number(worker)} does not answer, and what it has is not shown: it hangs, or is stopped`);
}

/** The path with those of the values that say something. */
export function withQuery(path: string, values: Readonly<Record<string, string | undefined>>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined && value !== "") query.set(name, value);
  return query.size === 0 ? path : `${path}?${query}`;
}

/** For commander: how many rows, as the API takes it. */
export function parseLimit(text: string): number {
  const limit = Number(text);
  if (/^\d+$/.test(text) && limit >= 1 && limit <= MOST_ROWS) return limit;
  throw new InvalidArgumentError(`It is a number from 1 to ${MOST_ROWS}.`);
}

async function detail(io: ListIo, id: string, options: ConnectionsOptions): Promise<number> {
  const path = `${PATH}/${encodeURIComponent(id)}`;
  const told = await ask(io, options, { method: "GET", path, timeoutMs: TIMEOUT_MS, missing: missing(id, options) });
  if (typeof told === "number") return told;
  if (options.json === true) io.out(printableJson(told.json, 2));
  else if (isDetail(told.json)) for (const line of connectionScreen(told.json)) io.out(line);
  else {
    io.err("the daemon is of a version whose connections this one cannot read; try --json");
    return 1;
  }
  return 0;
}

async function close(io: ListIo, id: string, options: ConnectionsOptions): Promise<number> {
  const path = `${PATH}/${encodeURIComponent(id)}`;
  const told = await ask(io, options, { method: "DELETE", path, timeoutMs: TIMEOUT_MS, missing: missing(id, options) });
  if (typeof told === "number") return told;
  io.out(`closed ${id}: its client and its endpoint were reset, and its record says admin_closed`);
  return 0;
}

/** What to say about an id that no connection has. */
function missing(id: string, options: AskOptions): string {
  const to = sameDaemon(options);
  if (!ID.test(id))
    return `${JSON.stringify(id)} is no id of a connection: \`bunnel connections${to}\` lists those there are`;
  return `connection ${id} is not open: if it has ended, \`bunnel closes${to} --text ${id}\` tells how`;
}

/** Fields are only ever added, so these stand for the others. */
function isDetail(json: unknown): json is ConnectionDetail {
  if (typeof json !== "object" || json === null) return false;
  const { id, legs, timers } = json as Partial<Record<keyof ConnectionDetail, unknown>>;
  return typeof id === "string" && [legs, timers].every((each) => typeof each === "object" && each !== null);
}

const EXAMPLES = `
Examples:
  bunnel connections -c edge.yaml --backend db            who is connected to a backend
  bunnel connections --identity spiffe://prod/billing     who comes with such a certificate
  bunnel connections 9f3a21bc-17                          all that is known of one
  bunnel connections --close 9f3a21bc-17                  ends it (close reason admin_closed)
  bunnel connections --json | jq -r 'select(.idle_ms > 60000) | .id'

The newest come first. In a terminal the table is as wide as that; elsewhere it is whole.
--json prints an object a line. Why connections have ended is told by \`bunnel closes\`.`;

/** Puts `connections` under `program`; `finish` gets its exit code. */
export function registerConnections(program: Command, io: ListIo, finish: (exitCode: number) => void): void {
  withAskOptions(program.command("connections"))
    .description("show the connections that are open, one of them in full, or end one")
    .argument("[id]", "show all that is known of this one")
    .option("--listener <name>", "only of this listener")
    .option("--backend <name>", "only to this backend")
    .option("--endpoint <address>", "only to this endpoint")
    .option("--source <address>", "only of clients whose IP address contains this")
    .option("--identity <text>", "only with this in a name of the client's certificate")
    .option("--text <text>", "only with this in anything that the row shows")
    .option("--limit <n>", `rows at most, 1 to ${MOST_ROWS} (default: ${DEFAULT_ROWS})`, parseLimit)
    .option("--json", "for programs: an object a line; of one connection, all of it")
    .option("--close <id>", "end this one")
    .addHelpText("after", EXAMPLES)
    .action(async (id: string | undefined, options: ConnectionsOptions) => finish(await connections(io, id, options)));
}
