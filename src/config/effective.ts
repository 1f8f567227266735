// What a listener's fields come to once its short forms and overrides are worked out. rules.ts judges this and
// control/compile.ts builds from it, so the two cannot disagree.

import type { Path } from "./problems.ts";
import { type ListenerConfig, type RouteConfig, TLS_DEFAULTS, type TlsConfig } from "./schema.ts";

/** The policy name that lets everyone through. No policy can be called so. */
export const ANYONE = "any";
/** Name of the route that `backend: NAME` on a listener stands for. */
const DEFAULT_ROUTE = "default";

/** A route and where it was written. */
export interface PlacedRoute {
  readonly route: RouteConfig;
  /** The route itself, or the listener where that says `backend: NAME`. */
  readonly path: Path;
}

/** The routes of a listener, in order; the short form `backend: NAME` is one opaque route. */
export function routesOf(listener: ListenerConfig, listenerPath: Path): PlacedRoute[] {
  if (listener.routes !== undefined)
    return listener.routes.map((route, index) => ({ route, path: [...listenerPath, "routes", index] }));
  if (listener.backend === undefined) return [];
  const everything = { sni: [], alpn: [], source: [] };
  const route: RouteConfig = { name: DEFAULT_ROUTE, match: everything, tls: "none", backend: listener.backend };
  return [{ route, path: listenerPath }];
}

/** What a terminating route presents and demands; null for the others. */
export function terminationOf(listener: ListenerConfig, route: RouteConfig): TlsConfig | null {
  if (route.tls !== "terminate") return null;
  const base = listener.tls ?? TLS_DEFAULTS;
  const own = route.terminate ?? {};
  // Who vouches is said in one of three ways, and a route that says it in one of them means none of the listener's.
  const ownTrust = own.client_ca !== undefined || own.trust_domains !== undefined || own.spiffe_folder !== undefined;
  const inheritsFolder = !ownTrust && own.certificates === undefined;
  return {
    certificates: own.certificates ?? (own.spiffe_folder === undefined ? base.certificates : []),
    client_auth: own.client_auth ?? base.client_auth,
    client_ca: own.client_ca ?? (ownTrust ? [] : base.client_ca),
    trust_domains: own.trust_domains ?? (ownTrust ? {} : base.trust_domains),
    spiffe_folder: own.spiffe_folder ?? (inheritsFolder ? base.spiffe_folder : undefined),
    on_expiry: own.on_expiry ?? base.on_expiry,
    client_crl: own.client_crl ?? base.client_crl,
    min_version: own.min_version ?? base.min_version,
    alpn: own.alpn ?? base.alpn,
    session_tickets: own.session_tickets ?? base.session_tickets,
  };
}

/** Where a TLS field of a route was written: in its own `terminate`, or in the listener's `tls`. */
export function tlsFieldPath(listenerPath: Path, { route, path }: PlacedRoute, field: keyof TlsConfig): Path {
  return route.terminate?.[field] === undefined ? [...listenerPath, "tls", field] : [...path, "terminate", field];
}
