// Which route can never be chosen, and because of which one.

import { expect, test } from "bun:test";
import type { PlacedRoute } from "../../../src/config/effective.ts";
import { EarlierRoutes } from "../../../src/config/reach.ts";

interface Match {
  readonly sni?: readonly string[];
  readonly alpn?: readonly string[];
  readonly source?: readonly string[];
  readonly tls?: "none" | "passthrough";
}

function placed({ sni = [], alpn = [], source = [], tls = "passthrough" }: Match, index: number): PlacedRoute {
  const match = { sni: [...sni], alpn: [...alpn], source: [...source] };
  return { route: { name: `r${index}`, match, tls, backend: "b" }, path: ["routes", index] };
}

/** The name of the route that hides the last one of these; "" when none does. */
function hiding(...matches: readonly Match[]): string {
  const routes = matches.map(placed);
  const before = new EarlierRoutes();
  for (const route of routes.slice(0, -1)) before.add(route);
  return before.thatHides(routes.at(-1) as PlacedRoute)?.route.name ?? "";
}

test("a name is hidden by itself, by a wildcard above it, and by a route for all names", () => {
  expect(hiding({ sni: ["a.b.test"] }, { sni: ["a.b.test"] })).toBe("r0");
  expect(hiding({ sni: ["*.b.test"] }, { sni: ["a.b.test"] })).toBe("r0");
  expect(hiding({ sni: ["**.test"] }, { sni: ["a.b.test"] })).toBe("r0");
  expect(hiding({ sni: ["**.test"] }, { sni: ["*.b.test"] })).toBe("r0");
  expect(hiding({}, { sni: ["a.b.test"] })).toBe("r0");
  expect(hiding({ sni: [""] }, { sni: [""] })).toBe("r0");
  expect(hiding({ sni: ["x.test", "A.b.test"] }, { sni: ["a.B.test"] })).toBe("r0");
});

test("a name is not hidden by another one, or by a wildcard that leaves something", () => {
  expect(hiding({ sni: ["*.test"] }, { sni: ["a.b.test"] })).toBe("");
  expect(hiding({ sni: ["*.b.test"] }, { sni: ["**.b.test"] })).toBe("");
  expect(hiding({ sni: ["a.b.test"] }, { sni: ["*.b.test"] })).toBe("");
  expect(hiding({ sni: ["a.b.test"] }, { sni: ["a.b.test", "c.test"] })).toBe("");
  expect(hiding({ sni: ["a.b.test"] }, {})).toBe("");
});

test("sources are hidden by ranges that hold them, of the same version", () => {
  expect(hiding({ source: ["10.0.0.0/8"] }, { source: ["10.1.2.0/24"] })).toBe("r0");
  expect(hiding({ source: ["0.0.0.0/0"] }, { source: ["10.1.2.3/32"] })).toBe("r0");
  expect(hiding({ source: ["10.1.2.0/24"] }, { source: ["10.0.0.0/8"] })).toBe("");
  expect(hiding({ source: ["::/0"] }, { source: ["10.1.2.0/24"] })).toBe("");
  expect(hiding({ source: ["fd00::/8"] }, { source: ["fd12::/16"], sni: ["a.test"] })).toBe("r0");
  expect(hiding({ source: ["10.0.0.0/8"] }, { source: ["10.1.2.0/24", "11.0.0.0/8"] })).toBe("");
  expect(hiding({ source: ["10.0.0.0/8", "11.0.0.0/8"] }, { source: ["10.1.2.0/24", "11.0.0.0/8"] })).toBe("r0");
});

test("every field has to be taken; plain bytes are not hidden by who looks at a ClientHello", () => {
  expect(hiding({ alpn: ["h2"] }, { alpn: ["h2"], sni: ["a.test"] })).toBe("r0");
  expect(hiding({ alpn: ["h2"], sni: ["a.test"] }, { sni: ["a.test"] })).toBe("");
  expect(hiding({}, { tls: "none" })).toBe("");
  expect(hiding({ tls: "none" }, {})).toBe("r0");
});

test("it is the first one that is told", () => {
  const name = { sni: ["a.b.test"] };
  expect(hiding({ sni: ["x.test"] }, { sni: ["**.test"] }, name, {}, name)).toBe("r1");
  expect(hiding({ sni: ["x.test"] }, name, { sni: ["**.test"] }, {}, name)).toBe("r1");
  expect(hiding({ sni: ["x.test"] }, {}, name, { sni: ["**.test"] }, name)).toBe("r1");
});
