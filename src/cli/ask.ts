// How commands ask the daemon that runs: where its admin API is by the config, and what to tell when nobody answers there.

import type { Command } from "commander";
import { type Address, formatAddress, isOnHost, parseAddress } from "../base/address.ts";
import { codeOf, messageOf } from "../base/errors.ts";
import { withAdminPaths } from "../config/load.ts";
import { formatProblem } from "../config/problems.ts";
import { configSchema } from "../config/schema.ts";
import type { AdminConfig } from "../config/schema-admin.ts";
import type { Environment } from "../config/substitute.ts";
import { adminAddress } from "../config/values.ts";
import { readYaml } from "../config/yaml.ts";
import { pemBytes, splitPem } from "../protocol/pem.ts";
import type { Files } from "../runtime/files.ts";
import type { FetchHttpOptions, HttpAnswer, HttpClientTls } from "../runtime/http.ts";
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
  /** PEM files of the certificate that is shown where `admin.tls.client_ca` asks for one. Default: those of `admin.tls`. */
  readonly cert?: string;
  readonly key?: string;
}

export interface Question {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly timeoutMs: number;
  /** What is printed when there is no such thing (404). Default: what the daemon says. */
  readonly missing?: string;
}

/** Whom was asked, and what they said. */
export interface Told {
  readonly address: Address;
  readonly status: number;
  readonly json: Readonly<Record<string, unknown>>;
}

/** ` -c FILE` or what else says where the daemon is, for a command that is to be typed next; "" where it needs nothing. */
export function sameDaemon({ config, admin }: AskOptions): string {
  return `${config === undefined ? "" : ` -c ${config}`}${admin === undefined ? "" : ` --admin ${admin}`}`;
}

/** Adds the options that say where the daemon is. */
export function withAskOptions(command: Command): Command {
  return command
    .option("-c, --config <file>", "the config of the daemon (default: the embedded one)")
    .option("--admin <address>", "where its admin API is, instead of what the config says")
    .option("--cert <file>", "the certificate to show there, instead of that of admin.tls")
    .option("--key <file>", "its private key");
}

/** Asks the daemon. A number is the exit code of a question that has no answer; why has been printed then. */
export async function ask(io: AskIo, options: AskOptions, question: Question): Promise<Told | number> {
  const target = targetOf(io, options);
  if (typeof target === "number") return target;
  const { address } = target;
  let answer: HttpAnswer;
  try {
    answer = await io.runtime.http.fetch({ ...target, ...question });
  } catch (thrown) {
    io.err(`${messageOf(thrown)}${advice(codeOf(thrown), options)}`);
    return 1;
  }
  const json = parseObject(answer);
  if (json !== null && (answer.status < 400 || answer.status === 409)) return { address, status: answer.status, json };
  if (answer.status === 404 && json !== null && question.missing !== undefined) {
    io.err(question.missing);
    return 1;
  }
  const error = typeof json?.detail === "string" ? json.detail : "";
  io.err(
    error === ""
      ? `who answers at ${formatAddress(address)} is not bunnel (status ${answer.status} for ${question.path}); --admin asks elsewhere`
      : `${formatAddress(address)} refuses: ${printable(error)}`,
  );
  return 1;
}

type Target = Pick<FetchHttpOptions, "address" | "headers" | "tls">;

/** What there is to be told about a question that cannot be asked, with the exit code. */
class Refusal extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode = EXIT_BAD_CONFIG) {
    super(message);
    this.exitCode = exitCode;
  }
}

function targetOf(io: AskIo, options: AskOptions): Target | number {
  try {
    const { address: written, token_file, tls, allow_plaintext } = adminOf(io, options);
    const address = options.admin === undefined ? written : addressOfOption(options.admin);
    if (address === null)
      throw new Refusal(
        `${options.config}: admin.address is off: the daemon cannot be asked. SIGHUP reloads it, SIGTERM drains it`,
        1,
      );
    const token = token_file === undefined ? null : read(io, token_file).trim();
    const isOpen = tls === undefined && !allow_plaintext && !isOnHost(reachable(address));
    if (token !== null && isOpen)
      throw new Refusal(`the token is not sent to ${formatAddress(address)} in plaintext: give the config admin.tls`);
    return {
      address: reachable(address),
      ...(token !== null && { headers: { Authorization: `Bearer ${token}` } }),
      ...(tls !== undefined && address.kind === "tcp" && { tls: clientTls(io, tls, options) }),
    };
  } catch (thrown) {
    if (!(thrown instanceof Refusal)) throw thrown;
    io.err(thrown.message);
    return thrown.exitCode;
  }
}

/** Where `--admin` says where to ask, what is wrong with the config does not matter: then there is nothing more to be known from it. */
function adminOf(io: AskIo, { config, admin }: AskOptions): AdminConfig {
  try {
    return adminOfConfig(io, config);
  } catch (thrown) {
    if (admin === undefined || !(thrown instanceof Refusal)) throw thrown;
    return adminOfConfig(io, undefined);
  }
}

/**
 * Only this one field is read: the commands have to work especially while the file is being edited and other parts of it are wrong.
 */
function adminOfConfig(io: AskIo, path: string | undefined): AdminConfig {
  let written: unknown;
  if (path !== undefined) {
    const { value, problems } = readYaml(read(io, path), path, io.environment);
    const about = problems.find((each) => value === null || each.path[0] === "admin");
    if (about !== undefined) throw new Refusal(formatProblem(about));
    if (value !== null && typeof value === "object" && !Array.isArray(value)) written = value.admin;
  }
  const parsed = configSchema.shape.admin.safeParse(written);
  if (!parsed.success) throw new Refusal(`${path}: admin: ${parsed.error.issues[0]?.message}; --admin asks elsewhere`);
  return withAdminPaths(parsed.data, path ?? "");
}

/** The one certificate that the daemon shows is known, and what is shown to it. */
function clientTls(io: AskIo, tls: NonNullable<AdminConfig["tls"]>, { cert, key }: AskOptions): HttpClientTls {
  const [leaf] = splitPem(read(io, tls.cert), "CERTIFICATE");
  const serverCertificate = leaf === undefined ? null : pemBytes(leaf);
  if (serverCertificate === null) throw new Refusal(`${tls.cert}: there is no certificate in it`);
  const isAsked = cert !== undefined || tls.client_ca.length > 0;
  if (!isAsked) return { serverCertificate, chainPem: "", keyPem: "" };
  return { serverCertificate, chainPem: read(io, cert ?? tls.cert), keyPem: read(io, key ?? tls.key) };
}

function read(io: AskIo, path: string): string {
  try {
    return io.files.readText(path);
  } catch (thrown) {
    throw new Refusal(`${path}: ${messageOf(thrown)}`);
  }
}

function addressOfOption(written: string): Address {
  const told = parseAddress(written);
  // What the config says of it as a whole is not for an option: it cannot be off.
  if (typeof told === "string") throw new Refusal(`--admin: ${told}`, 2);
  const parsed = adminAddress.safeParse(written);
  if (parsed.success && parsed.data !== null) return parsed.data;
  throw new Refusal(
    `--admin: ${parsed.success ? `"${written}" is not an address` : parsed.error.issues[0]?.message}`,
    2,
  );
}

/** Where to dial what it listens on. */
function reachable(address: Address): Address {
  if (address.kind === "unix") return address;
  if (address.port === 0) {
    const told = `${formatAddress(address)} means any free port: the daemon's log says which it is; give it with --admin`;
    throw new Refusal(told, 1);
  }
  const loopback = LOOPBACK.get(address.host);
  return loopback === undefined ? address : { ...address, host: loopback };
}

/** What stands for all addresses of this host. */
const LOOPBACK: ReadonlyMap<string, string> = new Map([
  ["0.0.0.0", "127.0.0.1"],
  ["::", "::1"],
]);

function advice(code: string, { config, admin }: AskOptions): string {
  if (code === "ETIMEDOUT") return "; is the daemon stopped, or its supervisor busy?";
  if (code === "EBADPEER") return "; whoever answers there is sent nothing";
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
