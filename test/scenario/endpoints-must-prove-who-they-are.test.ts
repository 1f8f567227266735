// What leaves this host over TLS goes to the endpoint that was meant and to nobody else. An endpoint whose certificate is not good, or is for somebody
// else, gets our ClientHello and no more: no byte of the client's and, on TLS 1.3, not our certificate. One line of the log says why, and what it showed.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type net from "node:net";
import type { CloseReason } from "../../src/telemetry/close-reason.ts";
import type { KeyPair } from "../../src/tls-tools/tls-tools.ts";
import type { Peer } from "../conformance/peers.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { type Daemon, IS_DENO, startDaemon } from "../support/daemon.ts";
import { type EndpointCertificates, endpointCertificates, type OddName } from "../support/endpoint-certificates.ts";
import { eventually } from "../support/eventually.ts";
import { startOpensslServer } from "../support/openssl-server.ts";
import { originationConfig } from "../support/origination-config.ts";
import { missingPrograms } from "../support/programs.ts";
import { connectTo, type Endpoint, startEndpoint } from "../support/tcp.ts";
import {
  RECORD,
  recordTypes,
  startTlsEndpoint,
  type TlsEndpoint,
  type TlsEndpointOptions,
} from "../support/tls-endpoint.ts";

const DAY_MS = 86_400_000;
const SPIFFE = "spiffe://bunnel.test/endpoint";
const missing = missingPrograms("openssl");

let pki: TestPki;
let made: EndpointCertificates;

beforeAll(async () => {
  if (missing !== "") return;
  pki = await testPki();
  made = await endpointCertificates();
});

interface Bad {
  readonly name: string;
  readonly reason?: CloseReason;
  /** Default: for `localhost` and good. */
  readonly shown?: () => KeyPair | Promise<KeyPair>;
  /** Default: `server_name: localhost`. */
  readonly tls?: string;
  readonly endpoint?: TlsEndpointOptions;
  /** The exact reason in the log, after the endpoint's address. */
  readonly detail: string;
  /** What the log says of its certificate; "" when there is none to tell of. */
  readonly names?: string;
  /** The TLS records that it got from us. */
  readonly records?: readonly number[];
}

const HELLO = [RECORD.HANDSHAKE];
/** On TLS 1.2: our certificate too (with its key's share, its proof and Finished), but nothing of the client's. */
const HANDSHAKE_1_2 = [
  ...HELLO,
  RECORD.HANDSHAKE,
  RECORD.HANDSHAKE,
  RECORD.HANDSHAKE,
  RECORD.CHANGE_CIPHER_SPEC,
  RECORD.HANDSHAKE,
];

/** What an endpoint got. Deno's first hello may hold no key share that these endpoints take: then it is repeated. */
function recordsOf(link: Parameters<typeof recordTypes>[0]): readonly number[] {
  const types = recordTypes(link);
  const isRepeated = IS_DENO && types.slice(0, 3).join() === [...HELLO, RECORD.CHANGE_CIPHER_SPEC, ...HELLO].join();
  return types.slice(isRepeated ? 2 : 0);
}
const ENDPOINT = "subject CN=endpoint, SANs localhost";

const dns = (...values: string[]): OddName[] => values.map((value) => ({ type: "dns", value }));
const named = (...values: string[]): (() => Promise<KeyPair>) => {
  return () => made.withNames(dns(...values));
};

const BAD: readonly Bad[] = [
  {
    name: "unknown-authority",
    shown: () => made.issue({}, pki.otherAuthority),
    detail: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  },
  { name: "self-signed", shown: () => made.selfSigned, detail: "DEPTH_ZERO_SELF_SIGNED_CERT" },
  {
    name: "authority-of-the-same-name",
    shown: () => made.sameNameAuthority,
    detail: "SELF_SIGNED_CERT_IN_CHAIN",
  },
  {
    name: "authority-of-the-same-name-and-key-id",
    shown: () => made.sameNameAndKeyId,
    detail: "CERT_SIGNATURE_FAILURE",
  },
  {
    name: "expired",
    shown: () => made.issue({ notBefore: new Date(Date.now() - 2 * DAY_MS) }),
    detail: "CERT_HAS_EXPIRED",
  },
  {
    name: "not-yet-valid",
    shown: () => made.issue({ notBefore: new Date(Date.now() + DAY_MS) }),
    detail: "CERT_NOT_YET_VALID",
  },
  { name: "for-clients-only", shown: () => made.issue({ usage: "client" }), detail: "INVALID_PURPOSE" },
  { name: "revoked", shown: () => made.revoked, tls: "server_name: localhost, crl: [CRL]", detail: "CERT_REVOKED" },
  { name: "list-out-of-date", tls: "server_name: localhost, crl: [EXPIRED]", detail: "CRL_HAS_EXPIRED" },
  {
    name: "outside-name-constraints",
    shown: () => made.outsideConstraints,
    detail: "permitted subtree violation",
  },
  {
    name: "another-name",
    shown: () => made.issue({ dns: ["other.test"] }),
    detail: "not for the name localhost",
    names: "subject CN=endpoint, SANs other.test",
  },
  {
    name: "another-address",
    shown: () => made.issue({ dns: ["127.0.0.1.test"], ip: ["127.0.0.2"] }),
    tls: "",
    detail: "not for the address 127.0.0.1",
    names: "subject CN=endpoint, SANs 127.0.0.1.test 127.0.0.2",
  },
  {
    name: "address-as-a-dns-name",
    shown: named("127.0.0.1"),
    tls: "",
    detail: "not for the address 127.0.0.1",
    names: "subject CN=endpoint, SANs 127.0.0.1",
  },
  {
    name: "common-name-only",
    shown: () => made.withNames([], "localhost"),
    detail: "not for the name localhost",
    names: "subject CN=localhost",
  },
  {
    name: "common-name-beside-a-uri",
    shown: () => made.withNames([{ type: "url", value: SPIFFE }], "localhost"),
    detail: "not for the name localhost",
    names: `subject CN=localhost, SANs ${SPIFFE}`,
  },
  ...[
    ["wildcard-over-two-labels", "*.db.test", "a.b.db.test"],
    ["wildcard-over-no-label", "*.db.test", "db.test"],
    ["wildcard-of-a-top-level", "*.test", "db.test"],
    ["wildcard-in-a-label", "a*.db.test", "ab.db.test"],
    ["wildcard-not-leftmost", "a.*.test", "a.db.test"],
    ["wildcard-alone", "*", "localhost"],
  ].map(
    ([name = "", shown = "", serverName = ""]): Bad => ({
      name,
      shown: named(shown),
      tls: `server_name: ${serverName}`,
      detail: `not for the name ${serverName}`,
      names: `subject CN=endpoint, SANs ${shown}`,
    }),
  ),
  {
    name: "verify-dns-not-met",
    tls: "verify: { dns: [db.test] }",
    detail: "no DNS name matches verify.dns",
  },
  {
    name: "verify-uri-not-met",
    shown: () => made.issue({ uri: SPIFFE }),
    tls: 'verify: { uri: ["spiffe://bunnel.test/other", "spiffe://bunnel.test/endpoint/*"] }',
    detail: "no URI name matches verify.uri",
    names: `subject CN=endpoint, SANs ${SPIFFE} localhost`,
  },
  {
    name: "one-of-two-not-met",
    shown: () => made.issue({ dns: ["other.test"], uri: SPIFFE }),
    tls: `verify: { dns: [localhost], uri: ["${SPIFFE}"] }`,
    detail: "no DNS name matches verify.dns",
    names: `subject CN=endpoint, SANs ${SPIFFE} other.test`,
  },
  {
    name: "name-with-a-newline",
    shown: named("localhost", "x\ndns:localhost"),
    detail: "a DNS name holds a control character",
    names: String.raw`subject CN=endpoint, SANs localhost "x\ndns:localhost"`,
  },
  {
    name: "name-with-a-nul",
    shown: named("localhost\0.evil.test"),
    detail: "a DNS name holds a NUL",
    names: String.raw`subject CN=endpoint, SANs "localhost\u0000.evil.test"`,
  },
  {
    name: "name-with-a-comma",
    shown: named("x.test, DNS:localhost"),
    detail: "a DNS name holds a comma",
    names: 'subject CN=endpoint, SANs "x.test, dns:localhost"',
  },
  {
    name: "uri-with-a-nul",
    shown: () => made.withNames([{ type: "url", value: `${SPIFFE}\0.evil` }]),
    tls: `verify: { uri: ["${SPIFFE}"] }`,
    detail: "a URI name holds a NUL",
    names: String.raw`subject CN=endpoint, SANs "${SPIFFE}\u0000.evil"`,
  },
  {
    name: "another-name-on-tls-1-2",
    shown: () => made.issue({ dns: ["other.test"] }),
    tls: 'server_name: localhost, min_version: "1.2"',
    endpoint: { version: "TLSv1.2" },
    detail: "not for the name localhost",
    names: "subject CN=endpoint, SANs other.test",
    records: HANDSHAKE_1_2,
  },
  {
    name: "two-spiffe-ids",
    shown: () =>
      made.withNames([
        { type: "url", value: SPIFFE },
        { type: "url", value: "spiffe://bunnel.test/second" },
      ]),
    tls: `verify: { uri: ["${SPIFFE}"] }`,
    detail: "no X.509-SVID: it has 2 URI names, and exactly one is allowed",
    names: `subject CN=endpoint, SANs ${SPIFFE} spiffe://bunnel.test/second`,
  },
  {
    name: "tls-1-2-below-the-floor",
    reason: "upstream_handshake_failed",
    endpoint: { version: "TLSv1.2" },
    detail: "TLSV1_ALERT_PROTOCOL_VERSION",
    names: "",
  },
  {
    name: "alpn-passed-over",
    reason: "upstream_handshake_failed",
    tls: "server_name: localhost, alpn: [postgresql]",
    detail: "NO_APPLICATION_PROTOCOL",
  },
  {
    name: "alpn-of-another-kind",
    reason: "upstream_handshake_failed",
    tls: "server_name: localhost, alpn: [postgresql]",
    endpoint: { alpn: ["h2"] },
    detail: "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
    names: "",
  },
];

describe.skipIf(missing !== "").each([
  ["as it is", {}],
  ["with NODE_TLS_REJECT_UNAUTHORIZED=0", { NODE_TLS_REJECT_UNAUTHORIZED: "0" }],
] as const)(`%s, a bad endpoint is refused ${missing}`.trim(), (_, env) => {
  const endpoints = new Map<string, TlsEndpoint>();
  const clients = new Map<string, Peer>();
  let daemon: Daemon;

  beforeAll(async () => {
    const rows = [];
    for (const { name, shown = () => made.issue(), tls = "server_name: localhost", endpoint: options } of BAD) {
      const endpoint = await startTlsEndpoint(await shown(), options);
      endpoints.set(name, endpoint);
      const written = tls.replace("CRL", made.crlPath).replace("EXPIRED", made.expiredCrlPath);
      rows.push({ name, endpoints: [endpoint.address], tls: written });
    }
    daemon = await startDaemon(originationConfig(pki, rows), { env });
    // All at once: each waits for its line of the log, which comes a fraction of a second later.
    for (const { name } of BAD) {
      const client = await connectTo(await daemon.address(name));
      client.socket.write("for the true endpoint only");
      clients.set(name, client);
    }
  });

  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
    for (const endpoint of endpoints.values()) await endpoint[Symbol.asyncDispose]();
  });

  for (const { name, reason = "upstream_certificate_rejected", detail, names = ENDPOINT, records = HELLO } of BAD) {
    test(name.replaceAll("-", " "), async () => {
      const endpoint = endpoints.get(name) as TlsEndpoint;
      const client = clients.get(name) as Peer;
      await eventually("the client was told", () => client.closed);
      expect([client.errorCode, client.text]).toEqual(["ECONNRESET", ""]);
      const record = await daemon.record(({ listener }) => listener === name);
      expect([record.close_reason, record.close_side, record.termination]).toEqual([reason, "upstream", "SC"]);
      expect([record.attempts, record.bytes_up, record.endpoint]).toEqual([1, 0, undefined]);
      const [said, shown = ""] = (record.detail ?? "").replace(`${endpoint.address}: `, "").split("; ");
      expect(said).toBe(detail);
      expect(daemon.records.filter(({ listener }) => listener === name)).toHaveLength(1);
      expect(shown.replace(/, serial [0-9a-f]+$/, "")).toBe(names);
      const [link] = endpoint.links;
      await eventually("the endpoint was left", () => link?.client.destroyed === true);
      expect(link === undefined ? [] : recordsOf(link).filter((type) => type !== RECORD.ALERT)).toEqual([...records]);
      if (records === HELLO) expect(endpoint.sessions).toHaveLength(0);
      expect(endpoint.sessions.map(({ text }) => text).join("")).toBe("");
    });
  }
});

describe.skipIf(missing !== "")(`what is no TLS server, or none that ends its handshake ${missing}`.trim(), () => {
  const CASES = [
    ["plain", "upstream_handshake_failed", /: WRONG_VERSION_NUMBER$/, answer("HTTP/1.1 400 Bad Request\r\n\r\n")],
    ["resetting", "upstream_handshake_failed", /: the endpoint left/, (socket: net.Socket) => socket.resetAndDestroy()],
    ["leaving", "upstream_handshake_failed", /: the endpoint left/, (socket: net.Socket) => socket.end()],
    ["silent", "upstream_handshake_timeout", /^127\.0\.0\.1:\d+$/, () => {}],
  ] as const;
  const resources: AsyncDisposable[] = [];
  const plain = new Map<string, Endpoint>();
  let daemon: Daemon;

  function answer(text: string): (socket: net.Socket) => void {
    return (socket) => socket.write(text);
  }

  beforeAll(async () => {
    const rows = [];
    for (const [name, , , act] of CASES) {
      const endpoint = await startEndpoint(({ socket }) => void socket.once("data", () => act(socket)));
      resources.push(endpoint);
      plain.set(name, endpoint);
      rows.push({
        name,
        endpoints: [endpoint.address],
        tls: "server_name: localhost",
        more: "connect_timeout: 300ms, ",
      });
    }
    daemon = await startDaemon(originationConfig(pki, rows));
    resources.push(daemon);
  });

  afterAll(async () => {
    for (const resource of resources.reverse()) await resource[Symbol.asyncDispose]();
  });

  for (const [name, reason, detail] of CASES) {
    test(`${name}: ${reason}`, async () => {
      const client = await connectTo(await daemon.address(name));
      client.socket.write("for the true endpoint only");
      await eventually("the client was told", () => client.closed);
      expect([client.errorCode, client.text]).toEqual(["ECONNRESET", ""]);
      const record = await daemon.record(({ listener }) => listener === name);
      expect([record.close_reason, record.bytes_up]).toEqual([reason, 0]);
      expect(record.detail ?? "").toMatch(detail);
      expect(plain.get(name)?.peers[0]?.text).not.toContain("true endpoint");
    });
  }
});

test.skipIf(missing !== "")(
  `a bad endpoint costs an attempt and not the connection: the next one serves ${missing}`.trim(),
  async () => {
    await using stranger = await startTlsEndpoint(await made.issue({}, pki.otherAuthority));
    await using silent = await startEndpoint(() => {});
    await using passingOver = await startTlsEndpoint(await made.issue());
    await using good = await startTlsEndpoint(await made.issue(), { alpn: ["h2"] });
    const more = "balance: round_robin, connect_timeout: 300ms, ";
    const cases = [
      ["stranger", [stranger.address]],
      ["silent", [silent.address]],
      ["alpn", [passingOver.address]],
      ["all", [stranger.address, silent.address, passingOver.address]],
    ] as const;
    const rows = cases.map(([name, bad]) => {
      // Without ALPN the one that passes it over would be as good as the other.
      const tls = `server_name: localhost${name === "alpn" || name === "all" ? ", alpn: [h2]" : ""}`;
      return { name, endpoints: [...bad, good.address], tls, more: `connect_attempts: 4, ${more}` };
    });
    await using daemon = await startDaemon(originationConfig(pki, rows));
    for (const [index, [name, bad]] of cases.entries()) {
      const client = await connectTo(await daemon.address(name));
      client.socket.write("question");
      const session = await good.session(index);
      await eventually("it arrived", () => session.text === "question");
      session.socket.end("answer");
      await eventually("the answer came, and the end", () => client.text === "answer" && client.ended);
      client.socket.end();
      const record = await daemon.record(({ listener }) => listener === name);
      expect([record.close_reason, record.attempts, record.endpoint]).toEqual([
        "completed",
        bad.length + 1,
        good.address,
      ]);
    }
    for (const link of [...stranger.links, ...passingOver.links]) expect(recordsOf(link)).toEqual(HELLO);
    expect([stranger.links.length, passingOver.links.length]).toEqual([2, 2]);
  },
);

describe.skipIf(missing !== "")(`openssl s_server, telling every message ${missing}`.trim(), () => {
  /** What it saw of a connection through the daemon, once that has ended. */
  async function seenBy(serverName: string): Promise<{ output: string; reason: string }> {
    await using server = await startOpensslServer(pki.databaseServer, ["-naccept", "1", "-msg", "-tls1_3"]);
    await using daemon = await startDaemon(
      originationConfig(pki, [{ name: "tcp", endpoints: [server.address], tls: `server_name: ${serverName}` }]),
    );
    const client = await connectTo(await daemon.address("tcp"));
    client.socket.write("the client's own words");
    if (serverName === "db.test") {
      await server.child.says("the client's own words");
      client.socket.resetAndDestroy();
    }
    const { close_reason: reason } = await daemon.record();
    await server.child.exited;
    return { output: server.output, reason };
  }

  test("is shown our certificate when it is the one that was meant", async () => {
    const { output, reason } = await seenBy("db.test");
    expect(reason).toBe("downstream_reset");
    expect(output).toMatch(/<<< TLS 1\.3, Handshake \[length \w+\], Certificate\b/);
    expect(output).toMatch(/<<< TLS 1\.3, Handshake \[length \w+\], Finished/);
  });

  test("sees a ClientHello and nothing else when it is not", async () => {
    const { output, reason } = await seenBy("another.test");
    expect(reason).toBe("upstream_certificate_rejected");
    expect(output).toMatch(/<<< TLS 1\.3, Handshake \[length \w+\], ClientHello/);
    expect(output).not.toMatch(/<<< .*(Certificate|Finished|Alert)/);
    expect(output).not.toContain("own words");
  });
});
