// Conformance, line 6 of the contract on plain sockets: `close` is the last event, once, and its code tells a FIN from a reset.

import assert from "node:assert/strict";
import { afterEach, describe } from "node:test";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import { checkRecordings, connectPeer, dialRecorded, listenAsPeer, orderly, quiet, serve } from "./peers.ts";

export function closeConformance(runtime: Runtime): void {
  describe("6. close is the last event, once, with a code", () => {
    afterEach(checkRecordings);

    test("FIN from both sides is clean, whoever is first", async () => {
      const server = serve(runtime);
      const first = await connectPeer(server.port);
      first.socket.end();
      const ended = await server.nth(0);
      await eventually("the end arrived", () => ended.ends === 1);
      orderly(runtime, ended.live).shutdown();
      const second = await connectPeer(server.port);
      const ending = await server.nth(1);
      orderly(runtime, ending.live).shutdown();
      await eventually("the peer saw the end", () => second.ended);
      second.socket.end();
      await eventually("both closed", () => ended.closes.length === 1 && ending.closes.length === 1);
      assert.deepEqual([ended.closes, ending.closes], [["clean"], ["clean"]]);
      server.close();
    });

    test("RST is reset, on an accepted and on a dialled socket", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      const accepted = await server.nth(0);
      peer.socket.resetAndDestroy();
      const peers = await listenAsPeer();
      const dialled = await dialRecorded(runtime, { kind: "tcp", host: "127.0.0.1", port: peers.port });
      (await peers.nth(0)).socket.resetAndDestroy();
      await eventually("both closed", () => accepted.closes.length === 1 && dialled.closes.length === 1);
      assert.deepEqual([accepted.closes, dialled.closes], [["reset"], ["reset"]]);
      assert.equal(accepted.ends, 0);
      server.close();
      peers.close();
    });

    test("RST is seen at once while paused", async () => {
      const server = serve(runtime, { onAccept: (recording) => recording.live.pause() });
      const peer = await connectPeer(server.port);
      const accepted = await server.nth(0);
      peer.socket.write("unread");
      await quiet(20);
      peer.socket.resetAndDestroy();
      await eventually("it closed", () => accepted.closes.length === 1);
      assert.deepEqual(accepted.closes, ["reset"]);
      server.close();
    });

    test("RST after the peer's FIN is reset", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      peer.socket.end();
      const accepted = await server.nth(0);
      await eventually("the end arrived", () => accepted.ends === 1);
      peer.socket.resetAndDestroy();
      // A peer that has closed altogether answers with RST what it is sent now.
      const nudge = setInterval(() => accepted.live.write(Buffer.from("anyone?")), 5);
      await eventually("it closed", () => accepted.closes.length === 1);
      clearInterval(nudge);
      assert.deepEqual(accepted.closes, ["reset"]);
      server.close();
    });

    test("RST after our shutdown is reset", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      const accepted = await server.nth(0);
      orderly(runtime, accepted.live).shutdown();
      await eventually("the peer saw the end", () => peer.ended);
      peer.socket.resetAndDestroy();
      await eventually("it closed", () => accepted.closes.length === 1);
      assert.deepEqual(accepted.closes, ["reset"]);
      server.close();
    });

    test("terminate gives the peer ECONNRESET and us one clean close", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      const accepted = await server.nth(0);
      accepted.live.terminate();
      await eventually("the peer closed", () => peer.closed);
      assert.equal(peer.errorCode, "ECONNRESET");
      await eventually("it closed", () => accepted.closes.length === 1);
      assert.deepEqual(accepted.closes, ["clean"]);
      accepted.live.terminate();
      orderly(runtime, accepted.live).shutdown();
      accepted.live.pause();
      accepted.live.resume();
      assert.equal(accepted.live.write(Buffer.from("late")), -1);
      await quiet(20);
      server.close();
    });

    test("terminate works on a paused socket with a backlog in the kernel", async () => {
      const server = serve(runtime, { onAccept: (recording) => recording.live.pause() });
      const peer = await connectPeer(server.port);
      peer.socket.write(Buffer.alloc(200_000));
      const accepted = await server.nth(0);
      accepted.live.write(new Uint8Array(8_000_000));
      accepted.live.terminate();
      await eventually("both closed", () => accepted.closes.length === 1 && peer.closed);
      assert.equal(peer.errorCode, "ECONNRESET");
      server.close();
    });

    test("a write that finds the connection reset returns -1, and terminate then brings the one close", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      const accepted = await server.nth(0);
      peer.socket.resetAndDestroy();
      // In this very turn, before the runtime has heard of the reset.
      const deadline = performance.now() + 1_000;
      let taken = 0;
      while (taken >= 0 && performance.now() < deadline) taken = accepted.live.write(Buffer.from("anyone?"));
      if (taken < 0) accepted.live.terminate();
      await eventually("it closed", () => accepted.closes.length === 1);
      assert.equal(accepted.ends, 0);
      server.close();
    });

    test("close after the peer's end delivers what was written, then a FIN, and is one clean close", async () => {
      const server = serve(runtime);
      const peer = await connectPeer(server.port);
      peer.socket.end("request");
      const accepted = await server.nth(0);
      await eventually("the end arrived", () => accepted.ends === 1);
      accepted.live.write(Buffer.from("answer"));
      orderly(runtime, accepted.live).close();
      await eventually("both closed", () => peer.closed && accepted.closes.length === 1);
      assert.deepEqual([peer.text, peer.errorCode, accepted.closes], ["answer", "", ["clean"]]);
      server.close();
    });

    test("terminate inside accept refuses the newcomer", async () => {
      const server = serve(runtime, { onAccept: (recording) => recording.live.terminate() });
      const peer = await connectPeer(server.port);
      await eventually("the peer closed", () => peer.closed);
      assert.equal(peer.errorCode, "ECONNRESET");
      assert.deepEqual((await server.nth(0)).closes, ["clean"]);
      server.close();
    });

    test("terminate inside data stops everything at once", async () => {
      const server = serve(runtime, {
        onAccept(recording) {
          recording.onData = () => recording.live.terminate();
        },
      });
      const peer = await connectPeer(server.port);
      peer.socket.end(Buffer.alloc(3_000_000));
      const accepted = await server.nth(0);
      await eventually("it closed", () => accepted.closes.length === 1);
      assert.equal(accepted.ends, 0);
      server.close();
    });
  });
}
