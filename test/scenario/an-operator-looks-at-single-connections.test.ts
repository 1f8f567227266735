// An operator sees every live connection of all workers, finds one by who it is, looks into it, and closes it; and sees how the last ones ended, also
// when no access log is kept.

import { afterAll, beforeAll, expect, test } from "bun:test";
import type { CloseLine, ConnectionDetail, ConnectionRow, PeerRow } from "../../src/snapshot/inspection.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { connected } from "../support/live-clients.ts";
import { unusedPort } from "../support/servers.ts";
import { type Supervised, startSupervised } from "../support/supervised.ts";
import { connectTo, type Endpoint, startEndpoint, talking } from "../support/tcp.ts";

let pki: TestPki;
let echo: Endpoint;
let made: Supervised;

beforeAll(async () => {
  pki = await testPki();
  echo = await startEndpoint();
  made = await startSupervised(`
workers: 2
access_log: { output: "off" }
listeners:
  - { name: plain, address: 127.0.0.1:0, backend: echo }
  - name: mtls
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
    routes: [{ name: all, tls: terminate, policy: clients, backend: timed }]
policies:
  clients: { rules: [{ action: allow, uri: ["spiffe://bunnel.test/client"] }] }
backends:
  echo: { endpoints: ["${echo.address}"] }
  timed: { idle_timeout: 1h, max_lifetime: 2h, endpoints: ["${echo.address}"] }
`);
});

afterAll(async () => {
  await made?.[Symbol.asyncDispose]();
  await echo?.[Symbol.asyncDispose]();
});

async function api<T>(path: string, method = "GET"): Promise<{ readonly status: number; readonly json: T }> {
  const answer = await fetch(`http://bunnel/api/v1${path}`, { unix: made.adminPath, method });
  return { status: answer.status, json: (await answer.json()) as T };
}

interface Connections {
  readonly connections: readonly ConnectionRow[];
  readonly matching: number;
  readonly total: number;
}

test("connections of all workers are shown, found, looked into and closed", async () => {
  const plain = await made.daemon.address("plain");
  const peers = await Promise.all(Array.from({ length: 20 }, () => talking(plain)));
  const client = await connected({
    to: await made.daemon.address("mtls"),
    ca: pki.authority.certificatePem,
    certificate: pki.client,
  });

  const all = (await api<Connections>("/connections?limit=1000")).json;
  expect([all.connections.length, all.matching, all.total]).toEqual([21, 21, 21]);
  expect(new Set(all.connections.map(({ worker }) => worker))).toEqual(new Set([1, 2]));
  expect(new Set(all.connections.map(({ id }) => id)).size).toBe(21);
  expect((await api<Connections>("/connections?listener=plain&limit=5")).json).toMatchObject({
    matching: 20,
    total: 21,
  });

  const found = (await api<Connections>("/connections?identity=bunnel.test/client")).json;
  expect(found).toMatchObject({ matching: 1, connections: [{ listener: "mtls", policy_rule: expect.any(String) }] });
  const [{ id } = { id: "" }] = found.connections;
  const detail = (await api<ConnectionDetail>(`/connections/${id}`)).json;
  expect(detail).toMatchObject({
    id,
    phase: "relay",
    identity: "spiffe://bunnel.test/client",
    tls_version: "TLSv1.3",
    policy: "clients",
    attempts: 1,
    // No record is kept, and the certificate is asked for.
    peer_fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/),
    legs: {
      downstream: { pending_bytes: 0, tcp: { state: "ESTAB", retransmits_total: 0 } },
      upstream: { remote: echo.address, local: expect.stringMatching(/^127\.0\.0\.1:\d+$/), tcp: { state: "ESTAB" } },
    },
  });
  expect(detail.legs.downstream.tcp?.rtt_ms).toBeGreaterThan(0);
  expect(detail.timers.idle_timeout_in_ms).toBeGreaterThan(3_500_000);
  expect(detail.timers.max_lifetime_in_ms).toBeGreaterThan(7_000_000);

  const who = (await api<{ peers: readonly PeerRow[]; matching: number }>("/peers")).json;
  expect(who.matching).toBe(2);
  expect(who.peers).toMatchObject([
    { identity: "", listener: "plain", backend: "echo", connections: 20, bytes_up: 20, bytes_down: 20 },
    { identity: "spiffe://bunnel.test/client", listener: "mtls", backend: "timed", connections: 1 },
  ]);

  expect(await api(`/connections/${id}`, "DELETE")).toEqual({ status: 200, json: { ok: true, id } });
  await eventually("the client was cut", () => client.ending !== "");
  expect(client.ending).toBe("ECONNRESET");
  expect((await api(`/connections/${id}`, "DELETE")).status).toBe(404);
  expect((await api(`/connections/${id}`)).status).toBe(404);
  expect((await api<Connections>("/connections")).json.total).toBe(20);

  for (const peer of peers.splice(0, 10)) peer.socket.end();
  type Closes = { readonly closes: readonly CloseLine[] };
  await eventually("they were recorded", async () => (await api<Closes>("/closes")).json.closes.length === 11);
  const failed = (await api<Closes>("/closes?failed=true")).json.closes;
  expect(failed).toMatchObject([
    {
      listener: "mtls",
      close_reason: "admin_closed",
      close_side: "proxy",
      policy: "clients",
      ended_at: expect.any(String),
    },
  ]);
  expect((await api<Closes>("/closes?failed=false&limit=1000")).json.closes).toHaveLength(10);
  expect((await api<Closes>("/closes?reason=completed&limit=4")).json.closes).toHaveLength(4);
  for (const peer of peers) peer.socket.destroy();
});

test("a worker that dies takes its connections out of the answer, and nothing else", async () => {
  const plain = await made.daemon.address("plain");
  const peers = await Promise.all(Array.from({ length: 20 }, () => talking(plain)));
  const before = (await api<Connections>("/connections?limit=1000")).json.connections;
  const ofFirst = before.filter(({ worker }) => worker === 1).length;
  const { workers } = await made.status();
  process.kill(workers.find(({ worker }) => worker === 1)?.pid as number, "SIGKILL");
  const after = (await api<Connections>("/connections?limit=1000")).json;
  expect(after.connections.filter(({ worker }) => worker === 2).length).toBe(before.length - ofFirst);
  for (const peer of peers) peer.socket.destroy();
});

test("what cannot be understood is refused, and says why", async () => {
  for (const [path, detail] of [
    ["/connections?limit=0", /limit has to be a whole number from 1 to 1000/],
    ["/connections?limit=1e3", /limit has to be/],
    ["/connections?lim=1&txt=x", /lim is unknown.*txt is unknown/],
    ["/connections?listener=a&listener=b", /listener is given more than once/],
    ["/closes?failed=yes", /failed has to be true or false/],
    ["/closes?reason=boredom", /reason is none of completed, /],
    [`/connections?text=${"x".repeat(257)}`, /text has more than 256 characters/],
    ["/peers?limit=-1", /limit has to be/],
    ["/status?verbose=1", /verbose is unknown; none is taken here/],
  ] as const) {
    const { status, json } = await api<{ title: string; detail: string }>(path);
    expect([path, status, json.title]).toEqual([path, 400, "Bad Request"]);
    expect(json.detail).toMatch(detail);
  }
  expect((await api("/connections/%00", "DELETE")).status).toBe(404);
});

test("events tell of failures as they happen, and end with the daemon without holding it up", async () => {
  await using daemon = await startSupervised(`
workers: 1
listeners: [{ name: refusing, address: 127.0.0.1:0, backend: nobody }]
backends: { nobody: { endpoints: ["127.0.0.1:${await unusedPort()}"] } }
`);
  const answer = await fetch("http://bunnel/api/v1/events", { unix: daemon.adminPath });
  let text = "";
  const reading = (async () => {
    for await (const bytes of answer.body ?? []) text += new TextDecoder().decode(bytes);
  })();
  await eventually("it began", () => text.includes("event: status\ndata: "));
  await eventually("it goes on", () => text.includes("event: tick\ndata: "));
  const peer = await connectTo(await daemon.daemon.address("refusing"));
  await eventually("a failure was told", () => text.includes("event: closes\ndata: "));
  const [, closes = ""] = /event: closes\ndata: (.*)\n/.exec(text) ?? [];
  expect(JSON.parse(closes)).toMatchObject({
    closes: [{ seq: 1, listener: "refusing", close_reason: "connect_refused", error: "ECONNREFUSED", worker: 1 }],
  });
  peer.socket.destroy();
  const before = performance.now();
  expect(await daemon.daemon.stop()).toBe(0);
  expect(performance.now() - before).toBeLessThan(2000);
  await reading;
}, 20_000);
