// Whether a route can ever be chosen, given those before it. The answer is only as sharp as it can be without being
// wrong: a route that several others hide together, or by a mix of their fields, is not found.

import { formatCidr, parseCidr, widened } from "../protocol/cidr.ts";
import { compileDnsPattern } from "../protocol/name-pattern.ts";
import type { PlacedRoute } from "./effective.ts";
import type { RouteConfig } from "./schema.ts";

/** The routes of a listener that come before the one that is looked at. A question costs what the routes for the same names cost, not all of them. */
export class EarlierRoutes {
  /** In order, by what may hide another one: each value of `match.sni`, or without any each of `match.source`, or "any". */
  readonly #byMatch = new Map<string, Earlier[]>();
  readonly #byName = new Map<string, PlacedRoute>();
  #count = 0;

  add(placed: PlacedRoute): void {
    const { name, match } = placed.route;
    const earlier = { placed, order: this.#count++ };
    if (!this.#byName.has(name)) this.#byName.set(name, placed);
    const keys = match.sni.length > 0 ? match.sni.map(sniKey) : match.source.map(sourceKey);
    for (const key of keys.length > 0 ? keys : [ANY]) {
      const same = this.#byMatch.get(key);
      if (same === undefined) this.#byMatch.set(key, [earlier]);
      else same.push(earlier);
    }
  }

  /** The first one with this name; null when there is none. */
  named(name: string): PlacedRoute | null {
    return this.#byName.get(name) ?? null;
  }

  /** The first one that takes everything that this one matches; null when there is none. */
  thatHides({ route }: PlacedRoute): PlacedRoute | null {
    const { sni, source } = route.match;
    const wider = new Map(source.map((range) => [range, new Set(rangesThatHold(range))]));
    // Whoever hides it takes its first name, and its first source.
    const names = sni.slice(0, 1).flatMap(patternsFor).map(sniKey);
    const sources = source.slice(0, 1).flatMap((range) => [...(wider.get(range) ?? [])].map(sourceKey));
    let first: Earlier | null = null;
    for (const key of new Set([ANY, ...names, ...sources])) {
      const found = this.#byMatch.get(key)?.find((each) => hides(each.placed.route, route, wider));
      if (found !== undefined && (first === null || found.order < first.order)) first = found;
    }
    return first?.placed ?? null;
  }
}

interface Earlier {
  readonly placed: PlacedRoute;
  /** Its number among the routes. */
  readonly order: number;
}

const ANY = "any";

function sniKey(value: string): string {
  return `sni ${value.toLowerCase()}`;
}

function sourceKey(range: string): string {
  return `source ${range}`;
}

/** The patterns that may match what a pattern, or a name, stands for: itself, and the wildcards above it. */
function patternsFor(value: string): readonly string[] {
  const patterns = [value];
  for (let dot = value.indexOf("."); dot >= 0; dot = value.indexOf(".", dot + 1))
    patterns.push(`*${value.slice(dot)}`, `**${value.slice(dot)}`);
  return patterns;
}

/** Every range that holds all of this one, itself included. */
function rangesThatHold(range: string): readonly string[] {
  const cidr = parseCidr(range);
  if (typeof cidr === "string") return [];
  return Array.from({ length: cidr.prefix + 1 }, (_, prefix) => formatCidr(widened(cidr, prefix)));
}

/** `wider`: for each source of the second one, the ranges that hold it. */
function hides(first: RouteConfig, second: RouteConfig, wider: ReadonlyMap<string, ReadonlySet<string>>): boolean {
  // Routes that look at the ClientHello never match plain bytes; opaque ones match both.
  if (first.tls !== "none" && second.tls === "none") return false;
  return (
    containsAll(first.match.sni, second.match.sni, patternCovers) &&
    containsAll(first.match.alpn, second.match.alpn, (a, b) => a === b) &&
    containsAll(first.match.source, second.match.source, (outer, inner) => wider.get(inner)?.has(outer) === true)
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
