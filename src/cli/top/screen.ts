// What `bunnel top` draws: lines of text for a reading, fitted to columns and rows. Nothing here knows of a terminal.

import type { Status } from "../../snapshot/status.ts";
import { clipped, columnsOf, folded, printable } from "../printable.ts";
import { age, count, counted, frequency, milliseconds, size } from "../quantities.ts";
import { expiryOf, needsRenewal, secondsSince } from "../status-screen.ts";
import { table } from "../table.ts";
import type { TerminalSize } from "../terminal.ts";
import { type Choice, type Extent, filterOf } from "./keys.ts";
import { type Flows, flowsBetween, type Reading } from "./reading.ts";
import { type Style, VIEW_NAMES, VIEWS, type View, type ViewColumn, type ViewRow } from "./views.ts";

/** A line of the picture: printable, and no wider than the screen. */
export interface Line {
  readonly text: string;
  readonly style: Style;
}

/** All that a picture is made of. */
export interface Scene {
  readonly now: Reading;
  /** The reading before it; null: there is none. */
  readonly before: Reading | null;
  /** Where the daemon is. */
  readonly address: string;
  /** Why the last question was not answered; "" when it was. */
  readonly trouble: string;
  readonly choice: Choice;
  /** Rows: Infinity for a picture that is not fitted into a screen, which has no foot either. */
  readonly size: TerminalSize;
}

/** Problems that are shown, and lines for each of them. */
const MOST_PROBLEMS = 3;
const MOST_PROBLEM_LINES = 2;
const NARROW_COLUMNS = 64;

const HELP = [
  "l listeners   b backends   e endpoints",
  "c connections   f failures (why, lately)   w workers",
  "tab, shift-tab   the next view, the one before",
  "s, →  S, ←       sort by another column",
  "r                the other way round",
  "/                filter; enter keeps it, esc drops it",
  "↑ ↓ page home    scroll",
  "p, space         pause",
  "ctrl-l           draw all anew",
  "q, ctrl-c        quit",
  "",
  "Rates are of the time since the reading before. NEW/s: connections",
  "accepted, or dialled of endpoints. FAIL/s: those that failed, were",
  "refused or cut. One that failed is explained by `bunnel closes`, one",
  "that is open is shown by `bunnel connections ID`, and ended with --close.",
];

/** The picture, and how much of the table found room. */
export function topScreen(scene: Scene): { readonly lines: readonly Line[]; readonly extent: Extent } {
  const { now, before, choice, size: screen } = scene;
  const flows = flowsBetween(before, now);
  const head = [...summary(scene, flows), ...problems(scene), { text: "", style: "plain" } as const];
  const foot = Number.isFinite(screen.rows) ? [footer(scene)] : [];
  const room = Math.max(0, screen.rows - head.length - foot.length);
  const { lines: body, extent } = choice.showsHelp
    ? { lines: help(screen.columns), extent: { rows: 0, page: 0 } }
    : main(scene, flows, room);
  const shown = body.slice(0, room);
  const filling =
    foot.length === 0 ? [] : Array.from({ length: room - shown.length }, () => ({ text: "", style: "plain" }) as const);
  const lines = [...head, ...shown, ...filling].slice(0, screen.rows - foot.length);
  return { lines: [...lines, ...foot].map((line) => fitted(line, screen.columns)), extent };
}

function summary({ now, address, choice, size: screen }: Scene, flows: Flows): readonly Line[] {
  const { status } = now;
  const { all } = flows;
  const lag = Math.max(0, ...status.workers.map(({ event_loop_lag_ms }) => event_loop_lag_ms));
  const who = [
    `bunnel ${status.version}`,
    status.state === "serving" ? status.state : status.state.toUpperCase(),
    `gen ${status.generation}`,
    `up ${age(status.uptime_s)}`,
    counted(status.workers.length, "worker"),
    `lag ${milliseconds(lag)}`,
    address,
    ...(choice.isPaused ? ["PAUSED"] : []),
  ];
  const what = [
    counted(status.connections, "connection"),
    `${frequency(all.opened)} new/s`,
    `${frequency(all.failed)} failed/s`,
    `up ${perSecond(all.up)}`,
    `down ${perSecond(all.down)}`,
  ];
  return [...flowing(who, screen.columns, "strong"), ...flowing(what, screen.columns, "plain")];
}

/** What somebody has to look at, the most urgent first. */
function problems({ now: { status }, trouble, size: screen }: Scene): readonly Line[] {
  const found = [...(trouble === "" ? [] : [trouble]), ...problemsOf(status)];
  const shown = found.slice(0, MOST_PROBLEMS).flatMap((problem) => {
    const lines = folded(printable(problem), screen.columns, "  ");
    const [next = "", ...beyond] = lines.slice(MOST_PROBLEM_LINES - 1);
    const rest = [next, ...beyond.map((line) => line.trimStart())].join(" ");
    return [...lines.slice(0, MOST_PROBLEM_LINES - 1), ...(rest === "" ? [] : [rest])];
  });
  const more = found.length - MOST_PROBLEMS;
  if (more > 0) shown.push(`… and ${counted(more, "problem")} more: bunnel status`);
  return shown.map((text) => ({ text, style: "bad" }));
}

function problemsOf(status: Status): readonly string[] {
  const { config, generation, workers, certificates } = status;
  const found: string[] = [];
  const withMore = (problems: readonly string[]): string =>
    `${problems[0] ?? ""}${problems.length > 1 ? ` (and ${count(problems.length - 1)} more)` : ""}`;
  if (!config.last_reload_ok && config.last_reload_at !== null) {
    const when = `${age(secondsSince(status, config.last_reload_at))} ago`;
    found.push(`RELOAD REFUSED ${when}: ${withMore(config.last_reload_problems)}`);
  }
  for (const worker of workers)
    if (worker.state !== "serving" && status.state === "serving")
      found.push(`WORKER ${worker.worker} IS ${worker.state.toUpperCase()}`);
    else if (worker.generation !== generation && worker.state === "serving")
      found.push(`WORKER ${worker.worker} IS AT GENERATION ${worker.generation}`);
  if (config.certificate_problems.length > 0)
    found.push(`CERTIFICATES NOT AS THEY LIE ON THE DISK: ${withMore(config.certificate_problems)}`);
  return [...found, ...certificates.filter(needsRenewal).map(expiryOf)];
}

/** Tabs, head and rows; of the first view also the backends, if there is room. */
function main(scene: Scene, flows: Flows, room: number): { readonly lines: readonly Line[]; readonly extent: Extent } {
  const { now, choice, size: screen } = scene;
  const view = VIEWS[choice.view];
  const sorting = choice.sortings[choice.view];
  const rows = sortedRows(filtered(view.rows(now, flows), view, choice), view.columns, sorting);
  const page = Math.max(0, room - 2);
  const above = Math.min(choice.above, Math.max(0, rows.length - page));
  const shown = rows.slice(above, above + page);
  const arrow = (view.columns[sorting.column]?.ascending === true) !== sorting.isReversed ? "▲" : "▼";
  const columns = view.columns.map((column, index) =>
    index === sorting.column ? { ...column, head: `${column.head}${arrow}` } : column,
  );
  const lines: Line[] = [
    { text: tabs(scene, rows.length), style: "dim" },
    ...tableLines(columns, shown, screen.columns),
  ];
  if (rows.length === 0) lines.push({ text: nothing(scene), style: "dim" });
  if (choice.view === "listeners" && lines.length + now.status.backends.length + 2 <= room) {
    const { columns: also, rows: backends } = VIEWS.backends;
    lines.push({ text: "", style: "plain" }, ...tableLines(also, backends(now, flows), screen.columns));
  }
  return { lines, extent: { rows: rows.length, page } };
}

function tableLines(columns: readonly ViewColumn[], rows: readonly ViewRow[], width: number): readonly Line[] {
  const texts = table(
    columns,
    rows.map(({ cells }) => cells),
    width,
  );
  return texts.map((text, index) => {
    if (index > 0) return { text, style: rows[index - 1]?.style ?? "plain" };
    return {
      text: text + " ".repeat(Number.isFinite(width) ? Math.max(0, width - columnsOf(text)) : 0),
      style: "head",
    };
  });
}

/** All views where they find room, else the one that is shown; how many rows it has. */
function tabs({ now, choice, size: screen }: Scene, rows: number): string {
  const of = VIEWS[choice.view].list === "connections" ? now.matching : rows;
  const filter = filterOf(choice);
  const about = [
    rows < of ? `newest ${count(rows)} of ${count(of)}` : count(rows),
    ...(filter === "" ? [] : [`with "${filter}"`]),
  ];
  const all = VIEW_NAMES.map((name) => (name === choice.view ? `[${name}]` : name));
  const text = printable([...all, ...about].join("  "));
  return columnsOf(text) <= screen.columns ? text : printable([`[${choice.view}]`, ...about].join("  "));
}

function nothing({ choice }: Scene): string {
  if (filterOf(choice) !== "") return "(nothing with that in it: esc shows all)";
  return choice.view === "failures" ? "(no connection has failed lately)" : "(none)";
}

function filtered(rows: readonly ViewRow[], view: View, choice: Choice): readonly ViewRow[] {
  const wanted = filterOf(choice).toLowerCase();
  // The daemon has filtered by more than what the table shows.
  if (wanted === "" || view.list !== null) return rows;
  return rows.filter(({ cells }) => cells.some((cell) => cell.toLowerCase().includes(wanted)));
}

function sortedRows(
  rows: readonly ViewRow[],
  columns: readonly ViewColumn[],
  { column, isReversed }: Choice["sortings"][keyof Choice["sortings"]],
): readonly ViewRow[] {
  const sign = (columns[column]?.ascending === true) === isReversed ? -1 : 1;
  const byKey = (a: ViewRow, b: ViewRow): number => compared(a.keys[column] ?? null, b.keys[column] ?? null, sign);
  // Equals stay in one order, or rows would change places at each reading.
  return rows.toSorted((a, b) => byKey(a, b) || compared(a.cells.join("\n"), b.cells.join("\n"), 1));
}

function compared(a: string | number | null, b: string | number | null, sign: number): number {
  if (a === b) return 0;
  if (a === null || b === null) return a === null ? 1 : -1;
  return (a < b ? -1 : 1) * sign;
}

function footer({ choice, size: screen }: Scene): Line {
  if (choice.draft !== null) return { text: printable(`/${choice.draft}_  enter keeps, esc drops`), style: "strong" };
  if (choice.showsHelp) return { text: "any key goes back, q quits", style: "dim" };
  const isNarrow = screen.columns < NARROW_COLUMNS;
  const text = isNarrow
    ? "q quit  ? help  tab  s sort  / filter"
    : "q quit  tab views  s sort  r reverse  / filter  p pause  ? help";
  return { text, style: "dim" };
}

function help(columns: number): readonly Line[] {
  return HELP.flatMap((line) => folded(line, columns, "  ")).map((text) => ({ text, style: "plain" }));
}

/** The parts on as many lines as they take. */
function flowing(parts: readonly string[], width: number, style: Style): readonly Line[] {
  const lines: string[] = [];
  for (const part of parts.map(printable)) {
    const line = lines.at(-1);
    if (line !== undefined && columnsOf(line) + 2 + columnsOf(part) <= width)
      lines[lines.length - 1] = `${line}  ${part}`;
    else lines.push(part);
  }
  return lines.map((text) => ({ text, style }));
}

function fitted({ text, style }: Line, columns: number): Line {
  return { text: clipped(text, columns), style };
}

function perSecond(bytes: number | null): string {
  return bytes === null ? "-" : `${size(bytes)}/s`;
}
