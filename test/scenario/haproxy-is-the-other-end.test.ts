// The other end of an mTLS connection may be somebody else's program: HAProxy, nginx and openssl, each demanding a certificate, work with us in both
// roles, every byte and every end goes through a row of them, and whom they or we refuse gets nothing.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import type { Peer } from "../conformance/peers.ts";
import { type CertificateFiles, type TestPki, testPki } from "../support/certificates.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { startOpensslServer } from "../support/openssl-server.ts";
import { missingPrograms } from "../support/programs.ts";
import { type RealServer, startHaproxy, startNginxStream } from "../support/servers.ts";
import { connectTo, type Endpoint, startEndpoint } from "../support/tcp.ts";

const BULK = randomBytes(5_000_000);
const missingHaproxy = missingPrograms("haproxy");
const missingNginx = missingPrograms("nginx", "nginx-stream");
const missingOpenssl = missingPrograms("openssl");

let pki: TestPki;
let endpoint: Endpoint;

beforeAll(async () => {
  pki = await testPki();
  endpoint = await startEndpoint();
});

afterAll(async () => {
  await endpoint?.[Symbol.asyncDispose]();
});

/** `backends.NAME` that shows a certificate, or none, to `address`. */
function backend(address: string, certificate: CertificateFiles | null = pki.client, more = ""): string {
  const own = certificate === null ? "" : `cert: ${certificate.certificatePath}, key: ${certificate.keyPath}, `;
  return `{ endpoints: ["${address}"], tls: { ${own}ca: [${pki.authority.certificatePath}], server_name: localhost${more} } }`;
}

/** A listener `mtls` for the certificate of `client`, in front of the echo. */
function mtlsToEcho(): string {
  return `
listeners:
  - name: mtls
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
    routes: [{ name: all, tls: terminate, policy: clients, backend: echo }]
policies: { clients: { rules: [{ action: allow, uri: ["spiffe://bunnel.test/client"] }] } }
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
}

/** A listener NAME on a port of its own in front of each backend. */
function tcpTo(backends: Readonly<Record<string, string>>): string {
  const names = Object.keys(backends);
  const listeners = names.map((name) => `  - { name: ${name}, address: 127.0.0.1:0, backend: ${name} }\n`);
  const lines = names.map((name) => `  ${name}: ${backends[name]}\n`);
  return `listeners:\n${listeners.join("")}backends:\n${lines.join("")}`;
}

/** What HAProxy takes as `crt`: certificate and key in one file. */
function bundle({ certificatePem, keyPem, certificatePath }: CertificateFiles): string {
  const path = `${certificatePath}.bundle`;
  writeFileSync(path, certificatePem + keyPem);
  return path;
}

/** HAProxy that demands a certificate and passes on to `to`. */
function haproxyTerminating(to: string, bind = ""): Promise<RealServer> {
  return startHaproxy(`listen terminating
  bind 127.0.0.1:PORT ssl crt ${bundle(pki.server)} ca-file ${pki.authority.certificatePath} verify required ${bind}
  server next ${to}`);
}

/** HAProxy that shows a certificate and verifies who answers. */
function haproxyOriginating(to: string, certificate: CertificateFiles): Promise<RealServer> {
  const verify = `ca-file ${pki.authority.certificatePath} verify required sni str(localhost) verifyhost localhost`;
  return startHaproxy(`listen originating
  bind 127.0.0.1:PORT
  retries 0
  server bunnel ${to} ssl crt ${bundle(certificate)} ${verify}`);
}

/** 5 MB there and back, then the end there and back; what came back must be what was sent. */
async function thereAndBack(address: string): Promise<void> {
  const client = await connectTo(address);
  client.socket.end(BULK);
  await eventually(
    () => `all came back, and the end; ${client.chunks.length} chunks, ended ${client.ended}, ${client.errorCode}`,
    () => client.ended || client.closed,
  );
  const came = createHash("sha256");
  for (const chunk of client.chunks) came.update(chunk);
  expect([client.ended, client.errorCode]).toEqual([true, ""]);
  expect(came.digest("hex")).toBe(createHash("sha256").update(BULK).digest("hex"));
}

/** A client of `address` is cut without an answer. */
async function expectNothing(address: string): Promise<void> {
  const client = await connectTo(address);
  client.socket.write("let me in\n");
  await eventually("it was ended", () => client.closed || client.ended);
  expect(client.text).toBe("");
  client.socket.destroy();
}

function received({ chunks }: Peer): number {
  return chunks.reduce((sum, { length }) => sum + length, 0);
}

async function reasonOf(daemon: Daemon, name: string): Promise<string> {
  return (await daemon.record(({ listener }) => listener === name)).close_reason;
}

describe.skipIf(missingHaproxy !== "")(`HAProxy ${missingHaproxy}`.trim(), () => {
  test("demands our certificate, and gets the one that verifies", async () => {
    await using haproxy = await haproxyTerminating(endpoint.address);
    const before = endpoint.peers.length;
    await using daemon = await startDaemon(
      tcpTo({
        good: backend(haproxy.address),
        "through-an-intermediate": backend(haproxy.address, pki.viaIntermediate),
        "without-its-intermediate": backend(haproxy.address, pki.withoutIntermediate),
        none: backend(haproxy.address, null),
        "of-another-authority": backend(haproxy.address, pki.wrongAuthority),
      }),
    );
    for (const name of ["good", "through-an-intermediate"]) {
      await thereAndBack(await daemon.address(name));
      const record = await daemon.record(({ listener }) => listener === name);
      expect(record).toMatchObject({ close_reason: "completed", upstream_tls_version: "TLSv1.3" });
      expect([record.bytes_up, record.bytes_down]).toEqual([BULK.length, BULK.length]);
    }
    for (const name of ["without-its-intermediate", "none", "of-another-authority"]) {
      await expectNothing(await daemon.address(name));
      // That it does not want us it says, on TLS 1.3, after its part of the handshake.
      expect(["upstream_reset", "upstream_handshake_failed"]).toContain(await reasonOf(daemon, name));
    }
    expect(endpoint.peers.slice(before).filter(({ text }) => text.includes("let me in"))).toHaveLength(0);
  });

  test("agrees on a protocol with us", async () => {
    await using haproxy = await haproxyTerminating(endpoint.address, "alpn postgresql,h2");
    await using daemon = await startDaemon(
      tcpTo({ agreed: backend(haproxy.address, pki.client, ", alpn: [imap, h2]") }),
    );
    await thereAndBack(await daemon.address("agreed"));
    expect(await reasonOf(daemon, "agreed")).toBe("completed");
  });

  test("is refused when it is not who was meant", async () => {
    await using haproxy = await haproxyTerminating(endpoint.address);
    await using daemon = await startDaemon(
      tcpTo({ other: backend(haproxy.address).replace("server_name: localhost", "server_name: db.test") }),
    );
    await expectNothing(await daemon.address("other"));
    expect(await reasonOf(daemon, "other")).toBe("upstream_certificate_rejected");
  });

  test("shows its certificate to us, and gets as far as the policy allows", async () => {
    await using daemon = await startDaemon(mtlsToEcho());
    const to = await daemon.address("mtls");
    await using allowed = await haproxyOriginating(to, pki.client);
    await thereAndBack(allowed.address);
    const record = await daemon.record(({ close_reason }) => close_reason === "completed");
    expect([record.sni, record.identity?.uri]).toEqual(["localhost", ["spiffe://bunnel.test/client"]]);
    for (const [certificate, reason] of [
      [pki.otherClient, "policy_denied"],
      [pki.expired, "certificate_rejected"],
      [pki.wrongAuthority, "certificate_rejected"],
    ] as const) {
      await using refused = await haproxyOriginating(to, certificate);
      await expectNothing(refused.address);
      await daemon.record(({ close_reason }) => close_reason === reason);
    }
  });

  test("stands between two of us: four TLS legs in a row lose nothing", async () => {
    await using inbound = await startDaemon(mtlsToEcho());
    const verify = `ca-file ${pki.authority.certificatePath} verify required sni str(localhost) verifyhost localhost`;
    await using haproxy = await haproxyTerminating(
      `${await inbound.address("mtls")} ssl crt ${bundle(pki.client)} ${verify}`,
    );
    await using outbound = await startDaemon(tcpTo({ outbound: backend(haproxy.address) }));
    const address = await outbound.address("outbound");
    await Promise.all([1, 2, 3, 4].map(() => thereAndBack(address)));
    for (const daemon of [inbound, outbound]) {
      const records = (await daemon.recorded(4)).filter(({ bytes_up }) => bytes_up === BULK.length);
      expect(records.map(({ close_reason }) => close_reason)).toEqual(Array(4).fill("completed"));
    }
  });
});

describe.skipIf(missingNginx !== "")(`nginx ${missingNginx}`.trim(), () => {
  test("demands our certificate, and gets the one that verifies", async () => {
    await using nginx = await startNginxStream(`server {
  listen 127.0.0.1:PORT ssl;
  ssl_certificate ${pki.server.certificatePath};
  ssl_certificate_key ${pki.server.keyPath};
  ssl_client_certificate ${pki.authority.certificatePath};
  ssl_verify_client on;
  ssl_verify_depth 2;
  ssl_protocols TLSv1.2 TLSv1.3;
  proxy_pass ${endpoint.address};
}`);
    await using daemon = await startDaemon(
      tcpTo({
        good: backend(nginx.address),
        "client-ends-first": backend(nginx.address),
        "through-an-intermediate": backend(nginx.address, pki.viaIntermediate),
        none: backend(nginx.address, null),
        "of-another-authority": backend(nginx.address, pki.wrongAuthority),
      }),
    );
    for (const name of ["good", "through-an-intermediate"]) {
      const before = endpoint.peers.length;
      const client = await connectTo(await daemon.address(name));
      client.socket.write(BULK);
      await eventually("all came back", () => received(client) === BULK.length);
      expect(Buffer.concat(client.chunks).equals(BULK)).toBe(true);
      (await endpoint.nth(before)).socket.end();
      await eventually("the end came", () => client.ended);
      client.socket.end();
      expect(await reasonOf(daemon, name)).toBe("completed");
    }
    // It never answers a close_notify with its own, so that its end cannot be told from a cut.
    const first = await connectTo(await daemon.address("client-ends-first"));
    first.socket.write("a question");
    await eventually("it came back", () => first.text === "a question");
    first.socket.end();
    await eventually("it is over", () => first.closed);
    expect([first.ended, first.errorCode]).toEqual([false, "ECONNRESET"]);
    expect(await reasonOf(daemon, "client-ends-first")).toBe("upstream_truncated");
    for (const name of ["none", "of-another-authority"]) await expectNothing(await daemon.address(name));
  });

  test("shows its certificate to us, and verifies ours", async () => {
    await using daemon = await startDaemon(mtlsToEcho());
    await using nginx = await startNginxStream(`server {
  listen 127.0.0.1:PORT;
  proxy_pass ${await daemon.address("mtls")};
  proxy_ssl on;
  proxy_ssl_certificate ${pki.client.certificatePath};
  proxy_ssl_certificate_key ${pki.client.keyPath};
  proxy_ssl_trusted_certificate ${pki.authority.certificatePath};
  proxy_ssl_verify on;
  proxy_ssl_name localhost;
  proxy_ssl_server_name on;
  proxy_ssl_protocols TLSv1.3;
}`);
    const client = await connectTo(nginx.address);
    client.socket.write(BULK);
    await eventually("all came back", () => received(client) === BULK.length);
    expect(Buffer.concat(client.chunks).equals(BULK)).toBe(true);
    client.socket.end();
    const record = await daemon.record(({ bytes_up }) => bytes_up === BULK.length);
    expect([record.sni, record.identity?.cn, record.tls_version]).toEqual(["localhost", ["client"], "TLSv1.3"]);
  });
});

describe.skipIf(missingOpenssl !== "")(`openssl s_server -Verify ${missingOpenssl}`.trim(), () => {
  for (const version of ["-tls1_2", "-tls1_3"]) {
    test(`${version}: answers whoever shows a chain that verifies, and nobody else`, async () => {
      await using server = await startOpensslServer(pki.server, ["-rev", version]);
      const old = ', min_version: "1.2"';
      await using daemon = await startDaemon(
        tcpTo({
          good: backend(server.address, pki.client, old),
          "through-an-intermediate": backend(server.address, pki.viaIntermediate, old),
          "without-its-intermediate": backend(server.address, pki.withoutIntermediate, old),
          none: backend(server.address, null, old),
        }),
      );
      for (const name of ["good", "through-an-intermediate"]) {
        const client = await connectTo(await daemon.address(name));
        client.socket.write("a question\n");
        await eventually("it was answered", () => client.text === "noitseuq a\n");
        client.socket.write("CLOSE\n");
        await eventually("it was ended", () => client.ended);
        expect([client.errorCode, client.text]).toEqual(["", "noitseuq a\n"]);
        client.socket.end();
        expect(await reasonOf(daemon, name)).toBe("completed");
      }
      for (const name of ["without-its-intermediate", "none"]) {
        await expectNothing(await daemon.address(name));
        const reason = await reasonOf(daemon, name);
        if (version === "-tls1_2") expect(reason).toBe("upstream_handshake_failed");
        else expect(["upstream_reset", "upstream_truncated", "upstream_handshake_failed"]).toContain(reason);
      }
      expect(server.output).toMatch(/peer did not return a certificate/);
    });
  }
});
