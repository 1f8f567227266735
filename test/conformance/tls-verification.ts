// Conformance, line 5 of the contract: `terminateTls` answers once, and nothing that is refused reaches `data`. Each trap that a platform is
// known to set (options that drop client authentication, an environment variable that switches it off, a missing CA that means the public
// roots, a handshake that counts as done before the certificate was judged) is armed here and must not open the seam.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, before, describe, test } from "node:test";
import { ProxyError } from "../../src/base/errors.ts";
import type { Runtime, ServerContext, ServerIdentity } from "../../src/runtime/runtime.ts";
import { type CertificateFiles, type TestPki, testPki } from "../support/certificates.ts";
import { checkRecordings, connectPeer, eventually, openDescriptors, quiet } from "./peers.ts";
import {
  accepted,
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
type Version = (typeof VERSIONS)[number];

/** The DER of the leaf, which comes first in a chain. */
function leafOf(certificate: CertificateFiles): Uint8Array {
  return new X509Certificate(certificate.certificatePem).raw;
}

/** The PKI's own self-signed certificate is an authority's, and BoringSSL refuses to present such a one. */
async function selfSignedClient(directory: string): Promise<CertificateFiles> {
  const certificatePath = join(directory, "self-signed-client.pem");
  const keyPath = join(directory, "self-signed-client.key");
  const subject = [
    "-subj",
    "/CN=client",
    "-days",
    "2",
    "-addext",
    "keyUsage=digitalSignature,keyCertSign",
    "-addext",
    "extendedKeyUsage=clientAuth",
  ];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", keyPath];
  await openssl(["req", "-x509", ...key, ...subject, "-out", certificatePath]);
  const [certificatePem, keyPem] = [readFileSync(certificatePath, "utf8"), readFileSync(keyPath, "utf8")];
  return { certificatePem, keyPem, certificatePath, keyPath };
}

/** A client that must be refused: what it presents, to whom, and the X.509 reason. */
interface BadClient {
  readonly name: string;
  certificate(pki: TestPki): CertificateFiles | undefined;
  readonly detail: RegExp;
  identity?(pki: TestPki): Partial<ServerIdentity>;
  /** Also refused where a certificate is optional. */
  readonly evenOptional: boolean;
}

const BAD_CLIENTS: readonly BadClient[] = [
  { name: "no certificate", certificate: () => undefined, detail: /CERTIFICATE/, evenOptional: false },
  {
    name: "a wrong CA",
    certificate: (pki) => pki.wrongAuthority,
    detail: /^UNABLE_TO_|^SELF_SIGNED/,
    evenOptional: true,
  },
  {
    name: "an expired certificate",
    certificate: (pki) => pki.expired,
    detail: /^CERT_HAS_EXPIRED$/,
    evenOptional: true,
  },
  {
    name: "a certificate that is not valid yet",
    certificate: (pki) => pki.notYetValid,
    detail: /^CERT_NOT_YET_VALID$/,
    evenOptional: true,
  },
  {
    name: "a self-signed certificate",
    certificate: (pki) => pki.selfSigned,
    detail: /^DEPTH_ZERO_SELF_SIGNED_CERT$/,
    evenOptional: true,
  },
  {
    name: "a missing intermediate",
    certificate: (pki) => pki.withoutIntermediate,
    detail: /^UNABLE_TO_/,
    evenOptional: true,
  },
  {
    name: "a server's certificate",
    certificate: (pki) => pki.wrongUsage,
    detail: /^INVALID_PURPOSE$/,
    evenOptional: true,
  },
  {
    name: "a certificate beyond the authority's name constraint",
    certificate: (pki) => pki.constrained,
    detail: /./,
    evenOptional: true,
  },
  {
    name: "a revoked certificate",
    certificate: (pki) => pki.revoked,
    identity: (pki) => ({ clientCrlPem: [pki.revocationList.pem] }),
    detail: /^CERT_REVOKED$/,
    evenOptional: true,
  },
  {
    name: "a good certificate but an expired CRL",
    certificate: (pki) => pki.client,
    identity: (pki) => ({ clientCrlPem: [pki.expiredRevocationList.pem] }),
    detail: /^CRL_HAS_EXPIRED$/,
    evenOptional: true,
  },
  {
    name: "a good certificate of an intermediate that has no CRL",
    certificate: (pki) => pki.viaIntermediate,
    identity: (pki) => ({ clientCrlPem: [pki.revocationList.pem] }),
    detail: /^UNABLE_TO_GET_CRL$/,
    evenOptional: true,
  },
];

export function tlsVerificationConformance(runtime: Runtime): void {
  let pki: TestPki;
  before(async () => {
    const made = await testPki();
    pki = { ...made, selfSigned: await selfSignedClient(made.directory) };
  });

  /** One connection to a seam with `overrides`, up to its verdict. The client speaks as soon as it may. */
  async function verdict(
    overrides: Partial<ServerIdentity>,
    client: { certificate?: CertificateFiles | undefined; version?: Version; alpn?: readonly string[] },
  ): Promise<Session> {
    const context = runtime.serverContext(identityOf(pki, overrides));
    const descriptors = openDescriptors();
    const server = serveTls(runtime, () => context);
    const { certificate, ...rest } = client;
    const peer = tlsClient(server.port, { ...rest, ...(certificate && { certificate }), greeting: "must not pass" });
    const session = await server.settled(0);
    if (session.result?.ok === true) {
      await eventually(() => session.secured.text === "must not pass", "the greeting arrived");
    } else {
      await eventually(() => peer.closed || peer.ended, "the client was sent away");
      await quiet(20);
      refused(session);
    }
    peer.socket.destroy();
    server.close();
    await eventually(() => openDescriptors() <= descriptors, "every descriptor was closed");
    assert.equal(runtime.clock.armed, 0);
    return session;
  }

  describe("5. terminateTls refuses, and nothing of it reaches data", () => {
    afterEach(checkRecordings);

    for (const bad of BAD_CLIENTS) {
      for (const version of VERSIONS) {
        test(`${bad.name}, ${version}`, async () => {
          const certificate = bad.certificate(pki);
          const overrides: Partial<ServerIdentity> = bad.identity?.(pki) ?? {};
          const result = refused(await verdict(overrides, { certificate, version }));
          assert.equal(result.failure, "certificate");
          assert.match(result.detail, bad.detail);
          if (result.peerCertificate !== null && certificate !== undefined)
            assert.deepEqual(Buffer.from(result.peerCertificate), leafOf(certificate));
        });

        if (bad.evenOptional) {
          test(`${bad.name} where one is optional, ${version}`, async () => {
            const overrides: Partial<ServerIdentity> = { ...bad.identity?.(pki), clientAuth: "optional" };
            const result = refused(await verdict(overrides, { certificate: bad.certificate(pki), version }));
            assert.equal(result.failure, "certificate");
            assert.match(result.detail, bad.detail);
          });
        }
      }
    }

    for (const clientAuth of ["required", "optional"] as const) {
      test(`with every trap armed (ALPN in use, NODE_TLS_REJECT_UNAUTHORIZED=0, certificate ${clientAuth})`, async () => {
        const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED;
        process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
        try {
          for (const version of VERSIONS) {
            for (const bad of BAD_CLIENTS) {
              if (clientAuth === "optional" && !bad.evenOptional) continue;
              const overrides = { ...bad.identity?.(pki), clientAuth, alpn: ["h2", "http/1.1"] };
              refused(await verdict(overrides, { certificate: bad.certificate(pki), version, alpn: ["h2"] }));
            }
          }
        } finally {
          if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
          else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before;
        }
      });
    }

    for (const version of VERSIONS) {
      test(`openssl without a certificate, ${version}, is told why by an alert`, async () => {
        const context = runtime.serverContext(identityOf(pki));
        const server = serveTls(runtime, () => context);
        const flag = version === "TLSv1.2" ? "-tls1_2" : "-tls1_3";
        const output = await openssl(["s_client", "-connect", `127.0.0.1:${server.port}`, flag, "-ign_eof"], "hi\n");
        refused(await server.settled(0));
        assert.match(output, version === "TLSv1.2" ? /alert number 40/ : /alert number 116/);
        server.close();
      });
    }
  });

  describe("5. terminateTls accepts what is good", () => {
    afterEach(checkRecordings);

    for (const version of VERSIONS) {
      for (const clientAuth of ["required", "optional"] as const) {
        test(`a valid certificate, ${clientAuth}, ${version}`, async () => {
          const session = await verdict({ clientAuth }, { certificate: pki.client, version });
          const result = accepted(session);
          assert(result.peerCertificate !== null);
          assert.deepEqual(Buffer.from(result.peerCertificate), leafOf(pki.client));
          assert.equal(result.version, version);
          assert.match(result.cipher, version === "TLSv1.2" ? /^ECDHE-ECDSA-/ : /^TLS_/);
          assert.deepEqual([result.resumed, result.alpn, session.results], [false, "", 1]);
        });
      }

      test(`no certificate where one is optional, ${version}`, async () => {
        assert.equal(accepted(await verdict({ clientAuth: "optional" }, { version })).peerCertificate, null);
      });

      test(`clients are not asked where none is wanted, ${version}`, async () => {
        const overrides: Partial<ServerIdentity> = { clientAuth: "none", clientCaPem: [] };
        assert.equal(accepted(await verdict(overrides, { certificate: pki.expired, version })).peerCertificate, null);
      });

      test(`a chain through an intermediate, with a CRL of each authority, ${version}`, async () => {
        const overrides = { clientCrlPem: [pki.revocationList.pem, pki.intermediateRevocationList.pem] };
        const result = accepted(await verdict(overrides, { certificate: pki.viaIntermediate, version }));
        assert(result.peerCertificate !== null);
        assert.deepEqual(Buffer.from(result.peerCertificate), leafOf(pki.viaIntermediate));
      });

      test(`either of two authorities, ${version}`, async () => {
        const overrides = { clientCaPem: [pki.authority.certificatePem, pki.otherAuthority.certificatePem] };
        accepted(await verdict(overrides, { certificate: pki.wrongAuthority, version }));
        accepted(await verdict(overrides, { certificate: pki.client, version }));
      });
    }

    test("a certificate that is not on the CRL", async () => {
      accepted(await verdict({ clientCrlPem: [pki.revocationList.pem] }, { certificate: pki.client }));
    });

    test("the version floor of the identity holds", async () => {
      const result = refused(await verdict({ minVersion: "1.3" }, { certificate: pki.client, version: "TLSv1.2" }));
      assert.equal(result.failure, "handshake");
      accepted(await verdict({ minVersion: "1.3" }, { certificate: pki.client, version: "TLSv1.3" }));
    });

    test('ALPN: the server\'s order decides, a protocol that nobody shares is refused or "", none offered is ""', async () => {
      const alpn = ["h2", "http/1.1"];
      for (const version of VERSIONS) {
        const certificate = pki.client;
        const both = await verdict({ alpn }, { certificate, version, alpn: ["http/1.1", "h2"] });
        assert.equal(accepted(both).alpn, "h2");
        const second = await verdict({ alpn }, { certificate, version, alpn: ["http/1.1"] });
        assert.equal(accepted(second).alpn, "http/1.1");
        assert.equal(accepted(await verdict({ alpn }, { certificate, version })).alpn, "");
        assert.equal(accepted(await verdict({}, { certificate, version, alpn: ["h2"] })).alpn, "");
        const mismatch = await verdict({ alpn }, { certificate, version, alpn: ["imap"] });
        if (mismatch.result?.ok === true) assert.equal(mismatch.result.alpn, "");
        else assert.equal(refused(mismatch).failure, "handshake");
      }
    });
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
        await eventually(() => peer.ended || peer.closed, "the peer was sent away");
        peer.socket.destroy();
        server.close();
        await eventually(() => openDescriptors() <= descriptors, "every descriptor was closed");
        assert.equal(runtime.clock.armed, 0);
      });
    }

    test("garbage after a good hello", async () => {
      for (const version of VERSIONS) {
        const server = serveTls(runtime, () => context);
        const wire = await openWire(server.port, true);
        const client = tlsClient(wire.port, { certificate: pki.client, version });
        await eventually(() => (wire.links[0]?.heldBytes.length ?? 0) > 0, "the client sent its hello");
        const link = wire.links[0] as WireLink;
        link.releaseHeld();
        await eventually(() => link.heldBytes.length > 0, "the client answered");
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
        await eventually(() => peer.closed || peer.ended, "the peer was sent away");
        peer.socket.destroy();
        server.close();
        await eventually(() => openDescriptors() <= descriptors, "every descriptor was closed");
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
          await eventually(() => (wire.links[0]?.heldBytes.length ?? 0) > 0, "the client sent its hello");
          const link = wire.links[0] as WireLink;
          link.releaseHeld();
          await eventually(() => link.heldBytes.length > 0, "the client answered");
          leave(link);
          const result = refused(await server.settled(0));
          assert(result.failure === "closed" || result.failure === "handshake", result.failure);
          client.socket.destroy();
          wire.close();
          server.close();
          await eventually(() => openDescriptors() <= descriptors, "every descriptor was closed");
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
        await eventually(() => chunks.length > 0, "the byte arrived");
        if (ours) live.terminate();
        else peer.socket.resetAndDestroy();
        await eventually(() => server.accepted[0]?.closes.length === 1, "it closed");
        const options = { context, initialData: Uint8Array.of(22), data: null, timeoutMs: 300 };
        const handlers = { data() {}, drain() {}, end() {}, close() {} };
        const result = await runtime.terminateTls(live, { ...options, handlers });
        assert(!result.ok);
        assert.equal(result.failure, "closed");
        server.close();
      }
    });

    test("a socket that was paused while its hello was being thought about", async () => {
      const server = serveTls(runtime, () => context, { peekBytes: 1_000_000 });
      const client = tlsClient(server.port, { certificate: pki.client, greeting: "hello" });
      const plain = await server.nth(0);
      await eventually(() => plain.chunks.length > 0, "the hello arrived");
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
      await eventually(() => text === "hello", "the greeting arrived");
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
      accepted(await verdict(bundle, { certificate: pki.wrongAuthority }));
      accepted(await verdict(bundle, { certificate: pki.client }));
    });
  });
}
