// TLS of the simulated runtime, in both directions: no cryptography, but a script of the program at the far end that says how long the handshake takes and
// how it comes out. The bytes of the first flight that the program sends must come whole and once.

import { Timer } from "../../src/base/clock.ts";
import type {
  OriginateTlsOptions,
  SocketHandlers,
  StreamSocket,
  TerminateTlsOptions,
  TlsResult,
} from "../../src/runtime/runtime.ts";
import type { HandshakeScript } from "./sim-link.ts";
import type { Schedule } from "./sim-schedule.ts";
import { SimSocket } from "./sim-socket.ts";

type Refused = Extract<TlsResult<unknown>, { ok: false }>;
type Failure = Refused["failure"];

/** What both directions need. */
interface Side<S> {
  readonly script: HandshakeScript;
  readonly initialData: Uint8Array | null;
  readonly handlers: SocketHandlers<S>;
  readonly data: S;
  readonly timeoutMs: number;
  /** The last word on a peer whose chain is good: "" or the reason to refuse it. */
  accept(): string;
}

/** See `Runtime.terminateTls`. The far end's script is `Program.handshake`. */
export function terminate<S>(
  schedule: Schedule,
  plain: SimSocket,
  options: TerminateTlsOptions<S>,
): Promise<TlsResult<S>> {
  const script = plain.link.program.handshake;
  if (script === undefined) return unscripted(schedule, plain);
  const { initialData, handlers, data, timeoutMs } = options;
  return secure(schedule, plain, { script, initialData, handlers, data, timeoutMs, accept: () => "" });
}

/** See `Runtime.originateTls`. The far end's script is `Program.serverHandshake`. */
export function originate<S>(
  schedule: Schedule,
  plain: SimSocket,
  options: OriginateTlsOptions<S>,
): Promise<TlsResult<S>> {
  const { link } = plain;
  const script = link.program.serverHandshake;
  if (script === undefined) return unscripted(schedule, plain);
  if (link.toldBytes > 0 || link.endTold) {
    const failed = failure(link.toldBytes > 0 ? "handshake" : "closed", link.toldBytes > 0 ? "SPOKE_FIRST" : "");
    silence(plain);
    link.terminate();
    return Promise.resolve(failed);
  }
  const { handlers, data, timeoutMs } = options;
  const secured = secure(schedule, plain, {
    script,
    initialData: null,
    handlers,
    data,
    timeoutMs,
    accept() {
      try {
        return script.certificate === null ? "NO_CERTIFICATE" : options.accept(script.certificate);
      } catch (thrown) {
        schedule.violation(`accept threw: ${String(thrown)}`);
        return "accept threw";
      }
    },
  });
  link.farSend(script.hello);
  return secured;
}

function secure<S>(schedule: Schedule, plain: SimSocket, side: Side<S>): Promise<TlsResult<S>> {
  const { link } = plain;
  const { script } = side;
  const { promise, resolve } = Promise.withResolvers<TlsResult<S>>();
  let seenBytes = 0;
  let settled = false;
  const settle = (result: TlsResult<S>): void => {
    if (settled) return;
    settled = true;
    schedule.clock.disarm(deadline);
    resolve(result);
  };
  const fail = (why: Failure, detail: string): void =>
    settle(failure(why, detail, why === "certificate" ? script.certificate : null));
  const deadline = new Timer(() => {
    fail("timeout", "");
    link.terminate();
  });
  const feed = (bytes: Uint8Array): void => {
    for (const byte of bytes) {
      if (byte !== script.hello[seenBytes++]) {
        schedule.violation(`byte ${seenBytes - 1} of the hello was not what the peer sent`);
        break;
      }
    }
    if (seenBytes === script.hello.length) schedule.after(script.delayMs, judge);
  };
  const judge = (): void => {
    if (settled || link.gone) return;
    if (script.outcome === "silence") return;
    if (script.outcome !== "secured") {
      fail(script.outcome, script.outcome === "certificate" ? "CERT_HAS_EXPIRED" : "WRONG_VERSION_NUMBER");
      link.terminate();
      return;
    }
    const fault = side.accept();
    if (fault !== "") {
      fail("certificate", fault);
      link.terminate();
      return;
    }
    const secured = new SimSocket(link, plain.remoteAddress, plain.remotePort);
    secured.data = side.data;
    secured.peerCertificate = script.certificate;
    link.attach(secured, side.handlers as SocketHandlers<unknown>);
    link.isSecured = true;
    link.toldBytes = 0;
    link.takenBytes = 0;
    settle({
      ok: true,
      socket: secured as unknown as StreamSocket<S>,
      peerCertificate: script.certificate,
      version: "TLSv1.3",
      cipher: "TLS_AES_128_GCM_SHA256",
      resumed: false,
      alpn: "",
    });
    link.program.secured?.();
  };
  schedule.clock.arm(deadline, side.timeoutMs);
  if (link.gone) fail("closed", "");
  link.attach(new SimSocket(link, plain.remoteAddress, plain.remotePort), {
    data: (_, bytes) => feed(bytes),
    drain() {},
    end() {
      fail("closed", "");
      link.terminate();
    },
    close: () => fail("closed", ""),
  });
  if (side.initialData !== null) feed(side.initialData);
  return promise;
}

function unscripted<S>(schedule: Schedule, plain: SimSocket): Promise<TlsResult<S>> {
  schedule.violation("a TLS handshake with a program that has no script for one");
  plain.link.terminate();
  return Promise.resolve(failure("handshake", ""));
}

/** From here on the plain socket tells its handlers nothing. */
function silence(plain: SimSocket): void {
  const nobody = new SimSocket(plain.link, plain.remoteAddress, plain.remotePort);
  plain.link.attach(nobody, { data() {}, drain() {}, end() {}, close() {} });
}

function failure(why: Failure, detail: string, peerCertificate: Uint8Array | null = null): Refused {
  return { ok: false, failure: why, detail, peerCertificate };
}
