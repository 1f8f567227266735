// `bunnel explain`: what a client with a given SNI, ALPN, source and certificate would get, step by step, from the
// same router, policies and balancer that serve connections. Nothing is opened and no connection is made.

import type { Command } from "commander";
import { formatAddress } from "../base/address.ts";
import { unreachable } from "../base/assert.ts";
import { messageOf } from "../base/errors.ts";
import { formatIp, type IpBytes, parseIp } from "../base/ip.ts";
import { readCertificate } from "../protocol/certificate.ts";
import { EXTENDED_KEY_USAGE, readCertificateDetails } from "../protocol/certificate-details.ts";
import { CidrSet } from "../protocol/cidr.ts";
import { refusalReason } from "../protocol/leaf.ts";
import { pemBytes, splitPem } from "../protocol/pem.ts";
import { denialOf, Policy } from "../proxy/authorize.ts";
import { Backend } from "../proxy/balance.ts";
import { Ending } from "../proxy/ending.ts";
import { Termination } from "../proxy/handshake.ts";
import type { Identity } from "../proxy/identity.ts";
import { type Hello, NEEDS_HELLO, NO_ROUTE, Router } from "../proxy/router.ts";
import { Trust } from "../proxy/trust.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { privateCounts } from "../snapshot/counts.ts";
import type { BackendSpec, ListenerSpec, RouteSpec, Snapshot, TerminationSpec } from "../snapshot/snapshot.ts";
import { decodePem } from "../tls-tools/pem.ts";
import { type ConfigIo, EXIT_BAD_CONFIG, readConfig } from "./check.ts";

export interface ExplainIo extends ConfigIo {
  readonly runtime: Runtime;
}

export interface ExplainOptions {
  /** Path of the config. */
  readonly config: string;
  /** Name of the listener; may be left out when there is only one. */
  readonly listener?: string;
  /** What the client asks for in its ClientHello. Default: no SNI, no ALPN. */
  readonly sni?: string;
  readonly alpn?: readonly string[];
  /** The client speaks no TLS: its first bytes are no ClientHello. */
  readonly plain?: boolean;
  /** IP that the client comes from, after any PROXY header. Default: 127.0.0.1, or none on a unix socket. */
  readonly source?: string;
  /** PEM file with the client's certificate. */
  readonly certificate?: string;
}

const NO_TRUST = new Trust({ anchorsPem: [], crlsPem: [], trustDomains: [] });

/** What is given about the client, read and checked. */
interface Client {
  readonly hello: Hello | null;
  readonly source: IpBytes | null;
  /** DER. */
  readonly certificate: Uint8Array | null;
  /** PEM of the intermediates that it sends along. */
  readonly chain: readonly string[];
}

/**
 * Prints the steps. Exit code: 0 when the connection would be relayed, 1 when it would be closed, 2 usage, 78 bad
 * config.
 */
export async function explain(io: ExplainIo, options: ExplainOptions): Promise<number> {
  const checked = await readConfig(io, options.config);
  if (checked === null) return EXIT_BAD_CONFIG;
  const { snapshot } = checked;
  const listener = chooseListener(snapshot, options.listener);
  if (typeof listener === "string") return usage(io, listener);
  const client = readClient(io, options, listener);
  if (typeof client === "string") return usage(io, client);
  const ending = trace(io, { snapshot, listener, client });
  if (ending === null) io.out(row("result", "relayed"));
  else io.out(row("result", `closed with ${ending.reason}${ending.detail === "" ? "" : ` (${ending.detail})`}`));
  return ending === null ? 0 : 1;
}

/** Puts `explain` under `program`; `finish` gets its exit code. */
export function registerExplain(program: Command, io: ExplainIo, finish: (exitCode: number) => void): void {
  program
    .command("explain")
    .description("say which route, policy verdict and endpoint a client would get; exit code 1 when it would be closed")
    .requiredOption("-c, --config <file>", "the config")
    .option("--listener <name>", "where it connects; needed when there are several")
    .option("--sni <name>", "server name in its ClientHello")
    .option("--alpn <names...>", "protocols in its ClientHello")
    .option("--plain", "it speaks no TLS")
    .option("--source <ip>", "where it comes from, after any PROXY header (default: 127.0.0.1)")
    .option("--certificate <file>", "PEM file with its certificate, then any intermediates")
    .action(async (options: ExplainOptions) => finish(await explain(io, options)));
}

interface Question {
  readonly snapshot: Snapshot;
  readonly listener: ListenerSpec;
  readonly client: Client;
}

/**
 * The steps of proxy/connection.ts, as far as they can be known. Gives the ending, or null where relaying would begin.
 */
function trace(io: ExplainIo, { snapshot, listener, client }: Question): Ending | null {
  io.out(row("listener", `${listener.name} (${formatAddress(listener.address)})`));
  io.out(row("source", client.source === null ? "unix socket" : formatIp(client.source)));
  if (listener.allowSources.length > 0) {
    const allowed = client.source !== null && new CidrSet(listener.allowSources).contains(client.source);
    if (!allowed) return new Ending("source_denied", "not in allow_sources");
  }
  const route = chooseRoute(listener, client);
  if (route instanceof Ending) return route;
  io.out(row("route", `${route.name} (tls: ${route.tls})`));
  const identity = route.termination === null ? null : authenticate(io, route, client);
  if (identity instanceof Ending) return identity;
  const policy = snapshot.policies[route.policy];
  if (policy === undefined) io.out(row("policy", route.termination === null ? "none" : "any"));
  else {
    const verdict = new Policy(policy).evaluate(identity, { bytes: client.source });
    io.out(row("policy", `${policy.name}: ${verdict.rule}`));
    if (!verdict.allowed) return new Ending("policy_denied", denialOf(policy.name, verdict));
  }
  return balance(io, { snapshot, listener, client }, route);
}

function chooseRoute(listener: ListenerSpec, { hello, source }: Client): RouteSpec | Ending {
  const router = new Router(listener.routes);
  let index = router.route(undefined, { bytes: source });
  if (index === NEEDS_HELLO) {
    index = router.route(hello, { bytes: source });
    if (index === NO_ROUTE && hello === null) return new Ending("not_tls");
  }
  return listener.routes[index] ?? new Ending("no_route");
}

function authenticate(
  io: ExplainIo,
  { termination }: RouteSpec,
  { hello, certificate, chain }: Client,
): Identity | null | Ending {
  if (termination === null) return null;
  const built = new Termination(io.runtime, termination);
  const index = built.choose(hello?.sni ?? "");
  const names = termination.certificates[index]?.names.join(", ") || "no DNS names";
  io.out(row("certificate", `${index + 1} of ${termination.certificates.length} (${names})`));
  if (termination.clientAuth === "none") {
    io.out(row("identity", "none: no certificate is asked for"));
    return null;
  }
  if (certificate === null) {
    io.out(row("identity", "none: no certificate is shown"));
    return termination.clientAuth === "required" ? new Ending("certificate_rejected", "no certificate") : null;
  }
  const identity = built.identities.read(certificate);
  if (identity instanceof Ending) return identity;
  const fault =
    validityFault(certificate) || usageFault(certificate) || chainFault(io, termination, { certificate, chain });
  if (fault !== "") return new Ending("certificate_rejected", fault);
  const { uris, dnsNames, ips, commonNames, organizationalUnits } = identity;
  const labelled = (label: string, values: readonly string[]): string[] => values.map((value) => `${label} ${value}`);
  const shown = [
    ...labelled("uri", uris),
    ...labelled("dns", dnsNames),
    ...labelled("ip", ips),
    ...labelled("cn", commonNames),
    ...labelled("ou", organizationalUnits),
  ];
  io.out(row("identity", `${shown.join(", ") || "without names"} (if the certificate verifies)`));
  return identity;
}

/** OpenSSL's reason to refuse a certificate by its dates today, or "". */
function validityFault(certificate: Uint8Array): string {
  const names = readCertificate(certificate);
  if (names === null) return "";
  if (names.notBeforeMs > Date.now()) return "CERT_NOT_YET_VALID";
  return names.notAfterMs < Date.now() ? "CERT_HAS_EXPIRED" : "";
}

/** BoringSSL's reason to refuse a certificate that is for other uses than a client's, or "". Without the extension it is for all. */
function usageFault(certificate: Uint8Array): string {
  const uses = readCertificateDetails(certificate)?.extendedKeyUsages ?? [];
  const isClients = uses.length === 0 || uses.includes(EXTENDED_KEY_USAGE.CLIENT_AUTH);
  return isClients ? "" : "INVALID_PURPOSE";
}

/**
 * Why no authority vouches for a certificate, or "". Issuers, signatures, trust domains and revocation are looked at; what an authority says of
 * itself (name constraints, the length of a path) only the TLS library knows.
 */
function chainFault(
  { runtime }: ExplainIo,
  { clientCaPem, clientCrlPem, trustDomains }: TerminationSpec,
  { certificate, chain }: { readonly certificate: Uint8Array; readonly chain: readonly string[] },
): string {
  const anchorsPem = [...clientCaPem];
  const refusal = (der: Uint8Array, domains: readonly string[]): string =>
    new Trust({ crlsPem: clientCrlPem, anchorsPem, trustDomains: domains }).refusal(der, NO_TRUST, runtime);
  // From the root's end: an intermediate counts once something vouches for it.
  for (const pem of chain.toReversed()) {
    const der = pemBytes(pem);
    if (der !== null && readCertificateDetails(der)?.isCa === true && refusal(der, []) === "") anchorsPem.push(pem);
  }
  const fault = refusal(certificate, []);
  if (fault !== "" || refusal(certificate, trustDomains) === "") return fault;
  // In the words of the log of a listener.
  return refusalReason("permitted subtree violation", certificate, trustDomains);
}

function balance(io: ExplainIo, { snapshot, client }: Question, route: RouteSpec): Ending | null {
  const spec = snapshot.backends[route.backend];
  if (spec === undefined) return new Ending("no_endpoint");
  const backend = new Backend(spec, { counts: privateCounts() });
  io.out(row("backend", `${spec.name} (${spec.balance})`));
  const index = backend.pick([], { bytes: client.source });
  const endpoint = spec.endpoints[index];
  if (endpoint === undefined) return new Ending("no_endpoint");
  io.out(row("endpoint", `${endpoint.name} (${whyChosen(spec, client)})`));
  return null;
}

/** What a choice that was made without knowing of connections and latencies is worth. */
function whyChosen({ balance: balancer }: BackendSpec, { source }: Client): string {
  switch (balancer) {
    case "least_connections":
    case "round_robin":
      return "the first when none has a connection";
    case "random":
    case "power_of_two":
      return "drawn by chance";
    case "least_latency":
      return "the first while no latency is known";
    case "source_hash":
      return source === null
        ? "drawn by chance, for there is no source"
        : "by its source, while it can take connections";
    default:
      return unreachable(balancer);
  }
}

function chooseListener({ listeners }: Snapshot, name: string | undefined): ListenerSpec | string {
  const names = listeners.map((listener) => listener.name).join(", ");
  if (name === undefined && listeners.length > 1)
    return `there are several listeners; give --listener, one of: ${names}`;
  const found = name === undefined ? listeners[0] : listeners.find((listener) => listener.name === name);
  return found ?? `there is no listener "${name}"; known: ${names}`;
}

/** Or what is wrong with the options. */
function readClient(io: ExplainIo, options: ExplainOptions, listener: ListenerSpec): Client | string {
  const isTls = options.plain !== true;
  if (!isTls && (options.sni !== undefined || options.alpn !== undefined || options.certificate !== undefined))
    return "--plain is for a client without TLS, which has no --sni, --alpn or --certificate";
  const hasSource = listener.address.kind !== "unix" || listener.acceptProxyProtocol;
  const sourceText = options.source ?? (listener.address.kind !== "unix" ? "127.0.0.1" : null);
  if (options.source !== undefined && !hasSource) return "a unix socket without PROXY headers has no --source";
  const source = sourceText === null ? null : parseIp(sourceText);
  if (sourceText !== null && source === null) return `--source "${sourceText}" is not an IP address`;
  const hello = isTls ? { sni: (options.sni ?? "").toLowerCase(), alpn: options.alpn ?? [] } : null;
  if (options.certificate === undefined) return { hello, source, certificate: null, chain: [] };
  try {
    const text = io.files.readText(options.certificate);
    const chain = splitPem(text, "CERTIFICATE").slice(1);
    return { hello, source, certificate: decodePem(text, "CERTIFICATE"), chain };
  } catch (error) {
    return `--certificate: ${messageOf(error)}`;
  }
}

function usage(io: ExplainIo, message: string): number {
  io.err(message);
  return 2;
}

function row(label: string, value: string): string {
  return `${label.padEnd(13)}${value}`;
}
