// One simulated connection: the kernel's view of it, between the proxy's handle on it (sim-socket.ts) and the program at its
// far end. What a kernel and Bun do by accident of timing is done here by chance: chunks split anywhere, writes taken in part,
// drains that mean nothing, resets that swallow themselves in a failed write, closes told at once or later.
//
// A breach of the seam's contract by the proxy (a write after its own FIN, a second shutdown) is recorded as a violation.

import type { CloseCode, SocketHandlers, TransferOutcome } from "../../src/runtime/runtime.ts";
import type { Schedule } from "./sim-schedule.ts";
import type { SimSocket } from "./sim-socket.ts";

/** How a network misbehaves. Probabilities are from 0 to 1. */
export interface Quirks {
  readonly latencyMs: number;
  /** The most that is read at once; a TLS read comes as several chunks. */
  readonly maxReadBytes: number;
  /** What the kernel takes before the far end has read it. */
  readonly sendBufferBytes: number;
  readonly shortWrite: number;
  readonly spuriousDrain: number;
  /** That `close` is told before `shutdown`, `close` or `terminate` returns. */
  readonly closeAtOnce: number;
  /** That a reset discards what had arrived and was not read yet. */
  readonly resetDiscards: number;
  /** That our own abort discards what is still on its way to the far end. */
  readonly abortDiscards: number;
  /** A reset is told so much after it came at the most; a write in between gets -1. */
  readonly resetToldWithinMs: number;
}

/** The program at the far end of a link. */
export interface Program {
  /** The link is up: for a client that it was accepted, for a server that it was dialled. */
  connected(link: SimLink): void;
  data(bytes: Uint8Array): void;
  /** The proxy's FIN, after all its bytes. */
  fin(): void;
  reset(): void;
  /** TLS has been established. Plain programs need none. */
  secured?(): void;
  /** What this client does in a TLS handshake. */
  readonly handshake?: HandshakeScript;
  /** What this server does in a TLS handshake. It is silent before: the runtime sends its hello when a handshake has begun. */
  readonly serverHandshake?: HandshakeScript;
}

export interface HandshakeScript {
  /** The program's whole first flight: of a client the ClientHello, of a server all that it answers. At least a byte. */
  readonly hello: Uint8Array;
  readonly outcome: "secured" | "certificate" | "handshake" | "silence";
  readonly delayMs: number;
  /** DER of the program's leaf, or null. */
  readonly certificate: Uint8Array | null;
}

type LinkEvents = SocketHandlers<unknown>;

export class SimLink {
  readonly schedule: Schedule;
  readonly quirks: Quirks;
  readonly program: Program;
  /** Called after each event that the proxy was told, with the socket that it was told about. */
  readonly observe: (socket: SimSocket) => void;
  isSecured = false;
  /** Nothing but `close` can be told any more. */
  gone = false;
  closeTold: CloseCode | null = null;
  /** The far end's FIN was told, by `end` or by `close`. */
  endTold = false;
  endToldMs = 0;
  resetArrived = false;
  /** A write got -1, and with it the reset was swallowed. */
  swallowed = false;
  /** Bytes that writes of the proxy were told are taken, of the stream as it is now (plain, or within TLS). */
  takenBytes = 0;
  /** Bytes told to the proxy by `data` since it was accepted or secured. */
  toldBytes = 0;
  /** Bytes that were there to be read when the proxy aborted the link. */
  abandonedBytes = 0;
  /** Whether a write had been taken in part then, and room for more was still awaited. */
  abandonedFull = false;
  /** When a byte last moved, either way, as the proxy could see it. */
  lastMovedMs = 0;
  /** When the far end last read, which the proxy can only see by asking what is unsent. */
  lastConsumedMs = 0;

  #socket: SimSocket | null = null;
  #events: LinkEvents | null = null;
  #paused = false;
  #readPlanned = false;
  #writeEnded = false;
  #needsDrain = false;
  #drainPlanned = false;

  readonly #arrived: Uint8Array[] = [];
  #arrivedBytes = 0;
  #arrivedEnd: "none" | "fin" | "cut" = "none";
  #lastToProxyMs = 0;

  readonly #unread: Uint8Array[] = [];
  #unconsumedBytes = 0;
  #lastToFarMs = 0;
  #farFinWaits = false;
  #farReads = true;
  #farReadPlanned = false;
  /** `left` has closed wholly: its kernel answers bytes with a RST. `dead` answers nothing any more. */
  #far: "alive" | "left" | "dead" = "alive";
  #dropsFlight = false;

  constructor(schedule: Schedule, quirks: Quirks, program: Program, observe: (socket: SimSocket) => void) {
    this.schedule = schedule;
    this.quirks = quirks;
    this.program = program;
    this.observe = observe;
  }

  // The proxy's side.

  /** Bytes on their way to the far end, or at it and not read. */
  get unconsumedBytes(): number {
    return this.#unconsumedBytes;
  }

  get socket(): SimSocket | null {
    return this.#socket;
  }

  /** Gives the link's events to `socket` from here on. */
  attach(socket: SimSocket, events: LinkEvents): void {
    if (this.#socket !== null) this.#socket.detached = true;
    this.#socket = socket;
    this.#events = events;
    this.#planRead();
  }

  write(bytes: Uint8Array): number {
    if (this.#writeEnded && !this.gone) this.schedule.violation("write after our own FIN");
    if (this.gone || this.#writeEnded || this.swallowed) return -1;
    if (this.resetArrived) {
      this.swallowed = true;
      this.#planRead();
      return -1;
    }
    const taken = this.#take(bytes);
    if (taken < bytes.length) {
      this.#needsDrain = true;
      if (this.#room > 0) this.#planDrain();
    }
    return taken;
  }

  /** Moves what has arrived to another link, as far as neither waits. */
  transferTo(to: SimLink, limitBytes: number, outcome: TransferOutcome): void {
    outcome.movedBytes = 0;
    outcome.rest = null;
    outcome.broken = "";
    if (this.isSecured) this.schedule.violation("transfer from a TLS socket");
    if (to.#writeEnded && !to.gone) this.schedule.violation("transfer after our own FIN");
    const bytes = this.gone ? new Uint8Array(0) : this.#takeArrived(Math.min(limitBytes, this.quirks.maxReadBytes));
    this.toldBytes += bytes.length;
    if (bytes.length > 0) this.lastMovedMs = this.schedule.nowMs;
    if (bytes.length > 0 && to.resetArrived) {
      to.swallowed = true;
      to.#planRead();
      outcome.broken = "to";
      outcome.rest = bytes;
      return;
    }
    outcome.movedBytes = to.gone ? 0 : to.#take(bytes);
    if (outcome.movedBytes < bytes.length) outcome.rest = bytes.slice(outcome.movedBytes);
    else if (this.resetArrived && !this.gone && this.#arrivedBytes === 0) {
      this.swallowed = true;
      this.#planRead();
      outcome.broken = "from";
    }
  }

  shutdown(): void {
    if (this.gone) return;
    if (this.#writeEnded) this.schedule.violation("shutdown twice");
    this.#sendFin();
    if (this.endTold) this.#closeSoon("clean");
  }

  close(): void {
    if (this.gone) return;
    if (this.isSecured || !this.endTold)
      this.schedule.violation("close of a socket that is TLS or whose peer has not ended");
    this.#sendFin();
    this.#closeSoon("clean");
  }

  terminate(): void {
    if (this.gone) return;
    this.abandonedBytes = this.#arrivedBytes;
    this.abandonedFull = this.#needsDrain;
    this.#abort();
    this.#closeSoon("clean");
  }

  pause(): void {
    this.#paused = true;
    this.#maybeSpuriousDrain();
  }

  resume(): void {
    this.#paused = false;
    this.#maybeSpuriousDrain();
    this.#planRead();
  }

  // The far end's side.

  /** The far end sends bytes; they are the link's from then on. */
  farSend(bytes: Uint8Array): void {
    this.#toProxy(() => {
      this.#arrived.push(bytes);
      this.#arrivedBytes += bytes.length;
    });
  }

  /** FIN after all that was sent; of a TLS stream close_notify and FIN. */
  farFinish(): void {
    this.#toProxy(() => {
      this.#arrivedEnd = "fin";
    });
  }

  /** FIN without close_notify; of a plain stream the same as `farFinish`. */
  farCut(): void {
    this.#toProxy(() => {
      this.#arrivedEnd = this.isSecured ? "cut" : "fin";
    });
  }

  /** As close(2): FIN, and no interest in what comes; RST when something is there unread. Gives whether it was a FIN. */
  farClose(): boolean {
    if (this.#unread.length > 0) {
      this.farReset();
      return false;
    }
    this.#far = "left";
    this.farFinish();
    return true;
  }

  farReset(): void {
    if (this.#far === "dead") return;
    this.#far = "dead";
    // It may overtake what is on its way, as far as the proxy can tell.
    const atMs = this.schedule.chance(0.5) ? this.schedule.nowMs : this.#lastToProxyMs;
    this.schedule.at(atMs + this.#latency(), () => this.#resetArrives());
  }

  /** A reset that is told in this very moment, whatever else is under way; what had arrived is lost. */
  farResetNow(): void {
    this.#far = "dead";
    this.resetArrived = true;
    this.#arrived.length = 0;
    this.#arrivedBytes = 0;
    this.#tellReset();
  }

  /** A reset that has come but is told only after so long: until then a write finds it. */
  farResetUntold(forMs: number): void {
    this.#far = "dead";
    this.resetArrived = true;
    this.schedule.after(forMs, () => this.#tellReset());
  }

  /** Nothing more is heard of the far end. After `noticedAfterMs` (null: never) the kernel gives up on it. */
  farVanish(noticedAfterMs: number | null): void {
    this.#far = "dead";
    this.#farReads = false;
    if (noticedAfterMs === null) return;
    this.schedule.after(noticedAfterMs, () => {
      if (!this.gone && !this.swallowed) this.#tellClose("timed_out");
    });
  }

  farRead(reads: boolean): void {
    if (this.#far === "dead") return;
    this.#farReads = reads;
    this.#planFarRead();
  }

  // What happens in between.

  get #room(): number {
    return Math.max(0, this.quirks.sendBufferBytes - this.#unconsumedBytes);
  }

  /** Takes as many of the bytes as there is room for, or fewer, and sends them on their way. */
  #take(bytes: Uint8Array): number {
    let taken = Math.min(bytes.length, this.#room);
    if (this.schedule.chance(this.quirks.shortWrite)) taken = this.schedule.integer(0, taken);
    if (taken === 0) return 0;
    this.takenBytes += taken;
    this.#unconsumedBytes += taken;
    this.lastMovedMs = this.schedule.nowMs;
    const copy = bytes.slice(0, taken);
    this.#toFar(() => this.#reachFar(copy));
    return taken;
  }

  #toProxy(arrive: () => void): void {
    if (this.#far === "dead") return;
    this.#lastToProxyMs = Math.max(this.#lastToProxyMs, this.schedule.nowMs + this.#latency());
    this.schedule.at(this.#lastToProxyMs, () => {
      if (this.gone || this.resetArrived) return;
      arrive();
      this.#planRead();
    });
  }

  #planRead(): void {
    if (this.#readPlanned || this.#events === null) return;
    this.#readPlanned = true;
    this.schedule.after(this.#soon(), () => {
      this.#readPlanned = false;
      if (!this.gone && !this.#paused) this.#readable();
    });
  }

  #readable(): void {
    if (this.#arrivedBytes > 0) this.#tellData();
    else if (this.swallowed) this.#tellSwallowed();
    else this.#tellEnd();
    if (!this.gone && (this.#arrivedBytes > 0 || this.swallowed || (this.#arrivedEnd !== "none" && !this.endTold)))
      this.#planRead();
  }

  /** One read. What it gives comes in several chunks in TLS, all of them even if the first makes the proxy pause. */
  #tellData(): void {
    const read = this.#takeArrived(this.schedule.integer(1, this.quirks.maxReadBytes));
    let at = 0;
    while (at < read.length && !this.gone) {
      const most = read.length - at;
      const length = this.isSecured && this.schedule.chance(0.5) ? this.schedule.integer(1, most) : most;
      this.toldBytes += length;
      this.lastMovedMs = this.schedule.nowMs;
      this.#tell((events, socket) => events.data(socket, read.slice(at, at + length)));
      at += length;
    }
    // The close_notify was in the same read.
    if (this.isSecured && this.#arrivedBytes === 0 && this.schedule.chance(0.3)) this.#tellEnd();
  }

  #takeArrived(limit: number): Uint8Array {
    const read = new Uint8Array(Math.min(limit, this.#arrivedBytes));
    let filled = 0;
    while (filled < read.length) {
      const chunk = this.#arrived[0] as Uint8Array;
      const part = chunk.subarray(0, read.length - filled);
      read.set(part, filled);
      filled += part.length;
      if (part.length === chunk.length) this.#arrived.shift();
      else this.#arrived[0] = chunk.subarray(part.length);
    }
    this.#arrivedBytes -= filled;
    return read;
  }

  #tellEnd(): void {
    if (this.#arrivedEnd === "none" || this.endTold || this.gone) return;
    if (this.#arrivedEnd === "cut") {
      this.#abort();
      this.#tellClose("truncated");
      return;
    }
    this.endTold = true;
    this.endToldMs = this.schedule.nowMs;
    if (this.#writeEnded) this.#tellClose("clean");
    else this.#tell((events, socket) => events.end(socket));
  }

  /** After a write that failed Bun shows an orderly end; of a TLS stream the missing close_notify is noticed. */
  #tellSwallowed(): void {
    if (this.isSecured) {
      this.#tellClose("truncated");
      return;
    }
    if (!this.endTold) this.#tell((events, socket) => events.end(socket));
    if (!this.gone) this.#closeSoon("clean");
  }

  #resetArrives(): void {
    if (this.gone) return;
    this.resetArrived = true;
    if (this.schedule.chance(this.quirks.resetDiscards)) {
      this.#arrived.length = 0;
      this.#arrivedBytes = 0;
      this.#arrivedEnd = "none";
    }
    this.schedule.after(this.schedule.random() * this.quirks.resetToldWithinMs, () => this.#tellReset());
  }

  #tellReset(): void {
    if (this.#events === null) this.gone = true;
    while (this.#arrivedBytes > 0 && !this.#paused && !this.gone && !this.swallowed && this.schedule.chance(0.8))
      this.#tellData();
    if (!this.gone && !this.swallowed) this.#tellClose("reset");
  }

  #tell(event: (events: LinkEvents, socket: SimSocket) => void): void {
    const socket = this.#socket as SimSocket;
    try {
      event(this.#events as LinkEvents, socket);
    } catch (thrown) {
      this.schedule.violation(`a handler threw: ${String(thrown)}\n${(thrown as Error).stack}`);
    }
    this.observe(socket);
  }

  #tellClose(code: CloseCode): void {
    if (this.closeTold !== null) return;
    this.gone = true;
    this.closeTold = code;
    this.#tell((events, socket) => events.close(socket, code));
  }

  #closeSoon(code: CloseCode): void {
    if (this.schedule.chance(this.quirks.closeAtOnce)) this.#tellClose(code);
    else {
      this.gone = true;
      this.schedule.after(this.#soon(), () => this.#tellClose(code));
    }
  }

  #sendFin(): void {
    this.#writeEnded = true;
    if (this.resetArrived) return;
    this.#toFar(() => {
      this.#farFinWaits = true;
      this.#planFarRead();
    });
  }

  #abort(): void {
    this.gone = true;
    this.#dropsFlight = this.schedule.chance(this.quirks.abortDiscards);
    const atMs = Math.max(this.#lastToFarMs, this.schedule.nowMs) + this.#latency();
    this.schedule.at(atMs, () => {
      // What has come before the reset can still be read.
      while (!this.#dropsFlight && this.#unread.length > 0 && this.#farReads && this.#far !== "dead")
        this.#farConsume();
      if (this.#far === "dead") return;
      this.#far = "dead";
      this.program.reset();
    });
  }

  #toFar(arrive: () => void): void {
    this.#lastToFarMs = Math.max(this.#lastToFarMs, this.schedule.nowMs + this.#latency());
    this.schedule.at(this.#lastToFarMs, () => {
      if (!this.#dropsFlight) arrive();
    });
  }

  #reachFar(bytes: Uint8Array): void {
    if (this.#far === "left") this.farReset();
    if (this.#far === "dead") return;
    this.#unread.push(bytes);
    this.#planFarRead();
  }

  #planFarRead(): void {
    if (this.#farReadPlanned || !this.#farReads) return;
    this.#farReadPlanned = true;
    this.schedule.after(this.#soon(), () => {
      this.#farReadPlanned = false;
      this.#farConsume();
    });
  }

  #farConsume(): void {
    if (!this.#farReads || this.#far === "dead") return;
    const bytes = this.#unread.shift();
    if (bytes !== undefined) {
      this.lastConsumedMs = this.schedule.nowMs;
      this.#unconsumedBytes -= bytes.length;
      if (this.#needsDrain) this.#planDrain();
      this.program.data(bytes);
    } else if (this.#farFinWaits) {
      this.#farFinWaits = false;
      this.program.fin();
    }
    if (this.#unread.length > 0 || this.#farFinWaits) this.#planFarRead();
  }

  #planDrain(): void {
    if (this.#drainPlanned) return;
    this.#drainPlanned = true;
    this.schedule.after(this.#soon(), () => {
      this.#drainPlanned = false;
      if (this.gone || !this.#needsDrain || this.resetArrived) return;
      this.#needsDrain = false;
      this.#tell((events, socket) => events.drain(socket));
    });
  }

  #maybeSpuriousDrain(): void {
    if (!this.schedule.chance(this.quirks.spuriousDrain)) return;
    this.schedule.after(this.#soon(), () => {
      if (!this.gone && !this.resetArrived) this.#tell((events, socket) => events.drain(socket));
    });
  }

  #latency(): number {
    return this.schedule.random() * this.quirks.latencyMs;
  }

  /** Often in the same moment, so that events of different sockets come in any order. */
  #soon(): number {
    return this.schedule.chance(0.5) ? 0 : this.schedule.random() * 2;
  }
}
