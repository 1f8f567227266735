// What the load generator is asked for and what it tells: one JSON object a line. Both sides of the pipe share these types.

/** What can go wrong with an exchange or a stream, as a client sees it. */
export type FailureKind =
  /** The connect was refused. */
  | "refused"
  /** A RST, at any time after. */
  | "reset"
  /** A FIN before all bytes had come. */
  | "truncated"
  /** All came, or more, and the SHA-256 is another one. */
  | "corrupted"
  | "timed_out"
  /** The TLS handshake failed. */
  | "handshake"
  /** The generator's own machine had no port or descriptor left: says nothing about what is under test. */
  | "local"
  | "other";

/** One that failed. Times are ms since the epoch, to be compared with the test's own. */
export interface Failure {
  readonly event: "failure";
  readonly of: "exchange" | "stream";
  readonly id: number;
  readonly kind: FailureKind;
  readonly phase: "connect" | "handshake" | "send" | "receive";
  /** The errno, or what the TLS library said; "" where there is none. */
  readonly code: string;
  readonly to: string;
  /** 0 before it was connected. */
  readonly localPort: number;
  readonly startedMs: number;
  readonly failedMs: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

/** All streams are open and have had their first echo. */
export interface Ready {
  readonly event: "ready";
  readonly streamPorts: readonly number[];
}

/** In milliseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** The last line. */
export interface Summary {
  readonly event: "summary";
  readonly seconds: number;
  readonly attempted: number;
  readonly ok: number;
  /** Exchanges and streams by kind; a kind without any is absent. */
  readonly failed: Readonly<Partial<Record<FailureKind, number>>>;
  /** The first few of each kind. */
  readonly examples: readonly Failure[];
  /** Not begun, because too many were open. */
  readonly skipped: number;
  readonly connectMs: Latency;
  readonly exchangeMs: Latency;
  /** From the oldest unanswered byte, or the last answer, to the next answer: the longest of all streams. */
  readonly longestStreamGapMs: number;
  readonly streams: number;
  /** Still open and right when the generator was stopped, and ended in order then. */
  readonly streamsOk: number;
  readonly exchangedBytes: number;
  readonly streamedBytes: number;
  /** How late the generator itself was at worst: where this is large, so are its latencies. */
  readonly ownLagMs: number;
}

export type ReportLine = Ready | Failure | Summary;

/** Where connections go, and as whom: PEM texts. */
export interface LoadTarget {
  /** `127.0.0.1:PORT`. */
  readonly address: string;
  readonly tls?: { readonly ca: string; readonly certificate: string; readonly key: string };
}

/** What the generator is told to do. Every number is a bound too. */
export interface LoadOptions {
  /** Taken in turns, by exchanges and by streams. */
  readonly targets: readonly LoadTarget[];
  /** New connections each second, however late the answers are. */
  readonly perSecond: number;
  readonly streams: number;
  /** It stops by itself after so long. */
  readonly seconds: number;
  /** And begins no exchange after so many; none when left out. */
  readonly exchanges?: number;
  /** The largest payload of an exchange. */
  readonly maxPayloadBytes?: number;
  readonly timeoutMs?: number;
  /** A message of each stream every so often. */
  readonly streamIntervalMs?: number;
  /** A stream with no answer for so long has timed out. */
  readonly streamPatienceMs?: number;
  readonly maxOpen?: number;
}
