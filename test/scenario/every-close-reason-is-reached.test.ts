// Every way in which a connection can end is reached by real traffic against one daemon, and its one record tells who ended it, how far it
// had come in HAProxy's two characters, and why. Only `internal_error` is left out, which takes a defect.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { CATALOGUE } from "../../src/admin/metrics-catalogue.ts";
import { CLOSE_REASONS, type CloseReason } from "../../src/telemetry/close-reason.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { type AccessLine, type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { Samples } from "../support/exposition.ts";
import { opensslClient } from "../support/openssl.ts";
import { missingPrograms } from "../support/programs.ts";
import { checkMetrics } from "../support/promtool.ts";
import { clientHello, send, tryOpenssl } from "../support/provoking.ts";
import { unusedPort } from "../support/servers.ts";
import { connectTo, type Endpoint, hold, startEndpoint, startUnansweringEndpoint } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { startTlsEndpoint, type TlsEndpoint } from "../support/tls-endpoint.ts";

/** What the end of a case's connection must look like. */
type Expected = readonly [
  side: AccessLine["close_side"],
  phase: AccessLine["phase"],
  termination: string,
  detail: RegExp | undefined,
  error?: string,
];

interface Case {
  readonly reason: CloseReason;
  /** What happens, for the title. */
  readonly how: string;
  readonly listener: string;
  provoke(address: string): Promise<void>;
  readonly expected: Expected;
}

const missing = missingPrograms("promtool");

let pki: TestPki;
let daemon: Daemon;
const resources: AsyncDisposable[] = [];
let echo: Endpoint;
let holding: Endpoint;
let adminPath: string;
const reached = new Set<CloseReason>();

beforeAll(async () => {
  pki = await testPki();
  echo = await startEndpoint();
  holding = await startEndpoint(hold);
  const resetting = await startEndpoint(({ socket }) => socket.once("data", () => socket.resetAndDestroy()));
  const unanswering = await startUnansweringEndpoint();
  const stranger = await startTlsEndpoint(pki.wrongAuthority);
  // The end of the wire's own direction, which no close_notify goes before.
  const cutting: TlsEndpoint = await startTlsEndpoint(pki.server, {
    onConnection: (session) => session.tls.on("data", () => cutting.links.at(-1)?.client.end()),
  });
  resources.push(echo, holding, resetting, unanswering, stranger, cutting);
  adminPath = join(temporaryDirectory("bunnel-reasons-"), "admin.sock");
  const verified = `tls: { ca: [${pki.authority.certificatePath}] }`;
  daemon = await startDaemon(`
drain_timeout: 0s
admin: { address: "unix:${adminPath}" }
listeners:
  - { name: plain, address: 127.0.0.1:0, backend: echo }
  - { name: one-per-source, address: 127.0.0.1:0, max_connections_per_source: 1, backend: hold }
  - { name: others-only, address: 127.0.0.1:0, allow_sources: [192.0.2.0/24], backend: echo }
  - { name: impatient, address: 127.0.0.1:0, peek_timeout: 100ms, routes: [{ name: any, tls: passthrough, backend: echo }] }
  - { name: one-place, address: 127.0.0.1:0, max_connections: 1, routes: [{ name: any, tls: passthrough, backend: echo }] }
  - { name: behind-lb, address: 127.0.0.1:0, accept_proxy_protocol: true, trusted_sources: [127.0.0.1], backend: echo }
  - { name: tls-only, address: 127.0.0.1:0, routes: [{ name: known, match: { sni: [known.test] }, tls: passthrough, backend: echo }] }
  - name: mtls
    address: 127.0.0.1:0
    handshake_timeout: 200ms
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
    routes: [{ name: all, tls: terminate, policy: clients, backend: hold }]
  - { name: full, address: 127.0.0.1:0, backend: full }
  - { name: overloaded, address: 127.0.0.1:0, backend: overloaded }
  - { name: refusing, address: 127.0.0.1:0, backend: refusing }
  - { name: unanswering, address: 127.0.0.1:0, backend: unanswering }
  - { name: resetting, address: 127.0.0.1:0, backend: resetting }
  - { name: quiet, address: 127.0.0.1:0, backend: quiet }
  - { name: quiet-forever, address: 127.0.0.1:0, backend: hold }
  - { name: half-quiet, address: 127.0.0.1:0, backend: half-quiet }
  - { name: short-lived, address: 127.0.0.1:0, backend: short-lived }
  - { name: tls-silent, address: 127.0.0.1:0, backend: tls-silent }
  - { name: tls-resetting, address: 127.0.0.1:0, backend: tls-resetting }
  - { name: tls-stranger, address: 127.0.0.1:0, backend: tls-stranger }
  - { name: tls-cutting, address: 127.0.0.1:0, backend: tls-cutting }
policies:
  clients: { rules: [{ action: allow, uri: ["spiffe://bunnel.test/client"] }] }
backends:
  echo: { endpoints: ["${echo.address}"] }
  hold: { endpoints: ["${holding.address}"] }
  full: { endpoints: [{ address: "${holding.address}", max_connections: 1 }] }
  overloaded: { max_connections: 1, endpoints: ["${holding.address}"] }
  refusing: { endpoints: ["127.0.0.1:${await unusedPort()}"] }
  unanswering: { connect_timeout: 100ms, endpoints: ["${unanswering.address}"] }
  resetting: { endpoints: ["${resetting.address}"] }
  quiet: { idle_timeout: 1s, endpoints: ["${holding.address}"] }
  half-quiet: { half_close_idle_timeout: 1s, endpoints: ["${holding.address}"] }
  short-lived: { max_lifetime: 1s, health: { type: tcp, interval: 1s }, endpoints: ["${echo.address}"] }
  tls-silent: { connect_timeout: 100ms, endpoints: ["${holding.address}"], ${verified} }
  tls-resetting: { endpoints: ["${resetting.address}"], ${verified} }
  tls-stranger: { endpoints: ["${stranger.address}"], ${verified} }
  tls-cutting: { endpoints: ["${cutting.address}"], ${verified} }
`);
  resources.push(daemon);
});

afterAll(async () => {
  for (const resource of resources.reverse()) await resource[Symbol.asyncDispose]();
});

/** Sends to a listener whose backend has room for one connection, while another client has it. */
async function sendWhenFull(address: string): Promise<void> {
  const before = holding.peers.length;
  const first = await connectTo(address);
  await holding.nth(before);
  await send(address);
  first.socket.resetAndDestroy();
}

/** Has openssl try the mTLS listener with this certificate, and waits until it has given up. */
function tryTls(address: string, certificate: TestPki["client"] | undefined, ...extra: string[]): Promise<void> {
  return tryOpenssl(pki, address, certificate, ...extra);
}

const CASES: readonly Case[] = [
  {
    reason: "completed",
    how: "the client ends first, and the endpoint after it",
    listener: "plain",
    async provoke(address) {
      const peer = await connectTo(address);
      peer.socket.end("hello");
      await eventually("the echo came, and the end", () => peer.text === "hello" && peer.ended);
    },
    expected: ["downstream", "relay", "--", undefined],
  },
  {
    reason: "limit_reached",
    how: "a source has as many connections as it may",
    listener: "one-per-source",
    async provoke(address) {
      const first = await connectTo(address);
      await send(address);
      first.socket.resetAndDestroy();
    },
    expected: ["proxy", "accept", "RC", /^max_connections_per_source 1$/],
  },
  {
    reason: "source_denied",
    how: "the source is not in allow_sources",
    listener: "others-only",
    provoke: (address) => send(address),
    expected: ["proxy", "accept", "PR", /^not in allow_sources$/],
  },
  {
    reason: "peek_timeout",
    how: "the client says too little for too long",
    listener: "impatient",
    provoke: (address) => send(address, "\x16\x03\x01"),
    expected: ["downstream", "peek", "cR", /^after 3 bytes$/],
  },
  {
    reason: "malformed_header",
    how: "the PROXY header is none",
    listener: "behind-lb",
    provoke: (address) => send(address, "GET / HTTP/1.1\r\n\r\n"),
    expected: ["downstream", "peek", "PR", /./],
  },
  {
    reason: "not_tls",
    how: "plain bytes where every route needs TLS",
    listener: "tls-only",
    provoke: (address) => send(address, "GET / HTTP/1.1\r\n\r\n"),
    expected: ["downstream", "peek", "PR", /^the first bytes are no TLS record$/],
  },
  {
    reason: "no_route",
    how: "nobody wants this SNI",
    listener: "tls-only",
    provoke: async (address) => send(address, await clientHello("unknown.test")),
    expected: ["proxy", "peek", "PR", undefined],
  },
  {
    reason: "handshake_timeout",
    how: "the client stops after its ClientHello",
    listener: "mtls",
    provoke: async (address) => {
      const peer = await connectTo(address);
      peer.socket.write(await clientHello("localhost"));
      await eventually("it was cut", () => peer.closed || peer.ended);
    },
    expected: ["downstream", "handshake", "cR", undefined],
  },
  {
    reason: "handshake_overload",
    how: "the client is silent, and another one waits for its place",
    listener: "one-place",
    async provoke(address) {
      const silent = await connectTo(address);
      await send(address, "GET / HTTP/1.1\r\n\r\n");
      await eventually("the silent one was reset", () => silent.errorCode === "ECONNRESET");
    },
    expected: ["proxy", "peek", "RR", /^after 1\d\d\d ms: newcomers had to wait for a place$/],
  },
  {
    reason: "handshake_failed",
    how: "the client only knows suites that we do not",
    listener: "mtls",
    provoke: (address) => tryTls(address, pki.client, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"),
    expected: ["downstream", "handshake", "PR", /^NO_SHARED_CIPHER$/, "NO_SHARED_CIPHER"],
  },
  {
    reason: "certificate_rejected",
    how: "the client's certificate has expired",
    listener: "mtls",
    provoke: (address) => tryTls(address, pki.expired),
    expected: ["downstream", "handshake", "PR", /^CERT_HAS_EXPIRED$/, "CERT_HAS_EXPIRED"],
  },
  {
    reason: "policy_denied",
    how: "the certificate is good, but not one that the policy allows",
    listener: "mtls",
    provoke: (address) => tryTls(address, pki.otherClient),
    expected: ["proxy", "handshake", "PR", /^policy clients: no rule matches$/],
  },
  {
    reason: "no_endpoint",
    how: "the only endpoint is at its limit",
    listener: "full",
    provoke: sendWhenFull,
    expected: ["upstream", "connect", "SC", /^every endpoint of full is at its limit$/],
  },
  {
    reason: "backend_overload",
    how: "the backend is at its limit, and nobody may wait",
    listener: "overloaded",
    provoke: sendWhenFull,
    expected: ["proxy", "connect", "sQ", /^overloaded: max_connections 1$/],
  },
  {
    reason: "connect_refused",
    how: "nothing listens at the endpoint",
    listener: "refusing",
    provoke: (address) => send(address),
    expected: ["upstream", "connect", "SC", /^127\.0\.0\.1:\d+: ECONNREFUSED$/, "ECONNREFUSED"],
  },
  {
    reason: "connect_timeout",
    how: "the endpoint does not answer",
    listener: "unanswering",
    provoke: (address) => send(address),
    expected: ["upstream", "connect", "sC", /^127\.0\.0\.1:\d+: ETIMEDOUT$/, "ETIMEDOUT"],
  },
  {
    reason: "downstream_left",
    how: "the client leaves in the middle of its ClientHello",
    listener: "tls-only",
    async provoke(address) {
      const peer = await connectTo(address);
      peer.socket.end("\x16\x03\x01\x02");
      await eventually("it was ended", () => peer.closed || peer.ended);
    },
    expected: ["downstream", "peek", "CR", /^after 4 bytes$/],
  },
  {
    reason: "downstream_reset",
    how: "the client resets",
    listener: "plain",
    async provoke(address) {
      const peer = await connectTo(address);
      peer.socket.write("hello");
      await eventually("the echo came", () => peer.text === "hello");
      peer.socket.resetAndDestroy();
    },
    expected: ["downstream", "relay", "CD", /^ECONNRESET$/, "ECONNRESET"],
  },
  {
    reason: "upstream_reset",
    how: "the endpoint resets",
    listener: "resetting",
    provoke: (address) => send(address, "hello"),
    expected: ["upstream", "relay", "SD", /^ECONNRESET$/, "ECONNRESET"],
  },
  {
    reason: "downstream_truncated",
    how: "the client's process is killed with its TLS session open",
    listener: "mtls",
    async provoke(address) {
      const before = holding.peers.length;
      await using client = opensslClient({
        to: address,
        ca: pki.authority.certificatePath,
        certificate: pki.client,
      });
      client.write("half a sentence");
      const endpoint = await holding.nth(before);
      await eventually("it arrived", () => endpoint.text === "half a sentence");
      client.signal("SIGKILL");
      await eventually("the endpoint was told", () => endpoint.closed);
    },
    expected: ["downstream", "relay", "CD", /close_notify/, "UNEXPECTED_EOF_WHILE_READING"],
  },
  {
    reason: "idle_timeout",
    how: "nobody says anything",
    listener: "quiet",
    provoke: (address) => send(address),
    expected: ["proxy", "relay", "cD", undefined],
  },
  {
    reason: "idle_timeout",
    how: "nobody says anything after the client's end",
    listener: "half-quiet",
    async provoke(address) {
      const peer = await connectTo(address);
      peer.socket.end("the last word");
      await eventually("it was cut", () => peer.closed);
    },
    expected: ["proxy", "relay", "cD", /^half-closed$/],
  },
  {
    reason: "lifetime_exceeded",
    how: "a connection in use becomes too old",
    listener: "short-lived",
    async provoke(address) {
      const peer = await connectTo(address);
      const talking = setInterval(() => peer.socket.write("still here"), 20);
      await eventually("it was cut", () => peer.closed);
      clearInterval(talking);
    },
    expected: ["proxy", "relay", "PD", undefined],
  },
  {
    reason: "upstream_handshake_timeout",
    how: "the endpoint that should speak TLS says nothing",
    listener: "tls-silent",
    provoke: (address) => send(address),
    expected: ["upstream", "connect", "sC", /^127\.0\.0\.1:\d+$/],
  },
  {
    reason: "upstream_handshake_failed",
    how: "the endpoint resets in the handshake",
    listener: "tls-resetting",
    provoke: (address) => send(address),
    expected: ["upstream", "connect", "SC", /left during the handshake/],
  },
  {
    reason: "upstream_certificate_rejected",
    how: "nobody we know vouches for the endpoint",
    listener: "tls-stranger",
    provoke: (address) => send(address),
    expected: [
      "upstream",
      "connect",
      "SC",
      /UNABLE_TO_VERIFY_LEAF_SIGNATURE; subject CN=/,
      "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    ],
  },
  {
    reason: "upstream_truncated",
    how: "the endpoint's stream is cut",
    listener: "tls-cutting",
    provoke: (address) => send(address, "hello"),
    expected: ["upstream", "relay", "SD", /close_notify/, "UNEXPECTED_EOF_WHILE_READING"],
  },
  {
    reason: "admin_closed",
    how: "an operator closes it",
    listener: "quiet-forever",
    async provoke(address) {
      const peer = await connectTo(address);
      const path = "http://bunnel/api/v1/connections";
      const id = await eventually("it is shown", async () => {
        const answer = await fetch(`${path}?listener=quiet-forever&text=relay`, { unix: adminPath });
        return ((await answer.json()) as { connections: { id: string }[] }).connections[0]?.id;
      });
      expect((await fetch(`${path}/${id}`, { method: "DELETE", unix: adminPath })).status).toBe(200);
      await eventually("it was reset", () => peer.errorCode === "ECONNRESET");
    },
    expected: ["proxy", "relay", "KD", undefined],
  },
];

/** Reached by changes of what is served, and by time: see rules-reach-live-connections.test.ts, health-checks-find-who-is-down.test.ts, sigterm-drains.test.ts. */
const REACHED_ELSEWHERE: readonly CloseReason[] = [
  "policy_revoked",
  "certificate_revoked",
  "certificate_expired",
  "endpoint_down",
  "drain_idle",
];

describe("a connection ends with", () => {
  for (const { reason, how, listener, provoke, expected } of CASES) {
    test(`${reason}: ${how}`, async () => {
      const fits = (line: AccessLine): boolean => line.listener === listener && line.close_reason === reason;
      await provoke(await daemon.address(listener));
      const record = await daemon.record(fits);
      const [side, phase, termination, detail, error] = expected;
      expect([record.close_side, record.phase, record.termination, record.error]).toEqual([
        side,
        phase,
        termination,
        error,
      ]);
      if (detail === undefined) expect(record.detail).toBeUndefined();
      else expect(record.detail ?? "").toMatch(detail);
      expect(daemon.records.filter(fits)).toHaveLength(1);
      reached.add(reason);
    });
  }

  test("all of which the metrics count as the records tell it", async () => {
    const samples = await eventually("the last end was counted, and nobody was on his way", async () => {
      const found = new Samples(await (await fetch("http://bunnel/metrics", { unix: adminPath })).text());
      const closed = found.sum("connections_closed_total", {});
      return closed === daemon.records.length ? found : null;
    });
    const { records } = daemon;
    for (const listener of new Set(records.map((record) => record.listener))) {
      const own = records.filter((record) => record.listener === listener);
      for (const reason of new Set(own.map(({ close_reason }) => close_reason))) {
        const count = own.filter(({ close_reason }) => close_reason === reason).length;
        expect([listener, reason, samples.sum("connections_closed_total", { listener, reason })]).toEqual([
          ...[listener, reason, count],
        ]);
      }
      const active = samples.sum("connections_active", { listener });
      expect([listener, samples.sum("connections_opened_total", { listener })]).toEqual([
        listener,
        own.length + active,
      ]);
      if (active > 0) continue;
      for (const direction of ["up", "down"] as const) {
        const bytes = own.reduce((sum, record) => sum + record[`bytes_${direction}`], 0);
        expect([listener, samples.sum("bytes_total", { listener, direction })]).toEqual([listener, bytes]);
      }
    }
    const mtls = records.filter(({ listener }) => listener === "mtls");
    const rejected = mtls.filter(({ close_reason }) => close_reason === "certificate_rejected").length;
    expect(samples.sum("handshakes_total", { listener: "mtls", result: "certificate_rejected" })).toBe(rejected);
    expect(samples.sum("policy_decisions_total", { policy: "clients", decision: "deny" })).toBe(
      mtls.filter(({ close_reason }) => close_reason === "policy_denied").length,
    );
    for (const [backend, code] of [
      ["refusing", "ECONNREFUSED"],
      ["unanswering", "ETIMEDOUT"],
      ["tls-stranger", "upstream_certificate_rejected"],
    ] as const) {
      const own = records.filter((record) => record.backend === backend);
      const attempts = own.reduce((sum, record) => sum + (record.attempts ?? 0), 0);
      expect([backend, samples.sum("endpoint_connect_failures_total", { backend, code })]).toEqual([backend, attempts]);
      expect(attempts).toBeGreaterThan(0);
    }
    expect(samples.sum("connect_duration_seconds_count", { backend: "refusing" })).toBe(0);
    expect(samples.sum("connect_duration_seconds_count", { backend: "resetting" })).toBeGreaterThan(0);
    const expiry = samples.sum("certificate_expiry_timestamp_seconds", {
      used_by: "listener mtls",
      role: "certificate",
    });
    expect(expiry).toBe(Date.parse(new X509Certificate(pki.server.certificatePem).validTo) / 1000);
    expect(CATALOGUE.map(({ name }) => name).filter((name) => !samples.has(name))).toEqual([]);
    if (missing === "") expect(await checkMetrics(samples.text)).toBe("");
  });

  test("drain_timeout: the process is stopped, and it does not end by itself", async () => {
    const address = await daemon.address("plain");
    const peer = await connectTo(address);
    peer.socket.write("hello");
    await eventually("the echo came", () => peer.text === "hello");
    expect(await daemon.stop()).toBe(1);
    await eventually("it was reset", () => peer.closed);
    expect(peer.errorCode).toBe("ECONNRESET");
    const record = await daemon.record(
      ({ listener, close_reason }) => listener === "plain" && close_reason === "drain_timeout",
    );
    expect([record.close_side, record.termination, record.bytes_up, record.bytes_down]).toEqual(["proxy", "KD", 5, 5]);
    reached.add("drain_timeout");
  });

  test("each reason of the table, and no test is missing", () => {
    const all = Object.keys(CLOSE_REASONS).filter((reason) => reason !== "internal_error");
    expect([...reached, ...REACHED_ELSEWHERE].sort()).toEqual(all.sort() as CloseReason[]);
  });
});
