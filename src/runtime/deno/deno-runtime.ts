// The runtime seam on Deno: one process, by node:net and node:tls, with the permissions that README.md names and without foreign functions. What it cannot
// do stands in limits.ts.

import { createHash } from "node:crypto";
import { lookup } from "node:dns/promises";
import { codeOf, ProxyError } from "../../base/errors.ts";
import { clock } from "../node/clock.ts";
import { files } from "../node/files.ts";
import { openLogFile, openLogSink } from "../node/log-sink.ts";
import type { Runtime, StreamSocket } from "../runtime.ts";
import { dial } from "./dial.ts";
import { http } from "./http.ts";
import { refusals } from "./limits.ts";
import { bind, listen } from "./listen.ts";
import { isSignedBy } from "./signatures.ts";
import { DenoSocket } from "./socket.ts";
import { originateTls, peerCertificate, terminateTls } from "./tls.ts";
import { clientContext, serverContext } from "./tls-contexts.ts";
import { DenoTlsSocket } from "./tls-socket.ts";

/** Where Linux says what this process may have open. */
const LIMITS_FILE = "/proc/self/limits";
/** What most systems give, for when we may not look. */
const USUAL_DESCRIPTORS = 1024;

/** This process's runtime. */
export const runtime: Runtime = {
  name: "deno",
  refusals,
  files,
  http,
  clock,
  giveBackMemory() {
    // Deno does so by itself.
  },
  preciseNowMs: () => performance.now(),
  sha256: (bytes) => createHash("sha256").update(bytes).digest("hex"),
  descriptorLimit,
  bind,
  listen,
  dial: (options) => dial(clock, options),
  serverContext,
  terminateTls: (socket, options) => terminateTls(clock, socket, options),
  clientContext,
  originateTls: (socket, options) => originateTls(clock, socket, options),
  endOrderly() {
    // Nothing is to be had here that would reset connections when the process is killed.
  },
  peerCertificate,
  isSignedBy,
  transfer: null,
  unsentBytes,
  socketState: null,
  reach: null,
  serviceManager: null,
  inheritedSockets: () => new Map(),
  userExists: () => true,
  dropPrivileges(user) {
    throw new ProxyError("ENOTSUP", `Deno cannot go on as the user ${user}`);
  },
  commandLine: () => [],
  processes: null,
  resolve,
  openLogSink,
  openLogFile,
};

function unsentBytes(socket: StreamSocket<unknown>): number {
  // Only what the kernel has not taken; what it keeps is not in sight.
  return socket instanceof DenoSocket || socket instanceof DenoTlsSocket ? socket.waitingBytes : 0;
}

function descriptorLimit(): number {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(files.readText(LIMITS_FILE))?.[1];
    return Number(soft ?? USUAL_DESCRIPTORS);
  } catch {
    return USUAL_DESCRIPTORS;
  }
}

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
