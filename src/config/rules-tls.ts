// The rules about TLS: that what a terminating route or a backend needs is all there, and said in one way only.

import { formatAddress } from "../base/address.ts";
import { type PlacedRoute, terminationOf, tlsFieldPath } from "./effective.ts";
import type { Path } from "./problems.ts";
import type { EarlierRoutes } from "./reach.ts";
import type { Report } from "./report.ts";
import type { BackendConfig, Config, ListenerConfig, TlsConfig } from "./schema.ts";

/** A route where it stands. */
export interface RoutePlace {
  readonly listener: ListenerConfig;
  readonly listenerPath: Path;
  readonly placed: PlacedRoute;
  readonly before: EarlierRoutes;
}

/** What a route that terminates TLS needs of its effective `tls`. */
export function checkTermination(report: Report, { listener, listenerPath, placed }: RoutePlace): void {
  const termination = terminationOf(listener, placed.route);
  if (termination === null) return;
  const { path, route } = placed;
  const read = [path, [...listenerPath, "tls"], [...path, "terminate"], listenerPath];
  const at = (field: keyof TlsConfig): Path => tlsFieldPath(listenerPath, placed, field);
  const folder = termination.spiffe_folder !== undefined;
  const domains = Object.keys(termination.trust_domains).length > 0;
  if (termination.certificates.length === 0 && !folder)
    report.error(
      [...path, "tls"],
      "to terminate TLS a route needs `certificates` (or a `spiffe_folder`) in the listener's `tls` or its own `terminate`",
      ...read,
    );
  if (folder && termination.certificates.length > 0)
    report.error(at("spiffe_folder"), "cannot be beside `certificates`: the folder holds the certificate", ...read);
  if (folder && (domains || termination.client_ca.length > 0))
    report.error(
      at("spiffe_folder"),
      "cannot be beside `client_ca` or `trust_domains`: the folder holds the bundles",
      ...read,
    );
  else if (domains && termination.client_ca.length > 0)
    report.error(
      at("trust_domains"),
      "cannot be beside `client_ca`, which would vouch for every trust domain",
      ...read,
    );
  if (termination.client_auth === "none") {
    for (const field of ["client_ca", "client_crl", "trust_domains"] as const) {
      const { terminate } = route;
      // A listener's authorities are for its other routes, where this one says that it asks for no certificate.
      const meantForOthers = terminate?.client_auth !== undefined && terminate[field] === undefined;
      const isThere = field === "trust_domains" ? domains : termination[field].length > 0;
      if (isThere && !meantForOthers) report.error(at(field), "has no effect with `client_auth: none`", ...read);
    }
  } else if (termination.client_ca.length === 0 && !domains && !folder) {
    const written = route.terminate?.client_auth ?? listener.tls?.client_auth;
    const place = written === undefined || listener.tls === undefined ? [...path, "tls"] : at("client_auth");
    report.error(
      place,
      `\`client_auth: ${termination.client_auth}\` needs \`client_ca\`, the authorities that vouch for clients; to ask for no certificate write \`client_auth: none\``,
      ...read,
    );
  }
}

/** What the export of spans needs of its `tls`. */
export function checkCollectorTls(report: Report, { otlp }: Config["telemetry"]): void {
  if (otlp?.tls === undefined) return;
  const path: Path = ["telemetry", "otlp", "tls"];
  const place: Path = ["telemetry", "otlp", "endpoint"];
  if (!otlp.endpoint.startsWith("https:")) report.error(path, "has no effect: the endpoint is not https", place);
  checkKeyPair(report, path, otlp.tls);
}

function checkKeyPair(
  report: Report,
  path: Path,
  { cert, key }: Pick<NonNullable<BackendConfig["tls"]>, "cert" | "key">,
): void {
  if (cert !== undefined && key === undefined)
    report.error([...path, "cert"], "needs `key`, the private key of this certificate");
  if (key !== undefined && cert === undefined)
    report.error([...path, "key"], "needs `cert`, the certificate that this key belongs to");
}

/** What a backend that speaks TLS needs of its `tls`, and what its PROXY header does. */
export function checkBackendTls(report: Report, backendName: string, backend: BackendConfig): void {
  const path: Path = ["backends", backendName];
  if (backend.forward_proxy_tlvs && !backend.send_proxy_protocol.startsWith("v2"))
    report.error(
      [...path, "forward_proxy_tlvs"],
      "needs `send_proxy_protocol: v2` or `v2-tls`; nothing else has room for them",
    );
  const { tls } = backend;
  if (tls === undefined) return;
  const tlsPath: Path = [...path, "tls"];
  const folder = tls.spiffe_folder !== undefined;
  const domains = Object.keys(tls.trust_domains).length > 0;
  checkKeyPair(report, tlsPath, tls);
  if (folder && (tls.cert !== undefined || tls.ca.length > 0 || domains))
    report.error(
      [...tlsPath, "spiffe_folder"],
      "cannot be beside `cert`, `ca` or `trust_domains`: the folder holds all of them",
    );
  else if (domains && tls.ca.length > 0)
    report.error([...tlsPath, "trust_domains"], "cannot be beside `ca`, which would vouch for every trust domain");
  else if (!folder && !domains && tls.ca.length === 0)
    report.error(
      tlsPath,
      "needs `ca`, the authorities that vouch for the endpoints: those of the system are never used",
    );
  const verifies = tls.verify.dns.length > 0 || tls.verify.uri.length > 0;
  if (verifies || tls.server_name !== undefined) return;
  for (const [index, { address }] of backend.endpoints.entries()) {
    if (address.kind !== "unix") continue;
    report.error(
      [...path, "endpoints", index],
      `${formatAddress(address)} has no host name that its certificate could be for; give \`tls\` a \`server_name\` or \`verify\``,
      tlsPath,
    );
  }
}
