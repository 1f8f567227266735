// What the load generator does with a connection. An exchange sends random bytes, half-closes and compares the SHA-256 of what comes back. A stream goes on until it is
// stopped: each message's end is a place where the SHA-256 of all that was sent must be that of all that has come.

import { randomFillSync } from "node:crypto";
import { Client, type Target } from "./client.ts";
import type { Failure } from "./report.ts";

/** Messages of a stream that are under way; no new one is sent beyond. */
const MOST_UNANSWERED = 64;
const LARGEST_MESSAGE_BYTES = 16_384;

/** Random bytes; sizes are spread evenly over the orders of magnitude, so that there are tiny ones and largest ones. */
export function randomPayload(maxBytes: number): Uint8Array {
  const size = Math.min(maxBytes, Math.floor(Math.exp(Math.random() * Math.log(maxBytes + 1))));
  return randomFillSync(new Uint8Array(Math.max(1, size)));
}

export interface ExchangeOptions {
  readonly id: number;
  readonly target: Target;
  readonly payload: Uint8Array;
  /** Called once; null when all came back as it was sent. */
  readonly done: (exchange: Exchange, failure: Failure | null) => void;
}

/** Sends, half-closes, and reads to the end. */
export class Exchange {
  readonly client: Client;
  readonly startedAt = performance.now();
  readonly #options: ExchangeOptions;
  readonly #received = new Bun.CryptoHasher("sha256");

  constructor(options: ExchangeOptions) {
    this.#options = options;
    this.client = new Client("exchange", options.id, options.target, this);
    void this.client.start();
  }

  connected(): void {
    this.client.send(this.#options.payload);
    this.client.end();
  }

  received(bytes: Uint8Array): void {
    this.#received.update(bytes);
  }

  ended(): void {
    const { payload, done } = this.#options;
    const { receivedBytes } = this.client;
    if (receivedBytes < payload.length) this.client.fail("truncated", "FIN");
    else if (receivedBytes > payload.length) this.client.fail("corrupted", "more than was sent");
    else if (this.#received.digest("hex") !== Bun.SHA256.hash(payload, "hex"))
      this.client.fail("corrupted", "another SHA-256");
    else done(this, null);
  }

  failed(failure: Failure): void {
    this.#options.done(this, failure);
  }
}

/** A place in a stream where both directions must agree. */
interface Mark {
  readonly endByte: number;
  readonly digest: string;
  readonly sentAt: number;
}

export interface StreamOptions {
  readonly id: number;
  readonly target: Target;
  readonly patienceMs: number;
  /** Called once, after the first echo. */
  readonly ready: (stream: Stream) => void;
  /** Called once; null when it ended in order after it was stopped. */
  readonly done: (stream: Stream, failure: Failure | null) => void;
}

/** Sends and receives until it is stopped. */
export class Stream {
  readonly client: Client;
  longestGapMs = 0;
  readonly #options: StreamOptions;
  readonly #sent = new Bun.CryptoHasher("sha256");
  readonly #received = new Bun.CryptoHasher("sha256");
  readonly #marks: Mark[] = [];
  #plannedBytes = 0;
  #lastReceivedAt = 0;
  #connected = false;
  #ready = false;
  #stopping = false;

  constructor(options: StreamOptions) {
    this.#options = options;
    this.client = new Client("stream", options.id, options.target, this);
    void this.client.start();
  }

  connected(): void {
    this.#connected = true;
    this.pulse();
  }

  /** Another message, unless it is behind; and a look whether it has been silent for too long. */
  pulse(): void {
    if (!this.#connected || this.client.isDone) return;
    const now = performance.now();
    if (this.#waitedMs(now) > this.#options.patienceMs) this.client.fail("timed_out", "no answer");
    if (this.client.isDone || this.#stopping || this.client.isBehind || this.#marks.length >= MOST_UNANSWERED) return;
    const message = randomPayload(LARGEST_MESSAGE_BYTES);
    this.#plannedBytes += message.length;
    const digest = this.#sent.update(message).copy().digest("hex");
    this.#marks.push({ endByte: this.#plannedBytes, digest, sentAt: now });
    this.client.send(message);
  }

  /** Half-closes; the rest must come, and then the end. */
  stop(): void {
    this.#stopping = true;
    this.client.end();
  }

  received(bytes: Uint8Array): void {
    const now = performance.now();
    this.longestGapMs = Math.max(this.longestGapMs, this.#waitedMs(now));
    this.#lastReceivedAt = now;
    let at = this.client.receivedBytes - bytes.length;
    let rest = bytes;
    while (rest.length > 0) {
      const mark = this.#marks[0];
      if (mark === undefined) {
        this.client.fail("corrupted", "more than was sent");
        return;
      }
      const part = rest.subarray(0, mark.endByte - at);
      this.#received.update(part);
      at += part.length;
      rest = rest.subarray(part.length);
      if (at < mark.endByte) break;
      if (this.#received.copy().digest("hex") !== mark.digest) {
        this.client.fail("corrupted", `another SHA-256 at ${at}`);
        return;
      }
      this.#marks.shift();
    }
    if (this.#ready || this.#marks.length > 0) return;
    this.#ready = true;
    this.#options.ready(this);
  }

  ended(): void {
    if (this.#marks.length > 0) this.client.fail("truncated", "FIN");
    else this.#options.done(this, null);
  }

  failed(failure: Failure): void {
    this.#options.done(this, failure);
  }

  /** How long an answer has been due. */
  #waitedMs(now: number): number {
    const oldest = this.#marks[0];
    return oldest === undefined ? 0 : now - Math.max(oldest.sentAt, this.#lastReceivedAt);
  }
}
