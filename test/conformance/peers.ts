// What the conformance suite talks through: sockets of the seam that write down what happens to them, and plain TCP peers on node:net,
// which every runtime has. Nothing here knows which runtime is under test.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import net from "node:net";
import type { Address } from "../../src/base/address.ts";
import type { CloseCode, ListeningSocket, Runtime, SocketHandlers, StreamSocket } from "../../src/runtime/runtime.ts";
import { eventually } from "../support/eventually.ts";

/** Lets `durationMs` pass, to show that something does NOT happen in it. */
export function quiet(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs));
}

/** What one socket of the seam has gone through. Hangs on `socket.data`. */
export class Recording {
  socket: StreamSocket<Recording> | null = null;
  readonly chunks: Uint8Array[] = [];
  receivedBytes = 0;
  drains = 0;
  ends = 0;
  readonly closes: CloseCode[] = [];
  /** Names of events that came after `close`: the contract allows none. */
  readonly late: string[] = [];
  /** Instead of keeping the chunks. */
  onData: ((bytes: Uint8Array) => void) | null = null;
  onDrain: (() => void) | null = null;
  onEnd: (() => void) | null = null;

  /** All bytes received, each as one character. */
  get text(): string {
    return Buffer.concat(this.chunks).toString("latin1");
  }

  /** The socket, which the test has reason to believe is there. */
  get live(): StreamSocket<Recording> {
    assert(this.socket !== null, "the socket has been opened");
    return this.socket;
  }
}

/** Every recording made since the last `checkRecordings`. */
const recordings: Recording[] = [];

export function newRecording(): Recording {
  const recording = new Recording();
  recordings.push(recording);
  return recording;
}

/** Asserts line 6 of the contract for every socket of the test that has just run: `close` came at most once, and last. */
export function checkRecordings(): void {
  for (const recording of recordings.splice(0)) {
    assert.deepEqual(recording.late, [], "events after close");
    assert(recording.closes.length <= 1, `close came ${recording.closes.length} times`);
  }
}

/** The one handler object of all recorded sockets. */
export const recordingHandlers: SocketHandlers<Recording> = {
  data({ data: recording }, bytes) {
    note(recording, "data");
    recording.receivedBytes += bytes.length;
    if (recording.onData === null) recording.chunks.push(bytes);
    else recording.onData(bytes);
  },
  drain({ data: recording }) {
    note(recording, "drain");
    recording.drains++;
    recording.onDrain?.();
  },
  end({ data: recording }) {
    note(recording, "end");
    recording.ends++;
    recording.onEnd?.();
  },
  close({ data: recording }, code) {
    note(recording, "close");
    recording.closes.push(code);
  },
};

function note(recording: Recording, event: string): void {
  if (recording.closes.length > 0) recording.late.push(event);
}

/** A listener whose accepted sockets are recorded. */
export interface Server {
  readonly listener: ListeningSocket;
  readonly port: number;
  readonly accepted: Recording[];
  /** The n-th accepted socket, as soon as it is there. */
  nth(index: number): Promise<Recording>;
  close(): void;
}

export interface ServeOptions {
  readonly address?: Address;
  /** Runs inside `accept`. */
  onAccept?(recording: Recording): void;
}

export const LOOPBACK: Address = { kind: "tcp", host: "127.0.0.1", port: 0 };

export function serve(runtime: Runtime, options: ServeOptions = {}): Server {
  const accepted: Recording[] = [];
  const bound = runtime.bind(options.address ?? LOOPBACK);
  const listener = runtime.listen<Recording>({
    socket: bound,
    handlers: recordingHandlers,
    accept(socket) {
      const recording = newRecording();
      socket.data = recording;
      recording.socket = socket;
      accepted.push(recording);
      options.onAccept?.(recording);
    },
  });
  listener.resume();
  return {
    listener,
    port: listener.address.kind === "tcp" ? listener.address.port : 0,
    accepted,
    async nth(index) {
      await eventually(`connection ${index} was accepted`, () => accepted.length > index);
      return accepted[index] as Recording;
    },
    close() {
      bound.turnAway();
      listener.close();
      for (const recording of accepted) if (recording.closes.length === 0) recording.socket?.terminate();
    },
  };
}

/** A socket that may be ended in order from now on. */
export function orderly<S>(runtime: Runtime, socket: StreamSocket<S>): StreamSocket<S> {
  runtime.endOrderly(socket);
  return socket;
}

/** A plain TCP or unix peer, and what it has seen. */
export class Peer {
  readonly socket: net.Socket;
  readonly chunks: Buffer[] = [];
  ended = false;
  closed = false;
  errorCode = "";

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on("data", (bytes: Buffer) => this.chunks.push(bytes));
    socket.on("end", () => {
      this.ended = true;
    });
    socket.on("close", () => {
      this.closed = true;
    });
    socket.on("error", (error: Error & { code?: string }) => {
      this.errorCode = error.code ?? error.message;
    });
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString("latin1");
  }
}

/** A peer that has connected, and may have been reset since; it keeps its side open when the other ends. */
export async function connectPeer(target: number | string, host = "127.0.0.1"): Promise<Peer> {
  const socket =
    typeof target === "string"
      ? net.connect({ path: target, allowHalfOpen: true })
      : net.connect({ port: target, host, allowHalfOpen: true });
  const peer = new Peer(socket);
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    // One that is reset at once may not be told that it was connected.
    socket.once("close", () => (peer.errorCode === "ECONNRESET" ? resolve() : reject(new Error(peer.errorCode))));
  });
  return peer;
}

/** A peer's listener: dials of the seam arrive here. */
export interface PeerServer {
  readonly port: number;
  readonly peers: Peer[];
  nth(index: number): Promise<Peer>;
  close(): void;
}

export async function listenAsPeer(
  onConnection: (peer: Peer) => void = () => {},
  target: { readonly host?: string; readonly path?: string } = { host: "127.0.0.1" },
): Promise<PeerServer> {
  const peers: Peer[] = [];
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const peer = new Peer(socket);
    peers.push(peer);
    onConnection(peer);
  });
  server.listen(target.path === undefined ? { host: target.host, port: 0 } : { path: target.path });
  await once(server, "listening");
  const bound = server.address();
  return {
    port: typeof bound === "object" && bound !== null ? bound.port : 0,
    peers,
    async nth(index) {
      await eventually(`the peer accepted connection ${index}`, () => peers.length > index);
      return peers[index] as Peer;
    },
    close() {
      server.close();
      for (const peer of peers) peer.socket.destroy();
    },
  };
}

/** Dials with a recorded socket; fails when the dial does. */
export async function dialRecorded(runtime: Runtime, address: Address, recording = newRecording()): Promise<Recording> {
  const dial = runtime.dial({ address, handlers: recordingHandlers, data: recording, timeoutMs: 5_000 });
  const result = await dial.result;
  assert(result.ok, `dialled, but: ${result.ok || result.code}`);
  recording.socket = result.socket;
  return recording;
}

/** Descriptors that this process has open. */
export function openDescriptors(): number {
  const path = `/proc/${process.pid}/fd`;
  try {
    return readdirSync(path).length;
  } catch {
    // Where only programs that may do everything may look there, another one has to. The descriptors that it takes are always as many.
    return spawnSync("ls", [path]).stdout.toString().split("\n").length;
  }
}

/** Bytes that compression, repetition and off-by-one errors cannot hide in: the same random block over and over, of an odd length. */
export class Pattern {
  readonly #block = randomBytes(1_048_573);
  #at = 0;

  /** The next bytes, at most `limit`: the same ones until `advance`. */
  peek(limit: number): Uint8Array {
    return this.#block.subarray(this.#at, Math.min(this.#block.length, this.#at + limit));
  }

  advance(count: number): void {
    this.#at = (this.#at + count) % this.#block.length;
  }
}
