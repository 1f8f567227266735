// Conformance of `terminateTls` before there is a verdict, and of what it is built from: handshakes that come to nothing end with a code and
// leave nothing behind, weak protocols are refused, and so is material that would silently weaken verification.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, before, describe } from "node:test";
import { ProxyError } from "../../src/base/errors.ts";
import type { Runtime, ServerContext, ServerIdentity } from "../../src/runtime/runtime.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import { checkRecordings, connectPeer, openDescriptors, quiet } from "./peers.ts";
import {
  accepted,
  connectForVerdict,
  identityOf,
  openssl,
  openWire,
  refused,
  type Session,
  serveTls,
  tlsClient,
  type WireLink,
} from "./tls-peers.ts";

const VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;

export function tlsHandshakeConformance(runtime: Runtime): void {
  let pki: TestPki;
  before(async () => {
    pki = await testPki();
  });

  describe("5. terminateTls fails with a code when there is no handshake", () => {
    afterEach(checkRecordings);
    let context: ServerContext;
    before(() => {
      context = runtime.serverContext(identityOf(pki));
    });

    for (const [name, bytes] of [
      ["plain text", Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")],
      ["a record of nonsense", Buffer.concat([Uint8Array.of(22, 3, 1, 0, 200), Buffer.alloc(200, 0xee)])],
      ["zeros", Buffer.alloc(2_000)],
    ] as const) {
      test(`garbage: ${name}`, async () => {
        const descriptors = openDescriptors();
        const server = serveTls(runtime, () => context);
        const peer = await connectPeer(server.port);
        peer.socket.write(bytes);
        assert.equal(refused(await server.settled(0)).failure, "handshake");
        await eventually("the peer was sent away", () => peer.ended || peer.closed);
        peer.socket.destroy();
        server.close();
        await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
        assert.equal(runtime.clock.armed, 0);
      });
    }

    test("garbage after a good hello", async () => {
      for (const version of VERSIONS) {
        const server = serveTls(runtime, () => context);
        const wire = await openWire(server.port, true);
        const client = tlsClient(wire.port, { certificate: pki.client, version });
        await eventually("the client sent its hello", () => (wire.links[0]?.heldBytes.length ?? 0) > 0);
        const link = wire.links[0] as WireLink;
        link.releaseHeld();
        await eventually("the client answered", () => link.heldBytes.length > 0);
        link.server.write(Buffer.concat([Uint8Array.of(23, 3, 3, 0, 80), Buffer.alloc(80, 0x5a)]));
        assert.equal(refused(await server.settled(0)).failure, "handshake");
        client.socket.destroy();
        wire.close();
        server.close();
      }
    });

    test("silence: a time-out at the deadline, whether nothing follows or a hello stops halfway", async () => {
      for (const bytes of [1, 60]) {
        const descriptors = openDescriptors();
        const server = serveTls(runtime, () => context, { timeoutMs: 200 });
        const peer = await connectPeer(server.port);
        const startMs = runtime.preciseNowMs();
        peer.socket.write(
          Buffer.concat([Uint8Array.of(22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3), Buffer.alloc(100)]).subarray(0, bytes),
        );
        assert.equal(refused(await server.settled(0)).failure, "timeout");
        const tookMs = runtime.preciseNowMs() - startMs;
        assert(tookMs >= 170 && tookMs < 500, `took ${tookMs} ms`);
        await eventually("the peer was sent away", () => peer.closed || peer.ended);
        peer.socket.destroy();
        server.close();
        await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
        assert.equal(runtime.clock.armed, 0);
      }
    });

    for (const [name, leave] of [
      ["FIN", (link: WireLink) => link.server.end()],
      ["RST", (link: WireLink) => link.server.resetAndDestroy()],
    ] as const) {
      test(`the client leaves midway with ${name}`, async () => {
        for (const version of VERSIONS) {
          const descriptors = openDescriptors();
          const server = serveTls(runtime, () => context);
          const wire = await openWire(server.port, true);
          const client = tlsClient(wire.port, { certificate: pki.client, version });
          await eventually("the client sent its hello", () => (wire.links[0]?.heldBytes.length ?? 0) > 0);
          const link = wire.links[0] as WireLink;
          link.releaseHeld();
          await eventually("the client answered", () => link.heldBytes.length > 0);
          leave(link);
          const result = refused(await server.settled(0));
          assert.deepEqual([result.failure, result.detail], ["closed", ""]);
          client.socket.destroy();
          wire.close();
          server.close();
          await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
          assert.equal(runtime.clock.armed, 0);
        }
      });
    }

    test("a socket that the peer has reset before terminateTls is called, or that we have aborted", async () => {
      for (const ours of [false, true]) {
        const server = serveTls(runtime, () => context, { timeoutMs: 300, peekBytes: 1_000_000 });
        const peer = await connectPeer(server.port);
        const { live, chunks } = await server.nth(0);
        peer.socket.write("x");
        await eventually("the byte arrived", () => chunks.length > 0);
        if (ours) live.terminate();
        else peer.socket.resetAndDestroy();
        await eventually("it closed", () => server.accepted[0]?.closes.length === 1);
        const options = { context, initialData: Uint8Array.of(22), data: null, timeoutMs: 300 };
        const handlers = { data() {}, drain() {}, end() {}, close() {} };
        const result = await runtime.terminateTls(live, { ...options, handlers });
        assert(!result.ok);
        assert.equal(result.failure, "closed");
        server.close();
      }
    });

    test("the caller aborts the plain socket meanwhile", async () => {
      const descriptors = openDescriptors();
      const server = serveTls(runtime, () => context, { onStarted: ({ plain }) => plain.live.terminate() });
      const peer = await connectPeer(server.port);
      peer.socket.write(Uint8Array.of(22));
      assert.equal(refused(await server.settled(0)).failure, "closed");
      await eventually("the peer was sent away", () => peer.ended || peer.closed);
      peer.socket.destroy();
      server.close();
      await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
      assert.equal(runtime.clock.armed, 0);
    });

    test("a socket that was paused while its hello was being thought about", async () => {
      const server = serveTls(runtime, () => context, { peekBytes: 1_000_000 });
      const client = tlsClient(server.port, { certificate: pki.client, greeting: "hello" });
      const plain = await server.nth(0);
      await eventually("the hello arrived", () => plain.chunks.length > 0);
      plain.live.pause();
      await quiet(20);
      let text = "";
      const result = await runtime.terminateTls(plain.live, {
        context,
        initialData: Buffer.concat(plain.chunks),
        handlers: {
          data(_, bytes) {
            text += Buffer.from(bytes).toString();
          },
          drain() {},
          end() {},
          close() {},
        },
        data: null,
        timeoutMs: 1_000,
      });
      assert(result.ok);
      await eventually("the greeting arrived", () => text === "hello");
      client.socket.destroy();
      server.close();
    });
  });

  describe("weak protocols and suites are refused, openssl says so", () => {
    afterEach(checkRecordings);

    const attempt = async (args: readonly string[]): Promise<{ output: string; session: Session }> => {
      const context = runtime.serverContext(identityOf(pki, { clientAuth: "none" }));
      const server = serveTls(runtime, () => context);
      const output = await openssl(["s_client", "-connect", `127.0.0.1:${server.port}`, ...args]);
      const session = await server.settled(0);
      server.close();
      return { output, session };
    };

    for (const args of [
      ["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
      ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
      ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA"],
      ["-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-SHA"],
    ]) {
      test(args.join(" "), async () => {
        const { output, session } = await attempt(args);
        assert.equal(refused(session).failure, "handshake");
        assert.match(output, /alert/);
      });
    }

    test("AEAD with forward secrecy passes", async () => {
      for (const args of [["-tls1_2"], ["-tls1_3"], ["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"]])
        accepted((await attempt(args)).session);
    });
  });

  describe("serverContext refuses what would be silently weaker", () => {
    const refusal = (overrides: (pki: TestPki) => Partial<ServerIdentity>): string => {
      try {
        runtime.serverContext(identityOf(pki, overrides(pki)));
      } catch (thrown) {
        assert(thrown instanceof ProxyError);
        assert.equal(thrown.code, "BAD_TLS_MATERIAL");
        return thrown.message;
      }
      return assert.fail("it was built");
    };

    test("no certificate, no key, garbage", () => {
      assert.match(
        refusal(() => ({ chainPem: "" })),
        /no certificate/,
      );
      assert.match(
        refusal(() => ({ keyPem: "" })),
        /no private key/,
      );
      assert.match(
        refusal(({ server }) => ({ keyPem: server.certificatePem })),
        /no private key/,
      );
      refusal(() => ({ chainPem: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" }));
      refusal(() => ({ keyPem: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" }));
    });

    test("the key of another certificate", () => {
      refusal(({ client }) => ({ keyPem: client.keyPem }));
    });

    test("a weak key is refused at once or serves, and is no surprise for the first client", async () => {
      const [key, certificate] = [join(pki.directory, "weak.key"), join(pki.directory, "weak.pem")];
      const made = ["-subj", "/CN=weak", "-days", "2", "-nodes", "-keyout", key, "-out", certificate];
      await openssl(["req", "-x509", "-newkey", "rsa:1024", ...made]);
      const weak = { chainPem: readFileSync(certificate, "utf8"), keyPem: readFileSync(key, "utf8") };
      try {
        runtime.serverContext(identityOf(pki, weak));
      } catch (thrown) {
        assert(thrown instanceof ProxyError);
        assert.match(thrown.message, /key too small/);
        return;
      }
      accepted(await connectForVerdict(runtime, identityOf(pki, weak), { certificate: pki.client }));
    });

    test("client authentication without a CA, which would trust the public roots", () => {
      for (const clientAuth of ["required", "optional"] as const) {
        assert.match(
          refusal(() => ({ clientAuth, clientCaPem: [] })),
          /no CA/,
        );
        refusal(() => ({ clientAuth, clientCaPem: [""] }));
        refusal(() => ({ clientAuth, clientCaPem: ["not a certificate"] }));
        refusal(({ authority }) => ({ clientAuth, clientCaPem: [authority.keyPem] }));
        refusal(({ authority }) => ({ clientAuth, clientCaPem: [authority.certificatePem, "garbage"] }));
        refusal(() => ({
          clientAuth,
          clientCaPem: ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
        }));
      }
    });

    test("a CRL that would not be loaded: garbage, or the second in one text", () => {
      refusal(() => ({ clientCrlPem: [""] }));
      refusal(() => ({ clientCrlPem: ["not a CRL"] }));
      refusal(() => ({ clientCrlPem: ["-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"] }));
      refusal((all) => ({ clientCrlPem: [all.revocationList.pem + all.intermediateRevocationList.pem] }));
    });

    test("two CAs in one text are refused or both trusted, never one of them dropped", async () => {
      const bundle = { clientCaPem: [pki.authority.certificatePem + pki.otherAuthority.certificatePem] };
      try {
        runtime.serverContext(identityOf(pki, bundle));
      } catch (thrown) {
        assert(thrown instanceof ProxyError);
        return;
      }
      accepted(await connectForVerdict(runtime, identityOf(pki, bundle), { certificate: pki.wrongAuthority }));
      accepted(await connectForVerdict(runtime, identityOf(pki, bundle), { certificate: pki.client }));
    });
  });
}
