// What holds for a secured socket as a stream whichever side has dialled: lines 2 and 3 of the contract, in both directions of TLS.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type net from "node:net";
import { afterEach } from "node:test";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import { checkRecordings, orderly, type Peer, quiet, type Recording } from "./peers.ts";
import { SlowReader, writeBulk } from "./streams.ts";

const BULK_BYTES = 32 * 1024 * 1024 + 7;

/** A secured connection whose peer has said `hello`. */
export interface SecuredPair {
  readonly secured: Recording;
  readonly peer: Peer;
  /** The end of the wire between them that the runtime's socket is connected to. */
  readonly wire: net.Socket;
  close(): void;
}

/** Registers the tests; `secure` makes a new connection for each. */
export function halfOpenTests(runtime: Runtime, secure: () => Promise<SecuredPair>): void {
  afterEach(checkRecordings);

  test("32 MiB out of the seam arrive whole, with backpressure", { timeout: 60_000 }, async () => {
    const { peer, wire, secured, close } = await secure();
    peer.socket.removeAllListeners("data");
    // The wire, since not every runtime's TLS peer may be paused.
    const reader = new SlowReader(() => wire);
    peer.socket.on("data", (bytes: Buffer) => reader.take(bytes));
    const { sha256, shortWrites } = await writeBulk(runtime, secured, BULK_BYTES);
    await eventually("the peer saw the end", () => peer.ended, 30_000);
    assert.equal(reader.receivedBytes, BULK_BYTES);
    assert.equal(reader.sha256(), sha256);
    assert(shortWrites > 0, "backpressure was felt");
    close();
  });

  test("32 MiB into the seam, which pauses now and then, arrive whole", { timeout: 60_000 }, async () => {
    const { peer, secured, close } = await secure();
    const reader = new SlowReader(() => secured.live);
    secured.onData = (bytes) => reader.take(bytes);
    const block = Buffer.alloc(1_048_576, Buffer.from(Array.from({ length: 251 }, (_, index) => index)));
    const sent = createHash("sha256");
    for (let round = 0; round < 32; round++) {
      sent.update(block);
      if (!peer.socket.write(block)) await new Promise((resolve) => peer.socket.once("drain", resolve));
    }
    peer.socket.end();
    await eventually("the end arrived", () => secured.ends === 1, 30_000);
    assert.equal(secured.receivedBytes, 5 + 32 * block.length);
    assert.equal(reader.sha256(), sent.digest("hex"));
    close();
  });

  test("after the peer's close_notify and FIN we still write, megabytes of it", async () => {
    const { peer, secured, close } = await secure();
    peer.socket.end("request");
    await eventually("the end arrived", () => secured.ends === 1);
    assert.equal(secured.text, "hellorequest");
    await quiet(20);
    assert.deepEqual(secured.closes, []);
    await writeBulk(runtime, secured, 4_000_000);
    await eventually("the peer heard it all", () => Buffer.concat(peer.chunks).length === 4_000_000);
    await eventually("it closed", () => secured.closes.length === 1);
    assert.deepEqual(secured.closes, ["clean"]);
    close();
  });

  test("after our shutdown we still read, and the close is clean", async () => {
    const { peer, secured, close } = await secure();
    orderly(runtime, secured.live).shutdown();
    await eventually("the peer saw the end", () => peer.ended);
    assert.equal(secured.live.write(Buffer.from("late")), -1);
    peer.socket.end(Buffer.alloc(1_000_000, "b"));
    await eventually("it closed", () => secured.closes.length === 1);
    assert.equal(secured.receivedBytes, 5 + 1_000_000);
    assert.deepEqual(secured.closes, ["clean"]);
    close();
  });

  test("pause stops data and end, resume continues", async () => {
    const { peer, secured, close } = await secure();
    secured.live.pause();
    peer.socket.end("waits");
    await quiet(100);
    assert.deepEqual([secured.text, secured.ends, secured.closes], ["hello", 0, []]);
    secured.live.resume();
    await eventually("the end arrived", () => secured.ends === 1);
    assert.equal(secured.text, "hellowaits");
    close();
  });
}
