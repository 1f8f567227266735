// The workloads of the lab in the order in which they are run and reported.
import { mtlsDown, mtlsUp, originateDown, originateUp, tcpDown, tcpMany, tcpUp, twoHopDown, twoHopUp } from "./bulk.ts";
import { postgres, redis } from "./databases.ts";
import { idleMany, idleMutualTls, idlePlain } from "./idle.ts";
import { mixed } from "./mixed.ts";
import { pingAlone, pingBeside, pingBesideSteady } from "./ping.ts";
import {
  handshakes,
  keepAlive,
  originateHandshakes,
  passthrough,
  resumedHandshakes,
  shortConnections,
} from "./requests.ts";
import type { Workload } from "./workload.ts";

/** Every workload; those that are `rare` run only when asked for. */
export const WORKLOADS: readonly Workload[] = [
  tcpUp,
  tcpDown,
  ...tcpMany,
  mtlsUp,
  mtlsDown,
  originateUp,
  originateDown,
  twoHopUp,
  twoHopDown,
  keepAlive,
  shortConnections,
  passthrough,
  handshakes,
  resumedHandshakes,
  originateHandshakes,
  pingAlone,
  pingBeside,
  pingBesideSteady,
  idlePlain,
  idleMutualTls,
  idleMany,
  mixed,
  redis,
  postgres,
];
