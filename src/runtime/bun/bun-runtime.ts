// The runtime seam on Bun: the fast path. What each piece does and why stands in the file that implements it.

import { Clock, TICK_MS } from "../../base/clock.ts";
import type { Runtime } from "../runtime.ts";
import { dial } from "./dial.ts";
import { descriptorLimit } from "./libc.ts";
import { listen } from "./listen.ts";
import { openLogSink } from "./log-sink.ts";
import { serverContext, terminateTls } from "./tls.ts";

const clock = new Clock(performance.now());
// Does not keep the process alive by itself.
setInterval(() => clock.advance(performance.now()), TICK_MS).unref();

export const runtime: Runtime = {
  name: "bun",
  clock,
  preciseNowMs: () => performance.now(),
  sha256: (bytes) => new Bun.CryptoHasher("sha256").update(bytes).digest("hex"),
  descriptorLimit,
  listen,
  dial: (options) => dial(clock, options),
  serverContext,
  terminateTls: (socket, options) => terminateTls(clock, socket, options),
  openLogSink,
};
