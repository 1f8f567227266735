// `bunnel pki`: a small PKI in a directory, for development and for hosts that have none. Here are `init` and `issue`, and the command
// lines of all of them; `renew`, `rotate` and `show` have files of their own.

import type { Command } from "commander";
import { ProxyError } from "../base/errors.ts";
import {
  AUTHORITY,
  AUTHORITY_LIFETIME,
  DIRECTORY_MODE,
  type PkiIo,
  parsedLifetime,
  readAuthority,
  refuseToReplace,
  reporting,
  tlsTools,
  writePair,
} from "./pki-files.ts";
import { type PkiRenewOptions, pkiRenew } from "./pki-renew.ts";
import { type PkiRotateOptions, pkiRotate } from "./pki-rotate.ts";
import { pkiShow } from "./pki-show.ts";

export interface PkiInitOptions {
  readonly dir: string;
  /** Common name of the authority. */
  readonly name: string;
  readonly lifetime: string;
  readonly force?: boolean;
}

export interface PkiIssueOptions {
  /** Of the authority. */
  readonly dir: string;
  /** Where the pair goes. Default: `dir`. */
  readonly out?: string;
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

/** Makes an authority in a directory. Exit code: 0, 1 (it exists, cannot be written), 2 (an option is malformed). */
function pkiInit(io: PkiIo, options: PkiInitOptions): Promise<number> {
  return reporting(io, async () => {
    const { dir } = options;
    const lifetimeMs = parsedLifetime(options.lifetime);
    const advice = `bunnel pki rotate replaces an authority step by step; --force at once, and what it issued is worthless then`;
    if (options.force !== true) refuseToReplace(io.files, { dir, base: AUTHORITY }, advice);
    const { createAuthority } = await tlsTools();
    const authority = await createAuthority({ commonName: options.name, lifetimeMs });
    io.files.makeDirectory(dir, { mode: DIRECTORY_MODE });
    writePair(io.files, dir, { base: AUTHORITY, pair: authority });
    io.out(`authority "${options.name}": ${dir}/${AUTHORITY}.pem, private key ${dir}/${AUTHORITY}.key`);
  });
}

/** Issues a certificate from a directory's authority. Exit code: 0, 1 (no authority, files in the way), 2 (a malformed name). */
function pkiIssue(io: PkiIo, options: PkiIssueOptions): Promise<number> {
  return reporting(io, async () => {
    const { dir, out = dir, name } = options;
    if (!/^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(name) || name === AUTHORITY)
      throw new ProxyError("USAGE", `--name "${name}": a file name of letters, digits, . - _, and not "${AUTHORITY}"`);
    const lifetimeMs = parsedLifetime(options.lifetime);
    const advice = `bunnel pki renew --dir ${dir} ${out}/${name}.pem renews it; --force replaces it`;
    if (options.force !== true) refuseToReplace(io.files, { dir: out, base: name }, advice);
    const { signer } = await readAuthority(io.files, dir);
    const { issueCertificate } = await tlsTools();
    const usage = options.client === options.server ? "both" : options.client === true ? "client" : "server";
    const { dns, ip, uri } = options;
    const names = { commonName: name, dns, ip, ...(uri === undefined ? {} : { uri }) };
    const pair = await issueCertificate(signer, { ...names, usage, lifetimeMs });
    io.files.makeDirectory(out, { mode: DIRECTORY_MODE });
    writePair(io.files, out, { base: name, pair });
    io.out(`certificate ${out}/${name}.pem, private key ${out}/${name}.key`);
  });
}

/** Puts `pki` and its commands under `program`; `finish` gets the exit code of the one that ran. */
export function registerPki(program: Command, io: PkiIo, finish: (exitCode: number) => void): void {
  const collect = (value: string, earlier: string[]): string[] => [...earlier, value];
  const pki = program.command("pki").description("make, renew and look at certificates");
  pki
    .command("init")
    .description("make an authority: DIR/ca.pem and DIR/ca.key")
    .requiredOption("--dir <dir>", "where to put it; made when absent")
    .option("--name <name>", "common name of the authority", "bunnel CA")
    .option("--lifetime <duration>", "how long it is valid", AUTHORITY_LIFETIME)
    .option("--force", "replace an authority that is there; what it issued is worthless then")
    .action(async (options: PkiInitOptions) => finish(await pkiInit(io, options)));
  pki
    .command("issue")
    .description("issue a certificate: OUT/NAME.pem and OUT/NAME.key")
    .requiredOption("--dir <dir>", "directory of the authority")
    .option("--out <dir>", "where to put the files; made when absent (default: the authority's directory)")
    .requiredOption("--name <name>", "base of the file names, and the common name")
    .option("--dns <name>", "DNS name; may be repeated", collect, [])
    .option("--ip <address>", "IP address; may be repeated", collect, [])
    .option("--uri <spiffe-id>", "SPIFFE ID, such as spiffe://prod/web")
    .option("--lifetime <duration>", "how long it is valid", "7d")
    .option("--client", "for clients only")
    .option("--server", "for servers only")
    .option("--force", "replace a certificate and key that are there")
    .action(async (options: PkiIssueOptions) => finish(await pkiIssue(io, options)));
  pki
    .command("renew")
    .description("replace certificates that have less than a third of their lifetime left: same names, new keys")
    .argument("<files...>", "certificates that pki issue has made; NAME.key lies beside NAME.pem")
    .requiredOption("--dir <dir>", "directory of the authority")
    .option("--lifetime <duration>", "how long the new ones are valid (default: as long as the old)")
    .option("--force", "also those that have more left")
    .action(async (paths: string[], options: PkiRenewOptions) => finish(await pkiRenew(io, paths, options)));
  pki
    .command("rotate")
    .description("replace an authority in three steps, so that at no time a good certificate is refused")
    .argument("<step>", "begin (trust a new one too), switch (sign with it), finish (trust the old one no more)")
    .requiredOption("--dir <dir>", "directory of the authority")
    .option("--name <name>", "begin: common name of the new authority (default: the old one's)")
    .option("--lifetime <duration>", "begin: how long the new one is valid", AUTHORITY_LIFETIME)
    .action(async (step: string, options: PkiRotateOptions) => finish(await pkiRotate(io, step, options)));
  pki
    .command("show")
    .description("tell what certificates say")
    .argument("<files...>", "PEM files")
    .action(async (paths: string[]) => finish(await pkiShow(io, paths)));
}
