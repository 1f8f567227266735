// The certificates, keys, authorities and revocation lists that a config names: read, taken apart, and judged before
// anything is opened. Messages never quote what is in a file: it may be a key, or a path may point at another secret.

import { messageOf } from "../base/errors.ts";
import { type PlacedRoute, terminationOf, tlsFieldPath } from "../config/effective.ts";
import type { ConfigFiles } from "../config/load.ts";
import type { Path, PlacedProblem } from "../config/problems.ts";
import type { ListenerConfig, TlsConfig } from "../config/schema.ts";
import type { Places } from "../config/yaml.ts";
import { type CertificateNames, readCertificate } from "../protocol/certificate.ts";
import type { ServerIdentity } from "../runtime/runtime.ts";
import type { CertificateSpec, TerminationSpec } from "../snapshot/snapshot.ts";
import { decodePem, pemLabels, splitPem } from "../tls-tools/pem.ts";

export interface MaterialOptions {
  readonly files: ConfigFiles;
  /** Throws ProxyError `BAD_TLS_MATERIAL` when the platform cannot serve with these: `Runtime.serverContext`. */
  validate(identity: ServerIdentity): void;
  /** Unix time in ms, for what has expired. */
  readonly nowMs: number;
}

const CERTIFICATE = "CERTIFICATE";
const CRL = "X509 CRL";
/** PKCS #8 (RFC 5958), and the older forms that openssl still writes. */
const KEY_LABELS = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"];

/** Reads each file once, however many routes name it, and gathers what is wrong. */
export class MaterialReader {
  readonly problems: PlacedProblem[] = [];
  readonly warnings: PlacedProblem[] = [];
  readonly #places: Places;
  readonly #options: MaterialOptions;
  /** By path: many routes name the same files. */
  readonly #texts = new Map<string, string>();

  constructor(places: Places, options: MaterialOptions) {
    this.#places = places;
    this.#options = options;
  }

  error(path: Path, message: string): void {
    this.problems.push(this.#places.place({ path, message }));
  }

  /** What a route presents and demands, with all PEM texts; null for one that does not terminate. */
  readTermination(listener: ListenerConfig, listenerPath: Path, placed: PlacedRoute): TerminationSpec | null {
    const tls = terminationOf(listener, placed.route);
    if (tls === null) return null;
    const at = (field: keyof TlsConfig): Path => tlsFieldPath(listenerPath, placed, field);
    const problemsBefore = this.problems.length;
    // A route that asks for no certificate may stand on a listener whose other routes do.
    const asks = tls.client_auth !== "none";
    const clientCaPem = asks ? this.#readAuthorities(tls.client_ca, at("client_ca")) : [];
    const clientCrlPem = asks ? this.#readBlocks(tls.client_crl, CRL, at("client_crl")) : [];
    const demandsAreSound = this.problems.length === problemsBefore;
    const demands = {
      clientAuth: tls.client_auth,
      clientCaPem,
      clientCrlPem,
      minVersion: tls.min_version,
      alpn: tls.alpn,
      sessionTickets: tls.session_tickets,
    };
    const certificates: CertificateSpec[] = [];
    for (const [index, files] of tls.certificates.entries()) {
      const certificate = this.#readCertificate(files, [...at("certificates"), index], index);
      if (certificate === null) continue;
      certificates.push(certificate);
      // As it will be served. With CAs or CRLs that are bad in themselves every certificate would be blamed for them.
      if (demandsAreSound) {
        const path = [...at("certificates"), index];
        this.#validate({ ...certificate, ...demands }, path, `${files.cert} with ${files.key}`);
      }
    }
    return { certificates, ...demands };
  }

  #readCertificate(files: TlsConfig["certificates"][number], path: Path, index: number): CertificateSpec | null {
    const chain = this.#readBlocks([files.cert], CERTIFICATE, path, "cert");
    const keyPem = this.#readKey(files.key, [...path, "key"]);
    const leafPem = chain[0];
    if (leafPem === undefined || keyPem === null) return null;
    const leaf = readCertificate(decodePem(leafPem, CERTIFICATE));
    if (leaf === null) {
      this.error([...path, "cert"], `${files.cert}: the certificate cannot be read`);
      return null;
    }
    this.#warnOfValidity(leaf, [...path, "cert"], files.cert);
    if (index > 0 && leaf.dnsNames.length === 0)
      this.#warn(
        [...path, "cert"],
        `${files.cert}: has no DNS names, so no SNI picks it; only the first certificate is a default`,
      );
    return { chainPem: chain.join(""), keyPem, names: leaf.dnsNames };
  }

  #readAuthorities(paths: readonly string[], path: Path): string[] {
    const authorities = this.#readBlocks(paths, CERTIFICATE, path);
    for (const [index, pem] of authorities.entries()) {
      const authority = readCertificate(decodePem(pem, CERTIFICATE));
      const which = `certificate ${index + 1} of ${authorities.length}`;
      if (authority === null) this.error(path, `${which} cannot be read`);
      else this.#warnOfValidity(authority, path, which);
    }
    return authorities;
  }

  /** The blocks with this label of all the files, each of which must have one that is sound base64. */
  #readBlocks(paths: readonly string[], label: string, path: Path, field?: string): string[] {
    return paths.flatMap((file, index) => {
      const place = [...path, field ?? index];
      const text = this.#readText(file, place);
      if (text === null) return [];
      const blocks = splitPem(text, label);
      if (blocks.length === 0) this.error(place, `${file}: expected a PEM block "${label}", found ${foundIn(text)}`);
      return blocks.filter((block) => {
        try {
          return decodePem(block, label).length > 0;
        } catch (error) {
          this.error(place, `${file}: ${messageOf(error)}`);
          return false;
        }
      });
    });
  }

  #readKey(file: string, path: Path): string | null {
    const text = this.#readText(file, path);
    if (text === null) return null;
    const key = KEY_LABELS.flatMap((label) => splitPem(text, label))[0];
    const encrypted = text.includes("BEGIN ENCRYPTED PRIVATE KEY") || key?.includes("Proc-Type: 4,ENCRYPTED") === true;
    if (encrypted) this.error(path, `${file}: the key is encrypted, and there is nobody to ask for its password`);
    else if (key === undefined) this.error(path, `${file}: expected a PEM block "PRIVATE KEY", found ${foundIn(text)}`);
    return encrypted ? null : (key ?? null);
  }

  #readText(file: string, path: Path): string | null {
    const known = this.#texts.get(file);
    if (known !== undefined) return known;
    try {
      const text = this.#options.files.readText(file);
      this.#texts.set(file, text);
      return text;
    } catch (error) {
      this.error(path, messageOf(error));
      return null;
    }
  }

  #validate(identity: ServerIdentity, path: Path, which: string): void {
    try {
      this.#options.validate(identity);
    } catch (error) {
      this.error(path, `${which}: ${messageOf(error)}`);
    }
  }

  #warnOfValidity({ notBeforeMs, notAfterMs }: CertificateNames, path: Path, which: string): void {
    const { nowMs } = this.#options;
    if (notAfterMs < nowMs) this.#warn(path, `${which}: expired on ${new Date(notAfterMs).toISOString()}`);
    else if (notBeforeMs > nowMs)
      this.#warn(path, `${which}: is not valid before ${new Date(notBeforeMs).toISOString()}`);
  }

  #warn(path: Path, message: string): void {
    this.warnings.push(this.#places.place({ path, message }));
  }
}

function foundIn(text: string): string {
  return pemLabels(text).join(", ") || "no PEM block";
}
