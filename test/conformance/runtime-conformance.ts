// The conformance suite of the runtime seam: what src/runtime/runtime.ts promises, tested against any implementation. It is written on
// node:test, node:net and node:tls, which Bun, Deno and Node all have, and takes the openssl command for a second opinion.
//
// Run it by calling `runtimeConformance` from a test file of the runtime in question, as bun.test.ts does.

import type { Runtime } from "../../src/runtime/runtime.ts";
import { closeConformance } from "./closing.ts";
import { dialConformance } from "./dialling.ts";
import { fileConformance } from "./files.ts";
import { listenConformance } from "./listening.ts";
import { logFileConformance } from "./log-files.ts";
import { originationHandshakeConformance } from "./origination-handshake.ts";
import { originationStreamConformance } from "./origination-streams.ts";
import { originationVerificationConformance } from "./origination-verification.ts";
import { reachConformance } from "./reaching.ts";
import { httpConformance } from "./serving-http.ts";
import { httpsConformance } from "./serving-https.ts";
import { socketStateConformance } from "./socket-state.ts";
import { streamConformance } from "./streams.ts";
import { tlsHandshakeConformance } from "./tls-handshake.ts";
import { tlsSessionConformance } from "./tls-sessions.ts";
import { tlsStreamConformance } from "./tls-streams.ts";
import { tlsVerificationConformance } from "./tls-verification.ts";
import { transferConformance } from "./transferring.ts";

/** Registers every test of the suite for `runtime`. */
export function runtimeConformance(runtime: Runtime): void {
  fileConformance(runtime);
  logFileConformance(runtime);
  streamConformance(runtime);
  closeConformance(runtime);
  dialConformance(runtime);
  reachConformance(runtime);
  listenConformance(runtime);
  tlsVerificationConformance(runtime);
  tlsHandshakeConformance(runtime);
  tlsSessionConformance(runtime);
  tlsStreamConformance(runtime);
  originationVerificationConformance(runtime);
  originationHandshakeConformance(runtime);
  originationStreamConformance(runtime);
  transferConformance(runtime);
  socketStateConformance(runtime);
  httpConformance(runtime);
  httpsConformance(runtime);
}
