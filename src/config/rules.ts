// Rules that concern several fields of a config: references to names, complete TLS settings, explicitly allowed
// plaintext, reachable routes. Each rule is a function that reports problems; rules for a single field are in
// schema.ts.

import { formatAddress, isOnHost } from "../base/address.ts";
import { ANYONE, routesOf, terminationOf } from "./effective.ts";
import { didYouMean } from "./nearest.ts";
import { formatPath, type Path } from "./problems.ts";
import { EarlierRoutes } from "./reach.ts";
import { type Finding, Report } from "./report.ts";
import { checkAdmin } from "./rules-admin.ts";
import { checkBalance, checkOutliers, checkQueue } from "./rules-balance.ts";
import { checkHealth } from "./rules-health.ts";
import { checkBandwidth, checkConnectionRates } from "./rules-limits.ts";
import { checkBackendTls, checkCollectorTls, checkTermination, type RoutePlace } from "./rules-tls.ts";
import { addressesClash, dialsBack } from "./same-address.ts";
import type { BackendConfig, Config, ListenerConfig, PolicyConfig } from "./schema.ts";

/** The names that are written in the file, also of policies and backends that have faults of their own. */
export interface WrittenNames {
  readonly policies: readonly string[];
  readonly backends: readonly string[];
}

/** Everything that the rules find, in no particular order. */
export function applyRules(config: Config, names: WrittenNames): Finding[] {
  const report = new Report();
  const context = { config, names, report };
  checkAdmin(report, config.admin);
  checkCollectorTls(report, config.telemetry);
  checkPolicyNames(context);
  for (const [index, listener] of config.listeners.entries()) checkListener(context, listener, index);
  for (const [policyName, policy] of Object.entries(config.policies)) checkPolicy(context, policyName, policy);
  for (const [backendName, backend] of Object.entries(config.backends)) checkBackend(context, backendName, backend);
  warnOfUnused(context);
  return report.findings;
}

interface Context {
  readonly config: Config;
  readonly names: WrittenNames;
  readonly report: Report;
}

function checkListener({ config, names, report }: Context, listener: ListenerConfig, index: number): void {
  const path: Path = ["listeners", index];
  const earlier = config.listeners.slice(0, index);
  const sameName = earlier.findIndex((other) => other.name === listener.name);
  if (sameName >= 0) {
    const place: Path = ["listeners", sameName];
    report.error([...path, "name"], `"${listener.name}" is also the name of ${formatPath(place)}`, place);
  }
  const clash = earlier.findIndex((other) => addressesClash(other.address, listener.address));
  const taker = earlier[clash];
  if (taker !== undefined) {
    const place: Path = ["listeners", clash];
    const by = `${formatPath(place)} ("${taker.name}", ${formatAddress(taker.address)})`;
    report.error([...path, "address"], `${formatAddress(listener.address)} is taken by ${by}`, place);
  }
  const { address: admin } = config.admin;
  if (admin !== null && addressesClash(admin, listener.address)) {
    const by = `admin.address (${formatAddress(admin)})`;
    report.error([...path, "address"], `${formatAddress(listener.address)} is taken by ${by}`, ["admin"]);
  }
  checkProxyProtocol(report, listener, path);
  checkConnectionRates(report, path, listener);
  if (listener.routes !== undefined && listener.backend !== undefined)
    report.error(
      [...path, "backend"],
      "stands for a single opaque route and cannot be beside `routes`; put it into the routes",
    );
  if (listener.routes === undefined && listener.backend === undefined)
    report.error(path, "has neither `routes` nor `backend`, so no connection could go anywhere");
  const routes = routesOf(listener, path);
  if (listener.tls !== undefined && routes.length > 0 && !routes.some(({ route }) => route.tls === "terminate"))
    report.error(
      [...path, "tls"],
      "is used by no route: only routes with `tls: terminate` present it, and `backend` on a listener is opaque",
      ...routes.map((placed) => placed.path),
    );
  const before = new EarlierRoutes();
  for (const placed of routes) {
    checkRoute({ config, names, report }, { listener, listenerPath: path, placed, before });
    before.add(placed);
  }
}

function checkProxyProtocol(report: Report, listener: ListenerConfig, path: Path): void {
  const required = listener.accept_proxy_protocol;
  const trusted = listener.trusted_sources.length > 0;
  const onUnix = listener.address.kind === "unix";
  if (required && onUnix && trusted)
    report.error(
      [...path, "trusted_sources"],
      "has no effect on a unix socket, which has no source address: who may connect is a matter of its directory's mode",
    );
  if (required && !onUnix && !trusted)
    report.error(
      [...path, "accept_proxy_protocol"],
      "needs `trusted_sources`: a header says who the client is, and must not be believed from everyone",
    );
  if (!required && trusted)
    report.error([...path, "trusted_sources"], "has no effect without `accept_proxy_protocol: true`");
  if (!required && onUnix && listener.allow_sources.length > 0)
    report.error([...path, "allow_sources"], "a unix socket has no source address, so this would refuse everyone");
}

function checkRoute(context: Context, place: RoutePlace): void {
  const { config, names, report } = context;
  const { listener, listenerPath, placed, before } = place;
  const { route, path } = placed;
  const sameName = before.named(route.name);
  if (sameName !== null)
    report.error([...path, "name"], `"${route.name}" is also the name of ${formatPath(sameName.path)}`, sameName.path);
  const backend = ownEntry(config.backends, route.backend);
  if (!names.backends.includes(route.backend))
    report.errorOfField([...path, "backend"], unknown("backend", route.backend, names.backends));
  if (route.tls === "none") checkOpaque(report, place);
  if (route.tls !== "terminate" && route.terminate !== undefined)
    report.error([...path, "terminate"], `has no effect with \`tls: ${route.tls}\``);
  checkTermination(report, place);
  checkPolicyOfRoute(context, place);
  if (backend !== undefined) checkWayToBackend(report, place, backend);
  const hiding = before.thatHides(placed);
  if (hiding !== null)
    report.error(
      [...path, "name"],
      `this route can never be chosen: ${formatPath(hiding.path)} ("${hiding.route.name}") comes first and takes all that it matches`,
      hiding.path,
      [...hiding.path, "match"],
      [...path, "match"],
      listenerPath,
    );
  if (listener.address.kind === "unix" && route.match.source.length > 0 && !listener.accept_proxy_protocol)
    report.error(
      [...path, "match", "source"],
      "a unix socket has no source address, so this can never match",
      listenerPath,
    );
}

function checkOpaque(report: Report, { listener, listenerPath, placed }: RoutePlace): void {
  const { route, path } = placed;
  for (const field of ["sni", "alpn"] as const) {
    if (route.match[field].length > 0)
      report.error(
        [...path, "match", field],
        "cannot be known with `tls: none`, which takes opaque bytes; use `tls: passthrough` for TLS that stays untouched",
        path,
      );
  }
  // What systemd listens on is in its unit: nothing here tells who can reach it.
  const takes = listener.address.kind === "systemd" ? "may take" : "takes";
  if (!isOnHost(listener.address) && !listener.allow_plaintext)
    report.error(
      [...path, listener.routes === undefined ? "backend" : "tls"],
      `${takes} plaintext from other hosts on ${formatAddress(listener.address)}; if that is meant, say \`allow_plaintext: true\` on the listener`,
      listenerPath,
    );
}

function checkPolicyOfRoute({ config, names, report }: Context, { listener, listenerPath, placed }: RoutePlace): void {
  const { route, path } = placed;
  const clientAuth = terminationOf(listener, route)?.client_auth ?? "none";
  const read = [
    [...listenerPath, "tls"],
    [...path, "terminate"],
  ];
  if (route.policy === undefined) {
    if (clientAuth !== "none")
      report.error(
        path,
        `\`client_auth: ${clientAuth}\` needs a \`policy\` that says which identities may pass, or \`policy: any\``,
        ...read,
      );
    return;
  }
  if (route.policy === ANYONE) return;
  if (!names.policies.includes(route.policy)) {
    report.errorOfField([...path, "policy"], unknown("policy", route.policy, [...names.policies, ANYONE]));
    return;
  }
  const policy = ownEntry(config.policies, route.policy);
  const allowing = policy?.rules.filter((rule) => rule.action === "allow") ?? [];
  if (clientAuth !== "none" || policy?.mode !== "enforce" || allowing.length === 0) return;
  if (allowing.every(needsIdentity))
    report.error(
      [...path, "policy"],
      `"${route.policy}" would refuse everyone here: all its allow rules ask for an identity, and clients of this route show no certificate`,
      ...read,
      ["policies", route.policy],
    );
}

function checkWayToBackend(report: Report, { listener, placed }: RoutePlace, backend: BackendConfig): void {
  const { route, path } = placed;
  for (const [index, endpoint] of backend.endpoints.entries()) {
    const endpointPath: Path = ["backends", route.backend, "endpoints", index];
    const blame = (message: string): void => {
      const key = formatPath(endpointPath);
      if (report.blamedEndpoints.has(key)) return;
      report.blamedEndpoints.add(key);
      report.error(endpointPath, message, ["backends", route.backend]);
    };
    const text = formatAddress(endpoint.address);
    if (dialsBack(listener.address, endpoint.address))
      blame(
        `${text} is the listener "${listener.name}" whose route "${route.name}" leads here: connections would go round`,
      );
    const plain = route.tls !== "passthrough" && backend.tls === undefined;
    if (plain && !isOnHost(endpoint.address) && !backend.allow_plaintext)
      blame(
        `${text} is on another host, and ${formatPath(path)} ("${route.name}") would send it plaintext; if that is meant, say \`allow_plaintext: true\` on the backend, or give it \`tls\``,
      );
  }
}

function checkPolicyNames({ config, report }: Context): void {
  if (ownEntry(config.policies, ANYONE) !== undefined)
    report.findings.push({
      severity: "error",
      path: ["policies", ANYONE],
      message: "`any` is the name that lets everyone through and cannot be redefined",
      about: [],
      atKey: true,
    });
}

function checkPolicy({ report }: Context, policyName: string, policy: PolicyConfig): void {
  for (const [index, rule] of policy.rules.entries()) {
    const path: Path = ["policies", policyName, "rules", index];
    const asks = needsIdentity(rule) || rule.source.length > 0;
    if (rule.action === "allow" && !asks)
      report.error(
        path,
        "allows everyone, for it names nothing; give it uri, dns, ip, cn, ou or source, or write `policy: any` on the route",
      );
    if (!asks && index < policy.rules.length - 1)
      report.error(path, "matches everything, so the rules after it are never tried");
  }
}

function checkBackend({ config, report }: Context, backendName: string, backend: BackendConfig): void {
  checkBackendTls(report, backendName, backend);
  checkHealth(report, backendName, backend);
  checkBandwidth(report, backendName, backend);
  checkBalance(report, backendName, { backend, zone: config.zone });
  checkOutliers(report, backendName, backend);
  checkQueue(report, backendName, backend);
  const seen = new Map<string, number>();
  for (const [index, endpoint] of backend.endpoints.entries()) {
    const text = formatAddress(endpoint.address);
    const path: Path = ["backends", backendName, "endpoints", index];
    const first = seen.get(text);
    if (first !== undefined)
      report.error(path, `${text} is listed already as endpoints[${first}]; give that one a larger \`weight\``);
    else seen.set(text, index);
  }
}

function warnOfUnused({ config, report }: Context): void {
  const routes = config.listeners.flatMap((listener, index) => routesOf(listener, ["listeners", index]));
  const used = (kind: "policy" | "backend", name: string): boolean => routes.some(({ route }) => route[kind] === name);
  for (const name of Object.keys(config.policies))
    if (name !== ANYONE && !used("policy", name)) report.warning(["policies", name], "is used by no route");
  for (const name of Object.keys(config.backends))
    if (!used("backend", name)) report.warning(["backends", name], "is used by no route");
}

function needsIdentity(rule: PolicyConfig["rules"][number]): boolean {
  return [rule.uri, rule.dns, rule.ip, rule.cn, rule.ou].some((values) => values.length > 0);
}

/** A backend may be called `constructor`; every object seems to have one. */
function ownEntry<T>(entries: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(entries, name) ? entries[name] : undefined;
}

function unknown(kind: string, written: string, known: readonly string[]): string {
  const near = didYouMean(written, known);
  const all = known.length === 0 ? `; there is no ${kind}` : `; known: ${known.join(", ")}`;
  return `there is no ${kind} "${written}"${near === "" ? all : near}`;
}
