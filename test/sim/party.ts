// The program at the far end of a simulated link: it sends a stream that is known in advance, in bursts, ends or breaks as its plan
// says, and checks every byte that reaches it against the other party's stream.

import type { HandshakeScript, Program, SimLink } from "../support/sim-link.ts";
import { mulberry32, type Schedule } from "../support/sim-schedule.ts";

/** What a party will do. Times are in ms from when its link is up (or secured). */
export interface Plan {
  /** One after the other; each waits its delay after the one before. */
  readonly bursts: readonly { readonly delayMs: number; readonly bytes: number }[];
  /**
   * How its direction ends: `finish` half-closes; `answer` does so after the other side's FIN; `leave` closes wholly and resets
   * what still comes; `cut` sends FIN without close_notify; `stay` never ends.
   */
  readonly ending: "finish" | "answer" | "leave" | "cut" | "stay";
  readonly endDelayMs: number;
  /** Breaks in the middle, or null. */
  readonly breaks: {
    readonly afterMs: number;
    readonly how: "reset" | "vanish";
    readonly noticedAfterMs: number | null;
  } | null;
  /** Stops reading for a while, or for ever (null). */
  readonly stall: { readonly afterMs: number; readonly forMs: number | null } | null;
}

/** What a client sends before its stream. */
export interface Preamble {
  /** Belongs to the stream: the other party gets it too. */
  readonly streamed: Uint8Array;
  /** Does not: a PROXY header. */
  readonly header: Uint8Array;
  readonly handshake: HandshakeScript | null;
}

export const NO_PREAMBLE: Preamble = { streamed: new Uint8Array(0), header: new Uint8Array(0), handshake: null };

// All streams are read from this ring of noise, each from a place of its own. Its length is prime, so no buffer size hides a slip.
const RING_BYTES = 65_521;
const RING = makeRing();

export class Party implements Program {
  readonly name: string;
  readonly plan: Plan;
  readonly preamble: Preamble;
  readonly handshake?: HandshakeScript;
  /** Whose stream arrives here; null while nobody was dialled. */
  other: Party | null = null;
  link: SimLink | null = null;
  connectedMs = -1;
  /** Bytes of its stream, given to the network. */
  sent = 0;
  received = 0;
  fins = 0;
  resets = 0;
  /** It ended its direction in order, after all that it sent. */
  finished = false;
  wasCut = false;
  /** It has reset or vanished, or closed wholly so that its kernel may reset. */
  broke = false;
  /** The link broke before the legs were joined. */
  brokeWhileHeld = false;
  readonly #schedule: Schedule;
  readonly #origin: number;
  #burst = 0;

  constructor(schedule: Schedule, name: string, plan: Plan, preamble: Preamble = NO_PREAMBLE) {
    this.name = name;
    this.plan = plan;
    this.preamble = preamble;
    if (preamble.handshake !== null) this.handshake = preamble.handshake;
    this.#schedule = schedule;
    this.#origin = schedule.integer(0, RING_BYTES - 1);
  }

  /** Whether it reads to the end and breaks nothing, without delays that a linger would not wait for. */
  get isPatient(): boolean {
    const { stall, ending } = this.plan;
    // The runtime answers a cut TLS stream with an abort, and what is on its way to the client goes with it.
    if (this.wasCut && this.link?.isSecured === true) return false;
    return !this.broke && ending !== "leave" && (stall === null || (stall.forMs !== null && stall.forMs < 3000));
  }

  connected(link: SimLink): void {
    this.link = link;
    this.connectedMs = this.#schedule.nowMs;
    const { header, streamed, handshake } = this.preamble;
    if (header.length > 0) link.farSend(header);
    if (handshake !== null) link.farSend(handshake.hello);
    if (streamed.length > 0) {
      link.farSend(streamed);
      this.sent = streamed.length;
    }
    this.#planAccidents(link);
    if (handshake === null) this.#next();
  }

  secured(): void {
    this.#next();
  }

  data(bytes: Uint8Array): void {
    const other = this.other;
    if (other === null) this.#schedule.violation(`${this.name} got bytes although nobody sent any`);
    else if (!other.matches(this.received, bytes))
      this.#schedule.violation(`${this.name} got other bytes than were sent, near byte ${this.received}`);
    this.received += bytes.length;
    if (this.fins > 0) this.#schedule.violation(`${this.name} got bytes after a FIN`);
  }

  fin(): void {
    this.fins++;
    if (this.fins > 1) this.#schedule.violation(`${this.name} got a second FIN`);
    if (this.other === null || !this.other.finished)
      this.#schedule.violation(`${this.name} got a FIN although the other side had not finished in order`);
    else if (this.received !== this.other.sent)
      this.#schedule.violation(`${this.name} got a FIN after ${this.received} of ${this.other.sent} bytes`);
    if (this.plan.ending === "answer" && this.#burst >= this.plan.bursts.length) this.#end();
  }

  reset(): void {
    this.resets++;
  }

  /** Whether `bytes` are those of its stream from `offset` on. */
  matches(offset: number, bytes: Uint8Array): boolean {
    const length = Math.min(bytes.length, Math.max(0, this.sent - offset));
    return length === bytes.length && Buffer.from(this.#stream(offset, length)).equals(bytes);
  }

  #stream(offset: number, length: number): Uint8Array {
    const { streamed } = this.preamble;
    const bytes = new Uint8Array(length);
    const prefix = streamed.subarray(offset, offset + length);
    bytes.set(prefix);
    let filled = prefix.length;
    while (filled < length) {
      const start = (this.#origin + offset + filled - streamed.length) % RING_BYTES;
      const part = RING.subarray(start, start + length - filled);
      bytes.set(part, filled);
      filled += part.length;
    }
    return bytes;
  }

  #planAccidents(link: SimLink): void {
    const { breaks, stall } = this.plan;
    if (breaks !== null) {
      this.#schedule.after(breaks.afterMs, () => {
        if (this.broke || link.gone) return;
        this.broke = true;
        if (breaks.how === "reset") link.farReset();
        else link.farVanish(breaks.noticedAfterMs);
      });
    }
    if (stall !== null) {
      this.#schedule.after(stall.afterMs, () => link.farRead(false));
      if (stall.forMs !== null) this.#schedule.after(stall.afterMs + stall.forMs, () => link.farRead(true));
    }
  }

  #next(): void {
    const burst = this.plan.bursts[this.#burst];
    if (burst === undefined) {
      if (this.plan.ending !== "answer" || this.fins > 0) this.#schedule.after(this.plan.endDelayMs, () => this.#end());
      return;
    }
    this.#schedule.after(burst.delayMs, () => {
      if (this.broke || this.resets > 0) return;
      const bytes = this.#stream(this.sent, burst.bytes);
      this.sent += bytes.length;
      this.link?.farSend(bytes);
      this.#burst++;
      this.#next();
    });
  }

  #end(): void {
    if (this.broke || this.resets > 0 || this.finished || this.link === null) return;
    switch (this.plan.ending) {
      case "finish":
      case "answer":
        this.finished = true;
        this.link.farFinish();
        break;
      case "leave":
        this.broke = true;
        this.finished = this.link.farClose();
        break;
      case "cut":
        this.wasCut = true;
        this.finished = !this.link.isSecured;
        this.link.farCut();
        break;
      case "stay":
    }
  }
}

function makeRing(): Uint8Array {
  const random = mulberry32(1);
  return Uint8Array.from({ length: RING_BYTES }, () => Math.floor(random() * 256));
}
