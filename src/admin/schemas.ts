// What the admin API answers, as schemas: from them the API's description is made, and the compiler holds them to the types of what is answered. They are
// loaded when somebody asks for the description, and never in the way of an answer.

import { z } from "zod";
import type * as inspection from "../snapshot/inspection.ts";
import type * as status from "../snapshot/status.ts";
import { CLOSE_REASONS, type CloseReason } from "../telemetry/close-reason.ts";
import type * as readiness from "./readiness.ts";
import type * as ticks from "./tick.ts";

type Frozen<T> = T extends object ? { readonly [K in keyof T]: Frozen<T[K]> } : T;
type IsSame<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;

/** Lets a schema pass that describes exactly the type. */
function describes<T>(): <S extends z.ZodType>(
  schema: S & (IsSame<Frozen<z.output<S>>, Frozen<T>> extends true ? unknown : "it describes another type"),
) => S {
  return (schema) => schema;
}

const count = z.int().min(0);
const milliseconds = z.number().min(0);
const time = z.string().meta({ format: "date-time", description: "ISO 8601 in UTC." });
const name = z.string();
const counts = z.record(z.string(), count);
const phase = z.enum(["accept", "peek", "handshake", "connect", "relay"]);
const daemonState = z.enum(["starting", "serving", "draining"]);
const workerState = z.enum(["starting", "serving", "not answering", "draining", "waiting to restart"]);
const closeReason = z.enum(Object.keys(CLOSE_REASONS) as [CloseReason, ...CloseReason[]]);

const Health = z.strictObject({ ok: z.literal(true) });
const Reloaded = z.strictObject({ ok: z.literal(true), generation: count, warnings: z.array(z.string()) });
const Draining = z.strictObject({ ok: z.literal(true), state: z.literal("draining") });
const Closed = z.strictObject({ ok: z.literal(true), id: z.string() });

const Readiness = describes<readiness.Readiness>()(
  z.strictObject({
    ready: z.boolean(),
    state: daemonState,
    generation: count,
    workers: z.array(z.strictObject({ worker: count, state: workerState, generation: count })),
    reasons: z.array(z.string()).describe("Why it is not ready; empty when it is."),
  }),
);

const ConfigStatus = describes<status.ConfigStatus>()(
  z.strictObject({
    file: z.string().nullable().describe("null: the embedded default."),
    last_reload_at: time.nullable(),
    last_reload_ok: z.boolean(),
    last_reload_problems: z.array(z.string()),
    last_reload_warnings: z.array(z.string()),
    certificate_problems: z.array(z.string()),
    certificate_sets_refused: count,
    names_used: z
      .number()
      .min(0)
      .max(1)
      .describe("Of the room for names; those that are gone keep theirs until a restart."),
  }),
);

const WorkerStatus = describes<status.WorkerStatus>()(
  z.strictObject({
    worker: count.describe("0: there is one process."),
    pid: count,
    state: workerState,
    generation: count.describe("Of the snapshot that it goes by; 0 before the first."),
    uptime_s: count,
    restarts: count,
    connections: count,
    event_loop_lag_ms: milliseconds,
  }),
);

const ListenerStatus = describes<status.ListenerStatus>()(
  z.strictObject({
    listener: name,
    address: z.string().describe("As bound."),
    connections: count,
    connections_total: count,
    closed: counts.describe("Connections that have ended, by close reason."),
    handshakes: counts.describe("Handshakes with clients, by result."),
    bytes_up: count,
    bytes_down: count,
  }),
);

const EndpointStatus = describes<status.EndpointStatus>()(
  z.strictObject({
    endpoint: name,
    connections: count,
    connections_total: count,
    connect_failures_total: count,
    health: z.enum(["up", "down", "unknown"]),
    health_since: time.nullable(),
    reason: z.string().describe("What its last failed probe met with."),
    health_changes_total: count,
    ejected_until: time.nullable(),
  }),
);

const BackendStatus = describes<status.BackendStatus>()(
  z.strictObject({
    backend: name,
    bytes_up: count,
    bytes_down: count,
    no_endpoint_total: count,
    overloads_total: count,
    endpoints: z.array(EndpointStatus),
  }),
);

const PolicyStatus = describes<status.PolicyStatus>()(
  z.strictObject({
    policy: name,
    mode: z.enum(["enforce", "shadow"]),
    allowed_total: count,
    denied_total: count,
    shadow_denied_total: count,
  }),
);

const CertificateStatus = describes<status.CertificateStatus>()(
  z.strictObject({
    used_by: z.string(),
    role: z.enum(["certificate", "intermediate", "authority", "revocation_list"]),
    file: z.string(),
    subject: z.string(),
    names: z.array(z.string()),
    not_before: time,
    not_after: time,
    days_left: z.number(),
    renewal: z
      .enum(["in_time", "due", "overdue"])
      .describe(
        "Due with a quarter of its life left or a week, whichever is less; overdue with a tenth or a day, and once it has expired.",
      ),
  }),
);

const AccessLogStatus = z.strictObject({ dropped_lines_total: count });
const TelemetryStatus = z.strictObject({ dropped_spans_total: count });

const Status = describes<status.Status>()(
  z.strictObject({
    version: z.string(),
    runtime: z.string(),
    pid: count,
    started_at: time,
    uptime_s: count,
    state: daemonState,
    generation: count,
    config: ConfigStatus,
    connections: count,
    connections_elsewhere: count.describe("Of processes from before an upgrade, which cannot be asked about them."),
    access_log: AccessLogStatus,
    telemetry: TelemetryStatus,
    workers: z.array(WorkerStatus),
    worker_restarts: count,
    event_loop_lag_ms: milliseconds,
    admin: z.strictObject({ streams: count, dropped_streams_total: count }),
    listeners: z.array(ListenerStatus),
    backends: z.array(BackendStatus),
    policies: z.array(PolicyStatus),
    certificates: z.array(CertificateStatus),
  }),
);

const Tick = describes<ticks.Tick>()(
  z
    .strictObject({
      time,
      uptime_s: count,
      connections: count,
      connections_elsewhere: count,
      access_log: AccessLogStatus,
      telemetry: TelemetryStatus,
      workers: z.array(WorkerStatus),
      listeners: z.array(ListenerStatus),
      backends: z.array(BackendStatus),
      policies: z.array(PolicyStatus),
    })
    .describe(
      "Of listeners, backends, their endpoints and policies only those that changed: laid over the status by their names.",
    ),
);

const row = {
  id: z.string().describe("As in the access log, and as endpoints are told as UNIQUE_ID."),
  worker: count,
  started_at: time,
  age_ms: milliseconds,
  idle_ms: milliseconds.describe("Since a byte moved."),
  phase,
  listener: name,
  route: name,
  backend: name,
  endpoint: name,
  downstream: z.string().describe("Who the client is, for itself or by a PROXY header."),
  sni: z.string(),
  identity: z.string().describe("The first name of the verified certificate; empty when there was none."),
  tls_version: z.string(),
  policy_rule: z.string(),
  bytes_up: count,
  bytes_down: count,
};

const ConnectionRow = describes<inspection.ConnectionRow>()(z.strictObject(row));
const silentWorkers = z
  .array(count)
  .describe("Workers that did not answer in time: what they have is missing here. They hang, or are stopped.");

const Connections = z.strictObject({
  connections: z.array(ConnectionRow),
  matching: count.describe("Connections that fit, shown or not."),
  total: count,
  elsewhere: count.describe("Further ones, of processes from before an upgrade, which cannot be asked about them."),
  silent_workers: silentWorkers,
});

const TcpInfo = describes<inspection.TcpInfo>()(
  z.strictObject({
    state: z.string().describe("As ss(8) calls it."),
    rtt_ms: milliseconds,
    rtt_variance_ms: milliseconds,
    retransmits_total: count,
    unacknowledged: count,
    congestion_window: count,
    mss: count,
  }),
);

const LegDetail = describes<inspection.LegDetail>()(
  z.strictObject({
    remote: z.string(),
    local: z.string(),
    pending_bytes: count.describe("Sent by this leg, and waiting for the other one to take them."),
    paused: z.boolean(),
    ended: z.boolean().describe("It has ended its direction in order."),
    tcp: TcpInfo.nullable(),
  }),
);

const ConnectionDetail = describes<inspection.ConnectionDetail>()(
  z.strictObject({
    ...row,
    downstream_direct: z.string().describe("Who the socket came from."),
    alpn: z.string(),
    tls_cipher: z.string(),
    tls_resumed: z.boolean(),
    upstream_tls_version: z.string(),
    upstream_peer: z.string(),
    names: z
      .strictObject({ uri: z.array(z.string()), dns: z.array(z.string()), cn: z.array(z.string()) })
      .nullable()
      .describe("All names of the verified certificate."),
    peer_fingerprint: z.string(),
    policy: name,
    attempts: count,
    legs: z.strictObject({ downstream: LegDetail, upstream: LegDetail.nullable() }),
    timers: z.strictObject({
      idle_timeout_in_ms: milliseconds.nullable(),
      max_lifetime_in_ms: milliseconds.nullable(),
      certificate_expires_in_ms: milliseconds.nullable(),
    }),
  }),
);

const CloseLine = z
  .looseObject({
    seq: count.describe("Grows with each close of its process."),
    ended_at: time,
    time: count.describe("When it was accepted, in ms since 1970."),
    id: z.string(),
    listener: name,
    downstream: z.string(),
    bytes_up: count,
    bytes_down: count,
    duration_ms: milliseconds,
    close_reason: closeReason,
    close_side: z.enum(["downstream", "upstream", "proxy"]),
    phase,
    termination: z.string(),
  })
  .describe(
    "The object that the access log writes, with all its fields; those that say nothing of a connection are left out.",
  );
const Closes = z.strictObject({ closes: z.array(CloseLine), silent_workers: silentWorkers });

const PeerRow = describes<inspection.PeerRow>()(
  z.strictObject({
    identity: z.string(),
    listener: name,
    backend: name,
    connections: count,
    bytes_up: count,
    bytes_down: count,
  }),
);
const Peers = z.strictObject({ peers: z.array(PeerRow), matching: count, silent_workers: silentWorkers });

const Snapshot = z
  .looseObject({
    generation: count,
    listeners: z.array(z.looseObject({ name, address: z.string(), routes: z.array(z.looseObject({ name })) })),
    policies: z.array(z.looseObject({ name })),
    backends: z.array(z.looseObject({ name, endpoints: z.array(z.looseObject({ name, address: z.string() })) })),
  })
  .describe("For people, and to compare two of them: further fields are those of the version.");

const Problem = z
  .strictObject({
    type: z.literal("about:blank"),
    title: z.string(),
    status: z.int().min(400).max(599),
    detail: z.string().describe("What is wrong, and what to do."),
    paths: z.array(z.string()).optional().describe("Of an unknown path: those that there are."),
    problems: z.array(z.string()).optional().describe("Of a config that was refused."),
    parameters: z
      .array(z.strictObject({ parameter: z.string(), detail: z.string() }))
      .optional()
      .describe("Of a query that cannot be understood."),
  })
  .describe("RFC 9457.");

/** By the names that the description gives them. */
export const SCHEMAS = {
  Health,
  Readiness,
  Status,
  ConfigStatus,
  WorkerStatus,
  ListenerStatus,
  BackendStatus,
  EndpointStatus,
  PolicyStatus,
  CertificateStatus,
  Snapshot,
  Reloaded,
  Draining,
  Connections,
  ConnectionRow,
  ConnectionDetail,
  LegDetail,
  TcpInfo,
  Closed,
  Closes,
  CloseLine,
  Peers,
  PeerRow,
  Tick,
  Problem,
} as const;

/** By which routes refer to them. */
export type SchemaName = keyof typeof SCHEMAS;
