// Dialling on Deno, by node:net: its error codes are the system's, and destroying a socket that is connecting gives it up at once.

import net from "node:net";
import { type Clock, Timer } from "../../base/clock.ts";
import { codeOf } from "../../base/errors.ts";
import type { Dial, DialOptions, DialResult } from "../runtime.ts";
import { socketPath } from "./listen.ts";
import { DenoSocket } from "./socket.ts";

/** Starts a dial. See `Runtime.dial`. */
export function dial<S>(clock: Clock, { address, handlers, data, timeoutMs }: DialOptions<S>): Dial<S> {
  const { promise, resolve } = Promise.withResolvers<DialResult<S>>();
  const where: net.NetConnectOpts =
    address.kind === "unix"
      ? { path: socketPath(address.path) }
      : { host: address.host, port: address.port, noDelay: true };
  const raw = new net.Socket({ allowHalfOpen: true });
  let isSettled = false;
  const settle = (result: DialResult<S>): void => {
    isSettled = true;
    clock.disarm(deadline);
    resolve(result);
  };
  const giveUp = (code: string): void => {
    if (isSettled) return;
    settle({ ok: false, code });
    raw.destroy();
  };
  const deadline = new Timer(() => giveUp("ETIMEDOUT"));
  clock.arm(deadline, timeoutMs);
  const failed = (error: unknown): void => {
    if (!isSettled) settle({ ok: false, code: codeOf(error) || "EACCES" });
  };
  raw.on("error", failed);
  raw.once("connect", () => {
    if (isSettled) return;
    const socket = new DenoSocket<S>(raw, handlers);
    socket.data = data;
    settle({ ok: true, socket });
  });
  try {
    raw.connect(where);
  } catch {
    // Not permitted by Deno.
    giveUp("EACCES");
  }
  return { result: promise, cancel: () => giveUp("CANCELLED") };
}
