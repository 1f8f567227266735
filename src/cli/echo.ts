// The echo endpoints of the embedded default: small HTTP servers in this process that answer with their own name, so that a first
// run has something to balance to. What they say is in echo-http.ts; here is how it gets onto sockets.

import { concat } from "../base/bytes.ts";
import { Timer } from "../base/clock.ts";
import type { ListeningSocket, Runtime, SocketHandlers, StreamSocket } from "../runtime/runtime.ts";
import { EchoHttp } from "./echo-http.ts";

/** A connection on which nothing is asked for this long is closed. */
const IDLE_MS = 5 * 60_000;
/** How long a peer may take to close its side after we closed ours. */
const LINGER_MS = 5000;

const ENCODER = new TextEncoder();
const NOTHING = new Uint8Array(0);

interface EchoState {
  readonly http: EchoHttp;
  readonly timer: Timer;
  /** Responses that the kernel has not taken. No more is read while there are any. */
  unsent: Uint8Array;
  /** We have ended our direction. */
  finished: boolean;
}

/** Starts an endpoint called `name` on a free port of 127.0.0.1. Throws as `runtime.bind` does. */
export function startEcho(runtime: Runtime, name: string): ListeningSocket {
  const listener = runtime.listen<EchoState>({
    socket: runtime.bind({ kind: "tcp", host: "127.0.0.1", port: 0 }),
    handlers: echoHandlers(runtime),
    accept(socket) {
      const timer = new Timer(() => expire(runtime, socket, socket.data));
      socket.data = { http: new EchoHttp(name), timer, unsent: NOTHING, finished: false };
      runtime.clock.arm(timer, IDLE_MS);
    },
  });
  listener.resume();
  return listener;
}

function echoHandlers(runtime: Runtime): SocketHandlers<EchoState> {
  return {
    data(socket, bytes) {
      const state = socket.data;
      // What comes after our end is read all the same: unread, it would turn our FIN into a RST.
      if (state.http.ended || state.finished) return;
      runtime.clock.arm(state.timer, IDLE_MS);
      const responses = state.http.receive(bytes);
      if (responses !== "") state.unsent = concat(state.unsent, ENCODER.encode(responses));
      flush(runtime, socket, state);
    },
    drain(socket) {
      if (socket.data.unsent.length === 0) return;
      flush(runtime, socket, socket.data);
      if (socket.data.unsent.length === 0) socket.resume();
    },
    end(socket) {
      socket.data.http.ended = true;
      flush(runtime, socket, socket.data);
    },
    close(socket) {
      runtime.clock.disarm(socket.data.timer);
    },
  };
}

function expire(runtime: Runtime, socket: StreamSocket<unknown>, state: EchoState): void {
  if (state.finished || state.unsent.length > 0) socket.terminate();
  else finish(runtime, socket, state);
}

function flush(runtime: Runtime, socket: StreamSocket<unknown>, state: EchoState): void {
  if (state.unsent.length > 0) {
    const taken = socket.write(state.unsent);
    if (taken < 0) {
      socket.terminate();
      return;
    }
    state.unsent = state.unsent.subarray(taken);
    if (state.unsent.length > 0) {
      socket.pause();
      return;
    }
  }
  if (state.http.ended && !state.finished) finish(runtime, socket, state);
}

function finish(runtime: Runtime, socket: StreamSocket<unknown>, state: EchoState): void {
  state.finished = true;
  runtime.clock.arm(state.timer, LINGER_MS);
  runtime.endOrderly(socket);
  socket.shutdown();
}
