import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseIp } from "../../../src/base/ip.ts";
import { CidrSet } from "../../../src/protocol/cidr.ts";
import { compileDnsPattern } from "../../../src/protocol/name-pattern.ts";
import { type Hello, NEEDS_HELLO, NO_ROUTE, Router } from "../../../src/proxy/router.ts";
import { type Source, SourceAddress } from "../../../src/proxy/source-address.ts";
import type { RouteSpec } from "../../../src/snapshot/snapshot.ts";
import { eventually } from "../../support/eventually.ts";
import { routeSpec } from "../../support/sim-snapshot.ts";

const INSIDE = new SourceAddress("10.0.0.1", 1);
const OUTSIDE = new SourceAddress("192.0.2.1", 1);
const UNIX = new SourceAddress(undefined, undefined);
const terminate = routeSpec({ tls: "terminate" });
const opaque = routeSpec({ tls: "none" });
const hello = (sni: string, alpn: string[] = []): Hello => ({ sni, alpn });

describe("without the first bytes", () => {
  test("an opaque route that stands first is taken: nobody waits", () => {
    expect(new Router([opaque, terminate]).route(undefined, INSIDE)).toBe(0);
  });

  test("a route that looks at the hello, before the first match, makes it wait", () => {
    expect(new Router([terminate, opaque]).route(undefined, INSIDE)).toBe(NEEDS_HELLO);
  });

  test("a route for other sources does not make it wait", () => {
    const router = new Router([routeSpec({ tls: "terminate", match: { source: ["192.0.2.0/24"] } }), opaque]);
    expect(router.route(undefined, INSIDE)).toBe(1);
    expect(router.route(undefined, OUTSIDE)).toBe(NEEDS_HELLO);
  });

  test("where no route takes the source there is none, and nobody waits for it", () => {
    const router = new Router([routeSpec({ tls: "terminate", match: { source: ["10.0.0.0/8"] } })]);
    expect(router.route(undefined, OUTSIDE)).toBe(NO_ROUTE);
  });
});

describe("terminate, passthrough and none on one port", () => {
  const router = new Router([
    routeSpec({ tls: "terminate", match: { sni: ["a.example"], alpn: ["h2", "http/1.1"] } }),
    routeSpec({ tls: "passthrough", match: { sni: ["*.example", ""] } }),
    routeSpec({ tls: "none", match: { source: ["10.0.0.0/8"] } }),
  ]);

  test("the first that matches name and protocol wins", () => {
    expect(router.route(hello("a.example", ["h2"]), INSIDE)).toBe(0);
    expect(router.route(hello("a.example", ["postgresql"]), INSIDE)).toBe(1);
    expect(router.route(hello("b.example"), INSIDE)).toBe(1);
  });

  test("a hello without a name matches only where that is asked for", () => {
    expect(router.route(hello(""), INSIDE)).toBe(1);
    expect(
      new Router([routeSpec({ tls: "passthrough", match: { sni: ["*.example"] } })]).route(hello(""), INSIDE),
    ).toBe(NO_ROUTE);
  });

  test("what is no TLS, or TLS for another name, falls to the opaque route", () => {
    expect(router.route(null, INSIDE)).toBe(2);
    expect(router.route(hello("elsewhere.test"), INSIDE)).toBe(2);
  });

  test("and to none where that route takes other sources only", () => {
    expect(router.route(null, OUTSIDE)).toBe(NO_ROUTE);
    expect(router.route(null, UNIX)).toBe(NO_ROUTE);
  });
});

test("a route that looks at the hello never takes what is none, even if it matches everything", () => {
  expect(new Router([terminate]).route(null, INSIDE)).toBe(NO_ROUTE);
  expect(new Router([routeSpec({ tls: "passthrough" })]).route(null, INSIDE)).toBe(NO_ROUTE);
});

describe("filed or asked in order, the answer is the same", () => {
  test("for every mix of routes and clients", () => {
    fc.assert(
      fc.property(fc.array(anyRoute, { maxLength: 14 }), anyHello, anySource, (routes, said, from) => {
        const router = new Router(routes);
        expect(router.route(undefined, from)).toBe(inOrder(routes, undefined, from));
        expect(router.route(said, from)).toBe(inOrder(routes, said, from));
      }),
      { numRuns: 5000 },
    );
  });

  test("where all have one name in common, or one source, or one protocol", () => {
    const many = Array.from({ length: 600 }, (_, index) => index);
    const address = (index: number): string => `10.0.${index >> 8}.${index & 255}`;
    const tables = [
      many.map((index) => ({ sni: ["a.test"], source: [address(index)] })),
      many.map((index) => ({ source: ["10.0.0.0/8"], sni: [`*.n${index}.test`] })),
      many.map((index) => ({ sni: ["**.test"], source: ["0.0.0.0/0"], alpn: [`p${index}`] })),
    ];
    for (const table of tables) {
      const router = new Router(table.map((match) => routeSpec({ tls: "passthrough", match })));
      const clients = [0, 1, 255, 256, 599].map((index) => {
        const { sni, alpn, source } = { alpn: [], ...table[index] } as RouteSpec["match"];
        return { index, hello: hello((sni[0] ?? "").replace(/^\*+/, "x"), [...alpn]), from: source[0] ?? "" };
      });
      for (const { index, hello: said, from } of clients)
        expect(router.route(said, new SourceAddress(from.replace(/0\.0\.0\/8$/, "1.1.1").replace(/\/0$/, ""), 1))).toBe(
          index,
        );
    }
  });

  test("made in pieces, or by the first who asks", () => {
    const routes = Array.from({ length: 2000 }, (_, index) =>
      routeSpec({ tls: "terminate", match: { sni: [`n${index}.test`] } }),
    );
    const [inPieces, atOnce] = [new Router(routes), new Router(routes)];
    let pieces = 1;
    while (inPieces.makeSome()) pieces++;
    expect(pieces).toBeGreaterThan(10);
    for (const router of [inPieces, atOnce]) expect(router.route(hello("n1999.test"), INSIDE)).toBe(1999);
    expect(atOnce.makeSome()).toBe(false);
  });

  test("once made it does not hold what it was made of", async () => {
    const keys: WeakRef<object>[] = [];
    const routers = Array.from({ length: 20 }, () => {
      const key = { keyPem: "secret" };
      keys.push(new WeakRef(key));
      const router = new Router([Object.assign(routeSpec({ match: { sni: ["a.test"] } }), { key })]);
      while (router.makeSome());
      return router;
    });
    await eventually("most of it is gone", () => {
      Bun.gc(true);
      return keys.filter((key) => key.deref() !== undefined).length < 5;
    });
    expect(routers.map((router) => router.route(hello("a.test"), INSIDE))).toEqual(Array(20).fill(0));
  });

  test("one with many sources is made in pieces, too", () => {
    const source = Array.from({ length: 2000 }, (_, index) => `10.0.${index >> 8}.${index & 255}`);
    const router = new Router([routeSpec({ tls: "none", match: { source } })]);
    let pieces = 1;
    while (router.makeSome()) pieces++;
    expect(pieces).toBeGreaterThan(10);
    expect(router.route(null, { bytes: parseIp("10.0.7.207") })).toBe(0);
  });
});

const some = <T>(...values: T[]): fc.Arbitrary<T[]> => fc.subarray(values, { maxLength: 3 });
const mostlyNone = <T>(values: fc.Arbitrary<T[]>): fc.Arbitrary<T[]> => fc.oneof(fc.constant<T[]>([]), values);
const anyRoute = fc
  .record({
    tls: fc.constantFrom("none", "terminate", "passthrough"),
    sni: mostlyNone(
      some("", "a.test", "A.Test", "b.a.test", "*.test", "*.a.test", "**.test", "**.a.test", "k.test", "x_y.test"),
    ),
    alpn: mostlyNone(some("h2", "http/1.1", "postgresql")),
    source: mostlyNone(
      some(
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.3",
        "::/0",
        "2001:db8::/32",
        "2001:db8::1",
        "::ffff:10.0.0.0/104",
      ),
    ),
  })
  .map(({ tls, ...match }) => routeSpec({ tls: tls as RouteSpec["tls"], match }));
const anyHello = fc.option(
  fc.record({
    sni: fc.oneof(
      fc.constantFrom(
        "",
        "a.test",
        "A.TEST",
        "a.test.",
        "b.a.test",
        "B.a.Test",
        "c.b.a.test",
        "x_y.test",
        "test",
        ".test",
      ),
      fc.constantFrom(
        "..test",
        "a..test",
        "-.test",
        "\u212a.test",
        "\u00fc.test",
        "a b.test",
        "*.test",
        "**.a.test",
        "\u212a.a.test",
      ),
    ),
    alpn: some("h2", "http/1.1", "smtp"),
  }),
);
const anySource = fc
  .constantFrom(
    "10.1.2.3",
    "10.1.9.9",
    "10.9.9.9",
    "192.0.2.1",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db9::",
    "::ffff:10.1.2.3",
    "",
  )
  .map((text) => ({ bytes: text === "" ? null : parseIp(text) }));

/** The definition: each is asked, and the first that matches is the answer. */
function inOrder(routes: readonly RouteSpec[], said: Hello | null | undefined, { bytes }: Source): number {
  for (const [index, { tls, match }] of routes.entries()) {
    if (match.source.length > 0 && (bytes === null || !new CidrSet(match.source).contains(bytes))) continue;
    if (tls === "none") return index;
    if (said === undefined) return NEEDS_HELLO;
    if (said === null) continue;
    const takesName = match.sni.some((text) => {
      const pattern = compileDnsPattern(text, { allowEmpty: true });
      return typeof pattern !== "string" && pattern.matches(said.sni);
    });
    if (match.sni.length > 0 && !takesName) continue;
    if (match.alpn.length === 0 || match.alpn.some((name) => said.alpn.includes(name))) return index;
  }
  return NO_ROUTE;
}
