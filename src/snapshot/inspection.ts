// What can be asked of the processes that relay about single connections, and what they answer: plain data, with the field names that the admin API
// shows. They are public. Nothing of this is gathered while nobody asks, and an answer is made a bounded part at a time.

/** Which connections are meant. Fields are AND-ed; "" says nothing. */
export interface ConnectionFilter {
  readonly listener: string;
  readonly backend: string;
  readonly endpoint: string;
  /** An IP address of the client, or a part of one. */
  readonly source: string;
  /** A part of a name in the client's verified certificate. */
  readonly identity: string;
  /** A part of any text that the row shows. */
  readonly text: string;
}

/** A live connection, in a table. */
export interface ConnectionRow {
  /** The same as in the access log and in the UNIQUE_ID that endpoints get. */
  readonly id: string;
  /** Which process relays it; 0: there is one. */
  readonly worker: number;
  /** ISO 8601 in UTC. */
  readonly started_at: string;
  readonly age_ms: number;
  /** Since a byte moved. */
  readonly idle_ms: number;
  readonly phase: "accept" | "peek" | "handshake" | "connect" | "relay";
  readonly listener: string;
  readonly route: string;
  readonly backend: string;
  readonly endpoint: string;
  /** Who the client is, for itself or by a PROXY header: `address:port`. */
  readonly downstream: string;
  readonly sni: string;
  /** The first name of the verified certificate; "" when there was none. */
  readonly identity: string;
  readonly tls_version: string;
  readonly policy_rule: string;
  readonly bytes_up: number;
  readonly bytes_down: number;
}

/** What the kernel says of a socket (tcp(7), TCP_INFO). Absent of unix sockets. */
export interface TcpInfo {
  readonly state: string;
  readonly rtt_ms: number;
  readonly rtt_variance_ms: number;
  /** Segments that were sent again, of the whole connection. */
  readonly retransmits_total: number;
  /** Segments that were sent and not acknowledged yet. */
  readonly unacknowledged: number;
  readonly congestion_window: number;
  readonly mss: number;
}

/** One leg of a connection. */
export interface LegDetail {
  readonly remote: string;
  readonly local: string;
  /** Bytes that this leg has sent and that wait in this process for the other one to take them. */
  readonly pending_bytes: number;
  /** It is not read from, as the other one does not take what it has sent. */
  readonly paused: boolean;
  /** It has ended its direction in order. */
  readonly ended: boolean;
  readonly tcp: TcpInfo | null;
}

/** All that is known of one live connection. */
export interface ConnectionDetail extends ConnectionRow {
  /** Who the socket came from, where a PROXY header names another client. */
  readonly downstream_direct: string;
  readonly alpn: string;
  readonly tls_cipher: string;
  readonly tls_resumed: boolean;
  readonly upstream_tls_version: string;
  readonly upstream_peer: string;
  /** All names of the verified certificate; null when there was none. */
  readonly names: {
    readonly uri: readonly string[];
    readonly dns: readonly string[];
    readonly cn: readonly string[];
  } | null;
  readonly peer_fingerprint: string;
  readonly policy: string;
  readonly attempts: number;
  readonly legs: { readonly downstream: LegDetail; readonly upstream: LegDetail | null };
  /** In how many ms it will be ended when nothing changes; null where there is no such limit. */
  readonly timers: {
    readonly idle_timeout_in_ms: number | null;
    readonly max_lifetime_in_ms: number | null;
    readonly certificate_expires_in_ms: number | null;
  };
}

/** Which closes are meant. As of a ConnectionFilter; a reason is meant as a whole. */
export interface CloseFilter {
  readonly listener: string;
  readonly backend: string;
  readonly reason: string;
  readonly text: string;
  /** Only those that failed, only those that did not, or both. */
  readonly failed: boolean | null;
}

/** The live connections of one client name to one backend. */
export interface PeerRow {
  /** The first name of the verified certificate; of clients without one, "". */
  readonly identity: string;
  readonly listener: string;
  readonly backend: string;
  readonly connections: number;
  readonly bytes_up: number;
  readonly bytes_down: number;
}

/** A record of the last closes: the object that the access log writes, with `seq`, which grows with each close of its process. */
export type CloseLine = Readonly<Record<string, unknown>> & { readonly seq: number; readonly ended_at: string };

/** What a process is asked. */
export type Question =
  /** At most `limit` rows, newest first. */
  | { readonly ask: "connections"; readonly filter: ConnectionFilter; readonly limit: number }
  | { readonly ask: "connection"; readonly id: string }
  /** Ends it with `admin_closed`. */
  | { readonly ask: "close"; readonly id: string }
  /** The last closes, newest first. `after`: of a process (by its `process`) only those with a larger `seq`. */
  | {
      readonly ask: "closes";
      readonly after: Readonly<Record<string, number>>;
      readonly filter: CloseFilter;
      readonly limit: number;
    }
  | { readonly ask: "peers"; readonly limit: number };

/** What it answers, by what it was asked. `matching`: how many there were, shown or not. */
export interface Answers {
  readonly connections: { readonly rows: readonly ConnectionRow[]; readonly matching: number; readonly total: number };
  readonly connection: ConnectionDetail | null;
  readonly close: boolean;
  /** `process` tells a process from every other that ever was; `last`: the largest `seq` that it has. */
  readonly closes: { readonly process: string; readonly closes: readonly CloseLine[]; readonly last: number };
  readonly peers: { readonly rows: readonly PeerRow[]; readonly matching: number };
}

/** The answer to a question. */
export type AnswerTo<Q extends Question> = Answers[Q["ask"]];

/** What one process has answered. */
export interface Answered<Q extends Question> {
  /** 0: there is one. */
  readonly worker: number;
  readonly answer: AnswerTo<Q>;
}

/** What all of them have. */
export interface Heard<Q extends Question> {
  readonly answers: readonly Answered<Q>[];
  /** Workers that are there and have not answered within some seconds: what they have is not known. */
  readonly silent: readonly number[];
}
