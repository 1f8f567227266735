// Whether a route can ever be chosen, given those before it. The answer is only as sharp as it can be without being
// wrong: a route that several others hide together, or by a mix of their fields, is not found.

import { parseIp } from "../base/ip.ts";
import { CidrSet } from "../protocol/cidr.ts";
import { compileDnsPattern } from "../protocol/name-pattern.ts";
import type { PlacedRoute } from "./effective.ts";
import type { RouteConfig } from "./schema.ts";

/** The first of the earlier routes that takes everything that this one matches; null when there is none. */
export function earlierThatHides(placed: PlacedRoute, earlier: readonly PlacedRoute[]): PlacedRoute | null {
  return earlier.find((other) => hides(other.route, placed.route)) ?? null;
}

function hides(first: RouteConfig, second: RouteConfig): boolean {
  // Routes that look at the ClientHello never match plain bytes; opaque ones match both.
  if (first.tls !== "none" && second.tls === "none") return false;
  return (
    containsAll(first.match.sni, second.match.sni, patternCovers) &&
    containsAll(first.match.alpn, second.match.alpn, (a, b) => a === b) &&
    containsAll(first.match.source, second.match.source, cidrCovers)
  );
}

/** Whether every value that `inner` lets through is let through by `outer`; an empty list lets everything through. */
function containsAll(
  outer: readonly string[],
  inner: readonly string[],
  covers: (outer: string, inner: string) => boolean,
): boolean {
  if (outer.length === 0) return true;
  return inner.length > 0 && inner.every((value) => outer.some((wider) => covers(wider, value)));
}

function patternCovers(outer: string, inner: string): boolean {
  if (outer === inner) return true;
  if (inner.includes("*")) return outer.startsWith("**.") && inner.slice(inner.indexOf(".")).endsWith(outer.slice(2));
  const pattern = compileDnsPattern(outer, { allowEmpty: true });
  return typeof pattern !== "string" && pattern.matches(inner);
}

function cidrCovers(outer: string, inner: string): boolean {
  const [network = "", length = "128"] = inner.split("/");
  const bytes = parseIp(network);
  return bytes !== null && Number(outer.split("/")[1] ?? 128) <= Number(length) && new CidrSet([outer]).contains(bytes);
}
