// THE definition of every field of the config: its type, its default, what is allowed and what it means. Types,
// validation, `bunnel schema` and config/reference.md all come from here, so a field is added here and nowhere else.
// Rules that concern several fields are in rules.ts.

import { z } from "zod";
import { admin } from "./schema-admin.ts";
import { health } from "./schema-health.ts";
import { bandwidthLimits, connectionRates } from "./schema-limits.ts";
import { accessLog, log } from "./schema-logs.ts";
import { outliers } from "./schema-outliers.ts";
import { telemetry } from "./schema-telemetry.ts";
import { backendTls, listenerTls, routeTls } from "./schema-tls.ts";
import {
  alpnName,
  cidr,
  dnsPattern,
  duration,
  endpointAddress,
  exactText,
  filePath,
  integer,
  listenAddress,
  name,
  percent,
  sniPattern,
  uriPattern,
  userName,
  workerCount,
} from "./values.ts";

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const DAY = 24 * HOUR;
/** More than any descriptor limit that is met in the field. */
const MOST_CONNECTIONS = 10_000_000;
const MOST_WORKERS = 64;
const MOST_QUEUED = 100_000;

const connectionLimit = (zero: string) => integer({ min: 0, max: MOST_CONNECTIONS, zero });
const longTimeout = (zero: string) => duration({ minMs: SECOND, maxMs: 365 * DAY, zero });
const shortTimeout = duration({ minMs: 50, maxMs: HOUR });

const match = z
  .strictObject({
    sni: z
      .array(sniPattern)
      .prefault([])
      .describe("Server names that the client asks for. `*.` stands for exactly one label, `**.` for one or more."),
    alpn: z.array(alpnName).prefault([]).describe("Protocols, one of which the client must offer."),
    source: z.array(cidr).prefault([]).describe("Where the client comes from, after any PROXY header."),
  })
  .describe("All fields given must match, each by one of its values. Empty: everything matches.");

const route = z.strictObject({
  name: name.describe("Unique within the listener; shown in logs."),
  match: match.prefault({}),
  tls: z
    .enum(["terminate", "passthrough", "none"])
    .describe(
      "`terminate`: TLS ends here. `passthrough`: TLS goes through untouched, only its first message is read. `none`: opaque bytes; they are not looked at where this route can be chosen by source alone.",
    ),
  terminate: routeTls.optional(),
  policy: name
    .optional()
    .describe(
      "Name of a policy, or `any` to let everyone through. Needed when `client_auth` is `required` or `optional`.",
    )
    .meta({ allowed: "a name in `policies`, or any" }),
  backend: name.describe("Where its connections go.").meta({ allowed: "a name in `backends`" }),
});

const listener = z.strictObject({
  name: name.describe("Unique; shown in logs."),
  address: listenAddress.describe(
    "Where to listen. `[::]:port` takes IPv4 too; `systemd:NAME` is the socket whose unit says `FileDescriptorName=NAME`.",
  ),
  allow_plaintext: z
    .boolean()
    .default(false)
    .describe("Allows opaque routes (`tls: none`) on an address that other hosts can reach."),
  accept_proxy_protocol: z
    .boolean()
    .default(false)
    .describe(
      "Requires a PROXY protocol header, v1 or v2, on every connection. Only `trusted_sources` may connect then.",
    ),
  trusted_sources: z
    .array(cidr)
    .prefault([])
    .describe("The load balancers whose PROXY headers are trusted. Needed by `accept_proxy_protocol`."),
  allow_sources: z
    .array(cidr)
    .prefault([])
    .describe("Where clients may come from, after any PROXY header. Empty: anywhere."),
  max_connections: connectionLimit("no limit of its own")
    .default(0)
    .describe("Connections held at once. At the limit new ones wait in the accept queue."),
  max_connections_per_source: connectionLimit("no limit")
    .default(0)
    .describe(
      "Connections held at once for each source address, after any PROXY header. More are reset with `limit_reached`. Each worker counts for itself.",
    ),
  ...connectionRates,
  peek_timeout: shortTimeout
    .prefault("5s")
    .describe("How long the PROXY header and the ClientHello may take together."),
  handshake_timeout: shortTimeout.prefault("5s").describe("How long the TLS handshake may take."),
  tls: listenerTls.optional(),
  routes: z
    .array(route)
    .min(1, { error: "a listener needs a route; or leave `routes` out and say `backend: NAME`" })
    .optional()
    .describe("In order; the first that matches wins. A connection that none matches is reset with `no_route`."),
  backend: name
    .optional()
    .describe("Instead of `routes`: everything goes there as opaque bytes, by a route named `default`.")
    .meta({ allowed: "a name in `backends`" }),
});

const rule = z.strictObject({
  action: z.enum(["allow", "deny"]).describe("What happens to a connection that this rule matches."),
  uri: z
    .array(uriPattern)
    .prefault([])
    .describe(
      "URI names of the client's certificate (SPIFFE IDs). `*` stands for one path segment, a `**` at the end for one or more.",
    ),
  dns: z.array(dnsPattern).prefault([]).describe("DNS names of the client's certificate."),
  ip: z.array(cidr).prefault([]).describe("IP names of the client's certificate."),
  cn: z.array(exactText).prefault([]).describe("Common names in its subject."),
  ou: z.array(exactText).prefault([]).describe("Organizational units in its subject."),
  source: z.array(cidr).prefault([]).describe("Where the client comes from, after any PROXY header."),
});

const policy = z
  .strictObject({
    mode: z
      .enum(["enforce", "shadow"])
      .default("enforce")
      .describe(
        "`shadow` lets everyone through, and logs which connections `enforce` would refuse (`policy_rule` begins with `shadow:`).",
      ),
    rules: z
      .array(rule)
      .min(1, { error: "a policy needs a rule; to refuse everyone write [{ action: deny }]" })
      .describe("In order; the first that matches decides. When none matches, the connection is denied."),
  })
  .describe("Who may use a route. In a rule, fields are AND-ed, the values of one field OR-ed.");

const endpoint = z.strictObject({
  address: endpointAddress.describe("Where to dial. A name is resolved when the config is loaded."),
  weight: integer({ min: 1, max: 1000 })
    .default(1)
    .describe("Its share: with twice the weight it is given twice the connections."),
  max_connections: connectionLimit("no limit").default(0).describe("Connections held at once to this endpoint."),
  backup: z
    .boolean()
    .default(false)
    .describe("Used only while no endpoint that is not a backup can take a connection."),
  zone: name
    .optional()
    .describe(
      "Where it is, to be compared with this node's `zone`: endpoints elsewhere are used only while none here can take a connection; backups of either place come after them. Without it, it counts as being here.",
    ),
  state: z
    .enum(["active", "drain"])
    .default("active")
    .describe("`drain`: it is given no new connections, and keeps those that it has."),
});

/** `"10.0.0.1:80"` is short for `{ address: "10.0.0.1:80" }`. */
const endpointOrAddress = z.union([
  endpointAddress.transform((address) => ({
    address,
    weight: 1,
    max_connections: 0,
    backup: false,
    zone: undefined,
    state: "active" as const,
  })),
  endpoint,
]);

const backend = z
  .strictObject({
    balance: z
      .enum(["least_connections", "round_robin", "random", "power_of_two", "least_latency", "source_hash"])
      .default("least_connections")
      .describe(
        "How the endpoint is chosen; all of them honour weights. `power_of_two`: the less loaded of two random ones. `least_latency`: the least product of latency (until connected and until the first byte) and connections; old latencies decay, so that a slow endpoint is tried again. `source_hash`: the same endpoint for the same source address, as long as it can take the connection.",
      ),
    panic_threshold: integer({ min: 0, max: 100, zero: "never" })
      .default(0)
      .describe(
        "When fewer than this percentage of the endpoints are neither down nor ejected, all that do not drain are used as if they were up. At 0 an endpoint that is down is never used; one that is only ejected is used when there is no other.",
      ),
    slow_start: longTimeout("at once")
      .prefault("0s")
      .describe(
        "How long the weight of an endpoint that comes back takes to grow from a tenth to its full value. No effect on `source_hash`.",
      ),
    endpoints: z
      .array(endpointOrAddress)
      .min(1, { error: "a backend needs an endpoint" })
      .describe("Where connections can go; an entry may be just its address."),
    allow_plaintext: z
      .boolean()
      .default(false)
      .describe("Allows routes that do not pass TLS through to send plaintext to endpoints on other hosts."),
    max_connections: connectionLimit("no limit")
      .default(0)
      .describe(
        "Connections held at once to all endpoints together, by all workers. More wait in `queue`, or are reset with `backend_overload`.",
      ),
    max_pending_connects: connectionLimit("no limit")
      .default(0)
      .describe(
        "How many of them may be connecting at once: those that wait for an endpoint to accept, for its TLS handshake, or to try again.",
      ),
    queue: z
      .strictObject({
        size: integer({ min: 0, max: MOST_QUEUED, zero: "nobody waits" })
          .default(0)
          .describe("Connections that may wait in each worker. More are reset with `backend_overload`."),
        timeout: duration({ minMs: 50, maxMs: HOUR })
          .prefault("1s")
          .describe("How long each may wait. Then it is reset with `backend_overload`."),
      })
      .prefault({})
      .describe(
        "Connections that wait, in order of arrival, while this backend or all its endpoints are at their limits. A place that another worker's connection leaves is seen within 50 ms.",
      ),
    connect_timeout: shortTimeout.prefault("3s").describe("How long one attempt to connect may take."),
    connect_attempts: integer({ min: 1, max: 32 })
      .default(3)
      .describe(
        "Attempts for one connection, the first included, while no byte of the client's has been sent. Each goes to another endpoint, at once, as long as there is one. Then all may be tried again, after a random delay of at most 50ms, which grows to 1s; but not if the last attempt failed in its TLS handshake for another reason than a timeout.",
      ),
    retry_budget: percent(100)
      .prefault("20%")
      .describe(
        "How many connections may try all endpoints again at a time, as a share of the backend's connections in all workers; 3 may in any case. Going on to another endpoint does not count.",
      ),
    idle_timeout: longTimeout("never")
      .prefault("1h")
      .describe("How long a connection may be silent in both directions."),
    max_lifetime: longTimeout("no limit").prefault("0s").describe("How long a connection may last in all."),
    half_close_idle_timeout: longTimeout("the same as `idle_timeout`")
      .prefault("5m")
      .describe("Replaces `idle_timeout` once one direction has ended. It counts silence: a transfer is never cut."),
    ...bandwidthLimits,
    send_proxy_protocol: z
      .enum(["off", "v1", "v2", "v2-tls"])
      .default("off")
      .describe(
        "A PROXY protocol header before everything else, the TLS handshake included. `v2-tls` adds what is known of the client's TLS: ALPN, SNI, certificate, and whether it was verified.",
      ),
    forward_proxy_tlvs: z
      .boolean()
      .default(false)
      .describe("Passes on what a trusted proxy's header said beyond the addresses. Needs `v2` or `v2-tls`."),
    health: health.optional(),
    on_down: z
      .enum(["keep", "close"])
      .default("keep")
      .describe(
        "What happens to open connections when their endpoint goes down by its probes: `close` resets them within a second, with `endpoint_down`.",
      ),
    outliers: outliers.optional(),
    tls: backendTls.optional(),
  })
  .meta({ later: ["discovery"] })
  .describe("A group of interchangeable endpoints.");

/** The whole file. */
export const configSchema = z
  .strictObject({
    workers: workerCount(MOST_WORKERS)
      .default("auto")
      .describe("Processes that relay connections. `auto`: one for each CPU that the program may use."),
    watch_config: z
      .boolean()
      .default(false)
      .describe(
        "Reloads when this file changes, as SIGHUP does. The files with certificates, keys and lists are followed in any case.",
      ),
    user: userName
      .optional()
      .describe(
        "The user that the workers run as when root starts the program. The supervisor stays root, for low ports and keys. With `workers: 0` all of it becomes that user once it listens: from then on that user has to be able to read the keys, for reloads and upgrades.",
      ),
    zone: name
      .optional()
      .describe(
        "Where this node is: endpoints of other zones are used only while none of this one can take a connection.",
      )
      .meta({ allowed: "a name" }),
    pid_file: filePath
      .optional()
      .describe(
        "A file that holds the process id of the supervisor while the program runs. Without it, none is written.",
      ),
    admin,
    drain_timeout: duration({ minMs: SECOND, maxMs: DAY, zero: "at once" })
      .prefault("30s")
      .describe(
        "How long connections may go on after SIGTERM. Silent ones are ended in the course of it, with `drain_idle`; those that remain are cut with `drain_timeout`.",
      ),
    max_connections: connectionLimit("what the descriptor limit allows")
      .default(0)
      .describe("Connections held at once by the whole program. At the limit new ones wait in the accept queue."),
    max_pending_handshakes: connectionLimit("a quarter of the connections that there is room for")
      .default(0)
      .describe(
        "Connections of one process that may wait for their clients' first bytes or TLS handshakes. When there are more, the oldest are reset with `handshake_overload`, as far as they have had 100 ms.",
      ),
    log: log.prefault({}),
    access_log: accessLog.prefault({}),
    telemetry: telemetry.prefault({}),
    listeners: z
      .array(listener)
      .min(1, { error: "a config needs a listener" })
      .describe("Addresses where clients connect, and what happens to their first bytes."),
    policies: z
      .record(name, policy)
      .prefault({})
      .describe("By name. The name `any` is taken: it lets everyone through."),
    backends: z.record(name, backend).describe("By name."),
  })
  .meta({ later: ["discovery", "state_dir"] })
  .describe("The config of bunnel.");

/** A config that is valid field by field, with all defaults filled in. Durations are in ms. */
export type Config = z.output<typeof configSchema>;
export type ListenerConfig = Config["listeners"][number];
export type RouteConfig = NonNullable<ListenerConfig["routes"]>[number];
export type TlsConfig = NonNullable<ListenerConfig["tls"]>;
export type PolicyConfig = Config["policies"][string];
export type BackendConfig = Config["backends"][string];
export type BackendTlsConfig = NonNullable<BackendConfig["tls"]>;
export type OutlierConfig = NonNullable<BackendConfig["outliers"]>;
export type HealthConfig = NonNullable<BackendConfig["health"]>;

/** A listener's `tls` where nothing is said. */
export const TLS_DEFAULTS: TlsConfig = listenerTls.parse({});

/** The JSON Schema (draft 2020-12) of what may be written: for editors, and the source of the reference page. */
export function configJsonSchema(): z.core.JSONSchema.JSONSchema {
  return z.toJSONSchema(configSchema, {
    io: "input",
    override: ({ jsonSchema }) => {
      // What is not in this version yet is for messages only.
      delete jsonSchema.later;
      // `minimum` of a safe integer says nothing to a reader.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    },
  });
}
