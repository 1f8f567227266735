// The embedded default: what `bunnel run` serves when it is given no config (SPEC.md, "Set-up"). A development PKI under the state
// directory, and a config text that goes through the same loader as any other. The echo endpoints are in echo.ts.

import { type Address, formatAddress } from "../base/address.ts";
import { ProxyError } from "../base/errors.ts";
import { type LoadResult, loadConfig } from "../config/load.ts";
import type { Files } from "../runtime/files.ts";
import type { CertificateOptions, KeyPair } from "../tls-tools/tls-tools.ts";
import { readPair, writePair } from "./pki-files.ts";

/** What a run without a config needs. */
export interface Quickstart {
  /** YAML, with absolute paths. */
  readonly configText: string;
  /** Commands that work when pasted into a shell: over mTLS, and over plain TCP. */
  readonly curlMtls: string;
  readonly curlTcp: string;
}

export interface QuickstartOptions {
  /** Absolute; made when absent. */
  readonly stateDirectory: string;
  /** The three echo endpoints. */
  readonly endpoints: readonly Address[];
}

const CLIENT_URI = "spiffe://bunnel.dev/quickstart-client";
const MTLS_ADDRESS = "127.0.0.1:8443";
const TCP_ADDRESS = "127.0.0.1:8080";
const DAY_MS = 86_400_000;
const AUTHORITY_LIFETIME_MS = 3650 * DAY_MS;
const CERTIFICATE_LIFETIME_MS = 90 * DAY_MS;

/**
 * Where state goes when no config says so: `/var/lib/bunnel` for root, else `$XDG_STATE_HOME/bunnel` or `~/.local/state/bunnel`.
 * Throws ProxyError `NO_STATE_DIRECTORY` when there is no home.
 */
export function defaultStateDirectory(env: Readonly<Record<string, string | undefined>>, userId: number): string {
  // The XDG specification: a relative path is invalid and is ignored.
  if (env.XDG_STATE_HOME?.startsWith("/")) return `${env.XDG_STATE_HOME}/bunnel`;
  if (userId === 0) return "/var/lib/bunnel";
  if (env.HOME?.startsWith("/")) return `${env.HOME}/.local/state/bunnel`;
  throw new ProxyError("NO_STATE_DIRECTORY", "no directory for state: set XDG_STATE_HOME or HOME, or give a config");
}

/** Loads its config text, as any other is loaded. */
export function loadQuickstart({ configText }: Quickstart): LoadResult {
  return loadConfig(configText, { file: "(embedded default)", environment: {} });
}

/** Makes or reuses the PKI and writes the config text for it. Throws ProxyError when the directory cannot be written. */
export async function quickstart(files: Files, options: QuickstartOptions): Promise<Quickstart> {
  const directory = `${options.stateDirectory}/quickstart`;
  await preparePki(files, directory);
  const path = (name: string): string => `${directory}/${name}`;
  const clientFiles = `--cert ${shellWord(path("client.pem"))} --key ${shellWord(path("client.key"))}`;
  return {
    configText: configText(directory, options.endpoints),
    curlMtls: `curl --cacert ${shellWord(path("ca.pem"))} ${clientFiles} https://${MTLS_ADDRESS}/`,
    curlTcp: `curl http://${TCP_ADDRESS}/`,
  };
}

/** Reuses what has more than a third of its life left, so that a copied curl command goes on working, and renews the rest. */
async function preparePki(files: Files, directory: string): Promise<void> {
  const { createAuthority } = await import("../tls-tools/tls-tools.ts");
  files.makeDirectory(directory, { mode: 0o700 });
  let authority = await usablePair(files, directory, { base: "ca", issuer: null });
  if (authority === null) {
    authority = await createAuthority({
      commonName: "bunnel quickstart CA",
      lifetimeMs: AUTHORITY_LIFETIME_MS,
      // Whoever comes to trust this CA, and whoever steals its key, gets no more than this host.
      nameConstraints: { dns: ["localhost"], ip: ["127.0.0.0/8", "::1/128"], uri: ["bunnel.dev"] },
    });
    writePair(files, directory, { base: "ca", pair: authority });
  }
  const server = {
    commonName: "quickstart-server",
    dns: ["localhost"],
    ip: ["127.0.0.1", "::1"],
    usage: "server",
  } as const;
  const client = { commonName: "quickstart-client", uri: CLIENT_URI, usage: "client" } as const;
  await prepareCertificate(files, directory, { base: "server", issuer: authority, names: server });
  await prepareCertificate(files, directory, { base: "client", issuer: authority, names: client });
}

async function prepareCertificate(
  files: Files,
  directory: string,
  { base, issuer, names }: { base: string; issuer: KeyPair; names: Omit<CertificateOptions, "lifetimeMs"> },
): Promise<void> {
  if ((await usablePair(files, directory, { base, issuer })) !== null) return;
  const { issueCertificate } = await import("../tls-tools/tls-tools.ts");
  const pair = await issueCertificate(issuer, { ...names, lifetimeMs: CERTIFICATE_LIFETIME_MS });
  writePair(files, directory, { base, pair });
}

/** The pair in these files, or null when it is absent, damaged, of another authority, or in the last third of its life. */
async function usablePair(
  files: Files,
  directory: string,
  { base, issuer }: { base: string; issuer: KeyPair | null },
): Promise<KeyPair | null> {
  const { isIssuedPair, certificateSummaries } = await import("../tls-tools/tls-tools.ts");
  if (!files.exists(`${directory}/${base}.pem`) || !files.exists(`${directory}/${base}.key`)) return null;
  const pair = readPair(files, directory, base);
  if (!(await isIssuedPair(pair, issuer ?? pair))) return null;
  const [summary] = await certificateSummaries(pair.certificatePem);
  if (summary === undefined) return null;
  const starts = summary.notBefore.getTime();
  const ends = summary.notAfter.getTime();
  const now = Date.now();
  return now >= starts && ends - now > (ends - starts) / 3 ? pair : null;
}

function configText(directory: string, endpoints: readonly Address[]): string {
  const path = (name: string): string => yamlString(`${directory}/${name}`);
  return `# The embedded default of bunnel. Copy it as a first config: bunnel run -c FILE
log: { format: pretty }
access_log: { format: text }

listeners:
  - name: quickstart-mtls
    address: ${MTLS_ADDRESS}
    tls:
      certificates: [{ cert: ${path("server.pem")}, key: ${path("server.key")} }]
      client_auth: required
      client_ca: [${path("ca.pem")}]
    routes:
      - name: quickstart-mtls
        tls: terminate
        policy: quickstart-clients
        backend: quickstart
  - name: quickstart-tcp
    address: ${TCP_ADDRESS}
    routes:
      - name: quickstart-tcp
        tls: none
        backend: quickstart

policies:
  quickstart-clients:
    rules:
      - { action: allow, uri: ["${CLIENT_URI}"] }

backends:
  quickstart:
    balance: least_connections
    endpoints:
${endpoints.map((endpoint) => `      - { address: ${yamlString(formatAddress(endpoint))} }`).join("\n")}
`;
}

/** A double-quoted YAML scalar, of which JSON is a subset (YAML 1.2, 1.3). The loader would substitute a \${NAME} in a path. */
function yamlString(text: string): string {
  if (text.includes("${"))
    throw new ProxyError("BAD_PATH", `${text}: a state directory must not have "\${" in its path`);
  return JSON.stringify(text);
}

function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
