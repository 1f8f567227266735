// The certificates, keys, authorities and revocation lists that a config names: read, taken apart, and judged before
// anything is opened. Messages never quote what is in a file: it may be a key, or a path may point at another secret.

import { hex } from "../base/bytes.ts";
import { messageOf } from "../base/errors.ts";
import { type PlacedRoute, terminationOf, tlsFieldPath } from "../config/effective.ts";
import type { Path, PlacedProblem } from "../config/problems.ts";
import type { BackendTlsConfig, ListenerConfig, TlsConfig } from "../config/schema.ts";
import type { Places } from "../config/yaml.ts";
import { type CertificateDetails, readCertificateDetails } from "../protocol/certificate-details.ts";
import { readRevocationList } from "../protocol/revocation-list.ts";
import { svidProblem } from "../protocol/spiffe-id.ts";
import { constrainAnchor } from "../protocol/trust-anchor.ts";
import type { Files } from "../runtime/files.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { CertificateSpec, OriginationSpec, TerminationSpec } from "../snapshot/snapshot.ts";
import { decodePem, encodePem } from "../tls-tools/pem.ts";
import { PemFiles } from "./pem-files.ts";

export interface MaterialOptions {
  readonly files: Pick<Files, "readText" | "list" | "stamp">;
  /** Builds what will be served, and throws ProxyError `BAD_TLS_MATERIAL` when that cannot be; null to leave it out. */
  readonly runtime: Pick<Runtime, "serverContext" | "clientContext" | "isSignedBy"> | null;
  /** Unix time in ms, for what has expired. */
  readonly nowMs: number;
  /**
   * Whether what is merely suspect is an error: dates, the order of a chain. A daemon starts with such a set, for there is no better one;
   * a set that would replace one that works must be sound.
   */
  readonly strict: boolean;
}

/** A certificate that expires, as an operator knows it. */
export interface ExpiringCertificate {
  /** The file it was read from. */
  readonly file: string;
  readonly subject: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const CERTIFICATE = "CERTIFICATE";
const CRL = "X509 CRL";

/** Ends of the names of files in a SPIFFE folder. */
const CREDENTIAL_SUFFIX = ".private-key.pem";
const BUNDLE_SUFFIX = ".spiffe-trust-bundle.pem";

interface Authority {
  readonly pem: string;
  readonly details: CertificateDetails;
}

/** Who vouches for a peer. */
interface Trust {
  readonly anchorsPem: readonly string[];
  /** Empty where the anchors are not those of trust domains. */
  readonly domains: readonly string[];
}

const NO_TRUST: Trust = { anchorsPem: [], domains: [] };

interface SpiffeFolder {
  readonly path: string;
  /** Null when it is not sound, which has been told. */
  readonly certificate: CertificateSpec | null;
  readonly trust: Trust;
}

/** Reads what routes and backends name, and gathers what is wrong. */
export class MaterialReader {
  readonly problems: PlacedProblem[] = [];
  readonly warnings: PlacedProblem[] = [];
  readonly #places: Places;
  readonly #options: MaterialOptions;
  readonly #files: PemFiles;
  readonly #expiring = new Map<string, ExpiringCertificate>();

  constructor(places: Places, options: MaterialOptions) {
    this.#places = places;
    this.#options = options;
    this.#files = new PemFiles(options.files, (path, message) => this.error(path, message));
  }

  error(path: Path, message: string): void {
    this.problems.push(this.#places.place({ path, message }));
  }

  /** Every file and folder that was looked for, and its stamp just before: what to watch. */
  get stamps(): ReadonlyMap<string, string> {
    return this.#files.stamps;
  }

  /** Every certificate that was read, authorities included. */
  get expiring(): readonly ExpiringCertificate[] {
    return [...this.#expiring.values()];
  }

  /** What a route presents and demands, with all PEM texts; null for one that does not terminate. */
  readTermination(listener: ListenerConfig, listenerPath: Path, placed: PlacedRoute): TerminationSpec | null {
    const tls = terminationOf(listener, placed.route);
    if (tls === null) return null;
    const at = (field: keyof TlsConfig): Path => tlsFieldPath(listenerPath, placed, field);
    const problemsBefore = this.problems.length;
    const folder = tls.spiffe_folder === undefined ? null : this.#readFolder(tls.spiffe_folder, at("spiffe_folder"));
    // A route that asks for no certificate may stand on a listener whose other routes do.
    const asks = tls.client_auth !== "none";
    const trust = asks ? this.#readTrust({ ...tls, ca: tls.client_ca }, folder, at, "client_ca") : NO_TRUST;
    const clientCrlPem = asks ? this.#readRevocationLists(tls.client_crl, at("client_crl")) : [];
    const demandsAreSound = this.problems.length === problemsBefore;
    const demands = {
      clientAuth: tls.client_auth,
      clientCaPem: trust.anchorsPem,
      clientCrlPem,
      minVersion: tls.min_version,
      alpn: tls.alpn,
      sessionTickets: tls.session_tickets,
    };
    const certificates: CertificateSpec[] = [];
    const presented = tls.certificates.map((files, index) => {
      const path: Path = [...at("certificates"), index];
      return { path, certificate: this.#readCertificate(files, path, index), which: `${files.cert} with ${files.key}` };
    });
    if (folder !== null)
      presented.push({ path: at("spiffe_folder"), certificate: folder.certificate, which: folder.path });
    for (const { path, certificate, which } of presented) {
      if (certificate === null) continue;
      certificates.push(certificate);
      // As it will be served. With CAs or CRLs that are bad in themselves every certificate would be blamed for them.
      if (demandsAreSound)
        this.#validate(path, which, (runtime) => runtime.serverContext({ ...certificate, ...demands }));
    }
    return { certificates, ...demands, trustDomains: trust.domains, onExpiry: tls.on_expiry };
  }

  /** What is shown to and demanded of the endpoints of a backend; null for one that speaks no TLS. */
  readOrigination(backendName: string, tls: BackendTlsConfig | undefined): OriginationSpec | null {
    if (tls === undefined) return null;
    const path: Path = ["backends", backendName, "tls"];
    const at = (field: keyof BackendTlsConfig): Path => [...path, field];
    const problemsBefore = this.problems.length;
    const folder = tls.spiffe_folder === undefined ? null : this.#readFolder(tls.spiffe_folder, at("spiffe_folder"));
    const trust = this.#readTrust(tls, folder, at, "ca");
    const serverCrlPem = this.#readRevocationLists(tls.crl, at("crl"));
    let shown: CertificateSpec | null = folder?.certificate ?? null;
    if (tls.cert !== undefined && tls.key !== undefined)
      shown = this.#readCertificate({ cert: tls.cert, key: tls.key }, path, 0);
    const identity = {
      chainPem: shown?.chainPem ?? "",
      keyPem: shown?.keyPem ?? "",
      serverCaPem: trust.anchorsPem,
      serverCrlPem,
      minVersion: tls.min_version,
      alpn: tls.alpn,
    };
    if (this.problems.length === problemsBefore)
      this.#validate(path, tls.cert ?? tls.spiffe_folder ?? "ca", (runtime) => runtime.clientContext(identity));
    return {
      ...identity,
      serverName: tls.server_name ?? "",
      verifyDns: tls.verify.dns,
      verifyUri: tls.verify.uri,
      trustDomains: trust.domains,
      onExpiry: tls.on_expiry,
    };
  }

  #readCertificate(files: TlsConfig["certificates"][number], path: Path, index: number): CertificateSpec | null {
    const chain = this.#files.blocks(files.cert, CERTIFICATE, [...path, "cert"]);
    const keyPem = this.#files.key(files.key, [...path, "key"]);
    const leafPem = chain[0];
    if (leafPem === undefined || keyPem === null) return null;
    return this.#judgeChain(chain, keyPem, { path: [...path, "cert"], file: files.cert, index });
  }

  #judgeChain(
    chain: readonly string[],
    keyPem: string,
    { path, file, index }: { path: Path; file: string; index: number },
  ): CertificateSpec | null {
    const certificates: { der: Uint8Array; details: CertificateDetails }[] = [];
    for (const pem of chain) {
      const der = decodePem(pem, CERTIFICATE);
      const details = readCertificateDetails(der);
      if (details === null) {
        this.error(path, `${file}: ${certificates.length === 0 ? "the" : "a"} certificate cannot be read`);
        return null;
      }
      this.#noteValidity(details, path, file);
      const below = certificates.at(-1);
      if (below !== undefined && this.#options.runtime?.isSignedBy(below.der, der) === false)
        this.#suspect(
          path,
          `${file}: certificate ${certificates.length + 1} did not sign the one before it; the order is leaf first, then each one's issuer`,
        );
      certificates.push({ der, details });
    }
    const leaf = certificates[0]?.details;
    if (leaf === undefined) return null;
    if (index > 0 && leaf.dnsNames.length === 0)
      this.#warn(path, `${file}: has no DNS names, so no SNI picks it; only the first certificate is a default`);
    return { chainPem: chain.join(""), keyPem, names: leaf.dnsNames };
  }

  /** The authorities that a `tls` names, in one of its three ways. */
  #readTrust<K extends string>(
    { ca, trust_domains }: { readonly ca: readonly string[]; readonly trust_domains: TlsConfig["trust_domains"] },
    folder: SpiffeFolder | null,
    at: (field: K | "trust_domains") => Path,
    caField: K,
  ): Trust {
    if (folder !== null) return folder.trust;
    const bundles = Object.entries(trust_domains);
    if (bundles.length === 0) {
      const authorities = this.#readAuthorities(ca, at(caField));
      return { anchorsPem: authorities.map(({ pem }) => pem), domains: [] };
    }
    return this.#constrain(
      bundles.map(([domain, files]) => {
        const path = [...at("trust_domains"), domain];
        return { domain, path, authorities: this.#readAuthorities(files, path) };
      }),
    );
  }

  /**
   * One list of anchors that keeps trust domains apart: each anchor may vouch only for names of its own (trust-anchor.ts), so a platform that
   * knows a single list of authorities never merges them.
   */
  #constrain(bundles: readonly { domain: string; path: Path; authorities: readonly Authority[] }[]): Trust {
    const anchorsPem: string[] = [];
    const domainOfKey = new Map<string, string>();
    for (const { domain, path, authorities } of bundles) {
      for (const { pem, details } of authorities) {
        const key = hex(details.spki);
        const owner = domainOfKey.get(key) ?? domain;
        domainOfKey.set(key, domain);
        const anchor = constrainAnchor(decodePem(pem, CERTIFICATE), domain);
        if (owner !== domain)
          this.error(
            path,
            `an authority here (${titleOf(details)}) is also one of "${owner}", and could vouch for its names`,
          );
        else if (details.issuer !== details.subjectDer)
          // Its own issuer would have to be here too, and only that one could be kept to the domain.
          this.error(
            path,
            `${titleOf(details)}: is not self-signed, and a trust bundle holds roots; its issuer belongs here`,
          );
        else if (typeof anchor === "string") this.error(path, `${titleOf(details)}: ${anchor}`);
        else anchorsPem.push(encodePem(anchor, CERTIFICATE));
      }
    }
    return { anchorsPem, domains: bundles.map(({ domain }) => domain) };
  }

  /** A folder as SPIFFE's file-system delivery lays it out: one bundle of key and certificates, and a trust bundle for each domain. */
  #readFolder(folder: string, path: Path): SpiffeFolder | null {
    const names = this.#files.names(folder, path);
    if (names === null) return null;
    const credentials = names.filter((name) => name.endsWith(CREDENTIAL_SUFFIX));
    const bundles = names.filter((name) => name.endsWith(BUNDLE_SUFFIX) && name.length > BUNDLE_SUFFIX.length);
    const [credential] = credentials;
    if (credential === undefined || credentials.length > 1)
      this.error(path, `${folder}: expected one file *${CREDENTIAL_SUFFIX}, found ${credentials.join(", ") || "none"}`);
    if (bundles.length === 0) this.error(path, `${folder}: expected a file TRUST-DOMAIN${BUNDLE_SUFFIX}, found none`);
    const trust = this.#constrain(
      bundles.map((name) => {
        const authorities = this.#readBundle(`${folder}/${name}`, path);
        return { domain: name.slice(0, -BUNDLE_SUFFIX.length), path, authorities };
      }),
    );
    if (credential === undefined || credentials.length > 1) return { path: folder, certificate: null, trust };
    const file = `${folder}/${credential}`;
    const chain = this.#files.blocks(file, CERTIFICATE, path);
    const keyPem = this.#files.key(file, path);
    if (chain[0] === undefined || keyPem === null) return { path: folder, certificate: null, trust };
    const certificate = this.#judgeChain(chain, keyPem, { path, file, index: 0 });
    const leaf = readCertificateDetails(decodePem(chain[0], CERTIFICATE));
    const problem = leaf === null ? "" : svidProblem(leaf);
    if (problem !== "") this.error(path, `${file}: the first certificate is no X.509-SVID: ${problem}`);
    return { path: folder, certificate, trust };
  }

  #readAuthorities(files: readonly string[], path: Path): Authority[] {
    return files.flatMap((file, index) => this.#readBundle(file, [...path, index]));
  }

  #readBundle(file: string, path: Path): Authority[] {
    const blocks = this.#files.blocks(file, CERTIFICATE, path);
    return blocks.flatMap((pem, index) => {
      const details = readCertificateDetails(decodePem(pem, CERTIFICATE));
      const which = `${file}: certificate ${index + 1} of ${blocks.length}`;
      if (details === null) {
        this.error(path, `${which} cannot be read`);
        return [];
      }
      if (!details.isCa) this.#suspect(path, `${which} (${titleOf(details)}) is no authority: it vouches for nobody`);
      this.#noteValidity(details, path, file);
      return [{ pem, details }];
    });
  }

  #readRevocationLists(files: readonly string[], path: Path): string[] {
    return files.flatMap((file, index) => {
      const place = [...path, index];
      const lists = this.#files.blocks(file, CRL, place);
      for (const pem of lists) {
        const list = readRevocationList(decodePem(pem, CRL));
        const problem = list === null ? "cannot be read" : list.problem;
        if (problem !== "") this.error(place, `${file}: the revocation list ${problem}`);
      }
      return lists;
    });
  }

  #validate(path: Path, which: string, build: (runtime: NonNullable<MaterialOptions["runtime"]>) => void): void {
    const { runtime } = this.#options;
    if (runtime === null) return;
    try {
      build(runtime);
    } catch (error) {
      this.error(path, `${which}: ${messageOf(error)}`);
    }
  }

  #noteValidity(details: CertificateDetails, path: Path, file: string): void {
    const { nowMs } = this.#options;
    const { notBeforeMs, notAfterMs } = details;
    const subject = titleOf(details);
    this.#expiring.set(`${file} ${subject} ${notAfterMs}`, { file, subject, notBeforeMs, notAfterMs });
    if (notAfterMs < nowMs)
      this.#suspect(path, `${file}: ${subject}: expired on ${new Date(notAfterMs).toISOString()}`);
    else if (notBeforeMs > nowMs)
      this.#suspect(path, `${file}: ${subject}: is not valid before ${new Date(notBeforeMs).toISOString()}`);
  }

  #suspect(path: Path, message: string): void {
    if (this.#options.strict) this.error(path, message);
    else this.#warn(path, message);
  }

  #warn(path: Path, message: string): void {
    this.warnings.push(this.#places.place({ path, message }));
  }
}

/** What to call a certificate, whose subject may be empty. */
function titleOf({ subject, uris, dnsNames, serial }: CertificateDetails): string {
  return subject || uris[0] || dnsNames[0] || `serial ${serial}`;
}
