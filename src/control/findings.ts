// Errors and warnings about the files that a config names, and their expiry dates. A file that is in use already is judged more leniently than
// one that would replace it: refusing it would help nobody, and would hold up everything else, above all revocation.

import type { Path, PlacedProblem } from "../config/problems.ts";
import type { Places } from "../config/yaml.ts";
import { type CertificateDetails, EXTENDED_KEY_USAGE } from "../protocol/certificate-details.ts";
import type { ExpiringAt } from "./served-certificates.ts";

/** What OpenSSL asks for at the security level that distributions set. */
const SHORTEST_RSA_BITS = 2048;
/** anyExtendedKeyUsage (RFC 5280, 4.2.1.12). */
const ANY_USE = "2.5.29.37.0";

/** A certificate or revocation list that expires, as an operator knows it. */
export interface Expiring {
  readonly what: "a certificate" | "a revocation list";
  /** `certificate`: one that is shown, `intermediate`: another of its chain, the others are what peers are judged by. */
  readonly role: "certificate" | "intermediate" | "authority" | "revocation_list";
  /** The file it was read from. */
  readonly file: string;
  /** Of a revocation list: its issuer's. "" where that is not known. */
  readonly subject: string;
  /** Those that one which is shown is for: URIs, DNS names and IP addresses. */
  readonly names: readonly string[];
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export interface FindingsOptions {
  /** Unix time in ms. */
  readonly nowMs: number;
  /** Whether a file is served as it is. What is merely suspect is a warning then; a set that would replace one that works must be sound. */
  isServed(file: string): boolean;
}

/** Gathers findings, each with its place in the config. */
export class Findings {
  readonly problems: PlacedProblem[] = [];
  readonly warnings: PlacedProblem[] = [];
  readonly #places: Places;
  readonly #options: FindingsOptions;
  readonly #expiring = new Map<string, Expiring>();
  /** The same once for each place that names it. */
  readonly expiringAt: ExpiringAt[] = [];

  constructor(places: Places, options: FindingsOptions) {
    this.#places = places;
    this.#options = options;
  }

  /** All that has an end, whatever file it is in, once each. */
  get expiring(): readonly Expiring[] {
    return [...this.#expiring.values()];
  }

  error(path: Path, message: string): void {
    this.problems.push(this.#places.place({ path, message }));
  }

  warn(path: Path, message: string): void {
    this.warnings.push(this.#places.place({ path, message }));
  }

  /** An error when one of these files would be served anew, else a warning. */
  suspect(path: Path, files: readonly string[], message: string): void {
    if (files.every((file) => this.#options.isServed(file))) this.warn(path, message);
    else this.error(path, message);
  }

  /** Judges the dates of a certificate. Of an authority, an end deserves no more than a warning. */
  noteCertificate(path: Path, details: CertificateDetails, { file, role }: Pick<Expiring, "file" | "role">): void {
    const { notBeforeMs, notAfterMs, uris, dnsNames, ips } = details;
    const names = role === "certificate" ? [...uris, ...dnsNames, ...ips] : [];
    const expiring = { file, role, names, subject: titleOf(details), notBeforeMs, notAfterMs };
    this.noteValidity(path, { what: "a certificate", ...expiring }, { endIsFatal: role !== "authority" });
  }

  /** Judges dates. `endIsFatal`: whether what has ended is suspect, or deserves no more than a warning. */
  noteValidity(path: Path, expiring: Expiring, { endIsFatal }: { readonly endIsFatal: boolean }): void {
    const { nowMs } = this.#options;
    const { what, file, subject, notBeforeMs, notAfterMs } = expiring;
    if (Number.isFinite(notAfterMs)) {
      this.#expiring.set(`${what} ${file} ${subject} ${notAfterMs}`, expiring);
      this.expiringAt.push({ section: path[0], entry: path[1], expiring });
    }
    const which = `${file}: ${what === "a certificate" ? subject : `the revocation list of ${subject || "an unknown authority"}`}`;
    if (notAfterMs < nowMs) {
      const message = `${which}: expired on ${new Date(notAfterMs).toISOString()}`;
      if (endIsFatal) this.suspect(path, [file], message);
      else this.warn(path, message);
    } else if (notBeforeMs > nowMs)
      this.suspect(path, [file], `${which}: is not valid before ${new Date(notBeforeMs).toISOString()}`);
  }
}

/** What to call a certificate, whose subject may be empty. */
export function titleOf({ subject, uris, dnsNames, serial }: CertificateDetails): string {
  return subject || uris[0] || dnsNames[0] || `serial ${serial}`;
}

/** What a certificate is shown as. */
export type Use = keyof typeof EXTENDED_KEY_USAGE;

/** Says why those that it is shown to will refuse a certificate: it is for another use, or its key is too short; "" when they will not. */
export function misuseOf({ extendedKeyUsages: uses, keyAlgorithm }: CertificateDetails, use: Use): string {
  const bits = /^RSA(\d+)$/.exec(keyAlgorithm)?.[1];
  if (bits !== undefined && Number(bits) < SHORTEST_RSA_BITS)
    return `has an RSA key of ${bits} bits, and most peers refuse less than ${SHORTEST_RSA_BITS}`;
  if (uses.length === 0 || uses.includes(EXTENDED_KEY_USAGE[use]) || uses.includes(ANY_USE)) return "";
  return use === "SERVER_AUTH"
    ? "is not for servers by its extended key usage, so clients will refuse it"
    : "is not for clients by its extended key usage, so servers will refuse it";
}
