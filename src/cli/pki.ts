// `bunnel pki init | issue | show`: a small PKI in a directory, for development and for hosts that have none. `ca.pem` and `ca.key`
// are the authority; every certificate it issues is a pair NAME.pem, NAME.key beside them.

import type { Command } from "commander";
import { messageOf, ProxyError } from "../base/errors.ts";
import { parseDuration } from "../base/units.ts";
import type { Files } from "../runtime/files.ts";
import type { CertificateSummary, KeyPair } from "../tls-tools/tls-tools.ts";

/** What a command may touch. */
export interface PkiIo {
  /** A line, without its end, for standard output. */
  out(line: string): void;
  /** The same for standard error. */
  err(line: string): void;
  readonly files: Files;
}

export interface PkiInitOptions {
  readonly dir: string;
  /** Common name of the authority. */
  readonly name: string;
  readonly lifetime: string;
  readonly force?: boolean;
}

export interface PkiIssueOptions {
  readonly dir: string;
  /** Base of the two file names, and the common name. */
  readonly name: string;
  readonly dns: readonly string[];
  readonly ip: readonly string[];
  readonly uri?: string;
  readonly lifetime: string;
  /** Neither, or both: for both sides of a connection. */
  readonly client?: boolean;
  readonly server?: boolean;
  readonly force?: boolean;
}

const AUTHORITY = "ca";
const KEY_MODE = 0o600;
const CERTIFICATE_MODE = 0o644;
const DIRECTORY_MODE = 0o700;

/** Makes an authority in a directory. Exit code: 0, 1 (it exists, cannot be written), 2 (an option is malformed). */
export function pkiInit(io: PkiIo, options: PkiInitOptions): Promise<number> {
  return reporting(io, async () => {
    const lifetimeMs = parsedLifetime(options.lifetime);
    refuseToReplace(io, options, AUTHORITY);
    const { createAuthority } = await tlsTools();
    const authority = await createAuthority({ commonName: options.name, lifetimeMs });
    io.files.makeDirectory(options.dir, { mode: DIRECTORY_MODE });
    writePair(io.files, options.dir, { base: AUTHORITY, pair: authority });
    io.out(`authority "${options.name}": ${options.dir}/${AUTHORITY}.pem, private key ${options.dir}/${AUTHORITY}.key`);
  });
}

/** Issues a certificate from a directory's authority. Exit code: 0, 1 (no authority, files in the way), 2 (a malformed name). */
export function pkiIssue(io: PkiIo, options: PkiIssueOptions): Promise<number> {
  return reporting(io, async () => {
    const { dir, name } = options;
    if (!/^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(name) || name === AUTHORITY)
      throw new ProxyError("USAGE", `--name "${name}": a file name of letters, digits, . - _, and not "${AUTHORITY}"`);
    const lifetimeMs = parsedLifetime(options.lifetime);
    refuseToReplace(io, options, name);
    const authority = readPair(io.files, dir, AUTHORITY);
    const { issueCertificate } = await tlsTools();
    const usage = options.client === options.server ? "both" : options.client === true ? "client" : "server";
    const { dns, ip, uri } = options;
    const names = { commonName: name, dns, ip, ...(uri === undefined ? {} : { uri }) };
    writePair(io.files, dir, { base: name, pair: await issueCertificate(authority, { ...names, usage, lifetimeMs }) });
    io.out(`certificate ${dir}/${name}.pem, private key ${dir}/${name}.key`);
  });
}

/** Tells what the certificates in files say. Exit code: 0, or 1 when a file cannot be read or holds none. */
export async function pkiShow(io: PkiIo, paths: readonly string[]): Promise<number> {
  let worst = 0;
  for (const path of paths) {
    const code = await reporting(io, async () => {
      const text = io.files.readText(path);
      const { certificateSummaries } = await tlsTools();
      const summaries = await certificateSummaries(text).catch((error: unknown) => {
        throw new ProxyError("BAD_PEM", `${path}: ${messageOf(error)}`, { cause: error });
      });
      if (summaries.length === 0) throw new ProxyError("BAD_PEM", `${path}: no certificate in it`);
      for (const [index, summary] of summaries.entries()) {
        const place = summaries.length === 1 ? path : `${path} (${index + 1} of ${summaries.length})`;
        for (const line of describeCertificate(place, summary, Date.now())) io.out(line);
      }
    });
    worst = Math.max(worst, code);
  }
  return worst;
}

/** The lines of `pki show` for one certificate, under a heading that says where it was found. */
export function describeCertificate(place: string, summary: CertificateSummary, nowMs: number): string[] {
  const row = (label: string, value: string): string => `  ${label.padEnd(13)}${value}`;
  return [
    place,
    row("subject", printable(summary.subject) || "(empty)"),
    row("issuer", printable(summary.issuer) || "(empty)"),
    row("names", summary.names.map((name) => quoteOdd(name)).join(", ") || "(none)"),
    row("valid", `${utc(summary.notBefore)} to ${utc(summary.notAfter)}, ${describeValidity(summary, nowMs)}`),
    row("key", summary.keyType),
    row("usage", summary.isAuthority ? "authority" : summary.usages.join(", ") || "any"),
    row("serial", summary.serial),
    row("fingerprint", `sha256:${summary.fingerprint}`),
    row("key pin", `sha256//${summary.keyPin}`),
  ];
}

/** Puts `pki` and its commands under `program`; `finish` is told the exit code of the one that ran. */
export function registerPki(program: Command, io: PkiIo, finish: (exitCode: number) => void): void {
  const collect = (value: string, earlier: string[]): string[] => [...earlier, value];
  const pki = program.command("pki").description("make and look at certificates for development");
  pki
    .command("init")
    .description("make an authority: DIR/ca.pem and DIR/ca.key")
    .requiredOption("--dir <dir>", "where to put it; made when absent")
    .option("--name <name>", "common name of the authority", "bunnel development CA")
    .option("--lifetime <duration>", "how long it is valid", "3650d")
    .option("--force", "replace an authority that is there; what it issued is worthless then")
    .action(async (options: PkiInitOptions) => finish(await pkiInit(io, options)));
  pki
    .command("issue")
    .description("issue a certificate: DIR/NAME.pem and DIR/NAME.key")
    .requiredOption("--dir <dir>", "directory of the authority")
    .requiredOption("--name <name>", "base of the file names, and the common name")
    .option("--dns <name>", "DNS name; may be repeated", collect, [])
    .option("--ip <address>", "IP address; may be repeated", collect, [])
    .option("--uri <spiffe-id>", "SPIFFE ID, such as spiffe://prod/web")
    .option("--lifetime <duration>", "how long it is valid", "30d")
    .option("--client", "for clients only")
    .option("--server", "for servers only")
    .option("--force", "replace a certificate and key that are there")
    .action(async (options: PkiIssueOptions) => finish(await pkiIssue(io, options)));
  pki
    .command("show")
    .description("tell what certificates say")
    .argument("<files...>", "PEM files")
    .action(async (paths: string[]) => finish(await pkiShow(io, paths)));
}

/** DIR/BASE.pem and DIR/BASE.key. Throws the ProxyError of the file that cannot be read. */
export function readPair(files: Files, dir: string, base: string): KeyPair {
  return { certificatePem: files.readText(`${dir}/${base}.pem`), keyPem: files.readText(`${dir}/${base}.key`) };
}

/** Writes both files; the key can be read by its owner only. */
export function writePair(files: Files, dir: string, { base, pair }: { base: string; pair: KeyPair }): void {
  files.writeText(`${dir}/${base}.key`, pair.keyPem, { mode: KEY_MODE });
  files.writeText(`${dir}/${base}.pem`, pair.certificatePem, { mode: CERTIFICATE_MODE });
}

/** Loaded by the commands that need it: see the remark there. */
function tlsTools(): Promise<typeof import("../tls-tools/tls-tools.ts")> {
  return import("../tls-tools/tls-tools.ts");
}

async function reporting(io: PkiIo, work: () => Promise<void>): Promise<number> {
  try {
    await work();
    return 0;
  } catch (error) {
    if (!(error instanceof ProxyError)) throw error;
    io.err(error.message);
    return error.code === "USAGE" || error.code === "BAD_NAME" ? 2 : 1;
  }
}

function parsedLifetime(text: string): number {
  const lifetimeMs = parseDuration(text);
  if (lifetimeMs === null || lifetimeMs === 0)
    throw new ProxyError("USAGE", `--lifetime "${text}" is not a duration: write 12h or 30d`);
  return lifetimeMs;
}

function refuseToReplace(io: PkiIo, options: { dir: string; force?: boolean }, base: string): void {
  if (options.force === true) return;
  for (const path of [`${options.dir}/${base}.key`, `${options.dir}/${base}.pem`]) {
    if (io.files.exists(path)) throw new ProxyError("EEXIST", `${path} exists already: --force replaces it`);
  }
}

function describeValidity(summary: CertificateSummary, nowMs: number): string {
  const starts = summary.notBefore.getTime() - nowMs;
  const ends = summary.notAfter.getTime() - nowMs;
  if (starts > 0) return `not valid yet, begins in ${roughly(starts)}`;
  return ends > 0 ? `expires in ${roughly(ends)}` : `EXPIRED ${roughly(-ends)} ago`;
}

/** Whole days from two days on, else whole hours or minutes, rounded down: nobody is promised time that is not there. */
function roughly(ms: number): string {
  const [count, unit] =
    ms >= 2 * 86_400_000
      ? [Math.floor(ms / 86_400_000), "day"]
      : ms >= 2 * 3_600_000
        ? [Math.floor(ms / 3_600_000), "hour"]
        : [Math.floor(ms / 60_000), "minute"];
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

function utc(date: Date): string {
  return date.toISOString().replace(".000Z", "Z");
}

/** A comma or space inside a name must not look like two names. */
function quoteOdd(name: string): string {
  return /^[\x21-\x2b\x2d-\x7e]+$/.test(name) ? name : printable(JSON.stringify(name));
}

/** A stranger's certificate may hold anything: control characters and reversed writing are shown as their numbers. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
}
