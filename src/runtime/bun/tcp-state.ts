// What the kernel knows of a TCP connection: struct tcp_info of linux/tcp.h, whose fields are only ever added at its end.

import type { SocketState } from "../socket-state.ts";
import { readOption } from "./libc.ts";

const SOL_TCP = 6;
const TCP_INFO = 11;
/** Up to tcpi_total_retrans, and so as old as TCP_INFO is. */
const INFO_BYTES = 104;

/** By their numbers (net/tcp_states.h), as ss(8) calls them. */
const STATES = [
  "UNKNOWN",
  "ESTAB",
  "SYN-SENT",
  "SYN-RECV",
  "FIN-WAIT-1",
  "FIN-WAIT-2",
  "TIME-WAIT",
  "UNCONN",
  "CLOSE-WAIT",
  "LAST-ACK",
  "LISTEN",
  "CLOSING",
];

/** Null when the descriptor is no open TCP socket. */
export function tcpState(descriptor: number): SocketState | null {
  const bytes = new Uint8Array(INFO_BYTES);
  if (readOption(descriptor, SOL_TCP, TCP_INFO, bytes) < INFO_BYTES) return null;
  const view = new DataView(bytes.buffer);
  const word = (offset: number): number => view.getUint32(offset, true);
  return {
    state: STATES[bytes[0] as number] ?? "UNKNOWN",
    rttMicroseconds: word(68),
    rttVarianceMicroseconds: word(72),
    retransmitsTotal: word(100),
    unacknowledged: word(24),
    congestionWindow: word(80),
    mss: word(16),
  };
}
