// What a platform may know of a connection beside its bytes.

/** What the kernel knows of a TCP connection (tcp(7), TCP_INFO). */
export interface SocketState {
  /** As ss(8) calls it: `ESTAB`, `CLOSE-WAIT` … */
  readonly state: string;
  readonly rttMicroseconds: number;
  readonly rttVarianceMicroseconds: number;
  /** Segments that were sent again. */
  readonly retransmitsTotal: number;
  /** Segments that were sent and not acknowledged. */
  readonly unacknowledged: number;
  /** In segments. */
  readonly congestionWindow: number;
  /** Bytes of a segment. */
  readonly mss: number;
}
