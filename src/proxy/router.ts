// Which route a connection takes. Compiled once for each listener; asked once or twice for each connection: first with nothing but its
// source, and again with its ClientHello if a route before the first match depends on one.

import { CidrSet } from "../protocol/cidr.ts";
import { compileDnsPattern, type NamePattern } from "../protocol/name-pattern.ts";
import type { RouteSpec } from "../snapshot/snapshot.ts";
import { mustCompile } from "./compiled.ts";
import { containsSource, type Source } from "./source-address.ts";

/** What of a ClientHello routes are chosen by. */
export interface Hello {
  /** Lower case; "" when the client sent none. */
  readonly sni: string;
  readonly alpn: readonly string[];
}

/** The answer while the first bytes are needed to decide. */
export const NEEDS_HELLO = -2;
/** The answer when no route matches. */
export const NO_ROUTE = -1;

interface CompiledRoute {
  readonly looksAtHello: boolean;
  readonly sni: readonly NamePattern[];
  readonly alpn: readonly string[];
  readonly source: CidrSet | null;
}

/** The routes of one listener. */
export class Router {
  /** Whether a route asks for the protocols that a client offers. */
  readonly usesAlpn: boolean;
  readonly #routes: readonly CompiledRoute[];

  constructor(routes: readonly RouteSpec[]) {
    this.usesAlpn = routes.some(({ match }) => match.alpn.length > 0);
    this.#routes = routes.map((route) => ({
      looksAtHello: route.tls !== "none",
      sni: route.match.sni.map((pattern) => mustCompile(compileDnsPattern(pattern, { allowEmpty: true }))),
      alpn: route.match.alpn,
      source: route.match.source.length > 0 ? new CidrSet(route.match.source) : null,
    }));
  }

  /**
   * Index of the first route that matches, or NEEDS_HELLO or NO_ROUTE. `hello` is undefined before the first bytes have been seen, and
   * null when they are no ClientHello; then only opaque routes can match.
   */
  route(hello: Hello | null | undefined, source: Source): number {
    for (let index = 0; index < this.#routes.length; index++) {
      const route = this.#routes[index] as CompiledRoute;
      if (route.source !== null && !containsSource(route.source, source)) continue;
      if (!route.looksAtHello) return index;
      if (hello === undefined) return NEEDS_HELLO;
      if (hello !== null && matchesHello(route, hello)) return index;
    }
    return NO_ROUTE;
  }
}

function matchesHello(route: CompiledRoute, hello: Hello): boolean {
  if (route.sni.length > 0 && !route.sni.some((pattern) => pattern.matches(hello.sni))) return false;
  return route.alpn.length === 0 || route.alpn.some((name) => hello.alpn.includes(name));
}
