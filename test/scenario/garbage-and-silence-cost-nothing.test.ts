// Thousands of clients that send garbage, nothing, too much, or half a hello are closed with the right reason within the limits. Afterwards the
// daemon has as many descriptors as before and no more memory to speak of, has reported no defect, and serves.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { type TestPki, testPki } from "../support/certificates.ts";
import { run } from "../support/child.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { clientCommand } from "../support/openssl.ts";
import { missingPrograms } from "../support/programs.ts";
import { connectTo, type Endpoint, startEndpoint } from "../support/tcp.ts";

const CLIENTS_OF_A_KIND = 500;
const AT_ONCE = 100;
/** Of the kind that costs most. */
const FLOOD = 8_000;
/** What the heap may grow by in the flood, for want of a collection. Were its bytes kept, it would be 130 MB. */
const GROWTH_BYTES = 48 * 1024 * 1024;

let pki: TestPki;
let endpoint: Endpoint;
let daemon: Daemon;

beforeAll(async () => {
  pki = await testPki();
  endpoint = await startEndpoint();
  daemon = await startDaemon(`
listeners:
  - name: tls
    address: 127.0.0.1:0
    peek_timeout: 300ms
    handshake_timeout: 300ms
    tls: { certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }], client_auth: none }
    routes: [{ name: all, tls: terminate, backend: echo }]
  - name: proxied
    address: 127.0.0.1:0
    peek_timeout: 300ms
    accept_proxy_protocol: true
    trusted_sources: [127.0.0.1]
    backend: echo
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
});

afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await endpoint?.[Symbol.asyncDispose]();
});

/** Bytes that look random and are the same in every run. */
function noise(seed: string, length: number): Buffer {
  return createHash("shake256", { outputLength: length }).update(seed).digest();
}

/** A handshake record that promises a ClientHello of `promised` bytes, and holds `body`. */
function record(promised: number, body: Buffer): Buffer {
  const head = Buffer.from([22, 3, 1, 0, 0, 1, 0, 0, 0]);
  head.writeUInt16BE(Math.min(body.length + 4, 16_384), 3);
  head.writeUIntBE(promised, 6, 3);
  return Buffer.concat([head, body]);
}

interface Kind {
  readonly title: string;
  readonly listener: "tls" | "proxied";
  bytes(index: number): Buffer;
  readonly reason: string;
}

const V2 = Buffer.from("0d0a0d0a000d0a515549540a", "hex");

const KINDS: readonly Kind[] = [
  {
    title: "noise",
    listener: "tls",
    // A first byte that no TLS record has.
    bytes: (index) => Buffer.concat([Buffer.from([200]), noise(`noise ${index}`, 1000)]),
    reason: "not_tls",
  },
  { title: "nothing", listener: "tls", bytes: () => Buffer.alloc(0), reason: "peek_timeout" },
  {
    title: "half a hello",
    listener: "tls",
    bytes: (index) => record(4000, noise(`half ${index}`, 300)).subarray(0, 200),
    reason: "peek_timeout",
  },
  {
    title: "a hello larger than any",
    listener: "tls",
    bytes: (index) => record(1_000_000, noise(`large ${index}`, 16_000)),
    reason: "not_tls",
  },
  {
    title: "a hello of noise",
    listener: "tls",
    bytes: (index) => record(500, noise(`hello ${index}`, 500)),
    reason: "not_tls",
  },
  {
    title: "no PROXY header",
    listener: "proxied",
    bytes: (index) => noise(`header ${index}`, 600),
    reason: "malformed_header",
  },
  {
    title: "a PROXY header v1 without end",
    listener: "proxied",
    bytes: () => Buffer.from(`PROXY TCP4 ${"1".repeat(400)}`),
    reason: "malformed_header",
  },
  {
    title: "a PROXY header v2 that is too long to be true",
    listener: "proxied",
    bytes: () => Buffer.concat([V2, Buffer.from([0x21, 0x11, 0xff, 0xff]), Buffer.alloc(8000)]),
    reason: "malformed_header",
  },
  {
    title: "a PROXY header v2 with lying lengths",
    listener: "proxied",
    bytes: (index) => Buffer.concat([V2, Buffer.from([0x21, 0x11, 0, 40]), noise(`tlv ${index}`, 40)]),
    reason: "malformed_header",
  },
];

/** All of them, some at a time: connects, sends, and waits until the daemon has closed. */
async function send({ listener, bytes }: Kind, count: number): Promise<void> {
  const address = await daemon.address(listener);
  for (let from = 0; from < count; from += AT_ONCE) {
    await Promise.all(
      Array.from({ length: Math.min(AT_ONCE, count - from) }, async (_, index) => {
        const peer = await connectTo(address);
        peer.socket.write(bytes(from + index));
        await eventually("it was closed", () => peer.closed || peer.ended);
        peer.socket.destroy();
      }),
    );
  }
}

describe(`${CLIENTS_OF_A_KIND} clients that send`, () => {
  let descriptorsBefore = 0;

  beforeAll(async () => {
    for (const kind of KINDS) await send(kind, AT_ONCE);
    await daemon.recorded(KINDS.length * AT_ONCE);
    descriptorsBefore = daemon.descriptors;
  }, 20_000);

  for (const kind of KINDS) {
    test(`${kind.title}: ${kind.reason}`, async () => {
      const before = daemon.records.length;
      await send(kind, CLIENTS_OF_A_KIND);
      const records = (await daemon.recorded(before + CLIENTS_OF_A_KIND)).slice(before);
      expect(records).toHaveLength(CLIENTS_OF_A_KIND);
      const odd = records.filter(({ close_reason }) => close_reason !== kind.reason);
      expect(odd).toEqual([]);
      // At the limit of 300 ms, and with room for a busy machine.
      expect(Math.max(...records.map(({ duration_ms }) => duration_ms))).toBeLessThan(2_000);
    }, 15_000);
  }

  test("and afterwards nothing is left of them", async () => {
    await eventually(
      () => `all descriptors came back: ${descriptorsBefore} before, ${daemon.descriptors} now`,
      () => daemon.descriptors <= descriptorsBefore,
    );
    expect(endpoint.peers).toHaveLength(0);
    expect(daemon.child.stderr).not.toContain("defect");
    expect(daemon.records.filter(({ close_reason }) => close_reason === "internal_error")).toEqual([]);
  });

  test(`and ${FLOOD} more leave the memory as it is`, async () => {
    const flood = KINDS.find(({ title }) => title === "a hello larger than any") as Kind;
    // By now the heap has grown to its working size.
    const before = daemon.residentBytes;
    await send(flood, FLOOD);
    expect(daemon.residentBytes - before).toBeLessThan(GROWTH_BYTES);
  }, 20_000);

  const missing = missingPrograms("openssl");
  test.skipIf(missing !== "")(`and it still serves ${missing}`.trim(), async () => {
    const to = await daemon.address("tls");
    const { stdout } = await run(clientCommand({ to, ca: pki.authority.certificatePath }), { input: "hello\n" });
    expect(stdout).toContain("Verification: OK");
  });
});
