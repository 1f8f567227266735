// What of a received PROXY header is passed on: never what somebody before us said of a TLS that is not the one that ended here.

import { expect, test } from "bun:test";
import { parseProxyHeader, TLV } from "../../../src/protocol/proxy-protocol.ts";
import type { Connection } from "../../../src/proxy/connection.ts";
import type { Secured } from "../../../src/proxy/handshake.ts";
import { proxyHeader } from "../../../src/proxy/proxy-header.ts";
import { SourceAddress } from "../../../src/proxy/source-address.ts";
import { backendSpec } from "../../support/sim-snapshot.ts";

const CUSTOM = 0xe0;
const RECEIVED = [TLV.SSL, TLV.ALPN, CUSTOM, TLV.CRC32C, TLV.NOOP].map((type) => ({ type, value: Uint8Array.of(1) }));
const SPEC = backendSpec({ sendProxyProtocol: "v2", forwardProxyTlvs: true });

/** The types of the TLVs that an endpoint is told. */
function toldTypes(secured: Partial<Secured> | null, spec = SPEC): readonly number[] {
  // All that the header is made of.
  const connection = {
    source: new SourceAddress("10.0.0.1", 1000),
    received: { destination: { ip: "10.0.0.2", port: 443 }, tlvs: RECEIVED },
    downstream: { socket: null },
    secured,
  } as unknown as Connection;
  const header = proxyHeader(connection, spec);
  const parsed = header === null ? null : parseProxyHeader(header);
  return parsed?.kind === "header" ? parsed.tlvs.map(({ type }) => type) : [];
}

test("where TLS goes through, what a trusted proxy said of it is passed on, without what is about its own header", () => {
  expect(toldTypes(null)).toEqual([TLV.SSL, TLV.ALPN, CUSTOM]);
});

test("where TLS ends here, what it said of another TLS is not", () => {
  expect(toldTypes({ alpn: "" })).toEqual([CUSTOM]);
});

test("nothing is passed on unasked", () => {
  expect(toldTypes(null, backendSpec({ sendProxyProtocol: "v2" }))).toEqual([]);
});
