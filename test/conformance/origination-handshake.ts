// Conformance of `originateTls` where there is no handshake to judge, and of what stands around it: contexts that would be silently weaker, sessions
// that are never resumed, what a secured socket tells of its peer, and handshakes of every kind that leave no descriptor behind.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import type net from "node:net";
import { afterEach, before, describe } from "node:test";
import { ProxyError } from "../../src/base/errors.ts";
import type { ClientContext, ClientIdentity, Runtime } from "../../src/runtime/runtime.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import { listenPlain, listenTls, loopback, originate, originIdentity } from "./origination-peers.ts";
import {
  checkRecordings,
  dialRecorded,
  listenAsPeer,
  openDescriptors,
  orderly,
  quiet,
  recordingHandlers,
} from "./peers.ts";
import { accepted, identityOf, openWire, refused, type Session, serveTls, tlsClient } from "./tls-peers.ts";

const MIXED_HANDSHAKES = 500;
const PARALLEL_HANDSHAKES = 50;

export function originationHandshakeConformance(runtime: Runtime): void {
  let pki: TestPki;
  let context: ClientContext;
  before(async () => {
    pki = await testPki();
    context = runtime.clientContext(originIdentity(pki));
  });

  /** A handshake that fails, down to the last descriptor and timer. */
  async function failing(
    answer: (socket: net.Socket) => void,
    options: { readonly timeoutMs?: number; onStarted?(session: Session): void } = {},
  ): Promise<{ failure: string; detail: string }> {
    const descriptors = openDescriptors();
    const server = await listenPlain(answer);
    const session = await originate(runtime, { address: loopback(server.port), context, ...options });
    await quiet(20);
    const { failure, detail } = refused(session);
    server.close();
    await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
    assert.equal(runtime.clock.armed, 0);
    return { failure, detail };
  }

  describe("5. originateTls fails with a code when there is no handshake", () => {
    afterEach(checkRecordings);

    test("a server that does not speak TLS", async () => {
      const result = await failing((socket) => socket.write("HTTP/1.1 400 Bad Request\r\n\r\n"));
      assert.deepEqual(result, { failure: "handshake", detail: "WRONG_VERSION_NUMBER" });
    });

    test("a server that answers with nonsense", async () => {
      const nonsense = Buffer.concat([Uint8Array.of(22, 3, 3, 0, 200), Buffer.alloc(200, 0xee)]);
      assert.equal((await failing((socket) => socket.write(nonsense))).failure, "handshake");
    });

    test("a server that refuses with an alert, which is told", async () => {
      const result = await failing((socket) => socket.end(Uint8Array.of(21, 3, 3, 0, 2, 2, 40)));
      assert.deepEqual(result, { failure: "handshake", detail: "SSLV3_ALERT_HANDSHAKE_FAILURE" });
    });

    test("a server that closes, or resets", async () => {
      assert.equal((await failing((socket) => socket.end())).failure, "closed");
      assert.equal((await failing((socket) => socket.resetAndDestroy())).failure, "closed");
    });

    test("silence: a time-out at the deadline, also halfway through the server's answer", async () => {
      const begin = Uint8Array.of(22, 3, 3, 0, 100, 2, 0, 0, 96, 3, 3);
      for (const answer of [() => {}, (socket: net.Socket) => void socket.write(begin)]) {
        const startMs = runtime.preciseNowMs();
        assert.equal((await failing(answer, { timeoutMs: 200 })).failure, "timeout");
        const tookMs = runtime.preciseNowMs() - startMs;
        assert(tookMs >= 170 && tookMs < 600, `took ${tookMs} ms`);
      }
    });

    test("the caller aborts the plain socket meanwhile", async () => {
      const onStarted = ({ plain }: Session): void => plain.live.terminate();
      assert.equal((await failing(() => {}, { onStarted })).failure, "closed");
      const later = ({ plain }: Session): void => void setTimeout(() => plain.live.terminate(), 20);
      assert.equal((await failing(() => {}, { onStarted: later })).failure, "closed");
    });

    test("a server that leaves midway, with FIN or RST", async () => {
      for (const leave of ["end", "resetAndDestroy"] as const) {
        const listener = await listenTls(pki.server);
        const wire = await openWire(listener.port, true);
        const originated = originate(runtime, { address: loopback(wire.port), context, timeoutMs: 2_000 });
        await eventually("our hello was sent", () => (wire.links[0]?.heldBytes.length ?? 0) > 0);
        const [link] = wire.links;
        link?.server.removeAllListeners("data");
        link?.server.once("data", (bytes: Buffer) =>
          link.client.write(bytes.subarray(0, 100), () => link.client[leave]()),
        );
        link?.releaseHeld();
        assert.equal(refused(await originated).failure, "closed");
        wire.close();
        listener.close();
      }
    });

    test("a server that has spoken before the handshake is refused, TLS or not, and gets no hello", async () => {
      for (const rubbish of ["220 ready\r\n", String.fromCharCode(22, 3, 3, 0, 0)]) {
        const descriptors = openDescriptors();
        const server = await listenAsPeer((peer) => void peer.socket.write(rubbish));
        const session = await originate(runtime, {
          address: loopback(server.port),
          context,
          onDialled: ({ plain }) => eventually("the server spoke", () => plain.text === rubbish),
        });
        const { failure, detail } = refused(session);
        assert.deepEqual([failure, detail], ["handshake", "SPOKE_FIRST"]);
        const peer = await server.nth(0);
        await eventually("the server was sent away", () => peer.closed || peer.ended);
        assert.equal(peer.text, "");
        server.close();
        await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
      }
    });

    test("a server that has ended, or reset, before the handshake", async () => {
      for (const leave of ["end", "resetAndDestroy"] as const) {
        const server = await listenAsPeer();
        // Not before it has been dialled.
        void server.nth(0).then((peer) => setTimeout(() => peer.socket[leave](), 20));
        const session = await originate(runtime, {
          address: loopback(server.port),
          context,
          timeoutMs: 2_000,
          onDialled: ({ plain }) => eventually("it was told", () => plain.ends + plain.closes.length > 0),
        });
        assert.equal(refused(session).failure, "closed");
        server.close();
      }
    });

    test("a context that this runtime has not built means no plaintext", async () => {
      const server = await listenAsPeer();
      const plain = await dialRecorded(runtime, loopback(server.port));
      const options = { serverName: "", accept: () => "", handlers: recordingHandlers, data: plain, timeoutMs: 300 };
      await assert.rejects(async () => {
        const result = await runtime.originateTls(plain.live, {
          ...options,
          context: { identity: originIdentity(pki) },
        });
        assert(result.ok, "a failure will do as well as a throw");
      });
      const peer = await server.nth(0);
      plain.live.terminate();
      await eventually("it closed", () => peer.closed);
      assert.equal(peer.text, "");
      server.close();
    });
  });

  describe("5. originateTls secures a socket in whatever state it is", () => {
    afterEach(checkRecordings);

    test("one that was paused", async () => {
      const listener = await listenTls(pki.server, { greeting: "hello" });
      const onDialled = ({ plain }: Session): void => plain.live.pause();
      const session = await originate(runtime, { address: listener.address, context, onDialled });
      accepted(session);
      await eventually("the greeting arrived", () => session.secured.text === "hello");
      session.secured.live.terminate();
      listener.close();
    });

    test("one to which a PROXY header was written: that comes first, in plain text", async () => {
      const header = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
      const server = await listenPlain((socket) => socket.destroy());
      const wire = await openWire(server.port);
      const onDialled = ({ plain }: Session): void => {
        assert.equal(plain.live.write(Buffer.from(header)), header.length);
      };
      refused(await originate(runtime, { address: loopback(wire.port), context, onDialled }));
      await eventually("it all arrived", () => Buffer.concat(wire.links[0]?.sent ?? []).length > header.length);
      const sent = Buffer.concat(wire.links[0]?.sent ?? []);
      assert.equal(sent.toString("latin1", 0, header.length), header);
      assert.deepEqual([...sent.subarray(header.length, header.length + 2)], [22, 3]);
      wire.close();
      server.close();
    });

    test("never by a session of before", async () => {
      for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
        const listener = await listenTls(pki.server, { version, greeting: "hello" });
        for (let round = 0; round < 3; round++) {
          const session = await originate(runtime, { address: listener.address, context });
          assert.equal(accepted(session).resumed, false);
          assert.equal((await listener.nth(round)).resumed, false);
          await eventually("the greeting arrived, and tickets with it", () => session.secured.text === "hello");
          orderly(runtime, session.secured.live).shutdown();
          (await listener.nth(round)).socket.end();
          await eventually("it closed in order", () => session.secured.closes[0] === "clean");
        }
        listener.close();
      }
    });
  });

  describe("peerCertificate and isSignedBy", () => {
    afterEach(checkRecordings);
    const leafOf = (pem: string): Buffer => Buffer.from(new X509Certificate(pem).raw);

    test("the certificate of an originated socket, until it is closed", async () => {
      const listener = await listenTls(pki.server);
      const session = await originate(runtime, { address: listener.address, context });
      const { socket } = accepted(session);
      assert.deepEqual(Buffer.from(runtime.peerCertificate(socket) ?? []), leafOf(pki.server.certificatePem));
      orderly(runtime, socket).shutdown();
      assert.deepEqual(Buffer.from(runtime.peerCertificate(socket) ?? []), leafOf(pki.server.certificatePem));
      socket.terminate();
      await eventually("it closed", () => session.secured.closes.length === 1);
      assert.equal(runtime.peerCertificate(socket), null);
      assert.equal(runtime.peerCertificate(session.plain.live), null);
      listener.close();
    });

    test("the certificate of a terminated socket, and none where there is none", async () => {
      const server = serveTls(runtime, () => runtime.serverContext(identityOf(pki, { clientAuth: "optional" })));
      const clients = [tlsClient(server.port, { certificate: pki.client }), tlsClient(server.port)];
      const certificates: string[] = [];
      for (let index = 0; index < clients.length; index++) {
        const { socket } = accepted(await server.settled(index));
        certificates.push(Buffer.from(runtime.peerCertificate(socket) ?? []).toString("hex"));
      }
      assert.deepEqual(certificates.sort(), ["", leafOf(pki.client.certificatePem).toString("hex")]);
      for (const { socket } of clients) socket.destroy();
      server.close();
    });

    test("a plain socket has none", async () => {
      const server = await listenAsPeer();
      const plain = await dialRecorded(runtime, loopback(server.port));
      assert.equal(runtime.peerCertificate(plain.live), null);
      plain.live.terminate();
      server.close();
    });

    test("signed by its issuer's key, and by no other, whatever the names say", () => {
      const [root, other] = [leafOf(pki.authority.certificatePem), leafOf(pki.otherAuthority.certificatePem)];
      const leaf = leafOf(pki.client.certificatePem);
      assert(runtime.isSignedBy(leaf, root));
      assert(runtime.isSignedBy(root, root));
      assert(runtime.isSignedBy(leafOf(pki.expired.certificatePem), root), "dates are not looked at");
      assert(!runtime.isSignedBy(leaf, other));
      assert(!runtime.isSignedBy(root, leaf));
      assert(!runtime.isSignedBy(new Uint8Array(0), root));
      assert(!runtime.isSignedBy(leaf, Uint8Array.of(0x30, 0)));
    });
  });

  describe("clientContext refuses what would be silently weaker", () => {
    const refusal = (overrides: Partial<ClientIdentity>): string => {
      try {
        runtime.clientContext(originIdentity(pki, overrides));
      } catch (thrown) {
        assert(thrown instanceof ProxyError);
        assert.equal(thrown.code, "BAD_TLS_MATERIAL");
        return thrown.message;
      }
      return assert.fail("it was built");
    };

    test("no CA, which would trust the public roots, and CAs that would not be loaded", () => {
      const good = pki.authority.certificatePem;
      assert.match(refusal({ serverCaPem: [] }), /no CA/);
      const broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
      for (const serverCaPem of [[""], ["garbage"], [pki.authority.keyPem], [good, "garbage"], [good + good], [broken]])
        refusal({ serverCaPem });
    });

    test("a CRL that would not be loaded: garbage, or the second in one text", () => {
      const broken = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
      for (const pem of ["", "garbage", broken, pki.revocationList.pem + pki.intermediateRevocationList.pem])
        refusal({ serverCrlPem: [pem] });
    });

    test("a certificate without its key, a key without its certificate, and two that do not fit", () => {
      assert.match(refusal({ keyPem: "" }), /no private key/);
      assert.match(refusal({ chainPem: "" }), /no certificate/);
      assert.match(refusal({ keyPem: pki.server.keyPem }), /not the certificate's/);
      refusal({ keyPem: pki.client.certificatePem });
      refusal({ chainPem: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" });
    });
  });

  test(`${MIXED_HANDSHAKES} handshakes of every kind leave no descriptor and no timer`, {
    timeout: 60_000,
  }, async () => {
    const descriptors = openDescriptors();
    const stranger = runtime.clientContext(originIdentity(pki, { serverCaPem: [pki.otherAuthority.certificatePem] }));
    const good = await listenTls(pki.server);
    const plains = await Promise.all([
      listenPlain((socket) => socket.write("no TLS here")),
      listenPlain((socket) => socket.end()),
      listenPlain((socket) => socket.resetAndDestroy()),
      listenPlain(() => {}),
    ]);
    const kinds = [
      { address: good.address, context, expected: "" },
      { address: good.address, context, accept: () => "not you", expected: "certificate" },
      { address: good.address, context: stranger, expected: "certificate" },
      ...plains.map(({ port }, index) => ({
        address: loopback(port),
        context,
        // Handshakes that are begun together may take longer than a silent one is to be waited for.
        timeoutMs: index === 3 ? 300 : 5_000,
        expected: ["handshake", "closed", "closed", "timeout"][index],
      })),
    ];
    for (let done = 0; done < MIXED_HANDSHAKES; done += PARALLEL_HANDSHAKES) {
      const batch = Array.from({ length: PARALLEL_HANDSHAKES }, async (_, index) => {
        const { expected, ...options } = kinds[(done + index) % kinds.length] as (typeof kinds)[number];
        const { result, secured } = await originate(runtime, options);
        assert.equal(result?.ok === false ? result.failure : "", expected);
        secured.socket?.terminate();
      });
      await Promise.all(batch);
    }
    good.close();
    for (const plain of plains) plain.close();
    await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
    assert.equal(runtime.clock.armed, 0);
    checkRecordings();
  });
}
