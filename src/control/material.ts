// The certificates, keys, CAs and revocation lists that a config names: read, parsed, and checked before
// anything is opened. Messages never quote what is in a file: it may be a key, or a path may point at another secret.

import { hex } from "../base/bytes.ts";
import { messageOf } from "../base/errors.ts";
import { type PlacedRoute, terminationOf, tlsFieldPath } from "../config/effective.ts";
import type { Path } from "../config/problems.ts";
import type { BackendTlsConfig, ListenerConfig, TlsConfig } from "../config/schema.ts";
import type { OtlpConfig } from "../config/schema-telemetry.ts";
import type { Places } from "../config/yaml.ts";
import { type CertificateDetails, readCertificateDetails } from "../protocol/certificate-details.ts";
import { parseSpiffeId, svidProblem } from "../protocol/spiffe-id.ts";
import { constrainAnchor } from "../protocol/trust-anchor.ts";
import type { Files } from "../runtime/files.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { CertificateSpec, CollectorSpec, OriginationSpec, TerminationSpec } from "../snapshot/snapshot.ts";
import { decodePem, encodePem } from "../tls-tools/pem.ts";
import { Findings, misuseOf, titleOf, type Use } from "./findings.ts";
import { PemFiles } from "./pem-files.ts";
import { readRevocationLists } from "./revocation-lists.ts";

export interface MaterialOptions {
  readonly files: Pick<Files, "readText" | "list" | "stamp">;
  /** Builds the TLS contexts as a check, and throws ProxyError `BAD_TLS_MATERIAL` when that fails; null to skip it. */
  readonly runtime: Pick<Runtime, "serverContext" | "clientContext" | "isSignedBy" | "userExists" | "refusals"> | null;
  /** Unix time in ms, for what has expired. */
  readonly nowMs: number;
  /**
   * Texts of the files in use, by path; null when there are none yet. What is merely suspect, such as dates and the order of a chain, is an
   * error only in files that would replace others. At the start it is a warning, as there is nothing better to use.
   */
  readonly served: ReadonlyMap<string, string> | null;
}

const CERTIFICATE = "CERTIFICATE";
const CHAIN_ORDER = "the order is leaf first, then each one's issuer";

/** Ends of the names of files in a SPIFFE folder. */
const CREDENTIAL_SUFFIX = ".private-key.pem";
const BUNDLE_SUFFIX = ".spiffe-trust-bundle.pem";

interface Authority {
  readonly pem: string;
  readonly details: CertificateDetails;
}

/** The authorities of a trust domain, and the place that names them. */
interface Bundle {
  readonly domain: string;
  readonly path: Path;
  readonly authorities: readonly Authority[];
}

/** The CAs that peers are verified with. */
interface Trust {
  readonly authorities: readonly CertificateDetails[];
  readonly anchorsPem: readonly string[];
  /** Empty where the anchors are not those of trust domains. */
  readonly domains: readonly string[];
}

const NO_TRUST: Trust = { authorities: [], anchorsPem: [], domains: [] };

/** Where a certificate is presented: its index in a list, and to whom; null for both sides. */
interface ShownAs {
  readonly path: Path;
  readonly index: number;
  readonly use: Use | null;
}

interface SpiffeFolder {
  readonly path: string;
  /** Null when it is not valid, which has been reported. */
  readonly certificate: CertificateSpec | null;
  readonly trust: Trust;
}

/** Reads the files that routes and backends name, and collects problems. */
export class MaterialReader {
  readonly findings: Findings;
  /** What has been read so far. */
  readonly files: PemFiles;
  readonly #options: MaterialOptions;

  constructor(places: Places, options: MaterialOptions) {
    const { nowMs, served } = options;
    const isServed = (file: string): boolean => served === null || served.get(file) === this.files.texts.get(file);
    this.findings = new Findings(places, { nowMs, isServed });
    this.files = new PemFiles(options.files, (path, message) => this.findings.error(path, message));
    this.#options = options;
  }

  /** What a route presents and demands, with all PEM texts; null for one that does not terminate. */
  readTermination(listener: ListenerConfig, listenerPath: Path, placed: PlacedRoute): TerminationSpec | null {
    const tls = terminationOf(listener, placed.route);
    if (tls === null) return null;
    const at = (field: keyof TlsConfig): Path => tlsFieldPath(listenerPath, placed, field);
    const problemsBefore = this.findings.problems.length;
    const folder = tls.spiffe_folder === undefined ? null : this.#readFolder(tls.spiffe_folder, at("spiffe_folder"));
    // A route that asks for no certificate may stand on a listener whose other routes do.
    const asks = tls.client_auth !== "none";
    const trust = asks ? this.#readTrust({ ...tls, ca: tls.client_ca }, folder, at, "client_ca") : NO_TRUST;
    const clientCrlPem = asks ? this.#readRevocationLists(tls.client_crl, at("client_crl"), trust) : [];
    const demandsAreSound = this.findings.problems.length === problemsBefore;
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
      const certificate = this.#readCertificate(files, { path, index, use: "SERVER_AUTH" });
      return { path, certificate, which: `${files.cert} with ${files.key}` };
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
    const problemsBefore = this.findings.problems.length;
    const folder = tls.spiffe_folder === undefined ? null : this.#readFolder(tls.spiffe_folder, at("spiffe_folder"));
    const trust = this.#readTrust(tls, folder, at, "ca");
    const serverCrlPem = this.#readRevocationLists(tls.crl, at("crl"), trust);
    let shown: CertificateSpec | null = folder?.certificate ?? null;
    if (tls.cert !== undefined && tls.key !== undefined)
      shown = this.#readCertificate({ cert: tls.cert, key: tls.key }, { path, index: 0, use: "CLIENT_AUTH" });
    const identity = {
      chainPem: shown?.chainPem ?? "",
      keyPem: shown?.keyPem ?? "",
      serverCaPem: trust.anchorsPem,
      serverCrlPem,
      minVersion: tls.min_version,
      alpn: tls.alpn,
    };
    // What is shown and its key are what can fail to fit together.
    const which = tls.spiffe_folder ?? (tls.cert === undefined ? "tls" : `${tls.cert} with ${tls.key}`);
    const place = tls.spiffe_folder !== undefined ? at("spiffe_folder") : tls.key !== undefined ? at("key") : path;
    if (this.findings.problems.length === problemsBefore)
      this.#validate(place, which, (runtime) => runtime.clientContext(identity));
    return {
      ...identity,
      serverName: tls.server_name ?? "",
      verifyDns: tls.verify.dns,
      verifyUri: tls.verify.uri,
      trustDomains: trust.domains,
      onExpiry: tls.on_expiry,
    };
  }

  /** Where spans go, and who vouches for the collector. */
  readCollector(otlp: OtlpConfig | undefined): CollectorSpec | null {
    if (otlp === undefined) return null;
    const { endpoint, headers, sample, tls } = otlp;
    const path: Path = ["telemetry", "otlp", "tls"];
    const caPem = this.#readAuthorities(tls?.ca ?? [], [...path, "ca"]).map(({ pem }) => pem);
    let shown: CertificateSpec | null = null;
    if (tls?.cert !== undefined && tls.key !== undefined)
      shown = this.#readCertificate({ cert: tls.cert, key: tls.key }, { path, index: 0, use: "CLIENT_AUTH" });
    const { chainPem, keyPem } = shown ?? { chainPem: "", keyPem: "" };
    if (shown !== null && this.findings.problems.length === 0)
      // As a server's, for a client's is not made without authorities of its own.
      this.#validate([...path, "key"], `${tls?.cert} with ${tls?.key}`, (runtime) =>
        runtime.serverContext({
          ...{ chainPem, keyPem, clientAuth: "none", clientCaPem: [], clientCrlPem: [] },
          ...{ minVersion: "1.2", alpn: [], sessionTickets: false },
        }),
      );
    return { endpoint, headers, sample, caPem, chainPem, keyPem };
  }

  #readCertificate(files: TlsConfig["certificates"][number], { path, index, use }: ShownAs): CertificateSpec | null {
    const chain = this.files.blocks(files.cert, CERTIFICATE, [...path, "cert"]);
    const keyPem = this.files.key(files.key, [...path, "key"]);
    const leafPem = chain[0];
    if (leafPem === undefined || keyPem === null) return null;
    return this.#judgeChain(chain, keyPem, { path: [...path, "cert"], file: files.cert, index, use });
  }

  #judgeChain(
    chain: readonly string[],
    keyPem: string,
    { path, file, index, use }: ShownAs & { readonly file: string },
  ): CertificateSpec | null {
    const certificates: { der: Uint8Array; details: CertificateDetails }[] = [];
    for (const pem of chain) {
      const der = decodePem(pem, CERTIFICATE);
      const details = readCertificateDetails(der);
      if (details === null) {
        this.findings.error(path, `${file}: ${certificates.length === 0 ? "the" : "a"} certificate cannot be read`);
        return null;
      }
      const role = certificates.length === 0 ? "certificate" : "intermediate";
      this.findings.noteCertificate(path, details, { file, role });
      const below = certificates.at(-1);
      if (certificates.length === 1 && below?.details.isCa && this.#options.runtime?.isSignedBy(der, below.der)) {
        this.findings.error(path, `${file}: certificate 1 signed certificate 2; ${CHAIN_ORDER}`);
        return null;
      }
      if (below !== undefined && this.#options.runtime?.isSignedBy(below.der, der) === false)
        this.findings.suspect(
          path,
          [file],
          `${file}: certificate ${certificates.length + 1} did not sign the one before it; ${CHAIN_ORDER}`,
        );
      certificates.push({ der, details });
    }
    const leaf = certificates[0]?.details;
    if (leaf === undefined) return null;
    const misuse = use === null ? "" : misuseOf(leaf, use);
    if (misuse !== "") this.findings.warn(path, `${file}: ${titleOf(leaf)}: ${misuse}`);
    if (index > 0 && leaf.dnsNames.length === 0)
      this.findings.warn(
        path,
        `${file}: has no DNS names, so no SNI picks it; only the first certificate is a default`,
      );
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
      return {
        authorities: authorities.map(({ details }) => details),
        anchorsPem: authorities.map(({ pem }) => pem),
        domains: [],
      };
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
  #constrain(bundles: readonly Bundle[]): Trust {
    const anchorsPem: string[] = [];
    const domainOfKey = new Map<string, string>();
    for (const { domain, path, authorities } of bundles) {
      for (const { pem, details } of authorities) {
        const key = hex(details.spki);
        const owner = domainOfKey.get(key) ?? domain;
        domainOfKey.set(key, domain);
        const anchor = constrainAnchor(decodePem(pem, CERTIFICATE), domain);
        if (owner !== domain)
          this.findings.error(
            path,
            `an authority here (${titleOf(details)}) is also one of "${owner}", and could vouch for its names`,
          );
        else if (details.issuer !== details.subjectDer)
          // Its own issuer would have to be here too, and only that one could be kept to the domain.
          this.findings.error(
            path,
            `${titleOf(details)}: is not self-signed, and a trust bundle holds roots; its issuer belongs here`,
          );
        else if (typeof anchor === "string") this.findings.error(path, `${titleOf(details)}: ${anchor}`);
        else anchorsPem.push(encodePem(anchor, CERTIFICATE));
      }
    }
    const details = bundles.flatMap(({ authorities }) => authorities.map((authority) => authority.details));
    return { authorities: details, anchorsPem, domains: bundles.map(({ domain }) => domain) };
  }

  /** A folder as SPIFFE's file-system delivery lays it out: one bundle of key and certificates, and a trust bundle for each domain. */
  #readFolder(folder: string, path: Path): SpiffeFolder | null {
    const names = this.files.names(folder, path);
    if (names === null) return null;
    const credentials = names.filter((name) => name.endsWith(CREDENTIAL_SUFFIX));
    const bundles = names.filter((name) => name.endsWith(BUNDLE_SUFFIX) && name.length > BUNDLE_SUFFIX.length);
    const [credential] = credentials;
    if (credential === undefined || credentials.length > 1)
      this.findings.error(
        path,
        `${folder}: expected one file *${CREDENTIAL_SUFFIX}, found ${credentials.join(", ") || "none"}`,
      );
    if (bundles.length === 0)
      this.findings.error(path, `${folder}: expected a file TRUST-DOMAIN${BUNDLE_SUFFIX}, found none`);
    const domains = bundles.map((name): Bundle => {
      const authorities = this.#readBundle(`${folder}/${name}`, path);
      return { domain: name.slice(0, -BUNDLE_SUFFIX.length), path, authorities };
    });
    const trust = this.#constrain(domains);
    if (credential === undefined || credentials.length > 1) return { path: folder, certificate: null, trust };
    const file = `${folder}/${credential}`;
    const chain = this.files.blocks(file, CERTIFICATE, path);
    const keyPem = this.files.key(file, path);
    if (chain[0] === undefined || keyPem === null) return { path: folder, certificate: null, trust };
    const certificate = this.#judgeChain(chain, keyPem, { path, file, index: 0, use: null });
    const leaf = readCertificateDetails(decodePem(chain[0], CERTIFICATE));
    const problem = leaf === null ? "" : svidProblem(leaf);
    if (problem !== "") this.findings.error(path, `${file}: the first certificate is no X.509-SVID: ${problem}`);
    else if (leaf !== null) this.#judgeSvid(leaf, chain, { folder, file, path, bundles: domains });
    return { path: folder, certificate, trust };
  }

  /** Peers of its own domain have the same bundle: one that does not vouch for the SVID makes all of them refuse it. */
  #judgeSvid(
    leaf: CertificateDetails,
    chain: readonly string[],
    { folder, file, path, bundles }: { folder: string; file: string; path: Path; bundles: readonly Bundle[] },
  ): void {
    const id = parseSpiffeId(leaf.uris[0] ?? "");
    if (typeof id === "string") return;
    const bundle = bundles.find(({ domain }) => domain === id.trustDomain);
    const bundleFile = `${folder}/${id.trustDomain}${BUNDLE_SUFFIX}`;
    if (bundle === undefined) {
      this.findings.suspect(
        path,
        [file],
        `${file}: is of "${id.trustDomain}", which has no trust bundle here: ${bundleFile}`,
      );
    } else if (!this.#isVouchedFor(chain, bundle.authorities))
      this.findings.suspect(
        path,
        [file, bundleFile],
        `${file}: no authority in ${bundleFile} signed it, nor a certificate in its chain that leads to one`,
      );
  }

  #isVouchedFor(chain: readonly string[], authorities: readonly Authority[]): boolean {
    const { runtime } = this.#options;
    if (runtime === null) return true;
    const anchors = authorities.map(({ pem }) => decodePem(pem, CERTIFICATE));
    let below: Uint8Array | null = null;
    for (const pem of chain) {
      const der = decodePem(pem, CERTIFICATE);
      if (below !== null && !runtime.isSignedBy(below, der)) return false;
      if (anchors.some((anchor) => runtime.isSignedBy(der, anchor))) return true;
      below = der;
    }
    return false;
  }

  #readAuthorities(files: readonly string[], path: Path): Authority[] {
    return files.flatMap((file, index) => this.#readBundle(file, [...path, index]));
  }

  #readBundle(file: string, path: Path): Authority[] {
    const blocks = this.files.blocks(file, CERTIFICATE, path);
    return blocks.flatMap((pem, index) => {
      const details = readCertificateDetails(decodePem(pem, CERTIFICATE));
      const which = `${file}: certificate ${index + 1} of ${blocks.length}`;
      if (details === null) {
        this.findings.error(path, `${which} cannot be read`);
        return [];
      }
      if (!details.isCa)
        this.findings.suspect(path, [file], `${which} (${titleOf(details)}) is no authority: it vouches for nobody`);
      // One of several that has had its time is no reason to refuse the others, and those it vouched for are refused by that.
      this.findings.noteCertificate(path, details, { file, role: "authority" });
      return [{ pem, details }];
    });
  }

  #readRevocationLists(paths: readonly string[], path: Path, { authorities }: Trust): string[] {
    const { files, findings } = this;
    return readRevocationLists(paths, { path, files, findings, authorities, served: this.#options.served });
  }

  #validate(path: Path, which: string, build: (runtime: NonNullable<MaterialOptions["runtime"]>) => void): void {
    const { runtime } = this.#options;
    if (runtime === null) return;
    try {
      build(runtime);
    } catch (error) {
      this.findings.error(path, `${which}: ${messageOf(error)}`);
    }
  }
}
