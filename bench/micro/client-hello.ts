// What it costs to look into a connection before it is routed: parsing a ClientHello, whole and cut, and finding its route.
//
// On an Intel Xeon with two CPUs that others used too (Bun 1.4.5), medians in ns: parser 1,500 for 517 bytes of curl, which offers
// many more suites and groups, and 870 for 1,492 bytes of Bun; half of a hello 20, for its length alone says so. A route takes 370 among
// 10,000 as alone, most of it for the patterns that may stand for a name; an opaque one by its source 40. Asked in order they were 40 for each that does not match.

import { parseIp } from "../../src/base/ip.ts";
import { parseClientHello } from "../../src/protocol/client-hello.ts";
import { Router } from "../../src/proxy/router.ts";
import type { Source } from "../../src/proxy/source-address.ts";
import type { RouteSpec } from "../../src/snapshot/snapshot.ts";
import { routeSpec } from "../../test/support/sim-snapshot.ts";
import type { Micro } from "./micro.ts";

const FIXTURES = new URL("../../test/unit/protocol/fixtures/", import.meta.url);

async function captured(name: string): Promise<Uint8Array> {
  const hex = await Bun.file(new URL(`${name}.hex`, FIXTURES)).text();
  return new Uint8Array(Buffer.from(hex.replace(/\s/g, ""), "hex"));
}

const small = await captured("curl");
const large = await captured("bun-connect");
const half = large.subarray(0, large.length / 2);

/** Asks for the last of `count` routes. */
function lastOf(
  count: number,
  matchOf: (index: number) => Partial<RouteSpec["match"]>,
  tls: RouteSpec["tls"] = "passthrough",
): () => unknown {
  const router = new Router(Array.from({ length: count }, (_, index) => routeSpec({ tls, match: matchOf(index) })));
  const name = `${label(count - 1)}.example.internal`;
  const hello = { sni: name, alpn: ["h2", "http/1.1"] };
  const from: Source = { bytes: parseIp(address(count - 1)) };
  if (router.route(tls === "none" ? undefined : hello, from) !== count - 1)
    throw new Error("the last route must match");
  return tls === "none" ? () => router.route(undefined, from) : () => router.route(hello, from);
}

const label = (index: number): string => `service-${index}`;
const address = (index: number): string => `10.0.${index >> 8}.${index & 255}`;
const byName = (index: number): Partial<RouteSpec["match"]> => ({ sni: [`${label(index)}.example.internal`] });
const bySource = (index: number): Partial<RouteSpec["match"]> => ({ source: [address(index)] });

/** See micro.ts. */
export const MICRO: readonly Micro[] = [
  { name: `parser: a ClientHello of ${small.length} bytes`, budget: 2500, call: () => parseClientHello(small) },
  {
    name: `parser: one of ${large.length} bytes, with a post-quantum key share`,
    budget: 2500,
    call: () => parseClientHello(large),
  },
  { name: "parser: the first half of that", budget: 2500, call: () => parseClientHello(half) },
  { name: "router: the only route", budget: 1000, call: lastOf(1, byName) },
  { name: "router: the last of 1,000 by server name", budget: 1000, call: lastOf(1000, byName) },
  { name: "router: the last of 10,000 by server name", budget: 1000, call: lastOf(10_000, byName) },
  {
    name: "router: the last of 10,000 by a server name that all have, and a source",
    budget: 2000,
    call: lastOf(10_000, (index) => ({ sni: ["*.example.internal"], ...bySource(index) })),
  },
  { name: "router: the last of 10,000 opaque ones by source", budget: 1000, call: lastOf(10_000, bySource, "none") },
];
