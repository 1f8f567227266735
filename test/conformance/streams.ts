// Conformance, lines 1 to 3 of the contract: shared handlers, counted writes with backpressure, half-open streams, pause and resume.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterEach, describe } from "node:test";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import {
  checkRecordings,
  connectPeer,
  dialRecorded,
  listenAsPeer,
  newRecording,
  orderly,
  Pattern,
  quiet,
  type Recording,
  serve,
} from "./peers.ts";

const BULK_BYTES = 64 * 1024 * 1024 + 7;

/** Takes in what comes, and pauses its source for a moment after 1 MB and then every 5 MB. */
export class SlowReader {
  receivedBytes = 0;
  readonly #source: () => { pause(): void; resume(): void };
  readonly #hash = createHash("sha256");
  #nextPause = 1_000_000;

  constructor(source: () => { pause(): void; resume(): void }) {
    this.#source = source;
  }

  take(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.receivedBytes += bytes.length;
    if (this.receivedBytes < this.#nextPause) return;
    this.#nextPause += 5_000_000;
    this.#source().pause();
    setTimeout(() => this.#source().resume(), 2);
  }

  /** Of all of it; to be asked once. */
  sha256(): string {
    return this.#hash.digest("hex");
  }
}

/** Writes `total` bytes as fast as the socket takes them, then shuts down; resolves to their SHA-256. */
export function writeBulk(
  runtime: Runtime,
  recording: Recording,
  total: number,
): Promise<{ sha256: string; shortWrites: number }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ sha256: string; shortWrites: number }>();
  const hash = createHash("sha256");
  const pattern = new Pattern();
  let left = total;
  let shortWrites = 0;
  const pump = (): void => {
    while (left > 0) {
      const chunk = pattern.peek(left);
      const taken = recording.live.write(chunk);
      if (taken < 0 || taken > chunk.length) {
        reject(new Error(`write returned ${taken}`));
        return;
      }
      hash.update(chunk.subarray(0, taken));
      pattern.advance(taken);
      left -= taken;
      if (taken < chunk.length) {
        shortWrites++;
        return;
      }
    }
    recording.onDrain = null;
    orderly(runtime, recording.live).shutdown();
    resolve({ sha256: hash.digest("hex"), shortWrites });
  };
  recording.onDrain = pump;
  pump();
  return promise;
}

export function streamConformance(runtime: Runtime): void {
  describe("1. handlers are shared; what belongs to one socket hangs on socket.data", () => {
    afterEach(checkRecordings);

    test("one handler object serves many accepted and dialled sockets without mixing them up", async () => {
      const server = serve(runtime);
      const dialled = await Promise.all(
        Array.from({ length: 50 }, () => dialRecorded(runtime, { kind: "tcp", host: "127.0.0.1", port: server.port })),
      );
      for (const [index, recording] of dialled.entries()) {
        assert.equal(recording.live.data, recording);
        recording.live.write(Buffer.from(`from ${index}`));
        orderly(runtime, recording.live).shutdown();
      }
      await server.nth(49);
      await eventually("every socket ended", () => server.accepted.every((recording) => recording.ends === 1));
      const texts = server.accepted.map((recording) => recording.text);
      assert.deepEqual(new Set(texts), new Set(dialled.map((_, index) => `from ${index}`)));
      for (const recording of server.accepted) {
        recording.live.write(Buffer.from(recording.text.replace("from", "to")));
        orderly(runtime, recording.live).shutdown();
      }
      await eventually("every dialled socket closed", () =>
        dialled.every((recording) => recording.closes.length === 1),
      );
      for (const [index, recording] of dialled.entries()) assert.equal(recording.text, `to ${index}`);
      server.close();
    });

    test("addresses of both ends are true on an accepted socket", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      const { live } = await server.nth(0);
      assert.equal(live.remoteAddress, "127.0.0.1");
      assert.equal(live.remotePort, peer.socket.localPort);
      assert.equal(live.localAddress, "127.0.0.1");
      assert.equal(live.localPort, server.port);
      peer.socket.destroy();
      server.close();
    });
  });

  describe("2. write returns the count taken; the rest is the caller's and a drain follows", () => {
    afterEach(checkRecordings);

    test("64 MiB out of an accepted socket arrive whole at a peer that reads slowly", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      peer.socket.removeAllListeners("data");
      const reader = new SlowReader(() => peer.socket);
      peer.socket.on("data", (bytes: Buffer) => reader.take(bytes));
      const { sha256, shortWrites } = await writeBulk(runtime, await server.nth(0), BULK_BYTES);
      await eventually("the peer saw the end", () => peer.ended, 20_000);
      assert.equal(reader.receivedBytes, BULK_BYTES);
      assert.equal(reader.sha256(), sha256);
      assert(shortWrites > 0, "backpressure was felt");
      peer.socket.end();
      server.close();
    });

    test("64 MiB out of a dialled socket into an accepted one that pauses now and then arrive whole", async () => {
      const readers: SlowReader[] = [];
      const server = serve(runtime, {
        onAccept(recording) {
          const reader = new SlowReader(() => recording.live);
          readers.push(reader);
          recording.onData = (bytes) => reader.take(bytes);
        },
      });
      const dialled = await dialRecorded(runtime, { kind: "tcp", host: "127.0.0.1", port: server.port });
      const { sha256, shortWrites } = await writeBulk(runtime, dialled, BULK_BYTES);
      const accepted = await server.nth(0);
      await eventually("the accepted socket saw the end", () => accepted.ends === 1, 20_000);
      assert.equal(accepted.receivedBytes, BULK_BYTES);
      assert.equal(readers[0]?.sha256(), sha256);
      assert(shortWrites > 0, "backpressure was felt");
      server.close();
    });

    test("64 MiB both ways at the same time arrive whole", async () => {
      const hashes = [createHash("sha256"), createHash("sha256")] as const;
      const server = serve(runtime, {
        onAccept(recording) {
          recording.onData = (bytes) => hashes[0].update(bytes);
        },
      });
      const recording = newRecording();
      recording.onData = (bytes) => hashes[1].update(bytes);
      const dialled = await dialRecorded(runtime, { kind: "tcp", host: "127.0.0.1", port: server.port }, recording);
      const accepted = await server.nth(0);
      const [up, down] = await Promise.all([
        writeBulk(runtime, dialled, BULK_BYTES),
        writeBulk(runtime, accepted, BULK_BYTES),
      ]);
      await eventually("both closed", () => accepted.closes.length === 1 && dialled.closes.length === 1, 20_000);
      assert.deepEqual(accepted.closes, ["clean"]);
      assert.deepEqual(dialled.closes, ["clean"]);
      assert.equal(hashes[0].digest("hex"), up.sha256);
      assert.equal(hashes[1].digest("hex"), down.sha256);
      server.close();
    });

    test("a write to a peer that never reads is refused sooner or later, and the bytes refused were not kept", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      peer.socket.pause();
      const { live } = await server.nth(0);
      const chunk = new Uint8Array(262_144);
      let taken = 0;
      for (let round = 0; round < 1_000; round++) {
        const count = live.write(chunk);
        taken += count;
        if (count < chunk.length) break;
      }
      // The kernel's buffers, not 250 MB: a runtime that takes everything would make backpressure impossible.
      assert(taken < 64 * 1024 * 1024, `took ${taken} bytes`);
      assert.equal(live.write(chunk), 0);
      peer.socket.destroy();
      server.close();
    });

    test("the bytes of a write may be overwritten as soon as it returns", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      const { live } = await server.nth(0);
      const chunk = Buffer.from("first");
      live.write(chunk);
      chunk.fill("x");
      orderly(runtime, live).shutdown();
      await eventually("the peer saw the end", () => peer.ended);
      assert.equal(peer.text, "first");
      peer.socket.end();
      server.close();
    });

    test("write returns -1 after shutdown", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      const { live } = await server.nth(0);
      orderly(runtime, live).shutdown();
      assert.equal(live.write(Buffer.from("late")), -1);
      await eventually("the peer saw the end", () => peer.ended);
      assert.equal(peer.text, "");
      peer.socket.end();
      server.close();
    });

    test("write returns -1 once the peer has reset", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      const accepted = await server.nth(0);
      peer.socket.resetAndDestroy();
      await eventually("the socket closed", () => accepted.closes.length === 1);
      assert.equal(accepted.live.write(Buffer.from("late")), -1);
      server.close();
    });

    test("bytes handed to data are the callee's to keep", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      const accepted = await server.nth(0);
      let sent = "";
      for (let round = 0; round < 20; round++) {
        const text = String.fromCharCode(97 + round).repeat(1_000);
        sent += text;
        peer.socket.write(text);
        await eventually("the chunk arrived", () => accepted.receivedBytes === sent.length);
      }
      assert.equal(accepted.text, sent);
      peer.socket.destroy();
      server.close();
    });
  });

  describe("3. half-open always", () => {
    afterEach(checkRecordings);

    test("after the peer's FIN an accepted socket still writes, megabytes of it", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      peer.socket.end("request");
      const accepted = await server.nth(0);
      await eventually("the end arrived", () => accepted.ends === 1);
      assert.equal(accepted.text, "request");
      assert.deepEqual(accepted.closes, []);
      await writeBulk(runtime, accepted, 4_000_000);
      await eventually("the peer saw the end", () => peer.ended);
      assert.equal(Buffer.concat(peer.chunks).length, 4_000_000);
      await eventually("it closed", () => accepted.closes.length === 1);
      assert.deepEqual(accepted.closes, ["clean"]);
      server.close();
    });

    test("after the peer's FIN a dialled socket still writes", async () => {
      const peers = await listenAsPeer((peer) => peer.socket.end("greeting"));
      const dialled = await dialRecorded(runtime, { kind: "tcp", host: "127.0.0.1", port: peers.port });
      await eventually("the end arrived", () => dialled.ends === 1);
      assert.equal(dialled.text, "greeting");
      dialled.live.write(Buffer.from("answer"));
      orderly(runtime, dialled.live).shutdown();
      const peer = await peers.nth(0);
      await eventually("the peer saw the end", () => peer.ended);
      assert.equal(peer.text, "answer");
      await eventually("it closed", () => dialled.closes.length === 1);
      assert.deepEqual(dialled.closes, ["clean"]);
      peers.close();
    });

    test("after our shutdown an accepted socket still reads, and the peer saw a FIN, not a close", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      const accepted = await server.nth(0);
      accepted.live.write(Buffer.from("greeting"));
      orderly(runtime, accepted.live).shutdown();
      await eventually("the peer saw the end", () => peer.ended);
      const bulk = Buffer.alloc(4_000_000, "b");
      peer.socket.end(bulk);
      await eventually("it closed", () => accepted.closes.length === 1);
      assert.equal(accepted.receivedBytes, bulk.length);
      assert.deepEqual(accepted.closes, ["clean"]);
      assert.equal(peer.errorCode, "");
      server.close();
    });

    test("after our shutdown a dialled socket still reads", async () => {
      const peers = await listenAsPeer();
      const dialled = await dialRecorded(runtime, { kind: "tcp", host: "127.0.0.1", port: peers.port });
      orderly(runtime, dialled.live).shutdown();
      const peer = await peers.nth(0);
      await eventually("the peer saw the end", () => peer.ended);
      peer.socket.end("answer");
      await eventually("it closed", () => dialled.closes.length === 1);
      assert.equal(dialled.text, "answer");
      assert.deepEqual(dialled.closes, ["clean"]);
      peers.close();
    });
  });

  describe("pause stops data and end; resume continues", () => {
    afterEach(checkRecordings);

    test("nothing arrives while paused, everything after resume", async () => {
      const server = serve(runtime, { onAccept: (recording) => recording.live.pause() });
      const peer = await connectPeer(server.port);
      const accepted = await server.nth(0);
      peer.socket.end("waits");
      await quiet(100);
      assert.equal(accepted.text, "");
      assert.equal(accepted.ends, 0);
      accepted.live.resume();
      await eventually("the end arrived", () => accepted.ends === 1);
      assert.equal(accepted.text, "waits");
      server.close();
    });

    test("a paused socket pushes back on the peer", async () => {
      const server = serve(runtime, { onAccept: (recording) => recording.live.pause() });
      const dialled = await dialRecorded(runtime, { kind: "tcp", host: "127.0.0.1", port: server.port });
      const chunk = new Uint8Array(1_048_576);
      let refused = false;
      for (let round = 0; round < 64 && !refused; round++) refused = dialled.live.write(chunk) < chunk.length;
      assert(refused, "the kernel's buffers filled up");
      assert.equal((await server.nth(0)).receivedBytes, 0);
      dialled.live.terminate();
      server.close();
    });

    test("writing goes on while paused", async () => {
      const server = serve(runtime, { onAccept: (recording) => recording.live.pause() });
      const peer = await connectPeer(server.port);
      const accepted = await server.nth(0);
      accepted.live.write(Buffer.from("spoken while deaf"));
      await eventually("the peer heard it", () => peer.text === "spoken while deaf");
      peer.socket.destroy();
      server.close();
    });
  });
}
