// 10. HTTP over TLS: nobody is answered who does not show what is asked for, whatever the environment says, and nothing is sent to whoever is not meant.

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import net from "node:net";
import { after, afterEach, before, describe } from "node:test";
import tls from "node:tls";
import type { FetchHttpOptions, HttpServer, HttpServerTls } from "../../src/runtime/http.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { test } from "./lines.ts";

const ANYWHERE = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;

/** Registers the tests of `Http` with TLS. */
export function httpsConformance({ http }: Runtime): void {
  describe("10. http over TLS", () => {
    let pki: TestPki;
    const servers: HttpServer[] = [];
    /** Requests that were answered. */
    const answered: string[] = [];
    const environment = process.env.NODE_TLS_REJECT_UNAUTHORIZED;

    before(async () => {
      pki = await testPki();
    });
    afterEach(async () => {
      for (const server of servers.splice(0)) await server.close(0);
      answered.splice(0);
    });
    after(() => {
      if (environment === undefined) delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
      else process.env.NODE_TLS_REJECT_UNAUTHORIZED = environment;
    });

    const shown = (): HttpServerTls => ({
      chainPem: pki.server.certificatePem,
      keyPem: pki.server.keyPem,
      clientCaPem: [],
    });
    const demanding = (): HttpServerTls => ({ ...shown(), clientCaPem: [pki.authority.certificatePem] });
    const serve = (options: HttpServerTls): number => {
      const handle = (request: Request): Response => {
        answered.push(request.headers.get("x-who") ?? "");
        return new Response("answer");
      };
      const server = http.serve({ address: ANYWHERE, maxBodyBytes: 1000, handle, tls: options });
      servers.push(server);
      assert(server.address.kind === "tcp");
      return server.address.port;
    };
    /** Speaks as fast as it can, and believes everybody; what came back. */
    const speak = (port: number, who: string, options: tls.ConnectionOptions = {}): Promise<string> => {
      const { promise, resolve } = Promise.withResolvers<string>();
      const socket = tls.connect({ host: "127.0.0.1", port, rejectUnauthorized: false, ...options });
      let text = "";
      socket.write(`GET / HTTP/1.1\r\nHost: localhost\r\nX-Who: ${who}\r\nConnection: close\r\n\r\n`);
      socket.on("data", (bytes: Buffer) => {
        text += bytes.toString();
      });
      socket.on("error", () => {});
      socket.on("close", () => resolve(text));
      setTimeout(() => socket.destroy(), 2000).unref();
      return promise;
    };
    const pair = ({ certificatePem: cert, keyPem: key }: { certificatePem: string; keyPem: string }) => ({ cert, key });

    for (const setting of ["", "NODE_TLS_REJECT_UNAUTHORIZED=0"])
      test(`only who shows a certificate that is vouched for is answered ${setting}`, { timeout: 20_000 }, async () => {
        if (setting !== "") process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
        const port = serve(demanding());
        const strangers = [pki.wrongAuthority, pki.expired, pki.notYetValid, pki.withoutIntermediate, pki.server];
        for (const maxVersion of ["TLSv1.3", "TLSv1.2"] as const) {
          assert.equal(await speak(port, "nobody", { maxVersion }), "");
          for (const stranger of strangers)
            assert.equal(await speak(port, "stranger", { ...pair(stranger), maxVersion }), "");
          assert.match(await speak(port, "client", { ...pair(pki.client), maxVersion }), /^HTTP\/1.1 200 .*answer$/s);
        }
        assert.deepEqual(answered, ["client", "client"]);
        delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
      });

    test("no session can be resumed", async () => {
      const port = serve(demanding());
      const sessions: Buffer[] = [];
      for (let round = 0; round < 2; round++) {
        const socket = tls.connect({
          ...{ host: "127.0.0.1", port, rejectUnauthorized: false, ...pair(pki.client) },
          ...(sessions[0] && { session: sessions[0] }),
        });
        socket.on("session", (session: Buffer) => sessions.push(session));
        socket.on("error", () => {});
        socket.resume().write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        await new Promise((resolve) => socket.on("end", resolve));
        assert.deepEqual([sessions.length, socket.isSessionReused()], [0, false]);
        socket.destroy();
      }
    });

    test("versions before 1.2, and plain HTTP, are not answered", async () => {
      const port = serve(shown());
      assert.equal(await speak(port, "old", { minVersion: "TLSv1", maxVersion: "TLSv1.1" }), "");
      const plain = net.connect(port, "127.0.0.1");
      plain.write("GET / HTTP/1.1\r\nHost: localhost\r\nX-Who: plain\r\n\r\n");
      plain.on("error", () => {});
      let text = "";
      plain.on("data", (bytes) => {
        text += bytes.toString("latin1");
      });
      await new Promise((resolve) => {
        plain.on("close", resolve);
        setTimeout(resolve, 500);
      });
      plain.destroy();
      assert.doesNotMatch(text, /200|answer/);
      assert.match(await speak(port, "anybody"), /^HTTP\/1.1 200 /);
      assert.deepEqual(answered, ["anybody"]);
    });

    test("material that would serve in another way than it reads is refused", () => {
      const bad = (options: HttpServerTls): void => assert.throws(() => serve(options), { code: "BAD_TLS_MATERIAL" });
      bad({ ...shown(), keyPem: "" });
      bad({ ...shown(), chainPem: "" });
      bad({ ...shown(), keyPem: pki.client.keyPem });
      bad({ ...shown(), clientCaPem: [""] });
      bad({ ...shown(), clientCaPem: [pki.authority.certificatePem + pki.otherAuthority.certificatePem] });
      const path = "/nowhere/at/all.sock";
      assert.throws(
        () =>
          http.serve({ address: { kind: "unix", path }, maxBodyBytes: 0, handle: () => new Response(), tls: shown() }),
        {
          code: "EINVAL",
        },
      );
    });

    test("a fetch sends nothing to a server with another certificate", async () => {
      const asked = (port: number, certificate: string, who: string): FetchHttpOptions => ({
        address: { ...ANYWHERE, port },
        method: "GET",
        path: "/",
        headers: { "X-Who": who },
        timeoutMs: 5000,
        tls: {
          serverCertificate: new Uint8Array(new X509Certificate(certificate).raw),
          chainPem: pki.client.certificatePem,
          keyPem: pki.client.keyPem,
        },
      });
      const port = serve(demanding());
      // Of the same authority, for the same names.
      await assert.rejects(http.fetch(asked(port, pki.databaseServer.certificatePem, "secret")), { code: "EBADPEER" });
      assert.deepEqual(answered, []);
      const answer = await http.fetch(asked(port, pki.server.certificatePem, "known"));
      assert.deepEqual([answer.status, answer.body, answered], [200, "answer", ["known"]]);
      const open = serve(shown());
      const without = { ...asked(open, pki.server.certificatePem, "again") };
      const { status } = await http.fetch({
        ...without,
        tls: {
          serverCertificate: new Uint8Array(new X509Certificate(pki.server.certificatePem).raw),
          chainPem: "",
          keyPem: "",
        },
      });
      assert.equal(status, 200);
    });
  });
}
