// Conformance of `transfer` and `unsentBytes`. The test drives `transfer` by itself: the socket that bytes come from is paused, so that
// no byte goes past it by `data`, and resumed only to see how the stream ends.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { afterEach, before, describe } from "node:test";
import type { Runtime, ServerContext, StreamSocket, TransferOutcome } from "../../src/runtime/runtime.ts";
import { type TestPki, testPki } from "../support/certificates.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import {
  checkRecordings,
  connectPeer,
  dialRecorded,
  listenAsPeer,
  orderly,
  type Peer,
  type PeerServer,
  type Recording,
  type Server,
  serve,
} from "./peers.ts";
import { accepted, identityOf, serveTls, tlsClient } from "./tls-peers.ts";

const BULK_BYTES = 48 * 1024 * 1024 + 5;
const LIMIT_BYTES = 1024 * 1024;
const TARGETS = ["plain", "TLS"] as const;

/** Two joined connections: `source` sends to the seam's `from`, and `reader` gets what is written to the seam's `to`. */
interface Joined {
  readonly source: Peer;
  readonly from: Recording;
  readonly to: Recording;
  readonly reader: Peer;
  close(): void;
}

export function transferConformance(runtime: Runtime): void {
  const { transfer } = runtime;
  let pki: TestPki;
  let context: ServerContext;
  before(async () => {
    pki = await testPki();
    context = runtime.serverContext(identityOf(pki));
  });

  async function join(target: (typeof TARGETS)[number]): Promise<Joined> {
    const sources = await listenAsPeer();
    const from = await dialRecorded(runtime, { kind: "tcp", host: "127.0.0.1", port: sources.port });
    from.live.pause();
    const source = await sources.nth(0);
    if (target === "plain") {
      const server = serve(runtime);
      const reader = await connectPeer(server.port);
      return { source, from, to: await server.nth(0), reader, close: closing(sources, server, from, reader) };
    }
    const server = serveTls(runtime, () => context);
    const reader = tlsClient(server.port, { certificate: pki.client });
    const session = await server.settled(0);
    accepted(session);
    return { source, from, to: session.secured, reader, close: closing(sources, server, from, reader) };
  }

  describe("transfer moves what is ready, and gives back what was not taken", { skip: transfer === null }, () => {
    afterEach(checkRecordings);

    for (const target of TARGETS) {
      test(`48 MiB arrive whole at a slow ${target} reader, then the end is seen`, { timeout: 60_000 }, async () => {
        const { source, from, to, reader, close } = await join(target);
        const sent = randomBytes(BULK_BYTES);
        source.socket.end(sent);
        reader.socket.pause();
        const received = readSlowly(reader);
        const mover = new Mover(runtime, from, to);
        await eventually("bytes were refused", () => mover.step() > 0 && mover.rests > 0, 20_000);
        reader.socket.resume();
        await eventually("everything was moved", () => mover.step() === BULK_BYTES, 40_000);
        // The end is no outcome of `transfer`; it is left for the socket to tell.
        assert.deepEqual(mover.call(), { movedBytes: 0, rest: null, broken: "" });
        from.live.resume();
        await eventually("the end was told", () => from.ends === 1);
        assert.equal(from.receivedBytes, 0);
        orderly(runtime, to.live).shutdown();
        await eventually("the reader saw the end", () => reader.ended, 20_000);
        assert.equal(received.hash.digest("hex"), createHash("sha256").update(sent).digest("hex"));
        close();
      });

      test(`to ${target}: nothing is ready: nothing is moved, and nothing is broken`, async () => {
        const { from, to, close } = await join(target);
        assert.deepEqual(new Mover(runtime, from, to).call(), { movedBytes: 0, rest: null, broken: "" });
        close();
      });

      test(`to ${target}: a source that resets is told as broken, once its bytes are moved`, async () => {
        const { source, from, to, reader, close } = await join(target);
        source.socket.write("the last words");
        const mover = new Mover(runtime, from, to);
        await eventually("they were moved", () => mover.step() === 14);
        source.socket.resetAndDestroy();
        await eventually("it was told", () => mover.call().broken === "from");
        await eventually("they arrived", () => reader.text === "the last words");
        close();
      });

      test(`to ${target}: a target that reset gives every byte back, and a write tells that it is broken`, async () => {
        const { source, from, to, reader, close } = await join(target);
        source.socket.write("nobody gets this");
        await eventually("the bytes were sent", () => source.socket.writableLength === 0);
        reader.socket.resetAndDestroy();
        await eventually("the target was found broken", () => {
          const { movedBytes, rest, broken } = new Mover(runtime, from, to).call();
          if (movedBytes === 0 && rest === null && broken === "") return false;
          assert.equal(movedBytes, 0);
          assert.equal(Buffer.from(rest ?? []).toString(), "nobody gets this");
          assert.notEqual(broken, "from");
          assert.equal(to.live.write(rest ?? new Uint8Array(1)), -1);
          return true;
        });
        close();
      });
    }
  });

  describe("unsentBytes counts what the peer has not acknowledged", () => {
    afterEach(checkRecordings);

    test("it grows while the peer does not read, and is 0 once it has read all", async () => {
      const server = serve(runtime);
      const reader = await connectPeer(server.port);
      const { live } = await server.nth(0);
      assert.equal(runtime.unsentBytes(live), 0);
      reader.socket.pause();
      const chunk = new Uint8Array(256 * 1024);
      let written = 0;
      for (let taken = chunk.length; taken === chunk.length; written += taken) taken = live.write(chunk);
      const waiting = runtime.unsentBytes(live);
      assert(waiting > 0 && waiting <= written, `${waiting} of ${written} bytes wait`);
      reader.socket.resume();
      await eventually("all was acknowledged", () => runtime.unsentBytes(live) === 0);
      reader.socket.destroy();
      server.close();
    });
  });
}

/** Calls `transfer` step by step and writes what it gives back before anything else, as the contract asks of its caller. */
class Mover {
  /** Times that the target did not take all. */
  rests = 0;
  readonly #runtime: Runtime;
  readonly #from: StreamSocket<Recording>;
  readonly #to: StreamSocket<Recording>;
  #moved = 0;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(runtime: Runtime, from: Recording, to: Recording) {
    this.#runtime = runtime;
    this.#from = from.live;
    this.#to = to.live;
  }

  call(): TransferOutcome {
    const outcome: TransferOutcome = { movedBytes: -1, rest: new Uint8Array(1), broken: "to" };
    this.#runtime.transfer?.(this.#from, this.#to, LIMIT_BYTES, outcome);
    return outcome;
  }

  /** Bytes that the target has taken so far. */
  step(): number {
    if (this.#rest.length > 0) {
      const taken = this.#to.write(this.#rest);
      assert(taken >= 0, "the target is not broken");
      this.#moved += taken;
      this.#rest = this.#rest.subarray(taken);
    }
    if (this.#rest.length > 0) return this.#moved;
    const { movedBytes, rest, broken } = this.call();
    assert.equal(broken, "");
    this.#moved += movedBytes;
    if (rest !== null) {
      assert(rest.length > 0, "a rest is never empty");
      this.#rest = rest;
      this.rests++;
    }
    return this.#moved;
  }
}

/** Reads with a rest after every few hundred kilobytes, so that the socket's buffers fill up. */
function readSlowly({ socket }: Peer): { readonly hash: ReturnType<typeof createHash> } {
  const hash = createHash("sha256");
  let untilPause = 300_000;
  socket.removeAllListeners("data");
  socket.on("data", (bytes: Buffer) => {
    hash.update(bytes);
    untilPause -= bytes.length;
    if (untilPause > 0) return;
    untilPause = 1_500_000;
    socket.pause();
    setTimeout(() => socket.resume(), 10);
  });
  return { hash };
}

function closing(sources: PeerServer, server: Server, from: Recording, reader: Peer): () => void {
  return () => {
    if (from.closes.length === 0) from.live.terminate();
    reader.socket.destroy();
    sources.close();
    server.close();
  };
}
