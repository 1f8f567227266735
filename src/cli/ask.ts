// How commands ask the daemon that runs: where its admin API is by the config, and what to tell when nobody answers there.

import type { Command } from "commander";
import { type Address, formatAddress } from "../base/address.ts";
import { codeOf, messageOf } from "../base/errors.ts";
import { formatProblem } from "../config/problems.ts";
import { configSchema } from "../config/schema.ts";
import type { Environment } from "../config/substitute.ts";
import { adminAddress } from "../config/values.ts";
import { readYaml } from "../config/yaml.ts";
import type { Files } from "../runtime/files.ts";
import type { HttpAnswer } from "../runtime/http.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { EXIT_BAD_CONFIG } from "./check.ts";
import { printable } from "./printable.ts";

/** What commands that ask the daemon may touch. */
export interface AskIo {
  /** A line, without its end, for standard output. */
  out(line: string): void;
  /** The same for standard error. */
  err(line: string): void;
  readonly files: Pick<Files, "readText">;
  /** For `${NAME}` in the config. */
  readonly environment: Environment;
  readonly runtime: Pick<Runtime, "http">;
}

/** Where the daemon is. */
export interface AskOptions {
  /** Path of its config file. Default: the embedded default, whose admin address is the default one. */
  readonly config?: string;
  /** The address itself, as in `admin.address`. */
  readonly admin?: string;
}

export interface Question {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly timeoutMs: number;
}

/** Whom was asked, and what they said. */
export interface Told {
  readonly address: Address;
  readonly status: number;
  readonly json: Readonly<Record<string, unknown>>;
}

/** Adds the options that say where the daemon is. */
export function withAskOptions(command: Command): Command {
  return command
    .option("-c, --config <file>", "the config of the daemon (default: the embedded one)")
    .option("--admin <address>", "where its admin API is, instead of what the config says");
}

/** Asks the daemon. A number is the exit code of a question that has no answer; why has been printed then. */
export async function ask(io: AskIo, options: AskOptions, question: Question): Promise<Told | number> {
  const address =
    options.admin === undefined ? addressOfConfig(io, options.config) : addressOfOption(io, options.admin);
  if (typeof address === "number") return address;
  let answer: HttpAnswer;
  try {
    answer = await io.runtime.http.fetch({ address, ...question });
  } catch (thrown) {
    io.err(`${messageOf(thrown)}${advice(codeOf(thrown), options)}`);
    return 1;
  }
  const json = parseObject(answer);
  if (json !== null && (answer.status < 400 || answer.status === 409)) return { address, status: answer.status, json };
  const error = typeof json?.detail === "string" ? json.detail : "";
  io.err(
    error === ""
      ? `who answers at ${formatAddress(address)} is not bunnel (status ${answer.status} for ${question.path}); --admin asks elsewhere`
      : `${formatAddress(address)} refuses: ${printable(error)}`,
  );
  return 1;
}

/**
 * Only this one field is looked at: to ask the daemon must be possible most of all when the file is being changed and all else in it is wrong.
 */
function addressOfConfig(io: AskIo, path: string | undefined): Address | number {
  const problem = (message: string): number => {
    io.err(message);
    return EXIT_BAD_CONFIG;
  };
  let written: unknown;
  if (path !== undefined) {
    let text: string;
    try {
      text = io.files.readText(path);
    } catch (thrown) {
      return problem(`${path}: ${messageOf(thrown)}`);
    }
    const { value, problems } = readYaml(text, path, io.environment);
    const about = problems.find((each) => value === null || each.path[0] === "admin");
    if (about !== undefined) return problem(formatProblem(about));
    if (value !== null && typeof value === "object" && !Array.isArray(value)) written = value.admin;
  }
  const parsed = configSchema.shape.admin.safeParse(written);
  if (!parsed.success) return problem(`${path}: admin: ${parsed.error.issues[0]?.message}; --admin asks elsewhere`);
  const { address } = parsed.data;
  if (address === null) {
    io.err(`${path}: admin.address is off: the daemon cannot be asked. SIGHUP reloads it, SIGTERM drains it`);
    return 1;
  }
  return reachable(io, address);
}

function addressOfOption(io: AskIo, written: string): Address | number {
  const parsed = adminAddress.safeParse(written);
  if (parsed.success && parsed.data !== null) return reachable(io, parsed.data);
  io.err(`--admin: ${parsed.success ? `"${written}" is not an address` : parsed.error.issues[0]?.message}`);
  return 2;
}

function reachable(io: AskIo, address: Address): Address | number {
  if (address.kind === "unix" || address.port !== 0) return address;
  io.err(`${formatAddress(address)} means any free port: the daemon's log says which it is; give it with --admin`);
  return 1;
}

function advice(code: string, { config, admin }: AskOptions): string {
  if (code === "ETIMEDOUT") return "; is the daemon stopped, or its supervisor busy?";
  if (code === "EACCES" || code === "EPERM") return ": ask as the user that the daemon runs as, or as root";
  if (code !== "ECONNREFUSED" && code !== "ENOENT") return "";
  const other =
    config === undefined && admin === undefined ? "; one with a config of its own is found with -c FILE" : "";
  return `: no daemon runs there. \`bunnel run${config === undefined ? "" : ` -c ${config}`}\` starts one${other}`;
}

function parseObject({ contentType, body }: HttpAnswer): Record<string, unknown> | null {
  if (!/^application\/(problem\+)?json\b/.test(contentType)) return null;
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : null;
  } catch {
    return null;
  }
}
