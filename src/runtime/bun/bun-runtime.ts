// The runtime seam on Bun: the fast path. What each piece does and why stands in the file that implements it.

import { lookup } from "node:dns/promises";
import { codeOf, ProxyError } from "../../base/errors.ts";
import { clock } from "../node/clock.ts";
import { files } from "../node/files.ts";
import { openLogFile, openLogSink } from "../node/log-sink.ts";
import type { Runtime } from "../runtime.ts";
import { bind } from "./bound.ts";
import { dial } from "./dial.ts";
import { http } from "./http.ts";
import { descriptorLimit, resetAtClose, unacknowledgedBytes } from "./libc.ts";
import { listen } from "./listen.ts";
import { commandLine, dropPrivileges, userExists } from "./privileges.ts";
import { processes } from "./processes.ts";
import { Reaches } from "./reach.ts";
import { inheritedSockets, serviceManager, shareInherited } from "./service-manager.ts";
import { tcpState } from "./tcp-state.ts";
import { isSignedBy, originateTls, peerCertificate, terminateTls } from "./tls.ts";
import { clientContext, serverContext } from "./tls-contexts.ts";
import { descriptorOf, transfer } from "./transfer.ts";

const reaches = new Reaches(clock);

/** This process's runtime. */
export const runtime: Runtime = {
  name: "bun",
  refusals: [],
  files,
  http,
  clock,
  giveBackMemory() {
    Bun.gc(true);
    Bun.shrink();
  },
  preciseNowMs: () => performance.now(),
  sha256: (bytes) => new Bun.CryptoHasher("sha256").update(bytes).digest("hex"),
  descriptorLimit,
  bind: (address, ours) => (address.kind === "systemd" ? shareInherited(address) : bind(address, ours)),
  listen,
  dial: (options) => dial(clock, options),
  reach: (options) => reaches.begin(options),
  serverContext,
  terminateTls: (socket, options) => terminateTls(clock, socket, options),
  clientContext,
  originateTls: (socket, options) => originateTls(clock, socket, options),
  endOrderly: (socket) => resetAtClose(descriptorOf(socket), false),
  peerCertificate,
  isSignedBy,
  transfer,
  unsentBytes: (socket) => unacknowledgedBytes(descriptorOf(socket)),
  socketState: (socket) => tcpState(descriptorOf(socket)),
  get serviceManager() {
    return serviceManager();
  },
  inheritedSockets,
  userExists,
  dropPrivileges,
  commandLine,
  processes,
  resolve,
  openLogSink,
  openLogFile,
};

async function resolve(name: string): Promise<string> {
  try {
    const { address } = await lookup(name, { order: "ipv4first" });
    return address;
  } catch (thrown) {
    throw new ProxyError(
      codeOf(thrown),
      `${codeOf(thrown) === "ENOTFOUND" ? "it has no address" : "the name server does not tell"} (${codeOf(thrown)})`,
    );
  }
}
