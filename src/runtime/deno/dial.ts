// Dialling on Deno, by node:net: its error codes are the system's, and destroying a socket that is connecting gives it up at once.

import net from "node:net";
import { type Clock, Timer } from "../../base/clock.ts";
import { codeOf } from "../../base/errors.ts";
import type { Dial, DialOptions, DialResult } from "../runtime.ts";
import { socketPath } from "./listen.ts";
import { DenoSocket } from "./socket.ts";

/**
 * What all dialled sockets are read into, one after the other: of more than the 64 KiB that node:net takes otherwise, so that large streams cost fewer calls.
 * It has no such option for accepted ones.
 */
const READ_BUFFER = new Uint8Array(256 * 1024);

/** Starts a dial. See `Runtime.dial`. */
export function dial<S>(clock: Clock, { address, handlers, data, timeoutMs }: DialOptions<S>): Dial<S> {
  const { promise, resolve } = Promise.withResolvers<DialResult<S>>();
  const where: net.NetConnectOpts =
    address.kind === "unix"
      ? { path: socketPath(address.path) }
      : { host: address.host, port: address.port, noDelay: true };
  let dialled: DenoSocket<S> | null = null;
  const raw = new net.Socket({
    allowHalfOpen: true,
    onread: {
      buffer: READ_BUFFER,
      callback(length, buffer) {
        dialled?.receive(new Uint8Array(buffer.subarray(0, length)));
        return true;
      },
    },
  });
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
    dialled = new DenoSocket<S>(raw, handlers);
    dialled.data = data;
    settle({ ok: true, socket: dialled });
  });
  try {
    raw.connect(where);
  } catch {
    // Not permitted by Deno.
    giveUp("EACCES");
  }
  return { result: promise, cancel: () => giveUp("CANCELLED") };
}
