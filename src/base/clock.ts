// The coarse clock and the timer wheel that hangs on it. A proxy holds one deadline for every connection, and almost
// none of them fires; so arming must be a few stores, and reading the time must not be a system call.
//
// The wheel is a hashed wheel (Varghese & Lauck, 1987, scheme 6): deadlines hash to a slot by tick, and a slot keeps the
// timers of later rounds too, which are passed over. Timers are intrusive list nodes: arming allocates nothing.
// Deadlines fire up to one tick late and never early.

import { assert } from "./assert.ts";

/** Length of one tick in ms: the precision of every time-out in the data plane. */
export const TICK_MS = 25;
/** Slots in the wheel; one round is TICK_MS × SLOT_COUNT, about 51 s. A power of two. */
const SLOT_COUNT = 2048;

/** One deadline. Embed it in what it watches and reuse it: arming an armed timer moves it. */
export class Timer {
  /** @internal */ previous: Timer | null = null;
  /** @internal */ next: Timer | null = null;
  /** When it fires, in ms of the clock that armed it; 0 while it is not armed. */
  deadlineMs = 0;
  readonly onFire: (timer: Timer) => void;

  /** `onFire` is given the timer: where there are many of them, one function can serve a subclass that knows whose it is. */
  constructor(onFire: (timer: Timer) => void) {
    this.onFire = onFire;
  }
}

/**
 * Monotonic coarse time and the deadlines that depend on it. Something outside (the runtime, or a simulation) must call
 * `advance` every TICK_MS; between calls `nowMs` stands still.
 */
export class Clock {
  /** Milliseconds since an arbitrary start, as of the last `advance`. Read it on the hot path. */
  nowMs: number;
  /** Timers armed. Zero means that nothing needs `advance`. */
  armed = 0;
  readonly #slots: Timer[] = [];
  readonly #onFirstArmed: () => void;
  #tick: number;

  /** `onFirstArmed` is called before a timer is armed while none is: it may `advance`, and has to see to it from then on. */
  constructor(nowMs = 0, onFirstArmed: () => void = () => {}) {
    this.nowMs = nowMs;
    this.#onFirstArmed = onFirstArmed;
    this.#tick = Math.floor(nowMs / TICK_MS);
    for (let slot = 0; slot < SLOT_COUNT; slot++) this.#slots.push(emptyList());
  }

  /** Arms `timer` to fire `delayMs` from now, at the next tick at the earliest; moves it when it is armed already. */
  arm(timer: Timer, delayMs: number): void {
    assert(delayMs >= 0 && Number.isFinite(delayMs), "a delay is a finite number of ms");
    if (timer.deadlineMs !== 0) this.disarm(timer);
    if (this.armed === 0) this.#onFirstArmed();
    // A deadline of 0 would say "not armed": at time 0 a delay of 0 becomes the next moment.
    timer.deadlineMs = this.nowMs + delayMs || Number.MIN_VALUE;
    const tick = Math.max(this.#tick + 1, Math.ceil(timer.deadlineMs / TICK_MS));
    const head = this.#slots[tick & (SLOT_COUNT - 1)] as Timer;
    timer.previous = head.previous;
    timer.next = head;
    (head.previous as Timer).next = timer;
    head.previous = timer;
    this.armed++;
  }

  /** Makes sure that `timer` does not fire. Harmless when it is not armed. */
  disarm(timer: Timer): void {
    if (timer.deadlineMs === 0) return;
    unlink(timer);
    timer.deadlineMs = 0;
    this.armed--;
  }

  /**
   * Moves time forward to `nowMs` and fires every timer that has come due, in order of ticks (after a jump of more than one
   * round, in no order). What a handler throws comes out here; the timers that were due with it fire at the next tick.
   */
  advance(nowMs: number): void {
    if (nowMs <= this.nowMs) return;
    this.nowMs = nowMs;
    const last = Math.floor(nowMs / TICK_MS);
    // After a long pause one round visits every slot; more rounds would find nothing new.
    if (last - this.#tick > SLOT_COUNT) this.#tick = last - SLOT_COUNT;
    while (this.#tick < last) this.#fireSlot(++this.#tick);
  }

  #fireSlot(tick: number): void {
    const head = this.#slots[tick & (SLOT_COUNT - 1)] as Timer;
    // Handlers may arm and disarm anything, so take what is due off the slot first and fire from a list of its own.
    const due = emptyList();
    for (let timer = head.next as Timer; timer !== head; ) {
      const next = timer.next as Timer;
      if (timer.deadlineMs <= this.nowMs) {
        unlink(timer);
        timer.previous = due.previous;
        timer.next = due;
        (due.previous as Timer).next = timer;
        due.previous = timer;
      }
      timer = next;
    }
    try {
      while (due.next !== due) {
        const timer = due.next as Timer;
        this.disarm(timer);
        timer.onFire(timer);
      }
    } finally {
      // Only after a throw is anything left. One broken handler must not cost other connections their deadlines.
      if (due.next !== due) this.#postpone(due, tick + 1);
    }
  }

  #postpone(due: Timer, tick: number): void {
    const head = this.#slots[tick & (SLOT_COUNT - 1)] as Timer;
    const first = due.next as Timer;
    const last = due.previous as Timer;
    first.previous = head.previous;
    (head.previous as Timer).next = first;
    last.next = head;
    head.previous = last;
  }
}

function emptyList(): Timer {
  const head = new Timer(() => {});
  head.previous = head;
  head.next = head;
  return head;
}

function unlink(timer: Timer): void {
  (timer.previous as Timer).next = timer.next;
  (timer.next as Timer).previous = timer.previous;
  timer.previous = null;
  timer.next = null;
}
