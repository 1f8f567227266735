// Conformance of session resumption: off unless asked for, and never a way around what a full handshake would refuse today.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, before, describe } from "node:test";
import type { Runtime, ServerContext } from "../../src/runtime/runtime.ts";
import { createRevocationList, issueCertificate } from "../../src/tls-tools/tls-tools.ts";
import { type CertificateFiles, type TestPki, testPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import { checkRecordings, quiet } from "./peers.ts";
import { accepted, identityOf, openssl, refused, serveTls, type TlsServer, tlsClient } from "./tls-peers.ts";

const VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;
/** Enough for a few handshakes before the end, of which X.509 tells whole seconds only. */
const SHORT_LIFE_MS = 2_500;
type Version = (typeof VERSIONS)[number];

export function tlsSessionConformance(runtime: Runtime): void {
  let pki: TestPki;
  before(async () => {
    pki = await testPki();
  });

  /** Handshakes once, and gives the session that the server handed out, if any. */
  async function sessionOf(
    server: TlsServer,
    certificate: CertificateFiles | undefined,
    version: Version,
  ): Promise<Buffer | null> {
    const index = server.sessions.length;
    let session: Buffer | null = null;
    const client = tlsClient(server.port, { ...(certificate && { certificate }), version, greeting: "first" });
    client.tls.on("session", (given: Buffer) => {
      session = given;
    });
    const first = await server.settled(index);
    if (first.result?.ok === true) {
      assert.equal(first.result.resumed, false);
      first.secured.live.write(Buffer.from("answer"));
      await eventually("the answer arrived", () => client.text === "answer");
    }
    // TLS 1.2 tells of its session before the answer, and TLS 1.3 sends tickets ahead of it.
    await quiet(30);
    client.socket.destroy();
    return session;
  }

  async function resume(server: TlsServer, certificate: CertificateFiles, version: Version, session: Buffer) {
    const index = server.sessions.length;
    const client = tlsClient(server.port, { certificate, version, session, greeting: "second" });
    const settled = await server.settled(index);
    if (settled.result?.ok === true) await eventually("the greeting arrived", () => settled.secured.text === "second");
    else await quiet(30);
    client.socket.destroy();
    return settled;
  }

  describe("session tickets", () => {
    afterEach(checkRecordings);

    for (const version of VERSIONS) {
      const flag = version === "TLSv1.2" ? "-tls1_2" : "-tls1_3";

      test(`off: openssl cannot resume, ${version}`, async () => {
        const context = runtime.serverContext(identityOf(pki));
        const server = serveTls(runtime, () => context);
        const file = join(pki.directory, `off-${version}.session`);
        rmSync(file, { force: true });
        const identity = ["-cert", pki.client.certificatePath, "-key", pki.client.keyPath];
        const target = ["s_client", "-connect", `127.0.0.1:${server.port}`, flag, ...identity];
        await openssl([...target, "-sess_out", file]);
        accepted(await server.settled(0));
        if (existsSync(file)) {
          await openssl([...target, "-sess_in", file]);
          assert.equal(accepted(await server.settled(1)).resumed, false);
        }
        server.close();
      });

      // Also where a platform resumes what nobody has asked it for.
      test(`what openssl has kept of a session opens no door that would be shut to it, ${version}`, async () => {
        const anybody = runtime.serverContext(identityOf(pki, { clientAuth: "none", clientCaPem: [] }));
        const known = runtime.serverContext(identityOf(pki));
        const listed = runtime.serverContext(identityOf(pki, { clientCrlPem: [pki.revocationList.pem] }));
        let context = anybody;
        const server = serveTls(runtime, () => context);
        const file = join(pki.directory, `kept-${version}.session`);
        const target = ["s_client", "-connect", `127.0.0.1:${server.port}`, flag];
        const shown = ["-cert", pki.revoked.certificatePath, "-key", pki.revoked.keyPath];
        for (const [args, first, second] of [
          [[], anybody, known],
          [shown, known, listed],
        ] as const) {
          const before = server.sessions.length;
          rmSync(file, { force: true });
          context = first;
          await openssl([...target, ...args, "-sess_out", file], "hello");
          accepted(await server.settled(before));
          context = second;
          await openssl([...target, ...args, ...(existsSync(file) ? ["-sess_in", file] : [])], "hello");
          assert.equal(refused(await server.settled(before + 1)).failure, "certificate");
        }
        server.close();
      });

      test(`off: a client has no session to resume, or is not resumed, ${version}`, async () => {
        const context = runtime.serverContext(identityOf(pki));
        const server = serveTls(runtime, () => context);
        const session = await sessionOf(server, pki.client, version);
        if (session !== null) assert.equal(accepted(await resume(server, pki.client, version, session)).resumed, false);
        server.close();
      });

      test(`on: resumed, and the certificate is still there, ${version}`, async () => {
        const context = runtime.serverContext(identityOf(pki, { sessionTickets: true }));
        const server = serveTls(runtime, () => context);
        const session = await sessionOf(server, pki.client, version);
        assert(session !== null);
        const full = accepted(await server.settled(0));
        const result = accepted(await resume(server, pki.client, version, session));
        assert.equal(result.resumed, true);
        assert(result.peerCertificate !== null);
        assert.deepEqual(result.peerCertificate, full.peerCertificate);
        server.close();
      });

      test(`a new context makes old sessions void: a client revoked since is refused, ${version}`, async () => {
        let context: ServerContext = runtime.serverContext(identityOf(pki, { sessionTickets: true }));
        const server = serveTls(runtime, () => context);
        const session = await sessionOf(server, pki.revoked, version);
        assert(session !== null);
        const clientCrlPem = [pki.revocationList.pem];
        context = runtime.serverContext(identityOf(pki, { sessionTickets: true, clientCrlPem }));
        const result = refused(await resume(server, pki.revoked, version, session));
        assert.deepEqual([result.failure, result.detail], ["certificate", "CERT_REVOKED"]);
        server.close();
      });

      test(`a session from where no certificate is asked for opens no door where one is, ${version}`, async () => {
        const open = runtime.serverContext(identityOf(pki, { sessionTickets: true, clientAuth: "none" }));
        const strict = runtime.serverContext(identityOf(pki, { sessionTickets: true }));
        let context = open;
        const server = serveTls(runtime, () => context);
        const session = await sessionOf(server, pki.expired, version);
        assert(session !== null);
        context = strict;
        refused(await resume(server, pki.expired, version, session));
        server.close();
      });

      for (const clientAuth of ["required", "optional"] as const) {
        test(`a client that was refused gets no session that lets it in later (${clientAuth}), ${version}`, async () => {
          const context = runtime.serverContext(identityOf(pki, { sessionTickets: true, clientAuth }));
          const server = serveTls(runtime, () => context);
          const session = await sessionOf(server, pki.wrongAuthority, version);
          refused(await server.settled(0));
          if (session !== null) refused(await resume(server, pki.wrongAuthority, version, session));
          server.close();
        });
      }
    }

    test("a client whose certificate has expired since is not let in", { timeout: 20_000 }, async () => {
      const pair = await issueCertificate(pki.authority, {
        commonName: "short-lived",
        usage: "client",
        notBefore: new Date(Date.now() - 3_600_000),
        lifetimeMs: 3_600_000 + SHORT_LIFE_MS,
      });
      const certificate = { ...pair, certificatePath: "", keyPath: "" };
      const expiresMs = Date.parse(new X509Certificate(pair.certificatePem).validTo);
      const context = runtime.serverContext(identityOf(pki, { sessionTickets: true }));
      await expectRefusalAfter(context, certificate, expiresMs, "CERT_HAS_EXPIRED");
    });

    test("a session does not outlive the CRL", { timeout: 20_000 }, async () => {
      const nextUpdate = new Date(Math.floor((Date.now() + SHORT_LIFE_MS) / 1_000) * 1_000);
      const list = await createRevocationList(pki.authority, { revokedSerials: [], nextUpdate });
      const context = runtime.serverContext(identityOf(pki, { sessionTickets: true, clientCrlPem: [list] }));
      await expectRefusalAfter(context, pki.client, nextUpdate.getTime(), "CRL_HAS_EXPIRED");
    });

    /** Resumes before `momentMs` and is let in, and again after it and is refused with `detail`; in each version. */
    async function expectRefusalAfter(
      context: ServerContext,
      certificate: CertificateFiles,
      momentMs: number,
      detail: string,
    ): Promise<void> {
      await Promise.all(
        VERSIONS.map(async (version) => {
          const server = serveTls(runtime, () => context);
          const session = await sessionOf(server, certificate, version);
          accepted(await server.settled(0));
          assert(session !== null);
          assert.equal(accepted(await resume(server, certificate, version, session)).resumed, true);
          await eventually("the moment came", () => Date.now() > momentMs + 50);
          const result = refused(await resume(server, certificate, version, session));
          assert.deepEqual([result.failure, result.detail], ["certificate", detail]);
          server.close();
        }),
      );
    }

    test("an anonymous session where a certificate is optional resumes as anonymous", async () => {
      const context = runtime.serverContext(identityOf(pki, { sessionTickets: true, clientAuth: "optional" }));
      const server = serveTls(runtime, () => context);
      const session = await sessionOf(server, undefined, "TLSv1.3");
      accepted(await server.settled(0));
      assert(session !== null);
      const second = tlsClient(server.port, { session, greeting: "second" });
      const result = accepted(await server.settled(1));
      assert.deepEqual([result.resumed, result.peerCertificate], [true, null]);
      second.socket.destroy();
      server.close();
    });
  });
}
