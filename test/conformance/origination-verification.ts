// Conformance, lines 5 and 9 of the contract: `originateTls` lets in only a server whose chain verifies and whom `accept` has accepted, and a server
// that is refused has been sent nothing of ours. Each trap that a platform is known to set (an environment variable that switches
// verification off, a name check that hides or replaces the verdict on the chain, no check at all without SNI) is armed here.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { afterEach, before, describe } from "node:test";
import type { ClientIdentity, Runtime } from "../../src/runtime/runtime.ts";
import { issueWithNames } from "../../src/tls-tools/tls-tools.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import {
  type BadServer,
  badServers,
  listenTls,
  loopback,
  type OriginateOptions,
  opensslServer,
  originate,
  originIdentity,
  type Presented,
  type ServerSide,
  socketPath,
  type TlsListenOptions,
  throughIntermediate,
} from "./origination-peers.ts";
import { checkRecordings, openDescriptors, quiet } from "./peers.ts";
import { accepted, openWire, refused, type Session } from "./tls-peers.ts";

const VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;
/** As SNI: the server's own name, another one, and none. */
const NAMES = ["localhost", "elsewhere.test", ""] as const;
/** TLS record types. */
const HANDSHAKE = 22;

interface VerdictOptions extends Omit<OriginateOptions, "address" | "context">, TlsListenOptions {
  readonly identity?: Partial<ClientIdentity>;
}

interface Outcome {
  readonly session: Session;
  /** As the server sees it, when it takes itself for secured. */
  readonly server: ServerSide | undefined;
}

export function originationVerificationConformance(runtime: Runtime): void {
  let pki: TestPki;
  let bad: readonly BadServer[];
  before(async () => {
    pki = await testPki();
    bad = await badServers(pki);
  });

  /** One handshake up to its verdict and gone again, down to the last descriptor and timer. */
  async function verdict(presented: Presented, options: VerdictOptions = {}): Promise<Outcome> {
    const context = runtime.clientContext(originIdentity(pki, options.identity));
    const descriptors = openDescriptors();
    const listener = await listenTls(presented, { greeting: "must not pass", ...options });
    const session = await originate(runtime, { ...options, address: listener.address, context });
    if (session.result?.ok === true) {
      await eventually("the greeting arrived", () => session.secured.text === "must not pass");
      await listener.nth(0);
      session.secured.live.terminate();
    } else {
      await quiet(20);
      refused(session);
    }
    listener.close();
    await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
    assert.equal(runtime.clock.armed, 0);
    return { session, server: listener.secured[0] };
  }

  /** Every bad server, whatever is sent as SNI and whichever version is spoken. */
  async function refuseAll(alpn: readonly string[]): Promise<void> {
    for (const { name, presented, identity, detail } of bad) {
      for (const version of VERSIONS) {
        for (const serverName of NAMES) {
          let asked = 0;
          const accept = (): string => {
            asked++;
            return "";
          };
          const options = { version, serverName, accept, alpn, identity: { ...identity, alpn } };
          const { session } = await verdict(presented, options);
          const result = refused(session);
          const where = `${name}, ${version}, "${serverName}"`;
          assert.equal(result.failure, "certificate", where);
          assert.match(result.detail, detail, where);
          assert.deepEqual(Buffer.from(result.peerCertificate ?? []), leafOf(presented), where);
          assert.equal(asked, 0, `${where}: accept was asked about a chain that is not good`);
        }
      }
    }
  }

  describe("5. originateTls refuses, and nothing of it reaches data", () => {
    afterEach(checkRecordings);

    test("every server whose chain does not verify, under its own name, another one and none", {
      timeout: 60_000,
    }, async () => {
      await refuseAll([]);
    });

    test("with every trap armed: ALPN in use, NODE_TLS_REJECT_UNAUTHORIZED=0", { timeout: 60_000 }, async () => {
      const before = process.env.NODE_TLS_REJECT_UNAUTHORIZED;
      process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
      try {
        await refuseAll(["h2", "http/1.1"]);
      } finally {
        if (before === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
        else process.env.NODE_TLS_REJECT_UNAUTHORIZED = before;
      }
    });

    test("the same on a unix socket, where there is no host to take a name from", async () => {
      for (const { presented, identity = {} } of bad) {
        const path = socketPath(pki, "refused");
        for (const serverName of NAMES)
          assert.equal(
            refused((await verdict(presented, { path, serverName, identity })).session).failure,
            "certificate",
          );
      }
    });

    for (const version of VERSIONS) {
      test(`whom accept refuses, for the reason that it gives, ${version}`, async () => {
        for (const serverName of NAMES) {
          const leaves: Uint8Array[] = [];
          const accept = (leaf: Uint8Array): string => {
            leaves.push(leaf);
            return "not the one that was meant";
          };
          const result = refused((await verdict(pki.server, { version, serverName, accept })).session);
          assert.deepEqual([result.failure, result.detail], ["certificate", "not the one that was meant"]);
          assert.deepEqual(
            leaves.map((leaf) => Buffer.from(leaf)),
            [leafOf(pki.server)],
          );
          assert.deepEqual(Buffer.from(result.peerCertificate ?? []), leafOf(pki.server));
        }
      });

      test(`an accept that throws lets nobody in, ${version}`, async () => {
        const accept = (): string => {
          throw new Error("a fault, as ordered");
        };
        refused((await verdict(pki.server, { version, accept })).session);
      });
    }

    test("a server that speaks no version above the floor", async () => {
      const { session } = await verdict(pki.server, { version: "TLSv1.2", identity: { minVersion: "1.3" } });
      assert.equal(refused(session).failure, "handshake");
      assert.match(refused(session).detail, /PROTOCOL_VERSION/);
    });

    for (const version of VERSIONS) {
      test(`a server that passes over the protocols that we offer, ${version}`, async () => {
        const { session, server } = await verdict(pki.server, { version, identity: { alpn: ["h2"] } });
        const { failure, detail } = refused(session);
        assert.deepEqual([failure, detail], ["handshake", "NO_APPLICATION_PROTOCOL"]);
        // On TLS 1.3 it has not been shown our certificate, nor told that the handshake is over.
        if (version === "TLSv1.3") assert.equal(server, undefined);
      });
    }

    test("a server that agrees to no protocol of ours", async () => {
      const { session } = await verdict(pki.server, { alpn: ["imap"], identity: { alpn: ["h2"] } });
      assert.deepEqual(
        [refused(session).failure, refused(session).detail],
        ["handshake", "TLSV1_ALERT_NO_APPLICATION_PROTOCOL"],
      );
    });
  });

  describe("9. nothing of ours is sent to a server that is refused, openssl says so", () => {
    afterEach(checkRecordings);

    /** What openssl and a wire in front of it were sent. */
    async function seen(authority: string, accept: () => string): Promise<{ output: string; records: number[] }> {
      const server = await opensslServer(pki.server, ["-tls1_3", "-CAfile", pki.authority.certificatePath]);
      const wire = await openWire(server.port);
      const context = runtime.clientContext(originIdentity(pki, { serverCaPem: [authority], minVersion: "1.3" }));
      const session = await originate(runtime, { address: loopback(server.port), context, accept });
      const isRefused = session.result?.ok === false;
      const said = isRefused ? /^ERROR/m : /<<< TLS 1.3.*Finished/;
      await eventually("openssl saw how it ended", () => said.test(server.output));
      // It serves one at a time.
      session.secured.socket?.terminate();
      const { output } = server;
      // The same again over the wire, because openssl might have read only in part what was followed by a reset.
      const second = await originate(runtime, { address: loopback(wire.port), context, accept });
      assert.equal(second.result?.ok, session.result?.ok);
      const [link] = wire.links;
      if (isRefused) await eventually("the wire was reset", () => link?.client.destroyed === true);
      else await eventually("the wire carried our answer", () => recordTypes(link?.sent ?? []).length > 1);
      second.secured.socket?.terminate();
      wire.close();
      await server.close();
      return { output, records: recordTypes(link?.sent ?? []) };
    }

    test("an accepted server gets our certificate: this is how it would show", async () => {
      const { output, records } = await seen(pki.authority.certificatePem, () => "");
      assert.match(output, /<<< TLS 1.3, Handshake \[length \w+\], Certificate\b/);
      assert(records.some((type) => type !== HANDSHAKE));
    });

    test("a server whose chain does not verify gets our hello and no more", async () => {
      const { output, records } = await seen(pki.otherAuthority.certificatePem, () => "");
      assert.match(output, /<<< TLS 1.3, Handshake \[length \w+\], ClientHello/);
      assert.doesNotMatch(output, /<<< .*(Certificate|Finished|Alert)/);
      assert.deepEqual(records, [HANDSHAKE]);
    });

    test("a server that accept refuses gets our hello and no more", async () => {
      const { output, records } = await seen(pki.authority.certificatePem, () => "not this one");
      assert.match(output, /<<< TLS 1.3, Handshake \[length \w+\], ClientHello/);
      assert.doesNotMatch(output, /<<< .*(Certificate|Finished|Alert)/);
      assert.deepEqual(records, [HANDSHAKE]);
    });
  });

  describe("5. originateTls accepts what is good", () => {
    afterEach(checkRecordings);

    for (const version of VERSIONS) {
      test(`a server whose chain verifies, under whatever name: that is accept's business, ${version}`, async () => {
        for (const serverName of NAMES) {
          const { session, server } = await verdict(pki.server, { version, serverName });
          const result = accepted(session);
          assert.deepEqual(Buffer.from(result.peerCertificate ?? []), leafOf(pki.server));
          assert.equal(result.version, version);
          assert.match(result.cipher, version === "TLSv1.2" ? /^ECDHE-ECDSA-/ : /^TLS_/);
          assert.deepEqual([result.resumed, result.alpn, session.results, session.plainEvents], [false, "", 1, 0]);
          assert.deepEqual([server?.sni, server?.shown], [serverName, "client"]);
        }
      });

      test(`a server whose only name is a common name, or a URI, ${version}`, async () => {
        const options = { commonName: "localhost", usage: "server", lifetimeMs: 60_000 } as const;
        for (const names of [[], [{ type: "url", value: "spiffe://bunnel.test/server" }]] as const) {
          const presented = await issueWithNames(pki.authority, options, [...names]);
          let asked = 0;
          const accept = (): string => {
            asked++;
            return "";
          };
          accepted((await verdict(presented, { version, accept })).session);
          assert.equal(asked, 1, "no name is good enough by itself");
        }
      });

      test(`a chain through an intermediate, with a CRL of each authority, ${version}`, async () => {
        const presented = await throughIntermediate(pki);
        const serverCrlPem = [pki.revocationList.pem, pki.intermediateRevocationList.pem];
        const { session } = await verdict(presented, { version, identity: { serverCrlPem } });
        assert.deepEqual(Buffer.from(accepted(session).peerCertificate ?? []), leafOf(presented));
      });

      test(`either of two authorities, ${version}`, async () => {
        const serverCaPem = [pki.authority.certificatePem, pki.otherAuthority.certificatePem];
        for (const presented of [pki.server, (bad[0] as BadServer).presented])
          accepted((await verdict(presented, { version, identity: { serverCaPem } })).session);
      });

      test(`without a certificate of ours, ${version}`, async () => {
        const { session, server } = await verdict(pki.server, { version, identity: { chainPem: "", keyPem: "" } });
        accepted(session);
        assert.equal(server?.shown, "");
      });

      test(`our certificate with its intermediate, to a server that verifies it, ${version}`, async () => {
        const identity = { chainPem: pki.viaIntermediate.certificatePem, keyPem: pki.viaIntermediate.keyPem };
        const clientCaPem = pki.authority.certificatePem;
        const { session, server } = await verdict(pki.server, { version, identity, clientCaPem });
        accepted(session);
        assert.equal(server?.shown, "client");
      });

      test(`ALPN: what both speak, none when we ask for none, ${version}`, async () => {
        const alpn = ["h2", "http/1.1"];
        for (const [ours, theirs, agreed] of [
          [alpn, alpn, "h2"],
          [["http/1.1"], alpn, "http/1.1"],
          [[], alpn, ""],
        ] as const) {
          const options = { version, identity: { alpn: ours }, ...(theirs && { alpn: theirs }) };
          const { session, server } = await verdict(pki.server, options);
          assert.deepEqual([accepted(session).alpn, server?.alpn], [agreed, agreed]);
        }
      });
    }

    test("on a unix socket", async () => {
      const { session, server } = await verdict(pki.server, { path: socketPath(pki, "accepted"), serverName: "" });
      accepted(session);
      assert.equal(server?.shown, "client");
    });

    test("TLS 1.3 is preferred, and 1.2 spoken with who speaks nothing else", async () => {
      assert.equal(accepted((await verdict(pki.server)).session).version, "TLSv1.3");
      assert.equal(accepted((await verdict(pki.server, { version: "TLSv1.2" })).session).version, "TLSv1.2");
    });
  });
}

/** The DER of the leaf, which comes first in a chain. */
function leafOf({ certificatePem }: Presented): Buffer {
  return Buffer.from(new X509Certificate(certificatePem).raw);
}

/** The types of the TLS records in a stream. */
function recordTypes(chunks: readonly Buffer[]): number[] {
  const bytes = Buffer.concat(chunks);
  const types: number[] = [];
  for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) types.push(bytes[at] as number);
  return types;
}
