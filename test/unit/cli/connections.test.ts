// `bunnel connections` and `bunnel closes`: what they ask, and what they print.

import { expect, test } from "bun:test";
import { formatAddress } from "../../../src/base/address.ts";
import { closeLines } from "../../../src/cli/close-text.ts";
import { closes } from "../../../src/cli/closes.ts";
import { connectionScreen, connectionTable } from "../../../src/cli/connection-text.ts";
import { connections } from "../../../src/cli/connections.ts";
import type { FetchHttpOptions } from "../../../src/runtime/http.ts";
import type { ConnectionDetail } from "../../../src/snapshot/inspection.ts";
import { sampleClose, sampleConnection } from "../../support/top-sample.ts";

function made(answer: object, columns: number | null = null, status = 200) {
  const [out, err, asked]: [string[], string[], string[]] = [[], [], []];
  return {
    printed: { out, err },
    asked,
    out: (line: string) => void out.push(line),
    err: (line: string) => void err.push(line),
    files: { readText: () => "" },
    environment: {},
    terminal: { size: () => (columns === null ? null : { columns, rows: 24 }) },
    runtime: {
      http: {
        serve: () => {
          throw new Error("a command serves nothing");
        },
        async fetch({ address, method, path }: FetchHttpOptions) {
          asked.push(`${method} ${formatAddress(address)}${path}`);
          const contentType = status < 400 ? "application/json" : "application/problem+json";
          return { status, contentType, body: JSON.stringify(answer) };
        },
      },
    },
  };
}

const ROWS = [
  sampleConnection(),
  sampleConnection({ id: "9f3a21bc-18", downstream: "10.1.2.4:40000", phase: "connect", endpoint: "", identity: "" }),
];

test("a table: whole for a program, as wide as the terminal for a person", () => {
  expect(`\n${connectionTable(ROWS, Number.POSITIVE_INFINITY).join("\n")}\n`).toBe(`
ID             AGE  IDLE  PHASE    CLIENT          LISTENER  BACKEND  ENDPOINT          UP   DOWN  IDENTITY                      SNI
9f3a21bc-17  5m 3s    2s  relay    10.1.2.3:51514  edge      db       10.0.0.1:5432  12 kB  68 MB  spiffe://prod/billing/worker  orders.db.internal
9f3a21bc-18  5m 3s    2s  connect  10.1.2.4:40000  edge      db                      12 kB  68 MB                                orders.db.internal
`);
  expect(`\n${connectionTable(ROWS, 80).join("\n")}\n`).toBe(`
ID             AGE  IDLE  PHASE    CLIENT          BACKEND  IDENTITY
9f3a21bc-17  5m 3s    2s  relay    10.1.2.3:51514  db       …prod/billing/worker
9f3a21bc-18  5m 3s    2s  connect  10.1.2.4:40000  db
`);
  expect(`\n${connectionTable(ROWS, 40).join("\n")}\n`).toBe(`
ID             AGE  CLIENT
9f3a21bc-17  5m 3s  10.1.2.3:51514
9f3a21bc-18  5m 3s  10.1.2.4:40000
`);
});

test("filters go to the daemon, which knows more than the table shows", async () => {
  const io = made({ connections: ROWS, matching: 2, total: 9 });
  const filter = { listener: "edge", backend: "db", endpoint: "10.0.0.1:5432", source: "10.1", identity: "a&b=c" };
  expect(await connections(io, undefined, { ...filter, text: "x y", limit: 5 })).toBe(0);
  expect(io.asked).toEqual([
    "GET 127.0.0.1:9901/api/v1/connections?listener=edge&backend=db&endpoint=10.0.0.1%3A5432&source=10.1&identity=a%26b%3Dc&text=x+y&limit=5",
  ]);
  expect(io.printed.err).toEqual([]);
  expect(io.printed.out.length).toBe(3);
});

test("what is not part of the list stands on standard error", async () => {
  const some = made({ connections: ROWS, matching: 1234, total: 9999 });
  await connections(some, undefined, { json: true });
  expect(some.printed.out.map((line) => JSON.parse(line))).toEqual(ROWS);
  expect(some.printed.err).toEqual(["the newest 2 of 1,234; --limit shows more"]);
  const none = made({ connections: [], matching: 0, total: 3 });
  expect(await connections(none, undefined, { backend: "b" })).toBe(0);
  expect(none.printed).toEqual({ out: [], err: ["none of 3 connections is of that kind"] });
  const idle = made({ connections: [], matching: 0, total: 0 });
  await connections(idle, undefined, {});
  expect(idle.printed).toEqual({ out: [], err: ["there are no connections"] });
  const upgraded = made({ connections: [], matching: 0, total: 0, elsewhere: 5 });
  await connections(upgraded, undefined, {});
  expect(upgraded.printed.err).toEqual([
    "5 connections of processes from before an upgrade cannot be shown; the access log has their ends",
  ]);
  const hung = made({ connections: ROWS, matching: 2, total: 2, silent_workers: [2] });
  await connections(hung, undefined, { json: true });
  expect(hung.printed.err).toEqual(["worker 2 does not answer, and what it has is not shown: it hangs, or is stopped"]);
});

const LEG = {
  remote: "10.1.2.3:51514",
  local: "10.0.0.9:8443",
  pending_bytes: 65_536,
  paused: true,
  ended: false,
  tcp: {
    state: "ESTABLISHED",
    rtt_ms: 0.42,
    rtt_variance_ms: 12.3,
    retransmits_total: 1,
    unacknowledged: 3,
    congestion_window: 10,
    mss: 1448,
  },
};

const DETAIL: ConnectionDetail = {
  ...sampleConnection(),
  downstream_direct: "10.9.9.9:1234",
  alpn: "h2",
  tls_cipher: "TLS_AES_128_GCM_SHA256",
  tls_resumed: true,
  upstream_tls_version: "TLSv1.3",
  upstream_peer: "db.internal",
  names: { uri: ["spiffe://prod/billing/worker"], dns: ["w.internal"], cn: ["worker"] },
  peer_fingerprint: "ab12",
  policy: "db-clients",
  attempts: 2,
  legs: {
    downstream: LEG,
    upstream: {
      ...LEG,
      remote: "10.0.0.1:5432",
      local: "10.0.0.9:40000",
      pending_bytes: 0,
      paused: false,
      ended: true,
      tcp: null,
    },
  },
  timers: { idle_timeout_in_ms: 3_598_000, max_lifetime_in_ms: null, certificate_expires_in_ms: 86_400_000 },
};

test("one in full", () => {
  expect(`\n${connectionScreen(DETAIL).join("\n")}\n`).toBe(`
connection  9f3a21bc-17, in worker 1
state       relay; open for 5m 3s, since 2026-11-21 00:54:57Z; last byte 2s ago
client      10.1.2.3:51514, by 10.9.9.9:1234
listener    edge, route db
tls         TLSv1.3 TLS_AES_128_GCM_SHA256, resumed, SNI orders.db.internal, ALPN h2
identity    uri spiffe://prod/billing/worker
            dns w.internal
            cn worker
            sha256 ab12
policy      db-clients, allow[0]
endpoint    10.0.0.1:5432 of db, taken at attempt 2
            TLSv1.3 with db.internal
bytes       12 kB up, 68 MB down (12,345, 67,890,123)
ends        in 59m 58s if no byte moves (idle_timeout); in 1d as its certificate expires

downstream  10.1.2.3:51514 – 10.0.0.9:8443
            NOT READ: the other side does not take what it sends, 66 kB wait for the other side
            ESTABLISHED, round trip 0.4 ms ± 12 ms, 1 segment sent again, 3 not acknowledged, window 10 × 1,448 B

upstream    10.0.0.1:5432 – 10.0.0.9:40000
            has ended its direction
`);
});

test("what does not apply is left out", () => {
  const plain: ConnectionDetail = {
    ...DETAIL,
    worker: 0,
    phase: "peek",
    route: "",
    backend: "",
    endpoint: "",
    downstream_direct: DETAIL.downstream,
    sni: "",
    alpn: "",
    tls_version: "",
    upstream_tls_version: "",
    names: null,
    policy: "",
    legs: { downstream: { ...LEG, pending_bytes: 0, paused: false, tcp: null }, upstream: null },
    timers: { idle_timeout_in_ms: null, max_lifetime_in_ms: null, certificate_expires_in_ms: null },
  };
  expect(`\n${connectionScreen(plain).join("\n")}\n`).toBe(`
connection  9f3a21bc-17
state       peek; open for 5m 3s, since 2026-11-21 00:54:57Z; last byte 2s ago
client      10.1.2.3:51514
listener    edge
bytes       12 kB up, 68 MB down (12,345, 67,890,123)
ends        when its client or endpoint ends it

downstream  10.1.2.3:51514 – 10.0.0.9:8443
`);
});

test("one by its id, as JSON, ended, and one that there is not", async () => {
  const shown = made(DETAIL);
  expect(await connections(shown, "9f3a21bc-17", {})).toBe(0);
  expect(shown.printed.out).toEqual([...connectionScreen(DETAIL)]);
  const json = made(DETAIL);
  await connections(json, "a/b", { json: true });
  expect(json.asked).toEqual(["GET 127.0.0.1:9901/api/v1/connections/a%2Fb"]);
  expect(JSON.parse(json.printed.out.join("\n"))).toEqual(DETAIL);
  const ended = made({ ok: true, id: "x-1" });
  expect(await connections(ended, undefined, { close: "x-1" })).toBe(0);
  expect(ended.asked).toEqual(["DELETE 127.0.0.1:9901/api/v1/connections/x-1"]);
  const missing = { type: "about:blank", title: "Not Found", status: 404, detail: "/api/v1/closes has it" };
  const gone = made(missing, null, 404);
  expect(await connections(gone, undefined, { close: "9f3a21bc-17", admin: "127.0.0.1:9902" })).toBe(1);
  expect(await connections(gone, "list", {})).toBe(1);
  expect(gone.printed).toEqual({
    out: [],
    err: [
      "connection 9f3a21bc-17 is not open: if it has ended, `bunnel closes --admin 127.0.0.1:9902 --text 9f3a21bc-17` tells how",
      '"list" is no id of a connection: `bunnel connections` lists those there are',
    ],
  });
  const busy = made({ type: "about:blank", title: "Busy", status: 503, detail: "no \x1b[2J" }, null, 503);
  expect(await connections(busy, "9f3a21bc-17", {})).toBe(1);
  expect(busy.printed).toEqual({ out: [], err: ["127.0.0.1:9901 refuses: no \\u{1b}[2J"] });
});

const TRIED = [
  { endpoint: "10.0.0.1:5432", result: "ECONNREFUSED", ms: 0.3 },
  { endpoint: "10.0.0.2:5432", result: "connect_timeout", ms: 3000 },
];

test.each([
  [
    "a policy",
    sampleClose(),
    "2026-11-21 00:59:58Z  10.1.2.9:40022  edge  policy_denied: The policy of the route denied the identity or source; policy db-clients: no rule matches; identity spiffe://prod/intern/laptop; sni orders.db.internal; id 9f3a21bc-12",
  ],
  [
    "endpoints",
    sampleClose({
      backend: "db",
      endpoint: "10.0.0.2:5432",
      close_reason: "connect_timeout",
      error: "ETIMEDOUT",
      detail: "no answer within 3s",
      policy: "",
      identity: undefined,
      sni: undefined,
      tried: TRIED,
    }),
    "2026-11-21 00:59:58Z  10.1.2.9:40022  edge → db/10.0.0.2:5432  connect_timeout: Every endpoint tried failed, the last by not answering within connect_timeout; no answer within 3s (ETIMEDOUT); tried 10.0.0.1:5432 ECONNREFUSED after 0.3 ms, 10.0.0.2:5432 connect_timeout after 3,000 ms; id 9f3a21bc-12",
  ],
  [
    "a certificate",
    sampleClose({
      close_reason: "certificate_rejected",
      identity: undefined,
      policy: undefined,
      sni: undefined,
      error: "CERT_HAS_EXPIRED",
      detail: "CERT_HAS_EXPIRED",
      refused_certificate: "CN=old",
    }),
    "2026-11-21 00:59:58Z  10.1.2.9:40022  edge  certificate_rejected: The client's certificate was absent or did not verify; CERT_HAS_EXPIRED; certificate CN=old; id 9f3a21bc-12",
  ],
  [
    "a reason of a later version",
    sampleClose({ close_reason: "novel", detail: "", policy: "", identity: {}, sni: "" }),
    "2026-11-21 00:59:58Z  10.1.2.9:40022  edge  novel; id 9f3a21bc-12",
  ],
] as const)("a close in one line: %s", (_, close, line) => {
  expect(closeLines(close, Number.POSITIVE_INFINITY)).toEqual([line]);
});

test("in a terminal it is folded, and a stranger's name is text", () => {
  expect(`\n${closeLines(sampleClose({ sni: "a\x1b[31m\nb" }), 60).join("\n")}\n`).toBe(`
2026-11-21 00:59:58Z  10.1.2.9:40022  edge  policy_denied:
    The policy of the route denied the identity or source;
    policy db-clients: no rule matches; identity
    spiffe://prod/intern/laptop; sni a\\u{1b}[31m\\u{a}b; id
    9f3a21bc-12
`);
});

test("closes: failed ones unless told otherwise", async () => {
  const failed = made({ closes: [sampleClose()] }, 50);
  expect(await closes(failed, { listener: "edge", backend: "db", text: "10.1", limit: 3 })).toBe(0);
  expect(failed.asked).toEqual([
    "GET 127.0.0.1:9901/api/v1/closes?failed=true&listener=edge&backend=db&text=10.1&limit=3",
  ]);
  expect(failed.printed.out).toEqual([...closeLines(sampleClose(), 50)]);
  const all = made({ closes: [] });
  await closes(all, { all: true, json: true });
  expect(all.asked).toEqual(["GET 127.0.0.1:9901/api/v1/closes?limit=100"]);
  expect(all.printed).toEqual({ out: [], err: ["no connection of that kind has ended lately"] });
  const json = made({ closes: [sampleClose({ sni: "\x9b" })] });
  await closes(json, { reason: "completed", json: true });
  expect(json.asked).toEqual(["GET 127.0.0.1:9901/api/v1/closes?reason=completed&limit=100"]);
  expect(json.printed.out.length).toBe(1);
  expect(json.printed.out[0]).toContain('"sni":"\\u009b"');
});
