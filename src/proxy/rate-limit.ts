// How fast a listener may be connected to: in all, where new connections then wait in the queue, and by one source, which is then reset. The rate of a listener
// holds for the daemon: each process has an equal part of it. Sources are known to each process for itself.

import { TokenBucket } from "../base/token-bucket.ts";

/** A second's worth may come at once. */
const BURST_MS = 1000;
/**
 * Sources that are remembered, about 150 bytes each. Beyond that the one that has been quiet for the longest is forgotten, to its advantage: however many
 * sources somebody has, no other one is refused for it.
 */
const MOST_SOURCES = 10_000;

/** New connections of a listener, as far as this process may accept them. */
export class ConnectionRate {
  #bucket = new TokenBucket(BURST_MS);
  #burstMs = BURST_MS;

  /** Whether the next one has to wait. `perSecond` may be less than 1. */
  isUsedUp(perSecond: number, nowMs: number): boolean {
    return this.#bucketFor(perSecond).waitMs(1, perSecond, nowMs) > 0;
  }

  /** One was accepted. */
  count(perSecond: number, nowMs: number): void {
    this.#bucketFor(perSecond).take(1, perSecond, nowMs);
  }

  /** A bucket that held less than one would never give any. */
  #bucketFor(perSecond: number): TokenBucket {
    const burstMs = Math.max(BURST_MS, 1000 / perSecond);
    if (burstMs !== this.#burstMs) {
      this.#bucket = new TokenBucket(burstMs, this.#bucket.fullMs);
      this.#burstMs = burstMs;
    }
    return this.#bucket;
  }
}

/** New connections of each source, of one listener and in this process. */
export class SourceRates {
  /** When the bucket of a source is full again, the source that came last at the end. A source that is not here has a full one. */
  readonly #fullMs = new Map<string, number>();

  /** Sources that are remembered. */
  get size(): number {
    return this.#fullMs.size;
  }

  /** Whether a connection of this source may come in at `perSecond`, which is at least 1; counts it if so. */
  admits(ip: string, perSecond: number, nowMs: number): boolean {
    const sources = this.#fullMs;
    const bucket = new TokenBucket(BURST_MS, sources.get(ip));
    const admitted = bucket.waitMs(1, perSecond, nowMs) === 0;
    if (admitted) bucket.take(1, perSecond, nowMs);
    sources.delete(ip);
    sources.set(ip, bucket.fullMs);
    this.#forget(nowMs);
    return admitted;
  }

  /** Forgets those at the front: two at a time whose bucket is full, so that nobody is kept for nothing, and one in any case when there are too many. */
  #forget(nowMs: number): void {
    const sources = this.#fullMs;
    let looked = 0;
    for (const [ip, fullMs] of sources) {
      if (looked++ === 2 || (fullMs > nowMs && sources.size <= MOST_SOURCES)) return;
      sources.delete(ip);
    }
  }
}
