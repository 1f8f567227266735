// The workloads of the lab in the order in which they are run and reported.
import { mtlsDown, mtlsUp, originateDown, originateUp, tcpDown, tcpUp, twoHopDown, twoHopUp } from "./bulk.ts";
import { idleMutualTls, idlePlain } from "./idle.ts";
import { pingAlone, pingBeside } from "./ping.ts";
import { handshakes, keepAlive, originateHandshakes, shortConnections } from "./requests.ts";
import type { Workload } from "./workload.ts";

/** Every workload. */
export const WORKLOADS: readonly Workload[] = [
  tcpUp,
  tcpDown,
  mtlsUp,
  mtlsDown,
  originateUp,
  originateDown,
  twoHopUp,
  twoHopDown,
  keepAlive,
  shortConnections,
  handshakes,
  originateHandshakes,
  pingAlone,
  pingBeside,
  idlePlain,
  idleMutualTls,
];
