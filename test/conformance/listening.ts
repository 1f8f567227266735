// Conformance of `Runtime.listen`: refusals that name the address, pausing without losing anybody, unix sockets, dual stack.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe } from "node:test";
import type { Address } from "../../src/base/address.ts";
import { ProxyError } from "../../src/base/errors.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { eventually } from "../support/eventually.ts";
import { leaveStaleSocket } from "./dialling.ts";
import { test } from "./lines.ts";
import { checkRecordings, connectPeer, listenAsPeer, openDescriptors, quiet, serve } from "./peers.ts";

/** More than Bun's own accept queue holds, so that a shortened queue shows. */
const NEWCOMERS = 700;

export function listenConformance(runtime: Runtime): void {
  describe("listen refuses with the system's code and a message that names the address", () => {
    const refusal = async (address: Address): Promise<ProxyError> => {
      const descriptors = openDescriptors();
      try {
        serve(runtime, { address }).close();
      } catch (thrown) {
        assert(thrown instanceof ProxyError);
        await eventually("no descriptor is left behind", () => openDescriptors() <= descriptors);
        return thrown;
      }
      return assert.fail("it listened");
    };

    test("EADDRINUSE", async () => {
      const peers = await listenAsPeer();
      const error = await refusal({ kind: "tcp", host: "127.0.0.1", port: peers.port });
      assert.equal(error.code, "EADDRINUSE");
      assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${peers.port}`));
      peers.close();
    });

    test("EADDRINUSE between two listeners of the seam", async () => {
      const server = serve(runtime);
      assert.equal((await refusal(server.listener.address)).code, "EADDRINUSE");
      server.close();
    });

    test("EADDRNOTAVAIL", async () => {
      const error = await refusal({ kind: "tcp", host: "192.0.2.1", port: 4433 });
      assert.equal(error.code, "EADDRNOTAVAIL");
      assert.match(error.message, /192\.0\.2\.1:4433/);
    });

    test("EACCES for a privileged port", async (context) => {
      const isRoot = process.getuid?.() === 0;
      if (isRoot || Number(readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start", "utf8")) <= 81)
        return context.skip("this user may listen anywhere");
      const error = await refusal({ kind: "tcp", host: "127.0.0.1", port: 81 });
      assert.equal(error.code, "EACCES");
      assert.match(error.message, /127\.0\.0\.1:81/);
    });

    test("a directory that is not there", async () => {
      const error = await refusal({ kind: "unix", path: "/nonexistent/bunnel.sock" });
      assert.equal(error.code, "ENOENT");
      assert.match(error.message, /unix:\/nonexistent\/bunnel\.sock/);
    });
  });

  describe("listen binds", () => {
    afterEach(checkRecordings);

    test("port 0 gives a free port, and address tells which", async () => {
      const server = serve(runtime);
      assert.notEqual(server.port, 0);
      assert.deepEqual(server.listener.address, { kind: "tcp", host: "127.0.0.1", port: server.port });
      (await connectPeer(server.port)).socket.destroy();
      await server.nth(0);
      server.close();
    });

    test(":: takes IPv4 as well, mapped", async () => {
      const server = serve(runtime, { address: { kind: "tcp", host: "::", port: 0 } });
      const four = await connectPeer(server.port, "127.0.0.1");
      assert.equal((await server.nth(0)).live.remoteAddress, "::ffff:127.0.0.1");
      const six = await connectPeer(server.port, "::1");
      assert.equal((await server.nth(1)).live.remoteAddress, "::1");
      four.socket.destroy();
      six.socket.destroy();
      server.close();
    });

    test("another IPv6 address takes no IPv4: both can be bound to one port", () => {
      const both = (): boolean => {
        const six = serve(runtime, { address: { kind: "tcp", host: "::1", port: 0 } });
        try {
          serve(runtime, { address: { kind: "tcp", host: "127.0.0.1", port: six.port } }).close();
          return true;
        } catch {
          return false;
        } finally {
          six.close();
        }
      };
      // The port that the kernel chose may be that of somebody's IPv4 connection.
      assert.ok(Array.from({ length: 5 }, both).includes(true));
    });

    test("all addresses and one of them on the same port, if the first is ours, and nobody else has it", async () => {
      for (const [first, second] of [
        ["0.0.0.0", "127.0.0.1"],
        ["127.0.0.1", "0.0.0.0"],
      ] as const) {
        const ours = runtime.bind({ kind: "tcp", host: first, port: 0 });
        const { port } = ours.address as Extract<Address, { kind: "tcp" }>;
        const wanted: Address = { kind: "tcp", host: second, port };
        assert.throws(() => runtime.bind(wanted), /EADDRINUSE/);
        const both = runtime.bind(wanted, [ours]);
        // The one that it was opened beside is shared with nobody.
        assert.throws(() => runtime.bind({ kind: "tcp", host: "127.0.0.1", port }), /EADDRINUSE/);
        ours.close();
        both.close();
      }
    });

    test("a port is free again as soon as the listener has closed, while its connections live on", async () => {
      const first = serve(runtime);
      const peer = await connectPeer(first.port);
      const accepted = await first.nth(0);
      first.listener.close();
      const second = serve(runtime, { address: first.listener.address });
      accepted.live.write(Buffer.from("alive"));
      await eventually("the old connection still works", () => peer.text === "alive");
      peer.socket.destroy();
      second.close();
      await eventually("the peer left", () => accepted.ends + accepted.closes.length > 0);
      accepted.live.terminate();
    });

    test("close twice, pause and resume after close are harmless, whoever has the descriptor's number by then", async () => {
      const server = serve(runtime);
      server.listener.close();
      const heir = serve(runtime);
      server.listener.close();
      server.listener.pause();
      server.listener.resume();
      heir.listener.pause();
      heir.listener.resume();
      (await connectPeer(heir.port)).socket.destroy();
      await heir.nth(0);
      assert.deepEqual(server.accepted, []);
      heir.close();
    });

    test("listeners leak no descriptor", async () => {
      const descriptors = openDescriptors();
      for (let round = 0; round < 50; round++) {
        const server = serve(runtime);
        server.listener.pause();
        server.listener.pause();
        server.listener.resume();
        server.listener.resume();
        if (round % 2 === 0) server.listener.pause();
        server.close();
      }
      await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
    });
  });

  describe("pause leaves newcomers waiting in the kernel's queue", () => {
    afterEach(checkRecordings);

    test(`${NEWCOMERS} newcomers wait, none is reset, all are served after resume, and waiting costs no CPU`, async () => {
      const server = serve(runtime);
      server.listener.pause();
      const peers = await Promise.all(Array.from({ length: NEWCOMERS }, () => connectPeer(server.port)));
      for (const [index, peer] of peers.entries()) peer.socket.write(`${index}`);
      await quiet(50);
      const before = process.cpuUsage();
      await quiet(300);
      const spent = process.cpuUsage(before);
      const spentMs = (spent.user + spent.system) / 1_000;
      assert(spentMs < 100, `${spentMs} ms of CPU in 300 ms`);
      assert.equal(server.accepted.length, 0);
      server.listener.resume();
      await server.nth(NEWCOMERS - 1);
      await eventually("all were heard", () => server.accepted.every((accepted) => accepted.receivedBytes > 0));
      assert.equal(new Set(server.accepted.map((accepted) => accepted.text)).size, NEWCOMERS);
      assert.deepEqual(
        peers.filter((peer) => peer.closed || peer.ended || peer.errorCode !== ""),
        [],
      );
      for (const peer of peers) peer.socket.destroy();
      server.close();
    });

    test("pausing and resuming again and again under load loses nobody", async () => {
      const server = serve(runtime, { onAccept: (recording) => recording.live.write(Buffer.from("!")) });
      const toggle = setInterval(() => {
        server.listener.pause();
        setTimeout(() => server.listener.resume(), 1);
      }, 3);
      const peers = await Promise.all(Array.from({ length: 300 }, () => connectPeer(server.port)));
      await eventually("all were served", () => peers.every((peer) => peer.text === "!"));
      clearInterval(toggle);
      assert.deepEqual(
        peers.filter((peer) => peer.errorCode !== ""),
        [],
      );
      for (const peer of peers) peer.socket.destroy();
      await quiet(5);
      server.close();
    });

    test("pause inside accept: that one is served, the others wait", async () => {
      const server = serve(runtime, { onAccept: () => server.listener.pause() });
      const peers = await Promise.all(Array.from({ length: 20 }, () => connectPeer(server.port)));
      // A runtime may have taken a few off the queue by then; it must not go on.
      await quiet(100);
      const taken = server.accepted.length;
      assert.equal(taken, 1);
      for (let count = taken; count < peers.length; count++) {
        server.listener.resume();
        await server.nth(count);
      }
      assert.equal(server.accepted.length, peers.length);
      for (const accepted of server.accepted) accepted.live.write(Buffer.from("served"));
      await eventually("all were served", () => peers.every((peer) => peer.text === "served"));
      for (const peer of peers) peer.socket.destroy();
      server.close();
    });

    test("close while newcomers wait resets them", async () => {
      const server = serve(runtime);
      server.listener.pause();
      const peer = await connectPeer(server.port);
      server.close();
      await eventually("the peer closed", () => peer.closed);
      assert.equal(peer.errorCode, "ECONNRESET");
    });
  });

  describe("unix sockets", () => {
    let directory = "";
    before(() => {
      directory = mkdtempSync(join(tmpdir(), "bunnel-listen-"));
    });
    after(() => rmSync(directory, { recursive: true, force: true }));
    afterEach(checkRecordings);

    test("serves, stays reachable through pause and resume, and the file goes at close", async () => {
      const path = join(directory, "plain.sock");
      const server = serve(runtime, { address: { kind: "unix", path } });
      assert.deepEqual(server.listener.address, { kind: "unix", path });
      const first = await connectPeer(path);
      assert.equal((await server.nth(0)).live.remoteAddress, undefined);
      server.listener.pause();
      const second = await connectPeer(path);
      server.listener.resume();
      (await server.nth(1)).live.write(Buffer.from("served"));
      await eventually("the one who waited was served", () => second.text === "served");
      first.socket.destroy();
      second.socket.destroy();
      server.close();
      assert.equal(existsSync(path), false);
    });

    test("a stale file is replaced", async () => {
      const path = join(directory, "stale.sock");
      await leaveStaleSocket(path);
      const server = serve(runtime, { address: { kind: "unix", path } });
      (await connectPeer(path)).socket.destroy();
      await server.nth(0);
      server.close();
    });

    test("a live one is refused and left in peace", async () => {
      const path = join(directory, "live.sock");
      const peers = await listenAsPeer(undefined, { path });
      assert.throws(
        () => serve(runtime, { address: { kind: "unix", path } }),
        (thrown) => thrown instanceof ProxyError && thrown.code === "EADDRINUSE" && thrown.message.includes(path),
      );
      (await connectPeer(path)).socket.destroy();
      peers.close();
    });

    test("a file that is no socket is refused and left in peace", () => {
      const path = join(directory, "precious.txt");
      writeFileSync(path, "precious");
      assert.throws(
        () => serve(runtime, { address: { kind: "unix", path } }),
        (thrown) => thrown instanceof ProxyError && thrown.code === "EADDRINUSE" && thrown.message.includes(path),
      );
      assert.equal(readFileSync(path, "utf8"), "precious");
    });

    test("close leaves the file of a successor alone", async () => {
      const path = join(directory, "successor.sock");
      const server = serve(runtime, { address: { kind: "unix", path } });
      rmSync(path);
      const successor = await listenAsPeer(undefined, { path });
      server.close();
      assert.equal(existsSync(path), true);
      successor.close();
    });

    test("an abstract name serves and leaves no file", async () => {
      const path = `@bunnel-conformance-${process.pid}`;
      const server = serve(runtime, { address: { kind: "unix", path } });
      const dial = runtime.dial({
        address: { kind: "unix", path },
        handlers: { data() {}, drain() {}, end() {}, close() {} },
        data: null,
        timeoutMs: 1_000,
      });
      const result = await dial.result;
      assert(result.ok);
      await server.nth(0);
      result.socket.terminate();
      server.close();
      assert.equal(existsSync(path), false);
    });
  });
}
