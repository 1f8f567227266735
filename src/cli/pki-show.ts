// `bunnel pki show`: what certificates say, each in a screenful, and which of those shown has signed which.

import { messageOf, ProxyError } from "../base/errors.ts";
import type { CertificateSummary } from "../tls-tools/tls-tools.ts";
import { type PkiIo, reporting, tlsTools } from "./pki-files.ts";
import { printable } from "./printable.ts";

/** A certificate, and where it was found: a path, and its number where a file holds several. */
export interface FoundCertificate {
  readonly place: string;
  readonly pem: string;
  readonly summary: CertificateSummary;
}

/** Prints what the certificates in files say. Exit code: 0, or 1 when a file cannot be read or holds none; the others are shown all the same. */
export async function pkiShow(io: PkiIo, paths: readonly string[]): Promise<number> {
  const found: FoundCertificate[] = [];
  let worst = 0;
  for (const path of paths) {
    const code = await reporting(io, async () => {
      found.push(...(await readCertificates(io, path)));
    });
    worst = Math.max(worst, code);
  }
  for (const certificate of found) {
    const signer = await signerOf(certificate, found);
    for (const line of describeCertificate(certificate, { signer, nowMs: Date.now() })) io.out(line);
  }
  return worst;
}

/** The lines of `pki show` for one certificate, under a heading that says where it was found. `signer` says who signed it. */
function describeCertificate(
  { place, summary }: Pick<FoundCertificate, "place" | "summary">,
  { signer, nowMs }: { readonly signer: string; readonly nowMs: number },
): string[] {
  const row = (label: string, value: string): string => `  ${label.padEnd(13)}${value}`;
  const isSvid = summary.svidProblem === "";
  return [
    place,
    row("subject", printable(summary.subject) || "(empty)"),
    row("issuer", printable(summary.issuer) || "(empty)"),
    row("signed by", signer),
    row("names", summary.names.map((name) => quoteOdd(name)).join(", ") || "(none)"),
    ...(summary.isAuthority ? [] : [row("SPIFFE", isSvid ? "an X509-SVID" : `no X509-SVID: ${summary.svidProblem}`)]),
    row("valid", `${utc(summary.notBefore)} to ${utc(summary.notAfter)}, ${describeValidity(summary, nowMs)}`),
    row("key", summary.keyType),
    row("usage", summary.isAuthority ? "authority" : summary.usages.join(", ") || "any"),
    row("serial", summary.serial),
    row("fingerprint", `sha256:${summary.fingerprint}`),
    row("key pin", `sha256//${summary.keyPin}`),
  ];
}

/** Whole days from two days on, else whole hours or minutes, rounded down: nobody is promised time that is not there. */
export function roughly(ms: number): string {
  const [count, unit] =
    ms >= 2 * 86_400_000
      ? [Math.floor(ms / 86_400_000), "day"]
      : ms >= 2 * 3_600_000
        ? [Math.floor(ms / 3_600_000), "hour"]
        : [Math.floor(ms / 60_000), "minute"];
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

/** `2026-11-21T04:51:46Z`. */
export function utc(date: Date): string {
  return date.toISOString().replace(".000Z", "Z");
}

/** At least one. Throws the file's ProxyError, or `BAD_PEM` with the path in it. */
async function readCertificates(io: PkiIo, path: string): Promise<FoundCertificate[]> {
  const text = io.files.readText(path);
  const [{ certificateSummaries }, { splitPem }] = await Promise.all([tlsTools(), import("../protocol/pem.ts")]);
  const blocks = splitPem(text, "CERTIFICATE");
  if (blocks.length === 0) throw new ProxyError("BAD_PEM", `${path}: no certificate in it`);
  const found: FoundCertificate[] = [];
  for (const [index, pem] of blocks.entries()) {
    const place = blocks.length === 1 ? path : `${path} (${index + 1} of ${blocks.length})`;
    const [summary] = await certificateSummaries(pem).catch((error: unknown) => {
      throw new ProxyError("BAD_PEM", `${place}: ${messageOf(error)}`, { cause: error });
    });
    if (summary !== undefined) found.push({ place, pem, summary });
  }
  return found;
}

async function signerOf(certificate: FoundCertificate, among: readonly FoundCertificate[]): Promise<string> {
  const { isSignedBy } = await tlsTools();
  if (await isSignedBy(certificate.pem, certificate.pem)) return "itself";
  for (const { place, pem, summary } of among) {
    if (summary.isAuthority && (await isSignedBy(certificate.pem, pem))) return place;
  }
  return "none of these";
}

function describeValidity(summary: CertificateSummary, nowMs: number): string {
  const starts = summary.notBefore.getTime() - nowMs;
  const ends = summary.notAfter.getTime() - nowMs;
  if (starts > 0) return `not valid yet, begins in ${roughly(starts)}`;
  return ends > 0 ? `expires in ${roughly(ends)}` : `EXPIRED ${roughly(-ends)} ago`;
}

/** A comma or space inside a name must not look like two names. */
function quoteOdd(name: string): string {
  return /^[\x21-\x2b\x2d-\x7e]+$/.test(name) ? name : printable(JSON.stringify(name));
}
