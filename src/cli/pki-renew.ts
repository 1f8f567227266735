// `bunnel pki renew`: a new certificate and key over the old files, with the same names. It does so only when it is time, so that it
// can be called as often as one likes, from cron for instance. A daemon that watches the files takes the new pair by itself, and
// those who trust the authority need not be told.

import { ProxyError } from "../base/errors.ts";
import {
  AUTHORITY,
  type Authority,
  type PkiIo,
  parsedLifetime,
  readAuthority,
  reporting,
  tlsTools,
  writeCertificate,
  writeKey,
} from "./pki-files.ts";
import { roughly, utc } from "./pki-show.ts";

export interface PkiRenewOptions {
  /** Of the authority. */
  readonly dir: string;
  /** Default: as long as the old one was. */
  readonly lifetime?: string;
  /** Also what has more than a third of its lifetime left. */
  readonly force?: boolean;
}

/**
 * Renews those certificates that are due and says what it did with each; a file that cannot be renewed does not keep the others from it.
 * Exit code: 0, 1 (one could not be renewed), 2 (an option is malformed).
 */
export async function pkiRenew(io: PkiIo, paths: readonly string[], options: PkiRenewOptions): Promise<number> {
  let authority: Authority | null = null;
  let lifetimeMs: number | null = null;
  let worst = await reporting(io, async () => {
    lifetimeMs = options.lifetime === undefined ? null : parsedLifetime(options.lifetime);
    authority = await readAuthority(io.files, options.dir);
  });
  if (authority === null) return worst;
  const settings = { authority, lifetimeMs, force: options.force === true, dir: options.dir };
  for (const path of paths) worst = Math.max(worst, await reporting(io, () => renew(io, path, settings)));
  return worst;
}

interface Settings {
  readonly dir: string;
  readonly authority: Authority;
  readonly lifetimeMs: number | null;
  readonly force: boolean;
}

async function renew(io: PkiIo, path: string, settings: Settings): Promise<void> {
  const { renewCertificate, certificateSummaries } = await tlsTools();
  const keyPath = keyPathOf(path);
  const certificatePem = io.files.readText(path);
  const because = await reasonToRenew({ path, certificatePem, keyPem: io.files.readText(keyPath) }, settings);
  const [old] = await certificateSummaries(certificatePem);
  const left = (old?.notAfter.getTime() ?? 0) - Date.now();
  if (because === null) {
    io.out(`${path}: kept, it has ${roughly(left)} left`);
    return;
  }
  const lifetime = settings.lifetimeMs === null ? {} : { lifetimeMs: settings.lifetimeMs };
  const pair = await renewCertificate(settings.authority.signer, certificatePem, lifetime).catch((error: unknown) => {
    throw error instanceof ProxyError
      ? new ProxyError(error.code, `${path}: ${error.message}`, { cause: error })
      : error;
  });
  writeKey(io.files, keyPath, pair.keyPem);
  writeCertificate(io.files, path, pair.certificatePem);
  const [renewed] = await certificateSummaries(pair.certificatePem);
  io.out(`${path}: renewed (${because}), valid until ${renewed === undefined ? "" : utc(renewed.notAfter)}`);
}

/** Null when it is not due. Throws ProxyError when it is none that this authority may renew. */
async function reasonToRenew(
  { path, certificatePem, keyPem }: { path: string; certificatePem: string; keyPem: string },
  { authority, force, dir }: Settings,
): Promise<string | null> {
  const { certificateSummaries, isSignedBy } = await tlsTools();
  const { ownsKey } = await import("../tls-tools/keys.ts");
  const [old, ...others] = await certificateSummaries(certificatePem).catch((error: unknown) => {
    throw error instanceof ProxyError
      ? new ProxyError(error.code, `${path}: ${error.message}`, { cause: error })
      : error;
  });
  if (old === undefined) throw new ProxyError("BAD_PEM", `${path}: no certificate in it`);
  if (others.length > 0)
    throw new ProxyError(
      "BAD_PEM",
      `${path}: holds ${others.length + 1} certificates; only one that stands alone is renewed`,
    );
  if (old.isAuthority) throw new ProxyError("BAD_NAME", `${path}: is an authority; bunnel pki rotate replaces one`);
  let isOurs = false;
  for (const certificate of authority.certificates) isOurs ||= await isSignedBy(certificatePem, certificate);
  if (!isOurs)
    throw new ProxyError(
      "BAD_AUTHORITY",
      `${path}: issued by "${old.issuer}", and by none in ${dir}/${AUTHORITY}.pem; nothing was changed`,
    );
  if (force) return "--force";
  const left = old.notAfter.getTime() - Date.now();
  if (left <= 0) return `it expired ${roughly(-left)} ago`;
  if (left < (old.notAfter.getTime() - old.notBefore.getTime()) / 3) return `it had ${roughly(left)} left`;
  if (!(await isSignedBy(certificatePem, authority.signer.certificatePem))) return "its authority is being replaced";
  // The trace of a renewal that was killed between its two files.
  return (await ownsKey(certificatePem, keyPem)) ? null : "its key was another one's";
}

function keyPathOf(path: string): string {
  if (!path.endsWith(".pem")) throw new ProxyError("USAGE", `${path}: give NAME.pem, which has NAME.key beside it`);
  return path.replace(/pem$/, "key");
}
