// Which route a connection takes. Compiled once for each listener; asked once or twice for each connection: first with nothing but its
// source, and again with its ClientHello if a route before the first match depends on one.
//
// The first route that matches is taken, but not by trying all of them in turn: each route is indexed by the field whose values it shares with the fewest
// others, and only routes found under the client's SNI, ALPN or source are tried. So ten thousand routes cost what one does.

import { assert } from "../base/assert.ts";
import { CidrSet } from "../protocol/cidr.ts";
import { compileDnsPattern, dnsPatternsOf } from "../protocol/name-pattern.ts";
import type { RouteSpec } from "../snapshot/snapshot.ts";
import { mustCompile } from "./compiled.ts";
import { CidrIndex, type Lists, lowestOf, NameIndex } from "./match-index.ts";
import { containsSource, type Source } from "./source-address.ts";

/** The parts of a ClientHello that routes match on. */
export interface Hello {
  /** Lower case; "" when the client sent none. */
  readonly sni: string;
  readonly alpn: readonly string[];
}

/** The answer while the first bytes are needed to decide. */
export const NEEDS_HELLO = -2;
/** The answer when no route matches. */
export const NO_ROUTE = -1;

/** Greater than the index of any route. */
const NONE = Number.POSITIVE_INFINITY;
/** Values of routes that are counted or indexed in one piece, which takes some hundreds of microseconds. */
const PIECE_VALUES = 200;

/** What remains to be checked of a route that was found in the index. Null or empty: nothing. */
interface CompiledRoute {
  readonly sni: ReadonlySet<string> | null;
  readonly alpn: readonly string[];
  readonly source: CidrSet | null;
}

/** The routes of one listener. */
export class Router {
  /** Whether a route asks for the protocols that a client offers. */
  readonly usesAlpn: boolean;
  /** By index; null for opaque routes, which do not look at the hello. */
  readonly #routes: (CompiledRoute | null)[] = [];
  /** The first opaque route for each source, and the first that looks at the hello. */
  readonly #opaque = new FirstBySource();
  readonly #looking = new FirstBySource();
  readonly #names = new NameIndex();
  readonly #protocols = new NameIndex();
  readonly #sources = new CidrIndex();
  /** The first route that takes every hello. */
  #any = NONE;
  /** Null once the index is complete: it holds the specs of the routes, with keys and certificates, and a router may outlive their snapshot. */
  #making: Iterator<void> | null;
  #isMade = false;

  constructor(routes: readonly RouteSpec[]) {
    this.usesAlpn = routes.some(({ match }) => match.alpn.length > 0);
    this.#making = this.#make(routes);
  }

  /** Builds another piece of the index. Returns whether there is more to build; `route` completes it if it is called earlier. */
  makeSome(): boolean {
    for (let values = 0; this.#making !== null && values < PIECE_VALUES; values++) {
      if (this.#making.next().done !== true) continue;
      // An incomplete index would silently lead to a later route.
      assert(this.#isMade, "the routes of a listener were not filed");
      this.#making = null;
    }
    return this.#making !== null;
  }

  /**
   * Index of the first route that matches, or NEEDS_HELLO or NO_ROUTE. `hello` is undefined before the first bytes have been seen, and
   * null when they are no ClientHello; then only opaque routes can match.
   */
  route(hello: Hello | null | undefined, source: Source): number {
    if (this.#making !== null) while (this.makeSome());
    const opaque = this.#opaque.for(source);
    if (hello === undefined && this.#looking.for(source) < opaque) return NEEDS_HELLO;
    const first = hello ? this.#forHello(hello, source, opaque) : opaque;
    return first === NONE ? NO_ROUTE : first;
  }

  /** The first route that takes this hello, or `opaque`, which takes every one. */
  #forHello(hello: Hello, source: Source, opaque: number): number {
    const found: Lists = [];
    const names = dnsPatternsOf(hello.sni);
    if (!this.#names.isEmpty) for (const name of names) this.#names.find(name, found);
    if (!this.#protocols.isEmpty) for (const name of hello.alpn) this.#protocols.find(name, found);
    if (!this.#sources.isEmpty && source.bytes !== null) this.#sources.find(source.bytes, found);
    return lowestOf(found, Math.min(opaque, this.#any), (index) => {
      const { sni, alpn, source: sources } = this.#routes[index] as CompiledRoute;
      if (sources !== null && !containsSource(sources, source)) return false;
      if (alpn.length > 0 && !alpn.some((name) => hello.alpn.includes(name))) return false;
      return sni === null || names.some((name) => sni.has(name));
    });
  }

  /** Yields after each value, for `makeSome` to count. */
  *#make(routes: readonly RouteSpec[]): Generator<undefined, void> {
    const counts = new Map<string, number>();
    for (const { match, tls } of routes) {
      if (tls === "none") continue;
      for (const key of keysOf(match)) {
        counts.set(key, (counts.get(key) ?? 0) + 1);
        yield;
      }
    }
    for (const [index, { match, tls }] of routes.entries()) {
      yield* (tls === "none" ? this.#opaque : this.#looking).add(match.source, index);
      if (tls === "none") this.#routes.push(null);
      else yield* this.#file(index, match, rarestField(match, counts));
      yield;
    }
    this.#isMade = true;
  }

  *#file(index: number, { sni, alpn, source }: RouteSpec["match"], field: Field | null): Generator<undefined, void> {
    if (field === null) this.#any = Math.min(this.#any, index);
    const names = field === "sni" || sni.length === 0 ? null : new Set<string>();
    for (const pattern of sni) {
      const { text } = mustCompile(compileDnsPattern(pattern, { allowEmpty: true }));
      if (names === null) this.#names.add(text, index);
      else names.add(text);
      yield;
    }
    if (field === "alpn") for (const name of alpn) this.#protocols.add(name, index);
    for (const range of field === "source" ? source : []) {
      this.#sources.add(range, index);
      yield;
    }
    this.#routes.push({
      sni: names,
      alpn: field === "alpn" ? [] : alpn,
      source: field === "source" || source.length === 0 ? null : new CidrSet(source),
    });
  }
}

/** For each source the lowest number that was added for it. */
class FirstBySource {
  readonly #ranges = new CidrIndex();
  /** The lowest number without a range: it takes every source. */
  #others = NONE;

  /** Numbers must be added in order. Yields after each range. */
  *add(ranges: readonly string[], index: number): Generator<undefined, void> {
    if (ranges.length === 0) this.#others = Math.min(this.#others, index);
    for (const range of ranges) {
      this.#ranges.add(range, index);
      yield;
    }
  }

  for(source: Source): number {
    if (this.#ranges.isEmpty || source.bytes === null) return this.#others;
    const found: Lists = [];
    this.#ranges.find(source.bytes, found);
    return lowestOf(found, this.#others, () => true);
  }
}

type Field = "sni" | "source" | "alpn";

/** In order of preference where several are as rare. */
const FIELDS: readonly Field[] = ["sni", "source", "alpn"];

function* keysOf(match: RouteSpec["match"]): Generator<string, void> {
  for (const field of FIELDS) for (const value of match[field]) yield `${field} ${value}`;
}

/** The field whose most common value is in the fewest routes; null when the route matches on nothing. */
function rarestField(match: RouteSpec["match"], counts: ReadonlyMap<string, number>): Field | null {
  let rarest: Field | null = null;
  let fewest = NONE;
  for (const field of FIELDS) {
    let most = 0;
    for (const value of match[field]) most = Math.max(most, counts.get(`${field} ${value}`) ?? 0);
    if (most === 0 || most >= fewest) continue;
    fewest = most;
    rarest = field;
  }
  return rarest;
}
