// Conformance of TLS sockets as streams: lines 2, 3, 4 and 6 of the contract after `terminateTls`.

import assert from "node:assert/strict";
import { afterEach, before, describe } from "node:test";
import type { Runtime, ServerContext } from "../../src/runtime/runtime.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import { checkRecordings, orderly, type Peer, quiet, type Recording } from "./peers.ts";
import { halfOpenTests } from "./tls-half-open.ts";
import {
  accepted,
  identityOf,
  openWire,
  serveTls,
  type TlsServer,
  tlsClient,
  type Wire,
  type WireLink,
} from "./tls-peers.ts";

const VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;
/** Handshakes at the same time in the test that cuts a hello at every byte. */
const PARALLEL_CUTS = 32;
type Client = ReturnType<typeof tlsClient>;
/** Length of an encrypted close_notify (AES-GCM), record header included. */
const CLOSE_NOTIFY_BYTES = { "TLSv1.2": 5 + 8 + 2 + 16, "TLSv1.3": 5 + 2 + 1 + 16 } as const;

/** A secured connection over a wire: the client, the seam's end, and what is between. */
interface Secured {
  readonly server: TlsServer;
  readonly wire: Wire;
  readonly link: WireLink;
  readonly client: Peer;
  readonly secured: Recording;
  close(): void;
}

export function tlsStreamConformance(runtime: Runtime): void {
  let pki: TestPki;
  let context: ServerContext;
  before(async () => {
    pki = await testPki();
    context = runtime.serverContext(identityOf(pki));
  });

  async function secure(version: (typeof VERSIONS)[number]): Promise<Secured> {
    const server = serveTls(runtime, () => context);
    const wire = await openWire(server.port);
    const client = tlsClient(wire.port, { certificate: pki.client, version, greeting: "hello" });
    const session = await server.settled(0);
    accepted(session);
    const { secured } = session;
    await eventually("the greeting arrived", () => secured.text === "hello");
    const close = (): void => {
      wire.close();
      client.socket.destroy();
      server.close();
    };
    return { server, wire, link: wire.links[0] as WireLink, client, secured, close };
  }

  describe("4. peeked bytes are delivered again", () => {
    afterEach(checkRecordings);

    for (const version of VERSIONS) {
      test(`a ${version} hello cut in two at every byte, the first part peeked`, { timeout: 60_000 }, async () => {
        const helloBytes = await cutHello(version, 1);
        assert(helloBytes > 100);
        for (let cut = 2; cut < helloBytes; cut += PARALLEL_CUTS) {
          const cuts = Array.from({ length: Math.min(PARALLEL_CUTS, helloBytes - cut) }, (_, index) => cut + index);
          await Promise.all(cuts.map((at) => cutHello(version, at)));
        }
      });
    }

    /** Peeks `cut` bytes of a hello and gives the rest to the upgraded socket. Returns the length of the hello. */
    async function cutHello(version: (typeof VERSIONS)[number], cut: number): Promise<number> {
      const server = serveTls(runtime, () => context, { peekBytes: cut });
      const wire = await openWire(server.port, true);
      const { client, link } = await sayHello(wire, version);
      const hello = link.heldBytes;
      link.held = null;
      // Some clients' hellos are not always of one length.
      if (cut < hello.length) {
        link.server.write(hello.subarray(0, cut));
        await eventually("the upgrade began", () => server.sessions.length === 1);
        link.server.write(hello.subarray(cut));
        const session = await server.settled(0);
        assert.equal(accepted(session).version, version);
        await eventually(`the greeting arrived (cut at ${cut})`, () => session.secured.text === "hello");
      }
      client.socket.destroy();
      wire.close();
      server.close();
      return hello.length;
    }

    /** A client that has sent its hello. Of many at once, not every runtime's begins each time: it is the client that has to try again then. */
    async function sayHello(
      wire: Wire,
      version: (typeof VERSIONS)[number],
      attempts = 3,
    ): Promise<{ client: Client; link: WireLink }> {
      const client = tlsClient(wire.port, { certificate: pki.client, version, greeting: "hello" });
      const hasSaid = (link: WireLink): boolean =>
        link.client.remotePort === client.socket.localPort && link.heldBytes.length > 0;
      try {
        const link = await eventually("the client sent its hello", () => wire.links.find(hasSaid), 2_000);
        return { client, link };
      } catch (thrown) {
        client.socket.destroy();
        if (attempts === 1) throw thrown;
        return await sayHello(wire, version, attempts - 1);
      }
    }

    test("a hello that trickles in byte by byte, of which only the first byte was peeked", async () => {
      const server = serveTls(runtime, () => context);
      const wire = await openWire(server.port, true);
      const client = tlsClient(wire.port, { certificate: pki.client, greeting: "hello" });
      await eventually("the client sent its hello", () => wire.links[0]?.held?.length === 1);
      const link = wire.links[0] as WireLink;
      const hello = link.heldBytes;
      link.held = null;
      link.server.setNoDelay(true);
      for (const byte of hello) {
        link.server.write(Uint8Array.of(byte));
        await new Promise((resolve) => setImmediate(resolve));
      }
      const session = await server.settled(0);
      accepted(session);
      await eventually("the greeting arrived", () => session.secured.text === "hello");
      client.socket.destroy();
      wire.close();
      server.close();
    });

    test("TLS 1.3 application data glued to the client's Finished reaches data after the verdict", async () => {
      const server = serveTls(runtime, () => context);
      const wire = await openWire(server.port, true);
      const client = tlsClient(wire.port, { certificate: pki.client, version: "TLSv1.3", greeting: "glued" });
      await eventually("the client sent its hello", () => (wire.links[0]?.heldBytes.length ?? 0) > 0);
      const link = wire.links[0] as WireLink;
      link.releaseHeld();
      await eventually("the client answered", () => link.heldBytes.length > 0);
      // Finished and greeting are held together once no more comes.
      for (let before = -1; before !== link.heldBytes.length; await quiet(30)) before = link.heldBytes.length;
      assert.equal(server.sessions[0]?.result, null);
      link.releaseHeld();
      link.held = null;
      const session = await server.settled(0);
      accepted(session);
      await eventually("the greeting arrived", () => session.secured.text === "glued");
      client.socket.destroy();
      wire.close();
      server.close();
    });

    test("a whole TLS 1.2 exchange in single bytes", async () => {
      const server = serveTls(runtime, () => context);
      const wire = await openWire(server.port, true);
      const client = tlsClient(wire.port, { certificate: pki.client, version: "TLSv1.2", greeting: "hello" });
      await eventually("the client connected", () => wire.links.length === 1);
      const link = wire.links[0] as WireLink;
      link.server.setNoDelay(true);
      const trickle = setInterval(() => {
        for (const byte of link.heldBytes) link.server.write(Uint8Array.of(byte));
        link.held = [];
      }, 1);
      const session = await server.settled(0);
      accepted(session);
      await eventually("the greeting arrived", () => session.secured.text === "hello");
      clearInterval(trickle);
      client.socket.destroy();
      wire.close();
      server.close();
    });
  });

  for (const version of VERSIONS) {
    describe(`2 and 3 on ${version}: counted writes and half-open streams`, () => {
      halfOpenTests(runtime, async () => {
        const { client, link, secured, close } = await secure(version);
        return { secured, peer: client, wire: link.server, close };
      });
    });

    describe(`6 on ${version}: FIN, RST and a stream without close_notify are told apart`, () => {
      afterEach(checkRecordings);

      test("RST is reset, also while paused", async () => {
        for (const paused of [false, true]) {
          const { link, secured, close } = await secure(version);
          if (paused) secured.live.pause();
          link.hold();
          link.server.resetAndDestroy();
          await eventually("it closed", () => secured.closes.length === 1);
          assert.deepEqual([secured.closes, secured.ends], [["reset"], 0]);
          close();
        }
      });

      test("terminate gives the peer a reset, and us one clean close", async () => {
        const { link, secured, close } = await secure(version);
        let errorCode = "";
        link.server.on("error", (error: Error & { code?: string }) => {
          errorCode = error.code ?? "";
        });
        secured.live.terminate();
        await eventually("both saw it", () => errorCode !== "" && secured.closes.length === 1);
        assert.equal(errorCode, "ECONNRESET");
        assert.deepEqual(secured.closes, ["clean"]);
        assert.equal(secured.live.write(Buffer.from("late")), -1);
        secured.live.terminate();
        close();
      });

      test("terminate after our shutdown is one clean close too", async () => {
        const { secured, close } = await secure(version);
        orderly(runtime, secured.live).shutdown();
        secured.live.terminate();
        await eventually("it closed", () => secured.closes.length === 1);
        assert.deepEqual(secured.closes, ["clean"]);
        close();
      });

      test("a bare FIN is truncated, never an end, and the peer is aborted", async () => {
        const { link, secured, close } = await secure(version);
        link.hold();
        link.server.end();
        await eventually("it closed", () => secured.closes.length === 1);
        assert.deepEqual([secured.closes, secured.ends], [["truncated"], 0]);
        close();
      });

      test("a bare FIN that was waiting while we were paused is truncated after resume", async () => {
        const { link, client, secured, close } = await secure(version);
        secured.live.pause();
        const chunks = link.sent.length;
        client.socket.write("more");
        await eventually("the client wrote", () => link.sent.length > chunks);
        await quiet(20);
        link.hold();
        link.server.end();
        await quiet(20);
        secured.live.resume();
        await eventually("it closed", () => secured.closes.length === 1);
        assert.deepEqual([secured.closes, secured.ends, secured.text], [["truncated"], 0, "hellomore"]);
        close();
      });

      test("a bare FIN after our own shutdown is truncated", async () => {
        const { link, client, secured, close } = await secure(version);
        orderly(runtime, secured.live).shutdown();
        await eventually("the client saw the end", () => client.ended);
        client.socket.write("half an answer");
        await eventually("it arrived", () => secured.text === "hellohalf an answer");
        link.hold();
        link.server.end();
        await eventually("it closed", () => secured.closes.length === 1);
        assert.deepEqual([secured.closes, secured.ends], [["truncated"], 0]);
        close();
      });

      for (const [name, bytesKept] of [
        ["in the middle of a record", -20],
        ["in the middle of a record header", 3],
      ] as const) {
        test(`a FIN ${name} is truncated`, async () => {
          const { link, client, secured, close } = await secure(version);
          link.hold();
          client.socket.write(Buffer.alloc(5_000, "x"));
          await eventually("the client wrote", () => link.heldBytes.length > 5_000);
          link.server.end(link.heldBytes.subarray(0, bytesKept));
          await eventually("it closed", () => secured.closes.length === 1);
          assert.deepEqual([secured.closes, secured.ends], [["truncated"], 0]);
          close();
        });
      }

      test("a FIN in the middle of the close_notify is truncated", async () => {
        const { link, client, secured, close } = await secure(version);
        link.hold();
        client.socket.end();
        await eventually("the client said close_notify", () => link.heldBytes.length > 0);
        link.server.end(link.heldBytes.subarray(0, -1));
        await eventually("it closed", () => secured.closes.length === 1);
        assert.deepEqual([secured.closes, secured.ends], [["truncated"], 0]);
        close();
      });

      for (const afterShutdown of [false, true]) {
        const when = afterShutdown ? " after our own shutdown" : "";
        for (const [name, type] of [
          ["an alert", 21],
          ["application data", 23],
        ] as const) {
          test(`a forged record that looks like ${name} and then a FIN${when} is not clean`, async () => {
            const { link, client, secured, close } = await secure(version);
            if (afterShutdown) {
              orderly(runtime, secured.live).shutdown();
              await eventually("the client saw the end", () => client.ended);
            }
            link.hold();
            const length = CLOSE_NOTIFY_BYTES[version] - 5;
            link.server.end(Buffer.concat([Uint8Array.of(type, 3, 3, 0, length), Buffer.alloc(length, 0x5a)]));
            await eventually("it closed", () => secured.closes.length === 1);
            assert.notEqual(secured.closes[0], "clean");
            assert.equal(secured.ends, 0);
            close();
          });
        }
      }

      test("a forged plaintext close_notify and a FIN are not clean", async () => {
        const { link, secured, close } = await secure(version);
        link.hold();
        link.server.end(Uint8Array.of(21, 3, 3, 0, 2, 1, 0));
        await eventually("it closed", () => secured.closes.length === 1);
        assert.notEqual(secured.closes[0], "clean");
        assert.equal(secured.ends, 0);
        close();
      });
    });
  }
}
