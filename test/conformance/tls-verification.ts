// Conformance, line 5 of the contract: `terminateTls` answers once, and nothing that is refused reaches `data`. Each trap that a platform is
// known to set (options that drop client authentication, an environment variable that switches it off, a missing CA that means the public
// roots, a handshake that counts as done before the certificate was judged) is armed here and must not open the seam.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, before, describe } from "node:test";
import type { Runtime, ServerIdentity } from "../../src/runtime/runtime.ts";
import { type CertificateFiles, type TestPki, testPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { ODD_LISTS, oddRevocationList } from "../support/odd-revocation-lists.ts";
import { test } from "./lines.ts";
import { checkRecordings, connectPeer, newRecording, recordingHandlers, serve } from "./peers.ts";
import {
  accepted,
  connectForVerdict,
  identityOf,
  openssl,
  refused,
  type Session,
  serveTls,
  tlsClient,
  type VerdictClient,
} from "./tls-peers.ts";

const VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;

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

  const verdict = (overrides: Partial<ServerIdentity>, client: VerdictClient): Promise<Session> =>
    connectForVerdict(runtime, identityOf(pki, overrides), client);

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

    for (const odd of ODD_LISTS) {
      test(`a good certificate but a list that does not say all: ${odd.name}`, async () => {
        const { pem } = oddRevocationList(pki, odd);
        for (const version of VERSIONS) {
          const result = refused(await verdict({ clientCrlPem: [pem] }, { certificate: pki.client, version }));
          assert.equal(result.failure, "certificate");
          assert.match(result.detail, /CRL/);
        }
      });
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

    test("the context decides, connection by connection: a lax one beside it on a listener loosens no strict one", async () => {
      const strict = runtime.serverContext(identityOf(pki));
      const lax = runtime.serverContext(identityOf(pki, { clientAuth: "none" }));
      let context = strict;
      const server = serveTls(runtime, () => context);
      for (let round = 0; round < 6; round++) {
        context = round % 2 === 0 ? lax : strict;
        const client = tlsClient(server.port, { certificate: pki.wrongAuthority, greeting: "must not pass" });
        const session = await server.settled(round);
        if (context === lax) accepted(session);
        else {
          await eventually("the client was sent away", () => client.ended || client.closed);
          refused(session);
        }
        client.socket.destroy();
      }
      server.close();
    });

    test("a fault of the seam itself while it judges lets nobody in", async () => {
      let armed = false;
      const identity = identityOf(pki);
      const faulty: ServerIdentity = {
        ...identity,
        get clientAuth() {
          if (armed) throw new Error("a fault, as ordered");
          return identity.clientAuth;
        },
      };
      const context = runtime.serverContext(faulty);
      const server = serveTls(runtime, () => context, {
        onStarted() {
          armed = true;
        },
      });
      const client = tlsClient(server.port, { certificate: pki.wrongAuthority, greeting: "must not pass" });
      const session = await server.settled(0);
      await eventually("the client was sent away", () => client.ended || client.closed);
      refused(session);
      client.socket.destroy();
      server.close();
    });

    test("a context that this runtime has not built means no plaintext", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      peer.socket.write("plain text");
      const plain = await server.nth(0);
      await eventually("the text arrived", () => plain.receivedBytes > 0);
      const secured = newRecording();
      const options = {
        initialData: Buffer.from(plain.text),
        handlers: recordingHandlers,
        data: secured,
        timeoutMs: 300,
      };
      await assert.rejects(async () => {
        const result = await runtime.terminateTls(plain.live, { ...options, context: { identity: identityOf(pki) } });
        assert(result.ok, "a failure will do as well as a throw");
      });
      assert.equal(secured.receivedBytes, 0);
      peer.socket.destroy();
      server.close();
    });

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
}
