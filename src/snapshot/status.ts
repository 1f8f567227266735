// What the daemon says of itself: plain data, with the field names that `bunnel status --json` and GET /api/v1/status show. They are public.

/** The whole of it. Times are ISO 8601 in UTC. */
export interface Status {
  readonly version: string;
  readonly runtime: string;
  /** Of the supervisor. */
  readonly pid: number;
  readonly started_at: string;
  readonly uptime_s: number;
  /** `starting` until every listener accepts; `draining` from the signal on. */
  readonly state: "starting" | "serving" | "draining";
  /** Number of the snapshot that is served. */
  readonly generation: number;
  readonly config: ConfigStatus;
  /** Of all processes. */
  readonly connections: number;
  /** Those of them that processes from before an upgrade finish: they are in no list, as only their own daemon could ask for them. */
  readonly connections_elsewhere: number;
  readonly access_log: AccessLogStatus;
  readonly telemetry: TelemetryStatus;
  readonly workers: readonly WorkerStatus[];
  /** Workers that died and were restarted, since the start. */
  readonly worker_restarts: number;
  /** How long the event loop of the supervisor was held up at most, in the last 10 to 20 seconds. */
  readonly event_loop_lag_ms: number;
  readonly admin: AdminStatus;
  readonly listeners: readonly ListenerStatus[];
  readonly backends: readonly BackendStatus[];
  readonly policies: readonly PolicyStatus[];
  readonly certificates: readonly CertificateStatus[];
}

export interface AccessLogStatus {
  /** Lines that nobody has, since the start: the disk was full, or whoever reads them was too slow. */
  readonly dropped_lines_total: number;
}

/** Who follows the daemon by GET /api/v1/events. */
export interface AdminStatus {
  readonly streams: number;
  /** Streams that were ended as their readers were too slow, since the start. */
  readonly dropped_streams_total: number;
}

export interface TelemetryStatus {
  /** Spans that have not reached their collector, since the start. */
  readonly dropped_spans_total: number;
}

export interface ConfigStatus {
  /** Null: the embedded default. */
  readonly file: string | null;
  /** When the last reload was asked for; null when none was. */
  readonly last_reload_at: string | null;
  readonly last_reload_ok: boolean;
  /** Why it was refused; or, of one that was not, nothing. */
  readonly last_reload_problems: readonly string[];
  /** What one that was taken over warned of, and which changes it could not take over: those take a restart. */
  readonly last_reload_warnings: readonly string[];
  /** Why the certificates, keys and lists that lie on the disk now are not served; empty when they are. */
  readonly certificate_problems: readonly string[];
  /** Sets of certificates that were refused since the start. */
  readonly certificate_sets_refused: number;
  /** How much of the room for names of listeners, backends, endpoints and policies is used, from 0 to 1. Those that are gone keep theirs until a restart. */
  readonly names_used: number;
}

export interface WorkerStatus {
  /** 0: there is one process. Else from 1, and kept by the process that takes its place. */
  readonly worker: number;
  readonly pid: number;
  /** `not answering`: it serves, but has not been heard for some seconds; one that stays so is ended and replaced. */
  readonly state: "starting" | "serving" | "not answering" | "draining" | "waiting to restart";
  /** Number of the snapshot that it uses; 0 before the first. */
  readonly generation: number;
  readonly uptime_s: number;
  /** How often the process in this place was restarted. */
  readonly restarts: number;
  readonly connections: number;
  /** As that of the supervisor; the same where there is one process. */
  readonly event_loop_lag_ms: number;
}

export interface ListenerStatus {
  readonly listener: string;
  /** As bound. */
  readonly address: string;
  readonly connections: number;
  /** Since the start. */
  readonly connections_total: number;
  /** Connections that have ended, by close reason; without those that did not occur. */
  readonly closed: Readonly<Record<string, number>>;
  /** Handshakes with clients, by result; empty where no route terminates TLS. */
  readonly handshakes: Readonly<Record<string, number>>;
  /** Relayed, since the start; as of a second ago. */
  readonly bytes_up: number;
  readonly bytes_down: number;
}

/** What a policy decided of those that it was asked about, since the start. */
export interface PolicyStatus {
  readonly policy: string;
  readonly mode: "enforce" | "shadow";
  readonly allowed_total: number;
  readonly denied_total: number;
  /** Let pass in shadow mode. */
  readonly shadow_denied_total: number;
}

/** A certificate, or a revocation list, that ends. Of authorities and lists of one user, those that end first. */
export interface CertificateStatus {
  /** `listener edge`, `backend db`, `admin`. */
  readonly used_by: string;
  /** `certificate`: one that is shown, `intermediate`: another of its chain. */
  readonly role: "certificate" | "intermediate" | "authority" | "revocation_list";
  readonly file: string;
  /** Or whatever names it, where it has none; of a revocation list that of its issuer. */
  readonly subject: string;
  /** What one that is shown is for. */
  readonly names: readonly string[];
  readonly not_before: string;
  readonly not_after: string;
  /** With one decimal; below 0 when it has ended. */
  readonly days_left: number;
  /** `due`: with a quarter of its life left, or a week, it should have been replaced. `overdue`: with a tenth, or a day, and from its end on. */
  readonly renewal: "in_time" | "due" | "overdue";
}

export interface BackendStatus {
  readonly backend: string;
  /** Relayed, since the start; as of a second ago. */
  readonly bytes_up: number;
  readonly bytes_down: number;
  /** Connections for which no endpoint was there, since the start. */
  readonly no_endpoint_total: number;
  /** Connections that found no room within its limits, and none in its queue in time, since the start. */
  readonly overloads_total: number;
  readonly endpoints: readonly EndpointStatus[];
}

export interface EndpointStatus {
  readonly endpoint: string;
  readonly connections: number;
  /** Attempts to connect since the start, and those that failed. */
  readonly connections_total: number;
  readonly connect_failures_total: number;
  /** By its probes; `unknown`: not probed, or not yet. One that is down is given no new connections. */
  readonly health: "up" | "down" | "unknown";
  /** When that changed last; null when it has not been seen to change. */
  readonly health_since: string | null;
  /** What its last failed probe met with, while it is down or its last probe failed; else "". */
  readonly reason: string;
  /** Changes from up to down and back, since the start. */
  readonly health_changes_total: number;
  /** When its ejection ends, or has ended, as long as no connection has succeeded since; null when it is not ejected. */
  readonly ejected_until: string | null;
}
