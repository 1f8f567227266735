// One probe of one endpoint: connect, secure, ask, judge the answer, and leave in order. The verdict comes as soon as it is known; the connection is closed
// with FIN (of TLS with close_notify before it), so that the endpoint's log has nothing to say of us. Only one that does not answer is reset. Where nothing is
// to be said there is not even a connection, if the platform can do without (Runtime.reach).

import type { Address } from "../../base/address.ts";
import { Timer } from "../../base/clock.ts";
import { formatDuration } from "../../base/units.ts";
import { describeRefused, printable, refusalReason } from "../../protocol/leaf.ts";
import type { Reach, ReachOptions } from "../../runtime/reach.ts";
import type {
  CloseCode,
  Dial,
  DialResult,
  Runtime,
  SocketHandlers,
  StreamSocket,
  TlsResult,
} from "../../runtime/runtime.ts";
import type { Answer, Verdict } from "./answer.ts";
import type { ProbeTarget, ProbeTls } from "./target.ts";

/** What a dial fails with when this process or this host has too little of something. It says nothing of the endpoint. */
const OUT_OF_RESOURCES: ReadonlySet<string> = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL"]);
const REFUSES_US = ", as one does that refuses our certificate or misses one";
/**
 * After a handshake by TLS 1.3 the server has yet to look at our certificate, or to miss one, and only then refuses us. Whoever has said nothing for as long as it took
 * to come so far, a round trip among it, and for no less than this, has let us in.
 */
const LEAST_QUIET_MS = 100;
/** What an endpoint may send after the verdict; then we leave without waiting for its end. */
const MOST_IGNORED_BYTES = 64 * 1024;
const ENDED_AS: Readonly<Record<CloseCode, string>> = {
  clean: "it ended",
  reset: "it reset the connection",
  timed_out: "ETIMEDOUT",
  truncated: "its TLS stream was cut",
};

/** What a platform must have for probes. */
export type ProbeRuntime = Pick<
  Runtime,
  "clock" | "dial" | "reach" | "originateTls" | "clientContext" | "preciseNowMs"
>;

/** Whoever asked for a probe. */
export interface ProbeOwner {
  /** "" when the endpoint is well, else why it is not. Once at most, and not after `cancel`. */
  judged(reason: string): void;
  /** Instead of `judged`: the probe could not be made, for want of what the errno `code` stands for. */
  unable(code: string): void;
  /** Nothing of this probe is open any more. Once, after all else. */
  gone(probe: ProbeUnderWay): void;
}

/** A probe under way. */
export interface ProbeUnderWay {
  /** Ends it without a verdict. */
  cancel(): void;
}

/** Begins a probe. */
export function beginProbe(runtime: ProbeRuntime, target: ProbeTarget, owner: ProbeOwner): ProbeUnderWay {
  const saysNothing = target.tls === null && target.answer === null && target.header.length === 0;
  return saysNothing && runtime.reach !== null
    ? new Knock(runtime.reach, target, owner)
    : new Probe(runtime, target, owner);
}

/** One of an endpoint that has to take a connection, and no more. */
class Knock implements ProbeUnderWay, ReachOptions {
  readonly address: Address;
  readonly timeoutMs: number;
  readonly #owner: ProbeOwner;
  readonly #reach: Reach;

  constructor(reach: NonNullable<ProbeRuntime["reach"]>, { address, timeoutMs }: ProbeTarget, owner: ProbeOwner) {
    this.address = address;
    this.timeoutMs = timeoutMs;
    this.#owner = owner;
    this.#reach = reach(this);
  }

  cancel(): void {
    this.#reach.cancel();
    this.#owner.gone(this);
  }

  reached(code: string): void {
    if (OUT_OF_RESOURCES.has(code)) this.#owner.unable(code);
    else this.#owner.judged(code === "" ? "" : `connect: ${code}`);
    this.#owner.gone(this);
  }
}

/** One that says something, or hears something. */
class Probe implements ProbeUnderWay {
  readonly #runtime: ProbeRuntime;
  readonly #target: ProbeTarget;
  readonly #owner: ProbeOwner;
  readonly #answer: Answer | null;
  readonly #startedMs: number;
  readonly #timer: Timer;
  readonly #dial: Dial<Probe>;
  #socket: StreamSocket<unknown> | null = null;
  #doing: "connect" | "secure" | "ask" | "listen" | "leave" = "connect";
  #isCancelled = false;
  #hasEnded = false;
  #hasShutDown = false;
  #isGone = false;
  #ignoredBytes = 0;

  /** Begins it. */
  constructor(runtime: ProbeRuntime, target: ProbeTarget, owner: ProbeOwner) {
    this.#runtime = runtime;
    this.#target = target;
    this.#owner = owner;
    this.#answer = target.answer?.() ?? null;
    this.#startedMs = runtime.preciseNowMs();
    this.#timer = new Timer(() => this.#tooLate());
    const { address, timeoutMs } = target;
    this.#dial = runtime.dial({ address, handlers, data: this, timeoutMs, endsOrderly: true });
    void this.#dial.result.then((result) => this.#dialled(result));
  }

  cancel(): void {
    this.#isCancelled = true;
    this.#dial.cancel();
    this.#socket?.terminate();
  }

  heard(bytes: Uint8Array): void {
    if (this.#doing === "leave") {
      this.#ignoredBytes += bytes.length;
      if (this.#ignoredBytes > MOST_IGNORED_BYTES) this.#socket?.terminate();
    } else if (this.#answer !== null) this.#heed(this.#answer.feed(bytes));
    else this.#heed("");
  }

  ended(): void {
    this.#hasEnded = true;
    if (this.#doing === "leave") this.#leave();
    // What is asked by then and not answered will not be.
    else if (this.#doing === "ask" && this.#answer !== null) this.#heed(this.#answer.end());
  }

  closed(code: CloseCode): void {
    // Whoever is asked nothing may end as soon as it likes.
    if (code === "clean") this.#judge(this.#answer?.end() ?? "");
    else
      this.#judge(
        this.#doing === "listen" ? `TLS: ${ENDED_AS[code]} after the handshake${REFUSES_US}` : ENDED_AS[code],
      );
    this.#end();
  }

  #dialled(result: DialResult<Probe>): void {
    if (!result.ok) {
      if (OUT_OF_RESOURCES.has(result.code) && !this.#isCancelled) this.#owner.unable(result.code);
      else this.#judge(`connect: ${result.code}`);
      this.#end();
      return;
    }
    if (this.#isGone) return;
    this.#socket = result.socket;
    if (this.#isCancelled) {
      result.socket.terminate();
      return;
    }
    this.#runtime.clock.arm(this.#timer, this.#leftMs);
    const { header, tls } = this.#target;
    // It always fits into the empty buffer of a new socket.
    if (header.length > 0 && result.socket.write(header) < header.length)
      this.#refuse("it did not take the PROXY header");
    else if (tls === null) this.#ask();
    else void this.#secure(result.socket, tls);
  }

  async #secure(plain: StreamSocket<unknown>, tls: ProbeTls): Promise<void> {
    this.#doing = "secure";
    const { context, sni, accept } = tls;
    const timeoutMs = this.#leftMs;
    this.#runtime.clock.disarm(this.#timer);
    const options = { context, serverName: sni, accept, handlers, data: this as Probe, timeoutMs };
    const result = await this.#runtime.originateTls(plain, options);
    if (!result.ok) {
      this.#judge(`TLS: ${tlsReason(result, tls)}`);
      this.#end();
      return;
    }
    this.#socket = result.socket;
    if (this.#isGone) return;
    if (this.#isCancelled) {
      result.socket.terminate();
      return;
    }
    if (this.#answer === null && result.version === "TLSv1.3" && !this.#hasEnded) this.#listen();
    else {
      this.#runtime.clock.arm(this.#timer, this.#leftMs);
      this.#ask();
    }
  }

  /** For a word of the endpoint's, or none. */
  #listen(): void {
    const { clock } = this.#runtime;
    if (this.#doing === "leave") return;
    this.#doing = "listen";
    const tookMs = this.#target.timeoutMs - this.#leftMs;
    clock.arm(this.#timer, Math.min(this.#leftMs, Math.max(LEAST_QUIET_MS, tookMs)));
  }

  #ask(): void {
    if (this.#doing === "leave") {
      this.#leave();
      return;
    }
    this.#doing = "ask";
    const { request } = this.#target;
    if (this.#answer === null) this.#heed("");
    else if (request.length > 0 && (this.#socket?.write(request) ?? 0) < request.length)
      this.#refuse("it did not take what was sent");
    else if (this.#hasEnded) this.#heed(this.#answer.end());
  }

  #heed(verdict: Verdict): void {
    if (verdict === null || this.#doing === "leave") return;
    this.#judge(verdict);
    this.#leave();
  }

  #refuse(reason: string): void {
    this.#judge(reason);
    this.#socket?.terminate();
  }

  #judge(reason: string): void {
    if (this.#doing === "leave") return;
    this.#doing = "leave";
    if (!this.#isCancelled) this.#owner.judged(reason === "" ? "" : printable(reason));
  }

  /** FIN; the end of the endpoint, or the time-out, is waited for. */
  #leave(): void {
    if (this.#hasShutDown || this.#isGone) return;
    if (this.#socket === null) return;
    this.#hasShutDown = true;
    this.#socket.shutdown();
  }

  #tooLate(): void {
    if (this.#doing === "listen") {
      this.#runtime.clock.arm(this.#timer, this.#leftMs);
      this.#ask();
      return;
    }
    const within = `within ${formatDuration(this.#target.timeoutMs)}`;
    this.#judge(this.#answer === null ? `not done ${within}` : `no answer, or none that ended, ${within}`);
    this.#socket?.terminate();
  }

  #end(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#runtime.clock.disarm(this.#timer);
    this.#owner.gone(this);
  }

  get #leftMs(): number {
    return Math.max(1, this.#target.timeoutMs - (this.#runtime.preciseNowMs() - this.#startedMs));
  }
}

/** Of all probes; `socket.data` is the probe. */
const handlers: SocketHandlers<Probe> = {
  data: (socket, bytes) => socket.data.heard(bytes),
  drain() {},
  end: (socket) => socket.data.ended(),
  close: (socket, code) => socket.data.closed(code),
};

function tlsReason(result: Extract<TlsResult<Probe>, { ok: false }>, { trustDomains }: ProbeTls): string {
  const { failure, detail, peerCertificate } = result;
  if (failure === "timeout") return "the handshake did not end in time";
  if (failure === "closed") return "it ended during the handshake";
  const said = describeRefused(peerCertificate);
  return `${refusalReason(detail, peerCertificate, trustDomains)}${said === "" ? "" : `; ${said}`}`;
}
