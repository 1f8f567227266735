// Conformance of originated TLS sockets as streams: lines 2, 3 and 6 of the contract after `originateTls`. What the two directions share is tested
// in every corner by tls-streams.ts; here is what could differ: who dialled, and how the twin of a dialled socket follows the ciphertext.

import assert from "node:assert/strict";
import { afterEach, before, describe } from "node:test";
import type { ClientContext, Runtime, TransferOutcome } from "../../src/runtime/runtime.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import {
  listenTls,
  loopback,
  opensslServer,
  originate,
  originIdentity,
  type ServerSide,
  type Version,
} from "./origination-peers.ts";
import { checkRecordings, dialRecorded, listenAsPeer, orderly, quiet, type Recording } from "./peers.ts";
import { halfOpenTests } from "./tls-half-open.ts";
import { accepted, openWire, type WireLink } from "./tls-peers.ts";

const VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;
/** Length of an encrypted close_notify (AES-GCM) without its record header. */
const CLOSE_NOTIFY_BYTES = { "TLSv1.2": 8 + 2 + 16, "TLSv1.3": 2 + 1 + 16 } as const;

/** An originated connection over a wire: the seam's end, the server, and what is between. */
interface Secured {
  readonly secured: Recording;
  readonly server: ServerSide;
  readonly link: WireLink;
  close(): void;
}

export function originationStreamConformance(runtime: Runtime): void {
  const { transfer } = runtime;
  let pki: TestPki;
  let context: ClientContext;
  before(async () => {
    pki = await testPki();
    context = runtime.clientContext(originIdentity(pki));
  });

  async function secure(version: Version): Promise<Secured> {
    const listener = await listenTls(pki.server, { version, greeting: "hello" });
    const wire = await openWire(listener.port);
    const session = await originate(runtime, { address: loopback(wire.port), context });
    accepted(session);
    const { secured } = session;
    await eventually("the greeting arrived", () => secured.text === "hello");
    const close = (): void => {
      if (secured.closes.length === 0) secured.live.terminate();
      wire.close();
      listener.close();
    };
    return { secured, server: await listener.nth(0), link: wire.links[0] as WireLink, close };
  }

  /** From now on the wire keeps what the server sends. */
  function holdServer(link: WireLink): Buffer[] {
    const held: Buffer[] = [];
    link.server.removeAllListeners("data");
    link.server.removeAllListeners("end");
    link.server.on("data", (bytes: Buffer) => held.push(bytes));
    return held;
  }

  for (const version of VERSIONS) {
    describe(`2 and 3 on an originated ${version} socket: counted writes and half-open streams`, () => {
      halfOpenTests(runtime, async () => {
        const { server, link, secured, close } = await secure(version);
        return { secured, peer: server, wire: link.client, close };
      });

      test("what the server sends glued to the end of its handshake reaches data", async () => {
        const listener = await listenTls(pki.server, { version, greeting: "glued" });
        const wire = await openWire(listener.port, true);
        const originated = originate(runtime, { address: loopback(wire.port), context });
        await eventually("our hello was sent", () => (wire.links[0]?.heldBytes.length ?? 0) > 0);
        const link = wire.links[0] as WireLink;
        const held = holdServer(link);
        link.releaseHeld();
        link.held = null;
        // What the server has sent is let through in one piece once no more comes.
        const waves = setInterval(() => {
          if (held.length > 0) link.client.write(Buffer.concat(held.splice(0)));
        }, 30);
        const session = await originated;
        accepted(session);
        await eventually("the greeting arrived", () => session.secured.text === "glued");
        clearInterval(waves);
        session.secured.live.terminate();
        wire.close();
        listener.close();
      });
    });

    describe(`6 on an originated ${version} socket: FIN, RST and a stream without close_notify are told apart`, () => {
      afterEach(checkRecordings);

      test("RST is reset, also while paused", async () => {
        for (const paused of [false, true]) {
          const { link, secured, close } = await secure(version);
          if (paused) secured.live.pause();
          link.client.resetAndDestroy();
          await eventually("it closed", () => secured.closes.length === 1);
          assert.deepEqual([secured.closes, secured.ends], [["reset"], 0]);
          close();
        }
      });

      test("terminate gives the server a reset, and us one clean close", async () => {
        const { link, secured, close } = await secure(version);
        let errorCode = "";
        link.client.on("error", (error: Error & { code?: string }) => {
          errorCode = error.code ?? "";
        });
        secured.live.terminate();
        await eventually("both saw it", () => errorCode !== "" && secured.closes.length === 1);
        assert.equal(errorCode, "ECONNRESET");
        assert.deepEqual(secured.closes, ["clean"]);
        assert.equal(secured.live.write(Buffer.from("late")), -1);
        close();
      });

      for (const [name, afterShutdown] of [
        ["a bare FIN", false],
        ["a bare FIN after our own shutdown", true],
      ] as const) {
        test(`${name} is truncated, never an end`, async () => {
          const { link, server, secured, close } = await secure(version);
          if (afterShutdown) {
            orderly(runtime, secured.live).shutdown();
            await eventually("the server saw the end", () => server.ended);
          }
          server.socket.write("half an answer");
          await eventually("it arrived", () => secured.text === "hellohalf an answer");
          holdServer(link);
          link.client.end();
          await eventually("it closed", () => secured.closes.length === 1);
          assert.deepEqual([secured.closes, secured.ends], [["truncated"], 0]);
          close();
        });
      }

      for (const [name, bytesKept] of [
        ["in the middle of a record", -20],
        ["in the middle of a record header", 3],
      ] as const) {
        test(`a FIN ${name} is truncated`, async () => {
          const { link, server, secured, close } = await secure(version);
          const held = holdServer(link);
          server.socket.write(Buffer.alloc(5_000, "x"));
          await eventually("the server wrote", () => Buffer.concat(held).length > 5_000);
          link.client.end(Buffer.concat(held).subarray(0, bytesKept));
          await eventually("it closed", () => secured.closes.length === 1);
          assert.deepEqual([secured.closes, secured.ends], [["truncated"], 0]);
          close();
        });
      }

      for (const [name, type] of [
        ["an alert", 21],
        ["application data", 23],
      ] as const) {
        test(`a forged record that looks like ${name} and then a FIN is not clean`, async () => {
          const { link, secured, close } = await secure(version);
          holdServer(link);
          const length = CLOSE_NOTIFY_BYTES[version];
          link.client.end(Buffer.concat([Uint8Array.of(type, 3, 3, 0, length), Buffer.alloc(length, 0x5a)]));
          await eventually("it closed", () => secured.closes.length === 1);
          assert.notEqual(secured.closes[0], "clean");
          assert.equal(secured.ends, 0);
          close();
        });
      }
    });
  }

  describe("6 on an originated socket: what a server says after the handshake", () => {
    afterEach(checkRecordings);

    test("a TLS 1.3 server that refuses our certificate, which it can do only now, is a reset and no end", async () => {
      const stranger = ["-tls1_3", "-verify_return_error", "-CAfile", pki.otherAuthority.certificatePath];
      const server = await opensslServer(pki.server, stranger);
      const session = await originate(runtime, { address: loopback(server.port), context });
      accepted(session);
      const { secured } = session;
      await eventually("it closed", () => secured.closes.length === 1);
      assert.deepEqual([secured.closes, secured.ends, secured.receivedBytes], [["reset"], 0, 0]);
      await server.close();
    });

    test("a TLS 1.2 server may not begin a handshake anew: whom we talk to has been judged", async () => {
      const server = await opensslServer(pki.server, ["-tls1_2", "-CAfile", pki.authority.certificatePath]);
      const session = await originate(runtime, { address: loopback(server.port), context });
      accepted(session);
      const { secured } = session;
      server.write("r\n");
      await eventually("it closed", () => secured.closes.length === 1);
      assert.deepEqual([secured.closes, secured.ends, secured.receivedBytes], [["reset"], 0, 0]);
      // Not asked for anew, it has not been told a second hello either.
      assert.equal(server.output.match(/<<< .*ClientHello/g)?.length, 1);
      await server.close();
    });
  });

  describe("transfer to an originated socket", { skip: transfer === null }, () => {
    afterEach(checkRecordings);
    const outcome: TransferOutcome = { movedBytes: 0, rest: null, broken: "" };
    const text = "must not go over the wire as it is";

    test("is encrypted like any other write, and from one it is refused", async () => {
      assert(transfer !== null);
      const { server, link, secured, close } = await secure("TLSv1.3");
      const sources = await listenAsPeer((peer) => void peer.socket.write(text));
      const from = await dialRecorded(runtime, loopback(sources.port));
      from.live.pause();
      for (let moved = 0; moved + from.receivedBytes < text.length; await quiet(1)) {
        transfer(from.live, secured.live, 1_000_000, outcome);
        moved += outcome.movedBytes;
        if (from.receivedBytes > 0) secured.live.write(Buffer.from(from.text));
      }
      await eventually("the server has it", () => server.text === text);
      assert(!Buffer.concat(link.sent).includes(text));
      assert.throws(() => transfer(secured.live, from.live, 1_000_000, outcome));
      from.live.terminate();
      sources.close();
      close();
    });
  });
}
