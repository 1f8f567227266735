// The workloads of the lab in the order in which they are run and reported.
import { mtlsDown, mtlsUp, tcpDown, tcpUp } from "./bulk.ts";
import { idleMutualTls, idlePlain } from "./idle.ts";
import { pingAlone, pingBeside } from "./ping.ts";
import { handshakes, keepAlive, shortConnections } from "./requests.ts";
import type { Workload } from "./workload.ts";

/** Every workload. */
export const WORKLOADS: readonly Workload[] = [
  tcpUp,
  tcpDown,
  mtlsUp,
  mtlsDown,
  keepAlive,
  shortConnections,
  handshakes,
  pingAlone,
  pingBeside,
  idlePlain,
  idleMutualTls,
];
