// One connection of the load generator: dialled through the runtime's seam, which tells the errno of a failed connect and a RST from a FIN (and is held to
// that by the conformance suite against peers that are not ours). What is sent and what must come back is the exchange's or the stream's.

import { runtime } from "../../../src/runtime/bun/bun-runtime.ts";
import type { ClientContext, CloseCode, SocketHandlers, StreamSocket } from "../../../src/runtime/runtime.ts";
import type { Failure, FailureKind, LoadTarget } from "./report.ts";

const CONNECT_MS = 10_000;
const LOCAL_CODES = ["EADDRNOTAVAIL", "EMFILE", "ENFILE", "ENOBUFS"];

/** A target made ready for dialling. */
export interface Target {
  readonly text: string;
  readonly address: { readonly kind: "tcp"; readonly host: string; readonly port: number };
  readonly context: ClientContext | null;
}

/** Parses the address and builds the TLS context, once for all connections. */
export function prepareTarget({ address, tls }: LoadTarget): Target {
  const colon = address.lastIndexOf(":");
  return {
    text: address,
    address: { kind: "tcp", host: address.slice(0, colon), port: Number(address.slice(colon + 1)) },
    context:
      tls === undefined
        ? null
        : runtime.clientContext({
            ...{ chainPem: tls.certificate, keyPem: tls.key, serverCaPem: [tls.ca], serverCrlPem: [] },
            ...{ minVersion: "1.3", alpn: [] },
          }),
  };
}

/** What a connection tells its owner. After `failed` or `ended` nothing more comes. */
export interface ClientOwner {
  connected(): void;
  received(bytes: Uint8Array): void;
  /** The other side has ended in order; ours may not have. */
  ended(): void;
  failed(failure: Failure): void;
}

/** A connection. */
export class Client {
  readonly id: number;
  readonly #of: Failure["of"];
  readonly #target: Target;
  readonly #owner: ClientOwner;
  readonly startedMs = Date.now();
  readonly #startedAt = performance.now();
  connectMs = 0;
  localPort = 0;
  sentBytes = 0;
  receivedBytes = 0;
  #phase: Failure["phase"] = "connect";
  #socket: StreamSocket<Client> | null = null;
  #backlog: Uint8Array[] = [];
  #ending = false;
  #done = false;

  constructor(of: Failure["of"], id: number, target: Target, owner: ClientOwner) {
    this.#of = of;
    this.id = id;
    this.#target = target;
    this.#owner = owner;
  }

  get isDone(): boolean {
    return this.#done;
  }

  /** Whether the kernel has not taken yet what was to be sent. */
  get isBehind(): boolean {
    return this.#backlog.length > 0;
  }

  async start(): Promise<void> {
    const { address, context } = this.#target;
    const dial = runtime.dial<Client>({ address, handlers, data: this, timeoutMs: CONNECT_MS });
    const result = await dial.result;
    if (!result.ok) return this.fail(kindOfConnect(result.code), result.code);
    this.#socket = result.socket;
    if (this.#done) return result.socket.terminate();
    this.connectMs = performance.now() - this.#startedAt;
    this.localPort = result.socket.localPort ?? 0;
    if (context !== null && !(await this.#secure(result.socket, context))) return;
    this.#phase = "send";
    this.#owner.connected();
  }

  async #secure(socket: StreamSocket<Client>, context: ClientContext): Promise<boolean> {
    this.#phase = "handshake";
    const common = { handlers, data: this, timeoutMs: CONNECT_MS };
    const secured = await runtime.originateTls<Client>(socket, {
      ...{ context, serverName: "localhost", accept: () => "", ...common },
    });
    if (!secured.ok) {
      const kind = secured.failure === "timeout" ? "timed_out" : "handshake";
      this.fail(kind, `${secured.failure} ${secured.detail}`);
      return false;
    }
    this.#socket = secured.socket;
    if (this.#done) secured.socket.terminate();
    return !this.#done;
  }

  send(bytes: Uint8Array): void {
    this.#backlog.push(bytes);
    this.flush();
  }

  /** Half-closes after all that was sent. */
  end(): void {
    this.#ending = true;
    this.flush();
  }

  /** Writes as much as the kernel takes. */
  flush(): void {
    const socket = this.#socket;
    if (socket === null || this.#done || this.#phase === "receive") return;
    for (let next = this.#backlog[0]; next !== undefined; next = this.#backlog[0]) {
      const taken = socket.write(next);
      if (taken < 0) {
        this.fail("reset", "");
        return;
      }
      this.sentBytes += taken;
      if (taken < next.length) {
        this.#backlog[0] = next.subarray(taken);
        return;
      }
      this.#backlog.shift();
    }
    if (!this.#ending) return;
    this.#phase = "receive";
    socket.shutdown();
  }

  /** Told once; the connection is reset if it is still there. */
  fail(kind: FailureKind, code: string): void {
    if (this.#done) return;
    this.#done = true;
    this.#socket?.terminate();
    const { id, startedMs, localPort, sentBytes, receivedBytes } = this;
    this.#owner.failed({
      ...{ event: "failure", of: this.#of, id, kind, phase: this.#phase, code, to: this.#target.text, localPort },
      ...{ startedMs, failedMs: Date.now(), sentBytes, receivedBytes },
    });
  }

  take(bytes: Uint8Array): void {
    if (this.#done) return;
    this.receivedBytes += bytes.length;
    this.#owner.received(bytes);
  }

  /** The other side's end. It is in order only after ours: whoever sends back all it gets has not had it all before. */
  tookEnd(): void {
    if (this.#done) return;
    if (this.#phase === "receive") {
      this.#owner.ended();
      this.#done = true;
    } else this.fail("truncated", "FIN before ours");
  }

  closed(code: CloseCode): void {
    if (this.#done) return;
    if (code === "clean") this.tookEnd();
    else if (code === "truncated") this.fail("truncated", "no close_notify");
    else this.fail(code === "reset" ? "reset" : "timed_out", code);
  }
}

const handlers: SocketHandlers<Client> = {
  data: (socket, bytes) => socket.data.take(bytes),
  drain: (socket) => socket.data.flush(),
  end: (socket) => socket.data.tookEnd(),
  close: (socket, code) => socket.data.closed(code),
};

function kindOfConnect(code: string): FailureKind {
  if (code === "ECONNREFUSED") return "refused";
  if (code === "ECONNRESET") return "reset";
  if (code === "ETIMEDOUT") return "timed_out";
  return LOCAL_CODES.includes(code) ? "local" : "other";
}
