// What it costs to look into a connection before it is routed: parsing a ClientHello, whole and cut, and finding its route.
//
// On an Intel Xeon with two CPUs that others used too (Bun 1.4.5), medians in ns: parser 1,500 for 517 bytes of curl, which offers
// many more suites and groups, and 870 for 1,492 bytes of Bun; half of a hello 20, for its length alone says so. A router asks its routes in order: 40 ns for
// each that does not match.

import { parseIp } from "../../src/base/ip.ts";
import { parseClientHello } from "../../src/protocol/client-hello.ts";
import { Router } from "../../src/proxy/router.ts";
import type { Source } from "../../src/proxy/source-address.ts";
import { routeSpec } from "../../test/support/sim-snapshot.ts";
import type { Micro } from "./micro.ts";

const FIXTURES = new URL("../../test/unit/protocol/fixtures/", import.meta.url);
const source: Source = { bytes: parseIp("10.1.3.231") };

async function captured(name: string): Promise<Uint8Array> {
  const hex = await Bun.file(new URL(`${name}.hex`, FIXTURES)).text();
  return new Uint8Array(Buffer.from(hex.replace(/\s/g, ""), "hex"));
}

const small = await captured("curl");
const large = await captured("bun-connect");
const half = large.subarray(0, large.length / 2);

/** The last of `count` routes by server name. */
function lastOf(count: number): () => unknown {
  const names = Array.from({ length: count }, (_, index) => `service-${index}.example.internal`);
  const router = new Router(names.map((name) => routeSpec({ name, tls: "passthrough", match: { sni: [name] } })));
  const hello = { sni: names.at(-1) ?? "", alpn: ["h2"] };
  if (router.route(hello, source) !== count - 1) throw new Error("the last route must match");
  return () => router.route(hello, source);
}

/** See micro.ts. */
export const MICRO: readonly Micro[] = [
  { name: `parser: a ClientHello of ${small.length} bytes`, budget: 2500, call: () => parseClientHello(small) },
  {
    name: `parser: one of ${large.length} bytes, with a post-quantum key share`,
    budget: 2500,
    call: () => parseClientHello(large),
  },
  { name: "parser: the first half of that", budget: 2500, call: () => parseClientHello(half) },
  { name: "router: the only route", budget: 250, call: lastOf(1) },
  { name: "router: the last of 1,000 by server name", budget: 100_000, call: lastOf(1000) },
];
