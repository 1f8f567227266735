// Reaching an address on Bun, past its sockets: a descriptor that will have neither data nor events needs no more than connect(2), a look whether it
// has connected, and close(2). All attempts are looked at together, once a tick.
//
// It is closed as HAProxy closes its checks. The kernel does not acknowledge the peer's SYN-ACK at once (tcp(7), TCP_QUICKACK), and a reset in its stead
// takes the connection back before it was there: the program that listens never hears of it and has nothing to log, and no side is left with a
// TIME_WAIT. After 200 ms the kernel acknowledges all the same, so a program whose probe we are late to close sees a connection that is reset.

import { type Clock, Timer } from "../../base/clock.ts";
import type { Reach, ReachOptions } from "../reach.ts";
import { closeDescriptor, connectFailure, kernelAddress, openConnecting, pollAll } from "./libc.ts";

const POLLOUT = 4;
/** Where the events that there are begin in the second word of a struct pollfd. */
const EVENTS_SHIFT = 16;

/** One attempt. */
class Reaching implements Reach {
  readonly options: ReachOptions;
  readonly deadlineMs: number;
  /** -1 when it failed as it began, and once it is settled. */
  descriptor: number;
  isSettled = false;
  readonly #failure: string;

  constructor(options: ReachOptions, nowMs: number) {
    this.options = options;
    this.deadlineMs = nowMs + options.timeoutMs;
    const opened = openConnecting(kernelAddress(options.address), { acknowledges: false });
    this.#failure = typeof opened === "string" ? opened : "";
    this.descriptor = typeof opened === "string" ? -1 : opened;
  }

  /** With what there is of events. Whether it is settled now. */
  look(events: number, nowMs: number): boolean {
    if (this.isSettled) return true;
    if (this.#failure !== "") this.#settle(this.#failure);
    else if (events !== 0) this.#settle(events === POLLOUT ? "" : connectFailure(this.descriptor));
    else if (nowMs >= this.deadlineMs) this.#settle("ETIMEDOUT");
    return this.isSettled;
  }

  cancel(): void {
    if (this.isSettled) return;
    this.isSettled = true;
    if (this.descriptor >= 0) closeDescriptor(this.descriptor);
    this.descriptor = -1;
  }

  #settle(code: string): void {
    this.cancel();
    this.options.reached(code);
  }
}

/** All attempts of a process. */
export class Reaches {
  readonly #clock: Clock;
  readonly #nextLook = new Timer(() => this.#look());
  #underWay: Reaching[] = [];
  /** One struct pollfd for each attempt. It only grows: the caller limits the number of attempts. */
  #requests = new Int32Array(2 * 64);

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** See `Runtime.reach`. */
  begin(options: ReachOptions): Reach {
    const reaching = new Reaching(options, this.#clock.nowMs);
    this.#underWay.push(reaching);
    if (this.#nextLook.deadlineMs === 0) this.#clock.arm(this.#nextLook, 0);
    return reaching;
  }

  #look(): void {
    const before = this.#underWay;
    // The callback may begin another attempt.
    this.#underWay = [];
    if (this.#requests.length < 2 * before.length) this.#requests = new Int32Array(4 * before.length);
    const requests = this.#requests;
    for (let index = 0; index < before.length; index++) {
      // The kernel passes over a descriptor of -1.
      requests[2 * index] = (before[index] as Reaching).descriptor;
      requests[2 * index + 1] = POLLOUT;
    }
    pollAll(requests, before.length);
    const { nowMs } = this.#clock;
    for (let index = 0; index < before.length; index++) {
      const reaching = before[index] as Reaching;
      const events = (requests[2 * index + 1] as number) >>> EVENTS_SHIFT;
      if (!reaching.look(events, nowMs)) this.#underWay.push(reaching);
    }
    if (this.#underWay.length > 0) this.#clock.arm(this.#nextLook, 0);
  }
}
