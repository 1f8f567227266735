// Conformance, line 7 of the contract: dialling has a deadline, can be cancelled, says the system's error, and leaks no descriptor.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe } from "node:test";
import type { Address } from "../../src/base/address.ts";
import { ProxyError } from "../../src/base/errors.ts";
import type { DialResult, Runtime } from "../../src/runtime/runtime.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import {
  checkRecordings,
  dialRecorded,
  listenAsPeer,
  newRecording,
  openDescriptors,
  orderly,
  type PeerServer,
  quiet,
  type Recording,
  recordingHandlers,
} from "./peers.ts";

/** A port of 127.0.0.1 that swallows connection attempts: its accept queue is full and its owner is stopped. */
export interface BlackHole {
  readonly address: Address;
  close(): void;
}

/** More than the queue of a node:net server holds (511 where its `backlog` is ignored). */
const QUEUE_FILLERS = 600;

/** To be closed. */
export async function openBlackHole(): Promise<BlackHole> {
  const child = spawnListener('{ host: "127.0.0.1", port: 0, backlog: 1 }');
  const port = Number(await child.announced);
  child.process.kill("SIGSTOP");
  let connected = 0;
  const fillers = Array.from({ length: QUEUE_FILLERS }, () =>
    net
      .connect({ host: "127.0.0.1", port }, () => {
        connected++;
      })
      .on("error", () => {}),
  );
  // Full when some are not answered, and no more of them are.
  for (let before = -1; before !== connected; await quiet(200)) before = connected;
  assert(connected > 0 && connected < QUEUE_FILLERS, `the accept queue filled up: ${connected}`);
  return {
    address: { kind: "tcp", host: "127.0.0.1", port },
    close() {
      for (const filler of fillers) filler.destroy();
      child.process.kill("SIGKILL");
    },
  };
}

/** A process of its own that listens as told and accepts; `announced` is its port, or its path. */
function spawnListener(options: string): { readonly process: ChildProcess; readonly announced: Promise<string> } {
  const script = `const server = require("node:net").createServer(() => {});
    server.listen(${options}, () => console.log(server.address().port ?? "ready"));`;
  const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  const announced = new Promise<string>((resolve) => {
    child.stdout.once("data", (bytes: Buffer) => resolve(bytes.toString().trim()));
  });
  // A stopped child outlives a test run that is broken off unless somebody ends it.
  process.once("exit", () => child.kill("SIGKILL"));
  return { process: child, announced };
}

/** Leaves a socket file behind as a killed program does. */
export async function leaveStaleSocket(path: string): Promise<void> {
  const child = spawnListener(JSON.stringify({ path }));
  await child.announced;
  const left = new Promise((resolve) => child.process.once("exit", resolve));
  child.process.kill("SIGKILL");
  await left;
}

/** The result of a dial that is bound to fail, and the recording that nothing may have happened to. */
async function failedDial(runtime: Runtime, address: Address): Promise<string> {
  const recording = newRecording();
  const result = await runtime.dial({ address, handlers: recordingHandlers, data: recording, timeoutMs: 5_000 }).result;
  assertUntouched(recording);
  return result.ok ? "connected" : result.code;
}

function assertUntouched(recording: Recording): void {
  assert.deepEqual([recording.receivedBytes, recording.drains, recording.ends, recording.closes], [0, 0, 0, []]);
}

/** A port of 127.0.0.1 where nobody listens. */
export async function closedPort(): Promise<number> {
  const server = await listenAsPeer();
  server.close();
  return server.port;
}

export function dialConformance(runtime: Runtime): void {
  describe("resolve", () => {
    test("gives an address of a name, and refuses with the resolver's code where there is none", async () => {
      assert.match(await runtime.resolve("localhost"), /^(127\.0\.0\.1|::1)$/);
      // RFC 6761 keeps .invalid without addresses; a host without DNS answers EAI_AGAIN.
      await assert.rejects(
        runtime.resolve("nothing.invalid"),
        (thrown) => thrown instanceof ProxyError && thrown.code !== "" && thrown.message.includes(`(${thrown.code})`),
      );
    });
  });

  describe("7. dialling has a deadline, can be cancelled, and its error codes are the system's", () => {
    let directory = "";
    let blackHole: BlackHole | null = null;
    let echo: PeerServer | null = null;
    before(async () => {
      directory = mkdtempSync(join(tmpdir(), "bunnel-dial-"));
      blackHole = await openBlackHole();
      echo = await listenAsPeer();
    });
    after(() => {
      blackHole?.close();
      echo?.close();
      rmSync(directory, { recursive: true, force: true });
    });
    afterEach(checkRecordings);
    const hole = (): Address => {
      assert(blackHole !== null);
      return blackHole.address;
    };

    test("ECONNREFUSED where nobody listens, on IPv4 and IPv6", async () => {
      const port = await closedPort();
      assert.equal(await failedDial(runtime, { kind: "tcp", host: "127.0.0.1", port }), "ECONNREFUSED");
      assert.equal(await failedDial(runtime, { kind: "tcp", host: "::1", port }), "ECONNREFUSED");
    });

    test("ENETUNREACH for an address that no route leads to", async () => {
      assert.equal(await failedDial(runtime, { kind: "tcp", host: "255.255.255.255", port: 9 }), "ENETUNREACH");
    });

    test("ENOENT for a unix socket that is not there, ECONNREFUSED for one that nobody serves", async () => {
      assert.equal(await failedDial(runtime, { kind: "unix", path: join(directory, "none.sock") }), "ENOENT");
      const path = join(directory, "stale.sock");
      await leaveStaleSocket(path);
      assert.equal(await failedDial(runtime, { kind: "unix", path }), "ECONNREFUSED");
    });

    test("a unix socket connects", async () => {
      const path = join(directory, "live.sock");
      const peers = await listenAsPeer((peer) => peer.socket.write("hello"), { path });
      const dialled = await dialRecorded(runtime, { kind: "unix", path });
      await eventually("the greeting arrived", () => dialled.text === "hello");
      assert.equal(dialled.live.remoteAddress, undefined);
      dialled.live.terminate();
      peers.close();
    });

    test("IPv6 loopback connects", async () => {
      const peers = await listenAsPeer((peer) => peer.socket.end("over six"), { host: "::1" });
      const dialled = await dialRecorded(runtime, { kind: "tcp", host: "::1", port: peers.port });
      await eventually("the end arrived", () => dialled.ends === 1);
      assert.equal(dialled.text, "over six");
      assert.equal(dialled.live.remoteAddress, "::1");
      orderly(runtime, dialled.live).shutdown();
      await eventually("it closed", () => dialled.closes.length === 1);
      peers.close();
    });

    test("a server that speaks first, and one that speaks and leaves at once, are heard", async () => {
      const peers = await listenAsPeer((peer) => peer.socket.end("220 ready"));
      for (let round = 0; round < 50; round++) {
        const dialled = await dialRecorded(runtime, { kind: "tcp", host: "127.0.0.1", port: peers.port });
        await eventually("the end arrived", () => dialled.ends === 1);
        assert.equal(dialled.text, "220 ready");
        orderly(runtime, dialled.live).shutdown();
        await eventually("it closed", () => dialled.closes.length === 1);
        assert.deepEqual(dialled.closes, ["clean"]);
      }
      peers.close();
    });

    test("what comes fast is read in large pieces, each of them the reader's to keep", async () => {
      const sent = randomBytes(32 * 1024 * 1024);
      const peer = await listenAsPeer(({ socket }) => void socket.end(sent));
      const dialled = await dialRecorded(runtime, { kind: "tcp", host: "127.0.0.1", port: peer.port });
      await eventually("all of it came", () => dialled.ends === 1);
      assert(Math.max(...dialled.chunks.map(({ length }) => length)) > 65_536);
      assert(sent.equals(Buffer.concat(dialled.chunks)));
      dialled.live.terminate();
      peer.close();
    });

    test("the socket is connected when the result says so: it can be written to at once", async () => {
      const peers = await listenAsPeer();
      const dialled = await dialRecorded(runtime, { kind: "tcp", host: "127.0.0.1", port: peers.port });
      assert.equal(dialled.live.write(Buffer.from("at once")), 7);
      orderly(runtime, dialled.live).shutdown();
      const peer = await peers.nth(0);
      await eventually("the peer saw the end", () => peer.ended);
      assert.equal(peer.text, "at once");
      peers.close();
    });

    test("what is dialled so that it ends orderly does, without being asked to", async () => {
      const peers = await listenAsPeer((peer) => peer.socket.end());
      const data = newRecording();
      const address: Address = { kind: "tcp", host: "127.0.0.1", port: peers.port };
      const options = { address, handlers: recordingHandlers, data, timeoutMs: 5000, endsOrderly: true };
      const result = await runtime.dial(options).result;
      assert(result.ok);
      await eventually("the end arrived", () => data.ends === 1);
      result.socket.close();
      const peer = await peers.nth(0);
      await eventually("the peer was told", () => peer.closed);
      assert.deepEqual([peer.ended, peer.errorCode], [true, ""]);
      peers.close();
    });

    test("ETIMEDOUT at the deadline when nobody answers, and the descriptor is gone", async () => {
      const descriptors = openDescriptors();
      const recording = newRecording();
      const startMs = runtime.preciseNowMs();
      const options = { address: hole(), handlers: recordingHandlers, data: recording, timeoutMs: 300 };
      const result = await runtime.dial(options).result;
      const tookMs = runtime.preciseNowMs() - startMs;
      assert.deepEqual(result, { ok: false, code: "ETIMEDOUT" });
      assert(tookMs >= 270 && tookMs < 600, `took ${tookMs} ms`);
      assertUntouched(recording);
      await eventually("the descriptor was closed", () => openDescriptors() <= descriptors);
      assert.equal(runtime.clock.armed, 0);
    });

    test("cancel gives CANCELLED at once, and the descriptor is gone", async () => {
      const descriptors = openDescriptors();
      const recording = newRecording();
      const dial = runtime.dial({ address: hole(), handlers: recordingHandlers, data: recording, timeoutMs: 60_000 });
      await eventually("it was under way", () => openDescriptors() === descriptors + 1);
      dial.cancel();
      dial.cancel();
      assert.deepEqual(await dial.result, { ok: false, code: "CANCELLED" });
      await eventually("the descriptor was closed", () => openDescriptors() === descriptors);
      await quiet(20);
      assertUntouched(recording);
      assert.equal(runtime.clock.armed, 0);
    });

    test("cancel after the result changes nothing, and no deadline strikes a connected socket", async () => {
      const peers = await listenAsPeer();
      const recording = newRecording();
      const address: Address = { kind: "tcp", host: "127.0.0.1", port: peers.port };
      const dial = runtime.dial({ address, handlers: recordingHandlers, data: recording, timeoutMs: 50 });
      const result = await dial.result;
      assert(result.ok);
      dial.cancel();
      await quiet(150);
      assert.deepEqual(recording.closes, []);
      assert.equal(result.socket.write(Buffer.from("still here")), 10);
      result.socket.terminate();
      peers.close();
    });

    test("1000 mixed dials, cancelled, refused, timed out, connected and reset, leak no descriptor and no timer", async () => {
      const peers = await listenAsPeer((peer) => peer.socket.resetAndDestroy());
      const refused = await closedPort();
      const targets: readonly Address[] = [
        { kind: "tcp", host: "127.0.0.1", port: peers.port },
        { kind: "tcp", host: "127.0.0.1", port: refused },
        hole(),
        hole(),
        { kind: "tcp", host: "255.255.255.255", port: 9 },
        { kind: "unix", path: join(directory, "none.sock") },
      ];
      const descriptors = openDescriptors();
      const codes = new Map<string, number>();
      for (let wave = 0; wave < 10; wave++) {
        const results = await Promise.all(
          Array.from({ length: 100 }, (_, index): Promise<DialResult<Recording>> => {
            const address = targets[index % targets.length] as Address;
            const data = newRecording();
            const dial = runtime.dial({ address, handlers: recordingHandlers, data, timeoutMs: 100 });
            if (index % 12 === 2) dial.cancel();
            return dial.result;
          }),
        );
        for (const result of results) {
          const code = result.ok ? "connected" : result.code;
          codes.set(code, (codes.get(code) ?? 0) + 1);
          if (result.ok) result.socket.terminate();
        }
      }
      for (const code of ["ECONNREFUSED", "ETIMEDOUT", "CANCELLED", "ENETUNREACH", "ENOENT"])
        assert((codes.get(code) ?? 0) >= 80, `${code}: ${codes.get(code)}`);
      peers.close();
      await eventually("every descriptor was closed", () => openDescriptors() <= descriptors);
      assert.equal(runtime.clock.armed, 0);
    });
  });
}
