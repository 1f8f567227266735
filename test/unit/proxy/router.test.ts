import { describe, expect, test } from "bun:test";
import { type Hello, NEEDS_HELLO, NO_ROUTE, Router } from "../../../src/proxy/router.ts";
import { SourceAddress } from "../../../src/proxy/source-address.ts";
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
