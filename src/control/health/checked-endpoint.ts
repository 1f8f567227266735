// One endpoint that is probed: its turns, the probe that is under way, and what its probes have made of it.

import { Timer } from "../../base/clock.ts";
import type { BackendSpec, EndpointSpec, HealthSpec } from "../../snapshot/snapshot.ts";
import { beginProbe, type ProbeOwner, type ProbeRuntime, type ProbeUnderWay } from "./probe.ts";
import { Tally } from "./tally.ts";
import type { ProbeTarget } from "./target.ts";
import { nextTurnMs, placeInInterval } from "./turns.ts";

/** A new endpoint is probed within this time where its first result decides whether it is used. */
const FIRST_WITHIN_MS = 1000;

/** What all of them share. */
export interface CheckedOwner {
  readonly runtime: ProbeRuntime;
  /** From 0 up to 1. */
  readonly random: () => number;
  /** It is its turn: begins `probe` now, or as soon as there is room for another one. */
  due(endpoint: CheckedEndpoint): void;
  /** Its state is another one. */
  changed(endpoint: CheckedEndpoint): void;
  unable(code: string): void;
  /** A probe has gone: there is room for another one. */
  gone(endpoint: CheckedEndpoint): void;
}

/** An endpoint and its probes. */
export class CheckedEndpoint implements ProbeOwner {
  readonly backend: string;
  readonly name: string;
  readonly slot: number;
  spec: HealthSpec;
  target: ProbeTarget;
  /** What the last probe that failed said, while that says how the endpoint is; else "". */
  reason = "";
  /** How often it went down, or came up again. */
  changes = 0;
  /** Whether it waits for room for its probe. */
  isWaiting = false;
  readonly #owner: CheckedOwner;
  readonly #timer: Timer;
  readonly #place: number;
  #tally: Tally;
  #probe: ProbeUnderWay | null = null;
  /** The probe before, which has its verdict and waits for the endpoint to end the connection too. */
  #leaving: ProbeUnderWay | null = null;
  /** In ms of the clock, without what chance adds. */
  #turnMs = 0;

  constructor(owner: CheckedOwner, { name }: BackendSpec, endpoint: EndpointSpec, how: CheckedHow) {
    this.backend = name;
    this.name = endpoint.name;
    this.slot = endpoint.slot;
    this.spec = how.spec;
    this.target = how.target;
    this.#owner = owner;
    this.#place = placeInInterval(`${name} ${endpoint.name}`);
    this.#tally = new Tally(how.spec, how.isUp, how.firstDecides);
    this.#timer = new Timer(() => this.#dueNow());
    if (how.isUp === false) this.reason = how.firstDecides ? "not probed yet" : "down since before the first probe";
  }

  /** Null until a probe has decided. */
  get isUp(): boolean | null {
    return this.#tally.isUp;
  }

  /** Whether a verdict is being waited for. */
  get isBusy(): boolean {
    return this.#probe !== null;
  }

  /** Its first turn, and all others after it. With `soon` the first one comes within a second. */
  start({ soon }: { readonly soon: boolean }): void {
    const { clock } = this.#owner.runtime;
    const { intervalMs } = this.spec;
    this.#turnMs = nextTurnMs(clock.nowMs, { place: this.#place, intervalMs });
    const delayMs = soon ? this.#place * Math.min(FIRST_WITHIN_MS, intervalMs) : this.#turnMs - clock.nowMs;
    clock.arm(this.#timer, delayMs);
  }

  /** Goes on in another way; a state stays what it is. */
  replace({ spec, target, isSame }: { spec: HealthSpec; target: ProbeTarget; isSame: boolean }): void {
    this.target = target;
    if (isSame) return;
    this.spec = spec;
    this.#tally = new Tally(spec, this.#tally.isUp, this.#tally.isUp === null);
    if (this.#timer.deadlineMs !== 0) this.start({ soon: this.#tally.isUp === null });
  }

  /** Begins a probe. */
  probe(): void {
    this.isWaiting = false;
    this.#probe = beginProbe(this.#owner.runtime, this.target, this);
  }

  stop(): void {
    this.#owner.runtime.clock.disarm(this.#timer);
    this.isWaiting = false;
    this.#probe?.cancel();
    this.#leaving?.cancel();
  }

  judged(reason: string): void {
    // An endpoint that does not end its connections has at most one of them left over.
    this.#leaving?.cancel();
    this.#leaving = this.#probe;
    this.#probe = null;
    const succeeded = reason === "";
    const { isDecided } = this.#tally;
    const isOther = this.#tally.count(succeeded);
    // That a new endpoint turns out to be well is no change.
    if (isOther && (isDecided || !succeeded)) this.changes++;
    // What was wrong before it went down, or has been since, says why it is down until it is up.
    if (!succeeded || this.#tally.isUp === true) this.reason = reason;
    if (isOther) this.#owner.changed(this);
  }

  unable(code: string): void {
    this.#owner.unable(code);
  }

  gone(probe: ProbeUnderWay): void {
    if (this.#probe === probe) this.#probe = null;
    if (this.#leaving === probe) this.#leaving = null;
    this.#owner.gone(this);
  }

  #dueNow(): void {
    const { runtime, random } = this.#owner;
    const { intervalMs, jitter } = this.spec;
    const { nowMs } = runtime.clock;
    // This turn's own place is near, before or behind, unless this is the first probe, which came soon.
    if (this.#turnMs - nowMs < intervalMs / 2)
      this.#turnMs = nextTurnMs(nowMs + intervalMs / 2, { place: this.#place, intervalMs });
    runtime.clock.arm(this.#timer, Math.max(0, this.#turnMs - nowMs + (random() - 0.5) * jitter * intervalMs));
    // One at a time: it has its turn again in the next interval.
    if (!this.isBusy && !this.isWaiting) this.#owner.due(this);
  }
}

/** How an endpoint is probed, and how it begins. */
export interface CheckedHow {
  readonly spec: HealthSpec;
  readonly target: ProbeTarget;
  readonly isUp: boolean | null;
  readonly firstDecides: boolean;
}
