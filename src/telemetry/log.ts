// The operational log: what the daemon itself has to say. pino to standard error, so that standard output is the access log's alone.

import { type Logger, pino } from "pino";

export type Log = Pick<Logger, "debug" | "info" | "warn" | "error" | "fatal">;

const STDERR = 2;
const KEPT_CHARACTERS = 1024 * 1024;

export interface LogOptions {
  readonly level: "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";
  /** json: one object a line. pretty: one line for people. */
  readonly format: "json" | "pretty";
}

/** Lines are written before the call returns: there are few, and the last ones before an end matter most. `fields` are on each of them. */
export function createLog({ level, format }: LogOptions, fields: Readonly<Record<string, unknown>> = {}): Log {
  const destination = pino.destination({ fd: STDERR, sync: true, maxLength: KEPT_CHARACTERS });
  // A full disk would else throw out of every call that logs. What was not written is kept, up to that much, and tried again with the next line.
  destination.on("error", () => {});
  const options = { level, base: fields };
  if (format === "json") return pino(options, destination);
  return pino(options, { write: (line) => destination.write(prettyLine(line)) });
}

/** `12:00:00.000 WARN  message key=value …` of a line of pino's JSON. */
function prettyLine(line: string): string {
  const { time, level, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const clock = new Date(Number(time)).toISOString().slice(11, 23);
  const name = (pino.levels.labels[Number(level)] ?? "?").toUpperCase().padEnd(5);
  const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${plain(value)}`);
  return `${clock} ${name} ${String(msg)}${pairs.join("")}\n`;
}

function plain(value: unknown): string {
  return typeof value === "string" && /^[\x21\x23-\x7e]+$/.test(value) ? value : JSON.stringify(value);
}
