// TLS from the client ends here and another one begins towards the endpoint: each side sees the certificate that is meant for it, bytes and ends go
// through both as if there were one. A TLS stream of the endpoint that stops without close_notify may have been cut: the client gets what came, then a reset.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import tls from "node:tls";
import { Peer } from "../conformance/peers.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { type AccessLine, type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { opensslClient } from "../support/openssl.ts";
import { startOpensslServer } from "../support/openssl-server.ts";
import { missingPrograms } from "../support/programs.ts";
import { connectTo } from "../support/tcp.ts";
import { startTlsEndpoint, type TlsEndpoint, type TlsSession } from "../support/tls-endpoint.ts";

const VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;
type Version = (typeof VERSIONS)[number];
const BULK = Buffer.alloc(3_000_000, "bulk ");
const missing = missingPrograms("openssl");

let pki: TestPki;
let daemon: Daemon;
const endpoints = new Map<string, TlsEndpoint>();

/** Listeners `tls-NAME` and `tcp-NAME` in front of the backend NAME. */
function listenersOf(name: string): string {
  return `
  - name: tls-${name}
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
    routes: [{ name: all, tls: terminate, policy: any, backend: ${name} }]
  - { name: tcp-${name}, address: 127.0.0.1:0, backend: ${name} }`;
}

/** A backend that shows the certificate of `otherClient`. */
function backendOf(name: string, address: string): string {
  const own = `cert: ${pki.otherClient.certificatePath}, key: ${pki.otherClient.keyPath}`;
  const who = `ca: [${pki.authority.certificatePath}], server_name: localhost, min_version: "1.2"`;
  return `\n  ${name}: { endpoints: ["${address}"], tls: { ${own}, ${who} } }`;
}

beforeAll(async () => {
  pki = await testPki();
  let [listeners, backends] = ["", ""];
  const add = (name: string, address: string): void => {
    listeners += listenersOf(name);
    backends += backendOf(name, address);
  };
  for (const version of VERSIONS) {
    const endpoint = await startTlsEndpoint(pki.server, { version, clientCa: pki.authority.certificatePem });
    endpoints.set(version, endpoint);
    add(version, endpoint.address);
    add(`${version}-direct`, endpoint.directAddress);
  }
  daemon = await startDaemon(`listeners:${listeners}\nbackends:${backends}\n`);
});

afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  for (const endpoint of endpoints.values()) await endpoint[Symbol.asyncDispose]();
});

function endpointOf(version: Version): TlsEndpoint {
  return endpoints.get(version) as TlsEndpoint;
}

/** A client of a `tls-` listener with the certificate of `client`, that keeps its side open when the other ends. */
async function tlsClient(listener: string): Promise<Peer> {
  const socket = tls.connect({
    ...{ port: await daemon.port(listener), host: "127.0.0.1", servername: "localhost" },
    ...{ ca: pki.authority.certificatePem, cert: pki.client.certificatePem, key: pki.client.keyPem },
  });
  // node:tls takes this from the socket alone.
  socket.allowHalfOpen = true;
  const peer = new Peer(socket);
  await once(socket, "secureConnect");
  return peer;
}

/** A client, over TLS or TCP, the endpoint's side of its connection, and its record once that is there. */
async function connected(
  kind: "tls" | "tcp",
  name: string,
  version: Version,
): Promise<[Peer, TlsSession, () => Promise<AccessLine>]> {
  const before = endpointOf(version).sessions.length;
  const listener = `${kind}-${name}`;
  const client = kind === "tls" ? await tlsClient(listener) : await connectTo(await daemon.address(listener));
  const downstream = `127.0.0.1:${client.socket.localPort}`;
  const record = (): Promise<AccessLine> =>
    daemon.record((line) => line.listener === listener && line.downstream === downstream);
  return [client, await endpointOf(version).session(before), record];
}

const received = (peer: Peer): number => peer.chunks.reduce((sum, chunk) => sum + chunk.length, 0);

for (const version of VERSIONS) {
  describe(`${version} towards the endpoint`, () => {
    test("the client's certificate ends here, and the endpoint is shown ours", async () => {
      const [client, server, recorded] = await connected("tls", version, version);
      expect([server.shown, server.version]).toEqual(["other", version]);
      client.socket.end("who am I?");
      await eventually("it arrived, and the end", () => server.text === "who am I?" && server.ended);
      server.socket.end();
      const record = await recorded();
      expect(record.identity?.uri).toEqual(["spiffe://bunnel.test/client"]);
      expect(record).toMatchObject({
        tls_version: "TLSv1.3",
        upstream_tls_version: version,
        upstream_tls_cipher: expect.stringMatching(/AES|CHACHA/),
        upstream_peer: "localhost",
        close_reason: "completed",
      });
    });

    for (const kind of ["tls", "tcp"] as const) {
      test(`a ${kind} client's end comes after its bytes, and the answer after that still arrives`, async () => {
        const [client, server, recorded] = await connected(kind, version, version);
        client.socket.end(BULK);
        await eventually("the endpoint saw the end", () => server.ended);
        expect([received(server), client.ended]).toEqual([BULK.length, false]);
        server.socket.end(BULK);
        await eventually("the client saw the end", () => client.ended);
        expect([received(client), client.errorCode, server.errorCode]).toEqual([BULK.length, "", ""]);
        const record = await recorded();
        expect([record.close_reason, record.close_side, record.bytes_up]).toEqual([
          "completed",
          "downstream",
          BULK.length,
        ]);
      });

      test(`the endpoint's close_notify is an end in order to a ${kind} client, which can still send`, async () => {
        const [client, server, recorded] = await connected(kind, version, version);
        server.socket.end("that is all from me");
        await eventually("the client saw the end", () => client.ended);
        expect([client.text, client.errorCode]).toEqual(["that is all from me", ""]);
        client.socket.end(BULK);
        await eventually("the endpoint saw the end", () => server.ended);
        expect([received(server), server.errorCode]).toEqual([BULK.length, ""]);
        const record = await recorded();
        expect([record.close_reason, record.close_side]).toEqual(["completed", "upstream"]);
      });

      for (const [how, reason, code] of [
        ["cut without close_notify", "upstream_truncated", "SD"],
        ["reset", "upstream_reset", "SD"],
      ] as const) {
        test(`the endpoint's stream is ${how}: a ${kind} client gets what came, and a reset`, async () => {
          const { links } = endpointOf(version);
          const [client, server, recorded] = await connected(kind, version, version);
          const text = `${how} after half an`;
          server.socket.write(text);
          await eventually("it arrived", () => client.text === text);
          const link = links.at(-1);
          if (reason === "upstream_truncated") link?.client.end();
          else link?.client.resetAndDestroy();
          await eventually("the client's connection was gone", () => client.closed);
          expect([client.text, client.ended, client.errorCode]).toEqual([text, false, "ECONNRESET"]);
          const record = await recorded();
          expect([record.close_reason, record.close_side, record.termination]).toEqual([reason, "upstream", code]);
        });
      }

      test(`a ${kind} client that resets resets the endpoint`, async () => {
        const [client, server] = await connected(kind, version, version);
        client.socket.write("half a");
        await eventually("it arrived", () => server.text === "half a");
        const link = endpointOf(version).links.at(-1);
        client.socket.resetAndDestroy();
        await eventually("the endpoint's connection was gone", () => link?.client.destroyed);
        expect([server.ended, link?.client.errored === null]).toEqual([false, false]);
      });
    }

    test("50 MB each way at once arrive as they were sent", async () => {
      const [client, server, recorded] = await connected("tls", `${version}-direct`, version);
      const size = 50_000_000;
      const [up, down] = await Promise.all([transfer(client, server, size), transfer(server, client, size)]);
      expect([up.received, down.received]).toEqual([up.sent, down.sent]);
      const record = await recorded();
      expect([record.close_reason, record.bytes_down]).toEqual(["completed", size]);
    }, 30_000);
  });
}

/** Sends so many random bytes and the end, and gives the SHA-256 of what was sent and of what was received. */
async function transfer(from: Peer, to: Peer, size: number): Promise<{ sent: string; received: string }> {
  const [sent, arrived] = [createHash("sha256"), createHash("sha256")];
  // The peer itself would keep all of it.
  to.socket.removeAllListeners("data");
  to.socket.on("data", (bytes: Buffer) => arrived.update(bytes));
  for (let left = size; left > 0; ) {
    const bytes = randomBytes(Math.min(left, 400_009));
    left -= bytes.length;
    sent.update(bytes);
    if (!from.socket.write(bytes)) await once(from.socket, "drain");
  }
  from.socket.end();
  await eventually("the end arrived", () => to.ended, 20_000);
  return { sent: sent.digest("hex"), received: arrived.digest("hex") };
}

describe.skipIf(missing !== "")(`openssl at both ends ${missing}`.trim(), () => {
  for (const killed of [true, false]) {
    test(`its server ${killed ? "is killed" : "ends in order"}`, async () => {
      await using server = await startOpensslServer(pki.server, ["-rev"]);
      await using between = await startDaemon(
        `listeners:${listenersOf("openssl")}\nbackends:${backendOf("openssl", server.address)}\n`,
      );
      const to = await between.address("tls-openssl");
      await using client = opensslClient({ to, ca: pki.authority.certificatePath, certificate: pki.client });
      client.write("a question\n");
      await client.says("noitseuq a\n");
      if (killed) server.child.signal("SIGKILL");
      else client.write("CLOSE\n");
      if (killed) await client.says("errno=104");
      else {
        await eventually("the server has ended it", () => server.output.includes("CONNECTION CLOSED"));
        client.endInput();
      }
      await client.exited;
      const { close_reason: reason, detail } = await between.record();
      expect(client.stdout).toBe("noitseuq a\n");
      if (killed) expect([reason, detail]).toEqual(["upstream_truncated", "upstream FIN without close_notify"]);
      else expect([reason, client.stderr.includes("errno")]).toEqual(["completed", false]);
    });
  }
});
