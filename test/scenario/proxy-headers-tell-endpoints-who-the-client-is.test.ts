// With `send_proxy_protocol` an endpoint learns who the client is before anything else: its addresses, and with `v2-tls` what its TLS said and whether
// that was verified. HAProxy and nginx understand it, in front of a TLS handshake too, and HAProxy in our place would have said the same.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseProxyHeader } from "../../src/protocol/proxy-protocol.ts";
import type { Peer } from "../conformance/peers.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { run } from "../support/child.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { opensslClient } from "../support/openssl.ts";
import { missingPrograms } from "../support/programs.ts";
import { CERT_CONN, CERT_SESS, readByHand, SIGNATURE, SSL, sslIn } from "../support/proxy-header-by-hand.ts";
import { type RealServer, startHaproxy, startNginxStream } from "../support/servers.ts";
import { connectTo, type Endpoint, startEndpoint } from "../support/tcp.ts";

const PAYLOAD = "and then the client's own bytes\n";
const missingOpenssl = missingPrograms("openssl");
const missingNginx = missingPrograms("nginx", "nginx-stream");
const missingHaproxy = missingPrograms("openssl", "haproxy", "curl");

let pki: TestPki;

beforeAll(async () => {
  pki = await testPki();
});

/** `listeners[].tls` that asks for a certificate and takes none too. */
function listenerTls(more = ""): string {
  const own = `certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]`;
  return `{ ${own}, client_ca: [${pki.authority.certificatePath}], client_auth: optional${more} }`;
}

/** Everything that an endpoint was sent, once what the client itself sent has come. */
async function sentTo(endpoint: Endpoint, index: number): Promise<Buffer> {
  const peer: Peer = await endpoint.nth(index);
  await eventually("the payload arrived", () => peer.text.endsWith(PAYLOAD));
  return Buffer.concat(peer.chunks);
}

/** A client over TLS 1.3 that sends the payload and gets it back: `openssl s_client`, on one suite so that others choose the same. */
async function tlsPayload(to: string, ...extra: string[]): Promise<void> {
  const suite = ["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"];
  await using client = opensslClient({
    to,
    ca: pki.authority.certificatePath,
    sni: "localhost",
    extra: [...suite, ...extra],
  });
  client.write(PAYLOAD);
  await client.says(PAYLOAD);
  client.endInput();
  await client.exited;
}

function withCertificate(): string[] {
  return ["-cert", pki.client.certificatePath, "-key", pki.client.keyPath];
}

describe("an endpoint that reads by hand", () => {
  let endpoint: Endpoint;
  let daemon: Daemon;

  beforeAll(async () => {
    endpoint = await startEndpoint();
    const listeners = ["v1", "v2", "v2-tls"].flatMap((kind) => [
      `  - { name: tcp-${kind}, address: 127.0.0.1:0, backend: ${kind} }`,
      `  - { name: six-${kind}, address: "[::1]:0", backend: ${kind} }`,
      `  - { name: both-${kind}, address: "[::]:0", allow_plaintext: true, backend: ${kind} }`,
      `  - { name: unix-${kind}, address: "unix:${pki.directory}/${kind}.sock", backend: ${kind} }`,
      `  - name: tls-${kind}`,
      "    address: 127.0.0.1:0",
      `    tls: ${listenerTls(", alpn: [h2, postgresql], session_tickets: true")}`,
      `    routes: [{ name: all, tls: terminate, policy: any, backend: ${kind} }]`,
    ]);
    const backends = ["v1", "v2", "v2-tls"].map(
      (kind) => `  ${kind}: { endpoints: ["${endpoint.address}"], send_proxy_protocol: ${kind} }`,
    );
    daemon = await startDaemon(`listeners:\n${listeners.join("\n")}\nbackends:\n${backends.join("\n")}\n`);
  });

  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
    await endpoint?.[Symbol.asyncDispose]();
  });

  /** A plain client's addresses as it sees them itself, and what the endpoint was sent for it. */
  async function plain(
    listener: string,
    to?: string,
  ): Promise<{ client: Peer; local: number; port: number; sent: Buffer }> {
    const index = endpoint.peers.length;
    const client = await connectTo(to ?? (await daemon.address(listener)).replace(/[[\]]/g, ""));
    const local = client.socket.localPort ?? 0;
    client.socket.write(PAYLOAD);
    const sent = await sentTo(endpoint, index);
    const port = listener.startsWith("unix") ? 0 : await daemon.port(listener);
    await eventually("the echo came, without the header", () => client.text.endsWith(PAYLOAD));
    client.socket.end();
    return { client, local, port, sent };
  }

  test("v1: one line, for each family", async () => {
    const four = await plain("tcp-v1");
    expect(four.sent.toString("latin1")).toBe(
      `PROXY TCP4 127.0.0.1 127.0.0.1 ${four.local} ${four.port}\r\n${PAYLOAD}`,
    );
    const six = await plain("six-v1");
    expect(six.sent.toString("latin1")).toBe(`PROXY TCP6 ::1 ::1 ${six.local} ${six.port}\r\n${PAYLOAD}`);
    const unix = await plain("unix-v1");
    expect(unix.sent.toString("latin1")).toBe(`PROXY UNKNOWN\r\n${PAYLOAD}`);
  });

  test("v1: an IPv4 client of a listener on :: is an IPv4 client", async () => {
    const to = `127.0.0.1:${await daemon.port("both-v1")}`;
    const { sent, local, port } = await plain("both-v1", to);
    expect(sent.toString("latin1")).toBe(`PROXY TCP4 127.0.0.1 127.0.0.1 ${local} ${port}\r\n${PAYLOAD}`);
  });

  test("v2: the addresses and nothing else, for each family", async () => {
    const word = (port: number): string => port.toString(16).padStart(4, "0");
    const tail = Buffer.from(PAYLOAD).toString("hex");
    const four = await plain("tcp-v2");
    expect(four.sent.toString("hex")).toBe(
      `${SIGNATURE}2111000c7f0000017f000001${word(four.local)}${word(four.port)}${tail}`,
    );
    const six = await plain("six-v2");
    const loopback6 = `${"00".repeat(15)}01`;
    expect(six.sent.toString("hex")).toBe(
      `${SIGNATURE}21210024${loopback6}${loopback6}${word(six.local)}${word(six.port)}${tail}`,
    );
    const unix = await plain("unix-v2");
    expect(unix.sent.toString("hex")).toBe(`${SIGNATURE}21000000${tail}`);
  });

  test("v2-tls of a plain client: an id of its own, a right checksum, and no word of TLS", async () => {
    const ids = new Set<string>();
    for (const [listener, family] of [
      ["tcp-v2-tls", 0x11],
      ["six-v2-tls", 0x21],
      ["unix-v2-tls", 0],
    ] as const) {
      const { sent } = await plain(listener);
      const read = readByHand(sent);
      expect([read.family, [...read.tlvs.keys()].sort()]).toEqual([family, [0x03, 0x05]]);
      expect(read.rest).toBe(PAYLOAD);
      ids.add(read.tlvs.get(0x05)?.toString("hex") ?? "");
      const parsed = parseProxyHeader(sent);
      expect(parsed.kind === "header" && parsed.lengthBytes).toBe(sent.length - PAYLOAD.length);
    }
    expect(ids.size).toBe(3);
  });

  test.skipIf(missingOpenssl !== "")(
    `v1 and v2 of a TLS client say nothing of TLS ${missingOpenssl}`.trim(),
    async () => {
      for (const [kind, start] of [
        ["v1", "PROXY TCP4 127.0.0.1 127.0.0.1 "],
        ["v2", Buffer.from(`${SIGNATURE}2111000c7f0000017f000001`, "hex").toString("latin1")],
      ] as const) {
        const index = endpoint.peers.length;
        await tlsPayload(await daemon.address(`tls-${kind}`), ...withCertificate());
        expect((await sentTo(endpoint, index)).toString("latin1")).toStartWith(start);
      }
    },
  );

  test.skipIf(missingOpenssl !== "")(
    `v2-tls of a TLS client: all that is known of it ${missingOpenssl}`.trim(),
    async () => {
      const index = endpoint.peers.length;
      await tlsPayload(await daemon.address("tls-v2-tls"), ...withCertificate(), "-alpn", "postgresql");
      const sent = await sentTo(endpoint, index);
      const { family, tlvs, rest } = readByHand(sent);
      expect([family, rest]).toEqual([0x11, PAYLOAD]);
      expect([...tlvs.keys()].sort((a, b) => a - b)).toEqual([0x01, 0x02, 0x03, 0x05, 0x20]);
      expect([tlvs.get(0x01)?.toString(), tlvs.get(0x02)?.toString()]).toEqual(["postgresql", "localhost"]);
      const { certificate, ...ssl } = sslIn(tlvs);
      expect(ssl).toEqual({
        client: SSL | CERT_CONN | CERT_SESS,
        verify: 0,
        version: "TLSv1.3",
        commonName: "client",
        cipher: "TLS_AES_256_GCM_SHA384",
        signature: "ecdsa-with-SHA256",
        key: "EC256",
      });
      const body = pki.client.certificatePem.replace(/-----[^-]+-----|\s/g, "");
      expect(certificate?.toString("base64")).toBe(body);
      expect(parseProxyHeader(sent)).toMatchObject({ kind: "header", authority: "localhost" });
    },
  );

  test.skipIf(missingOpenssl !== "")(
    `v2-tls without a certificate: nothing was verified ${missingOpenssl}`.trim(),
    async () => {
      const index = endpoint.peers.length;
      await tlsPayload(await daemon.address("tls-v2-tls"));
      const { tlvs } = readByHand(await sentTo(endpoint, index));
      expect(tlvs.has(0x01)).toBe(false);
      const { client, verify, commonName, certificate } = sslIn(tlvs);
      expect([client, commonName, certificate]).toEqual([SSL, undefined, undefined]);
      expect(verify).not.toBe(0);
    },
  );

  test.skipIf(missingOpenssl !== "")(
    `v2-tls of a resumed session: the certificate came in another connection ${missingOpenssl}`.trim(),
    async () => {
      const session = join(pki.directory, "session.pem");
      const to = await daemon.address("tls-v2-tls");
      const before = endpoint.peers.length;
      // A ticket comes after the handshake: the first client stays for it.
      await tlsPayload(to, ...withCertificate(), "-sess_out", session);
      await tlsPayload(to, ...withCertificate(), "-sess_in", session);
      const [first, second] = [await sentTo(endpoint, before), await sentTo(endpoint, before + 1)].map((sent) =>
        sslIn(readByHand(sent).tlvs),
      );
      expect((await daemon.record(({ tls_resumed }) => tls_resumed === true)).listener).toBe("tls-v2-tls");
      expect([first?.client, second?.client]).toEqual([SSL | CERT_CONN | CERT_SESS, SSL | CERT_SESS]);
      expect([second?.verify, second?.commonName]).toEqual([0, "client"]);
    },
  );
});

/** What HAProxy answers over HTTP about the header that it was sent, and in `more` about the TLS after it. */
function haproxyEndpoint(bind: string, more = ""): Promise<RealServer> {
  const seen = "%ci %cp %fi %fp authority=%[fc_pp_authority] id=%[fc_pp_unique_id]";
  return startHaproxy(`frontend endpoint
  mode http
  bind 127.0.0.1:PORT accept-proxy ${bind}
  http-request return status 200 content-type text/plain lf-string "${seen}${more}"`);
}

async function curl(...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await run(["curl", "--silent", "--show-error", "--max-time", "4", ...args]);
  if (exitCode !== 0) throw new Error(stderr);
  return stdout;
}

describe.skipIf(missingHaproxy !== "")(`HAProxy ${missingHaproxy}`.trim(), () => {
  test("as the endpoint knows the client, its server name and the connection's id", async () => {
    await using haproxy = await haproxyEndpoint("");
    const backends = ["v1", "v2", "v2-tls"].map(
      (kind) => `  ${kind}: { endpoints: ["${haproxy.address}"], send_proxy_protocol: ${kind} }\n`,
    );
    const listeners = ["v1", "v2", "v2-tls"].map(
      (kind) => `
  - { name: tcp-${kind}, address: 127.0.0.1:0, backend: ${kind} }
  - name: tls-${kind}
    address: 127.0.0.1:0
    tls: ${listenerTls()}
    routes: [{ name: all, tls: terminate, policy: any, backend: ${kind} }]`,
    );
    await using daemon = await startDaemon(`listeners:${listeners.join("")}\nbackends:\n${backends.join("")}`);
    for (const kind of ["v1", "v2", "v2-tls"]) {
      const tcp = await daemon.port(`tcp-${kind}`);
      const tls = await daemon.port(`tls-${kind}`);
      const id = kind === "v2-tls" ? "[0-9a-f-]+" : "";
      const plain = await curl("--interface", "127.0.0.9", `http://127.0.0.1:${tcp}/`);
      expect(plain).toMatch(new RegExp(`^127\\.0\\.0\\.9 \\d+ 127\\.0\\.0\\.1 ${tcp} authority= id=${id}$`));
      const secure = await curl("--cacert", pki.authority.certificatePath, `https://localhost:${tls}/`);
      const authority = kind === "v2-tls" ? "localhost" : "";
      expect(secure).toMatch(
        new RegExp(`^127\\.0\\.0\\.1 \\d+ 127\\.0\\.0\\.1 ${tls} authority=${authority} id=${id}$`),
      );
      const record = await daemon.record(({ listener }) => listener === `tls-${kind}`);
      if (kind === "v2-tls") expect(secure).toEndWith(`id=${record.id}`);
    }
  });

  test("is told before the TLS handshake, in which it demands our certificate", async () => {
    const certificate = join(pki.directory, "haproxy-server.pem");
    writeFileSync(certificate, pki.server.certificatePem + pki.server.keyPem);
    const strict = `ssl crt ${certificate} ca-file ${pki.authority.certificatePath} verify required`;
    await using haproxy = await haproxyEndpoint(strict, " ours=%[ssl_c_s_dn(cn)] sni=%[ssl_fc_sni]");
    await using daemon = await startDaemon(`
listeners:
  - name: tls
    address: 127.0.0.1:0
    tls: ${listenerTls()}
    routes: [{ name: all, tls: terminate, policy: any, backend: haproxy }]
backends:
  haproxy:
    endpoints: ["${haproxy.address}"]
    send_proxy_protocol: v2-tls
    tls: ${backendTls()}
`);
    const port = await daemon.port("tls");
    const seen = await curl(
      "--cacert",
      pki.authority.certificatePath,
      ...curlCertificate(),
      `https://localhost:${port}/`,
    );
    expect(seen).toMatch(
      new RegExp(
        `^127\\.0\\.0\\.1 \\d+ 127\\.0\\.0\\.1 ${port} authority=localhost id=[0-9a-f-]+ ours=other sni=localhost$`,
      ),
    );
  });

  test("in our place would have said the same of the client's TLS", async () => {
    await using endpoint = await startEndpoint();
    const certificate = join(pki.directory, "haproxy-listener.pem");
    writeFileSync(certificate, pki.server.certificatePem + pki.server.keyPem);
    const options = "ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c";
    await using haproxy = await startHaproxy(`listen lb
  bind 127.0.0.1:PORT ssl crt ${certificate} ca-file ${pki.authority.certificatePath} verify optional alpn h2,postgresql
  server endpoint ${endpoint.address} send-proxy-v2 proxy-v2-options ${options}`);
    await using daemon = await startDaemon(`
listeners:
  - name: tls
    address: 127.0.0.1:0
    tls: ${listenerTls(", alpn: [h2, postgresql], session_tickets: true")}
    routes: [{ name: all, tls: terminate, policy: any, backend: endpoint }]
backends: { endpoint: { endpoints: ["${endpoint.address}"], send_proxy_protocol: v2-tls } }
`);
    const said = async (to: string, ...extra: string[]): Promise<object> => {
      await tlsPayload(to, ...extra);
      const peer = endpoint.peers.findLast(({ text }) => text.endsWith(PAYLOAD)) as Peer;
      const { tlvs } = readByHand(Buffer.concat(peer.chunks));
      const { certificate: _, verify, ...ssl } = sslIn(tlvs);
      return {
        ...ssl,
        verified: verify === 0,
        alpn: tlvs.get(0x01)?.toString(),
        authority: tlvs.get(0x02)?.toString(),
      };
    };
    const ours = await daemon.address("tls");
    const session = (name: string): string => join(pki.directory, `${name}-session.pem`);
    for (const extra of [withCertificate(), [...withCertificate(), "-alpn", "h2"]])
      expect(await said(ours, ...extra)).toEqual(await said(haproxy.address, ...extra));
    const resumed = async (name: string, to: string): Promise<object> => {
      await said(to, ...withCertificate(), "-sess_out", session(name));
      return await said(to, ...withCertificate(), "-sess_in", session(name));
    };
    expect(await resumed("ours", ours)).toEqual(await resumed("haproxy", haproxy.address));
  });

  test("in front of us: what its send-proxy-v2-ssl-cn says is passed on", async () => {
    await using endpoint = await startEndpoint();
    const certificate = join(pki.directory, "haproxy-front.pem");
    writeFileSync(certificate, pki.server.certificatePem + pki.server.keyPem);
    await using daemon = await startDaemon(`
listeners:
${["v2", "v2-tls", "v2-alone"]
  .map(
    (kind) =>
      `  - { name: ${kind}, address: 127.0.0.1:0, accept_proxy_protocol: true, trusted_sources: [127.0.0.1], backend: ${kind} }\n`,
  )
  .join("")}
backends:
  v2: { endpoints: ["${endpoint.address}"], send_proxy_protocol: v2, forward_proxy_tlvs: true }
  v2-tls: { endpoints: ["${endpoint.address}"], send_proxy_protocol: v2-tls, forward_proxy_tlvs: true }
  v2-alone: { endpoints: ["${endpoint.address}"], send_proxy_protocol: v2 }
`);
    for (const [kind, types] of [
      ["v2", [0x02, 0x20]],
      ["v2-tls", [0x02, 0x03, 0x05, 0x20]],
      ["v2-alone", []],
    ] as const) {
      await using haproxy = await startHaproxy(`listen lb
  bind 127.0.0.1:PORT ssl crt ${certificate} ca-file ${pki.authority.certificatePath} verify required
  server bunnel ${await daemon.address(kind)} send-proxy-v2-ssl-cn proxy-v2-options authority,crc32c,unique-id`);
      await tlsPayload(haproxy.address, ...withCertificate());
      const peer = endpoint.peers.findLast(({ text }) => text.endsWith(PAYLOAD)) as Peer;
      const { addresses, tlvs } = readByHand(Buffer.concat(peer.chunks));
      // Where the client dialled: HAProxy, not us.
      expect(addresses.readUInt16BE(10)).toBe(haproxy.port);
      expect([...tlvs.keys()].filter((type) => type !== 0x05 || kind === "v2-tls").sort((a, b) => a - b)).toEqual([
        ...types,
      ]);
      if (kind === "v2-alone") continue;
      const { client, verify, version, commonName } = sslIn(tlvs);
      expect([client & SSL, verify, version, commonName]).toEqual([SSL, 0, "TLSv1.3", "client"]);
      expect(tlvs.get(0x02)?.toString()).toBe("localhost");
    }
  });
});

test.skipIf(missingNginx !== "")(
  `nginx, a strict peer, reads the header before the handshake ${missingNginx}`.trim(),
  async () => {
    await using nginx = await startNginxStream(`server {
  listen 127.0.0.1:PORT ssl proxy_protocol;
  ssl_certificate ${pki.server.certificatePath};
  ssl_certificate_key ${pki.server.keyPath};
  ssl_client_certificate ${pki.authority.certificatePath};
  ssl_verify_client on;
  ssl_protocols TLSv1.3;
  return "$proxy_protocol_addr:$proxy_protocol_port $ssl_client_verify $ssl_client_s_dn $ssl_server_name\n";
}`);
    await using daemon = await startDaemon(`
listeners:
  - { name: v1, address: 127.0.0.1:0, backend: v1 }
  - { name: v2, address: 127.0.0.1:0, backend: v2 }
backends:
  v1: { endpoints: ["${nginx.address}"], send_proxy_protocol: v1, tls: ${backendTls()} }
  v2: { endpoints: ["${nginx.address}"], send_proxy_protocol: v2, tls: ${backendTls()} }
`);
    for (const listener of ["v1", "v2"]) {
      const client = await connectTo(await daemon.address(listener), "127.0.0.9");
      const port = client.socket.localPort;
      await eventually("nginx has answered", () => client.ended);
      expect(client.text).toBe(`127.0.0.9:${port} SUCCESS CN=other localhost\n`);
      client.socket.end();
    }
  },
);

/** `backends.NAME.tls` with the certificate of `otherClient`. */
function backendTls(): string {
  const own = `cert: ${pki.otherClient.certificatePath}, key: ${pki.otherClient.keyPath}`;
  return `{ ${own}, ca: [${pki.authority.certificatePath}], server_name: localhost }`;
}

function curlCertificate(): string[] {
  return ["--cert", pki.client.certificatePath, "--key", pki.client.keyPath];
}
