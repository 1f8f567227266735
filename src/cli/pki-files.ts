// What the `bunnel pki` commands share: the files of a small PKI, and how a command reports. A directory holds the authority,
// `ca.pem` and `ca.key`; every certificate is a pair NAME.pem, NAME.key, there or wherever it is used.
//
// While an authority is being replaced (pki-rotate.ts) `ca.pem` holds two certificates, which is what verifiers read, and the first
// key in `ca.key` is the one that signs. So whichever of the two files a crash leaves behind, the key still finds its certificate.

import { ProxyError } from "../base/errors.ts";
import { parseDuration } from "../base/units.ts";
import type { Files } from "../runtime/files.ts";
import type { KeyPair } from "../tls-tools/tls-tools.ts";

/** What a command may touch. */
export interface PkiIo {
  /** A line, without its end, for standard output. */
  out(line: string): void;
  /** The same for standard error. */
  err(line: string): void;
  readonly files: Files;
}

/** An authority as it is on disk. */
export interface Authority {
  /** What signs: the first key and its certificate, alone. */
  readonly signer: KeyPair;
  /** Every certificate of `ca.pem`, each a PEM text, in its order. */
  readonly certificates: readonly string[];
  /** Every key of `ca.key`, each a PEM text, in its order. */
  readonly keys: readonly string[];
}

/** Base of the authority's two file names. */
export const AUTHORITY = "ca";
/** How long an authority that is made here is valid, where nobody says otherwise. */
export const AUTHORITY_LIFETIME = "3650d";
/** For directories that hold keys. */
export const DIRECTORY_MODE = 0o700;
const KEY_MODE = 0o600;
const CERTIFICATE_MODE = 0o644;

/** DIR/BASE.pem and DIR/BASE.key. Throws the ProxyError of the file that cannot be read. */
export function readPair(files: Files, dir: string, base: string): KeyPair {
  return { certificatePem: files.readText(`${dir}/${base}.pem`), keyPem: files.readText(`${dir}/${base}.key`) };
}

/**
 * Writes both files, each whole and the key first; the key can be read by its owner only. Between the two a reader sees a new key with an
 * old certificate, which whoever reloads them has to tell by the keys.
 */
export function writePair(files: Files, dir: string, { base, pair }: { base: string; pair: KeyPair }): void {
  writeKey(files, `${dir}/${base}.key`, pair.keyPem);
  writeCertificate(files, `${dir}/${base}.pem`, pair.certificatePem);
}

/** A private key, or several, readable by its owner only. Replaces what is there. */
export function writeKey(files: Files, path: string, pem: string): void {
  files.writeText(path, pem, { mode: KEY_MODE });
}

/** A certificate, or several, readable by all. Replaces what is there. */
export function writeCertificate(files: Files, path: string, pem: string): void {
  files.writeText(path, pem, { mode: CERTIFICATE_MODE });
}

/** The authority in a directory. Throws ProxyError: a file's, `BAD_PEM`, or `BAD_KEY` when the first key signed for none of the certificates. */
export async function readAuthority(files: Files, dir: string): Promise<Authority> {
  if (!files.exists(`${dir}/${AUTHORITY}.pem`) && !files.exists(`${dir}/${AUTHORITY}.key`))
    throw new ProxyError(
      "ENOENT",
      `${dir} holds no authority (ca.pem, ca.key): make one with bunnel pki init --dir ${dir}`,
    );
  const { certificatePem, keyPem } = readPair(files, dir, AUTHORITY);
  const [{ splitPem }, { ownsKey }] = await Promise.all([import("../protocol/pem.ts"), import("../tls-tools/keys.ts")]);
  const certificates = splitPem(certificatePem, "CERTIFICATE");
  const keys = splitPem(keyPem, "PRIVATE KEY");
  const [key] = keys;
  if (certificates.length === 0) throw new ProxyError("BAD_PEM", `${dir}/${AUTHORITY}.pem: no certificate in it`);
  if (key === undefined) throw new ProxyError("BAD_PEM", `${dir}/${AUTHORITY}.key: no PRIVATE KEY in it`);
  for (const certificate of certificates) {
    if (await ownsKey(certificate, key))
      return { signer: { certificatePem: certificate, keyPem: key }, certificates, keys };
  }
  throw new ProxyError(
    "BAD_KEY",
    `${dir}/${AUTHORITY}.key: the private key belongs to no certificate in ${dir}/${AUTHORITY}.pem`,
  );
}

/** Throws ProxyError `EEXIST` with `advice` when one of the pair's files is there. */
export function refuseToReplace(files: Files, path: { dir: string; base: string }, advice: string): void {
  for (const ending of ["key", "pem"]) {
    const place = `${path.dir}/${path.base}.${ending}`;
    if (files.exists(place)) throw new ProxyError("EEXIST", `${place} exists already: ${advice}`);
  }
}

/** Milliseconds above 0. Throws ProxyError `USAGE`. */
export function parsedLifetime(text: string): number {
  const lifetimeMs = parseDuration(text);
  if (lifetimeMs === null || lifetimeMs === 0)
    throw new ProxyError("USAGE", `--lifetime "${text}" is not a duration: write 12h or 30d`);
  return lifetimeMs;
}

/** Does the work and gives the exit code: 0, 2 for what was typed wrong, 1 for every other failure, whose message goes to standard error. */
export async function reporting(io: PkiIo, work: () => Promise<void>): Promise<number> {
  try {
    await work();
    return 0;
  } catch (error) {
    if (!(error instanceof ProxyError)) throw error;
    io.err(error.message);
    return error.code === "USAGE" || error.code === "BAD_NAME" ? 2 : 1;
  }
}

/** Loaded by the commands that need it: see the remark there. */
export function tlsTools(): Promise<typeof import("../tls-tools/tls-tools.ts")> {
  return import("../tls-tools/tls-tools.ts");
}
