// `bunnel pki rotate`: a new authority in the place of an old one, while certificates of both are in use. Verifiers must know the new one
// before it signs, and the old one until nothing that it signed is in use; so there are three steps, and between them the
// operator copies `ca.pem` to every host and lets certificates be renewed. Each step can be repeated after a crash: only the first
// writes two files, and the key that it writes first signs nothing yet.

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

export interface PkiRotateOptions {
  readonly dir: string;
  /** Common name of the new authority. Default: the old one's. */
  readonly name?: string;
  readonly lifetime: string;
}

type Step = "begin" | "switch" | "finish";

/** Exit code: 0, 1 (it is not the turn of this step, or files cannot be read or written), 2 (an option is malformed). */
export function pkiRotate(io: PkiIo, step: string, options: PkiRotateOptions): Promise<number> {
  return reporting(io, async () => {
    if (step !== "begin" && step !== "switch" && step !== "finish")
      throw new ProxyError("USAGE", `"${step}" is no step of a rotation: begin, switch or finish`);
    const { dir } = options;
    const lifetimeMs = parsedLifetime(options.lifetime);
    const authority = await readAuthority(io.files, dir);
    const turn = nextStep(dir, authority);
    if (step !== turn)
      throw new ProxyError(
        "WRONG_STEP",
        `${dir}: ${STATES[turn]}; the next step is bunnel pki rotate ${turn} --dir ${dir}`,
      );
    if (step === "begin") await begin(io, authority, { ...options, lifetimeMs });
    else if (step === "switch") switchOver(io, authority, dir);
    else finish(io, authority, dir);
  });
}

const STATES: Readonly<Record<Step, string>> = {
  begin: "no rotation has begun",
  switch: "a rotation has begun, and the old authority signs",
  finish: "the new authority signs, and the old one is trusted still",
};

function nextStep(dir: string, { certificates, keys }: Authority): Step {
  // One certificate with two keys: `begin` was killed between its two files.
  if (certificates.length === 1) return "begin";
  if (certificates.length === 2 && keys.length <= 2) return keys.length === 2 ? "switch" : "finish";
  const found = `${certificates.length} certificates, ${keys.length} keys`;
  throw new ProxyError("BAD_AUTHORITY", `${dir}: ${found}: this is no authority that bunnel pki init has made`);
}

async function begin(
  io: PkiIo,
  { signer }: Authority,
  { dir, name, lifetimeMs }: PkiRotateOptions & { readonly lifetimeMs: number },
): Promise<void> {
  const { createAuthority } = await tlsTools();
  const { replaceableName } = await import("../tls-tools/renewal.ts");
  const commonName = name ?? replaceableName(signer.certificatePem);
  const next = await createAuthority({ commonName, lifetimeMs });
  writeKey(io.files, `${dir}/${AUTHORITY}.key`, signer.keyPem + next.keyPem);
  writeCertificate(io.files, `${dir}/${AUTHORITY}.pem`, signer.certificatePem + next.certificatePem);
  io.out(`${dir}/${AUTHORITY}.pem now holds the old authority and a new one; the old one signs.`);
  io.out(`Copy ${dir}/${AUTHORITY}.pem to every host. When all have it: bunnel pki rotate switch --dir ${dir}`);
}

function switchOver(io: PkiIo, { keys }: Authority, dir: string): void {
  // The old key is gone from here on, and with it what the old authority could do.
  writeKey(io.files, `${dir}/${AUTHORITY}.key`, keys.slice(1).join(""));
  io.out(`The new authority signs, and ${dir}/${AUTHORITY}.pem still holds both.`);
  io.out(
    `bunnel pki renew replaces what the old one signed. When all is renewed: bunnel pki rotate finish --dir ${dir}`,
  );
}

function finish(io: PkiIo, { signer }: Authority, dir: string): void {
  writeCertificate(io.files, `${dir}/${AUTHORITY}.pem`, signer.certificatePem);
  io.out(`${dir}/${AUTHORITY}.pem holds the new authority alone.`);
  io.out(
    `Copy ${dir}/${AUTHORITY}.pem to every host: certificates that the old one signed are refused there from then on.`,
  );
}
