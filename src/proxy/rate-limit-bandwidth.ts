// How fast bytes are relayed where a backend says so: on one connection, and on all of its connections in this process together, each way by itself.
// Bytes that have been read are passed on at once, as ever; when they were more than there was room for, the leg is held (not read from) until that debt is paid.
// Who shares a limit waits in turn. A leg without a limit has no meter and does not come by here.

import { type Clock, Timer } from "../base/clock.ts";
import { TokenBucket } from "../base/token-bucket.ts";
import type { BackendSpec } from "../snapshot/snapshot.ts";
import { type Leg, METERED, RELAYING } from "./leg.ts";

/** For how long unused bandwidth may be made up for. Longer than a timer is late, or the rate would not be reached. */
const BURST_MS = 100;

/** One direction of all connections of a backend. */
interface Shared {
  readonly bucket: TokenBucket;
  /** Of the daemon, as of the snapshot that is served; 0 = no limit any more. */
  perSecond: number;
}

interface BothWays {
  readonly up: Shared;
  readonly down: Shared;
}

/** The limits that the connections of a backend share, by its name: they outlive a reload. */
export class BackendBandwidth {
  readonly #partOf: (rate: number) => number;
  readonly #backends = new Map<string, BothWays>();

  /** `partOf` tells what part of a rate of the daemon falls to this process. */
  constructor(partOf: (rate: number) => number) {
    this.#partOf = partOf;
  }

  /** From now on these limits hold, for open connections too. */
  follow(specs: readonly BackendSpec[]): void {
    const limits = new Map(specs.map(({ name, maxBackendBandwidth }) => [name, maxBackendBandwidth]));
    for (const [name, { up, down }] of this.#backends) {
      up.perSecond = limits.get(name) ?? 0;
      down.perSecond = up.perSecond;
      limits.delete(name);
      if (up.perSecond === 0) this.#backends.delete(name);
    }
    for (const [name, perSecond] of limits) if (perSecond > 0) this.#backends.set(name, bothWays(perSecond));
  }

  /** Meters a leg from the start of its relay on, if its backend, of this spec, has limits. What it has pending counts already. */
  meter(leg: Leg, { name, maxBandwidth }: BackendSpec, onPaid: (timer: Timer) => void): void {
    const { connection } = leg;
    const both = this.#backends.get(name);
    if (maxBandwidth === 0 && both === undefined) return;
    const shared = both === undefined ? null : leg === connection.downstream ? both.up : both.down;
    const meter = new Meter({ leg, clock: connection.clock, maxBandwidth, shared, partOf: this.#partOf, onPaid });
    meters.set(leg, meter);
    leg.flow = METERED;
    if (leg.pendingBytes > 0) meter.count(leg.pendingBytes);
  }
}

interface MeterParts {
  readonly leg: Leg;
  readonly clock: Clock;
  /** 0 = none of its own. */
  readonly maxBandwidth: number;
  readonly shared: Shared | null;
  readonly partOf: (rate: number) => number;
  readonly onPaid: (timer: Timer) => void;
}

/** Counts the bytes of a leg. Armed while the leg is held; calls `onPaid` when it may go on. */
export class Meter extends Timer {
  readonly leg: Leg;
  readonly #clock: Clock;
  readonly #bucket = new TokenBucket(BURST_MS);
  readonly #maxBandwidth: number;
  readonly #shared: Shared | null;
  readonly #partOf: (rate: number) => number;

  constructor({ leg, clock, maxBandwidth, shared, partOf, onPaid }: MeterParts) {
    super(onPaid);
    this.leg = leg;
    this.#clock = clock;
    this.#maxBandwidth = maxBandwidth;
    this.#shared = shared;
    this.#partOf = partOf;
  }

  /** Whether the leg is not to be read from. */
  get isHolding(): boolean {
    return this.deadlineMs !== 0;
  }

  /** Bytes that may be read now without a debt. */
  get allowance(): number {
    const { nowMs } = this.#clock;
    let bytes = Number.POSITIVE_INFINITY;
    if (this.#maxBandwidth > 0) bytes = this.#bucket.available(this.#maxBandwidth, nowMs);
    const shared = this.#shared;
    if (shared !== null && shared.perSecond > 0)
      bytes = Math.min(bytes, shared.bucket.available(this.#partOf(shared.perSecond), nowMs));
    return Math.floor(bytes);
  }

  /** So many bytes have been read. Holds the leg for as long as they leave a debt. */
  count(bytes: number): void {
    const { nowMs } = this.#clock;
    let waitMs = 0;
    if (this.#maxBandwidth > 0) waitMs = take(this.#bucket, bytes, this.#maxBandwidth, nowMs);
    const shared = this.#shared;
    if (shared !== null && shared.perSecond > 0)
      waitMs = Math.max(waitMs, take(shared.bucket, bytes, this.#partOf(shared.perSecond), nowMs));
    if (waitMs > 0) this.#clock.arm(this, waitMs);
  }
}

function take(bucket: TokenBucket, bytes: number, perSecond: number, nowMs: number): number {
  bucket.take(bytes, perSecond, nowMs);
  return bucket.waitMs(0, perSecond, nowMs);
}

function bothWays(perSecond: number): BothWays {
  const bucket = (): Shared => ({ bucket: new TokenBucket(BURST_MS), perSecond });
  return { up: bucket(), down: bucket() };
}

// Beside the legs instead of in them: there are very many legs, and few have one.
const meters = new WeakMap<Leg, Meter>();

/** The meter of a leg which is METERED. */
export function meterOf(leg: Leg): Meter {
  return meters.get(leg) as Meter;
}

/** Whether a leg is not to be read from for now, because it has read too much. */
export function isHeld(leg: Leg): boolean {
  return leg.flow === METERED && meterOf(leg).isHolding;
}

/** Meters a leg no more, if it ever was. It is still paused, if it was. */
export function stopMeter(leg: Leg): void {
  if (leg.flow !== METERED) return;
  leg.connection.clock.disarm(meterOf(leg));
  leg.flow = RELAYING;
}
