// The life of a connection, from accept to its one close record, in one function to be read from top to bottom: `serve`. Each step is a
// file of its own and returns its value, or the Ending that it calls for; only this file acts on either.
//
// Whatever else can end a connection (a reset while it is being dialled, a drain, a deadline) calls `end`, which may be called
// at any time and acts once. A step that is being awaited then fails in its own way, and `serve` finds the connection ended.

import { type Clock, Timer } from "../base/clock.ts";
import { describeRefused } from "../protocol/leaf.ts";
import type { ProxyAddress, Tlv } from "../protocol/proxy-protocol.ts";
import type { Dial, StreamSocket } from "../runtime/runtime.ts";
import type { EndpointSpec, ListenerSpec, RouteSpec } from "../snapshot/snapshot.ts";
import type { TriedEndpoint } from "../telemetry/access-log.ts";
import type { Phase } from "../telemetry/close-reason.ts";
import { denialOf } from "./authorize.ts";
import type { Backend } from "./balance.ts";
import { close } from "./close.ts";
import { connect } from "./connect.ts";
import { countDecision, countHandshake } from "./count.ts";
import { Ending } from "./ending.ts";
import { refusalNow } from "./enforce.ts";
import { handshake, type Secured } from "./handshake.ts";
import type { Identity } from "./identity.ts";
import { Leg } from "./leg.ts";
import type { Listener } from "./listener.ts";
import type { UpstreamTls } from "./originate.ts";
import type { Attempt } from "./outliers.ts";
import { peekHello, peekProxyHeader } from "./peek.ts";
import { relayDeadline, startRelay } from "./relay.ts";
import { NEEDS_HELLO, NO_ROUTE } from "./router.ts";
import { SourceAddress } from "./source-address.ts";
import { NONE_TRIED } from "./tried.ts";

/** Serves an accepted connection to its end. Rejects only when there is a defect in it. */
export async function serve(connection: Connection): Promise<void> {
  const { listener } = connection;

  // 1. Accept: the listener has counted the connection; now, is it welcome?
  const refused = listener.admitDirect(connection);
  if (refused !== null) return connection.end(refused);

  // 2. Peek: first the PROXY header, in which a trusted proxy names the true client.
  if (listener.spec.acceptProxyProtocol) {
    connection.phase = "peek";
    listener.awaitsClient(connection);
    const header = await peekProxyHeader(connection);
    if (connection.ended) return;
    if (header instanceof Ending) return connection.end(header);
    if (header.source !== null) connection.source = new SourceAddress(header.source.ip, header.source.port);
    connection.received = { destination: header.destination, tlvs: header.tlvs };
  }
  const unwelcome = listener.admitSource(connection);
  if (unwelcome !== null) return connection.end(unwelcome);

  // 3. Route, looking at the ClientHello only if a route depends on it: an opaque stream is not kept waiting.
  let routeIndex = listener.router.route(undefined, connection.source);
  if (routeIndex === NEEDS_HELLO) {
    connection.phase = "peek";
    listener.awaitsClient(connection);
    const peeked = await peekHello(connection);
    if (connection.ended) return;
    if (peeked instanceof Ending) return connection.end(peeked);
    connection.spokeTls = peeked.hello !== null;
    connection.sni = peeked.hello?.sni ?? "";
    if (listener.router.usesAlpn) connection.offeredAlpn = peeked.hello?.alpn ?? [];
    routeIndex = listener.router.route(peeked.hello, connection.source);
    if (routeIndex === NO_ROUTE && peeked.hello === null) return connection.end(new Ending("not_tls", peeked.detail));
  }
  if (routeIndex === NO_ROUTE) return connection.end(new Ending("no_route"));
  const route = listener.route(routeIndex);
  connection.route = route.spec;

  // 4. Handshake and 5. identity, where TLS ends here.
  if (route.termination !== null) {
    connection.phase = "handshake";
    listener.awaitsClient(connection);
    const shaken = await handshake(connection, route.termination);
    if (connection.ended) return;
    if (shaken instanceof Ending) return connection.end(shaken);
    connection.secured = shaken.secured;
    if (shaken.peerCertificate !== null) {
      const identity = route.termination.identities.read(shaken.peerCertificate);
      if (identity instanceof Ending) {
        connection.refusedCertificate = describeRefused(shaken.peerCertificate);
        return connection.end(identity);
      }
      connection.identity = identity;
      if (route.termination.spec.onExpiry === "close") connection.expireAt(identity.notAfterMs);
    }
    countHandshake(connection, shaken.secured.handshakeMs);
  }

  listener.heardClient(connection);

  // 6. Authorise.
  if (route.policy !== null) {
    const verdict = route.policy.evaluate(connection.identity, connection.source);
    connection.policy = route.policy.name;
    connection.policyRule = verdict.rule;
    countDecision(connection, route.policy, verdict);
    if (!verdict.allowed) return connection.end(new Ending("policy_denied", denialOf(route.policy.name, verdict)));
  }

  // 7. Balance and 8. connect.
  connection.phase = "connect";
  connection.backend = route.backend;
  const endpoint = await connect(connection, route.backend);
  if (connection.ended) return;
  if (endpoint instanceof Ending) return connection.end(endpoint);

  // A new snapshot may have come since the accept; enforce.ts checks only connections that are being relayed.
  if (connection.generation !== listener.worker.generation) {
    const revoked = refusalNow(connection);
    if (revoked !== null) return connection.end(revoked);
  }

  // 9. Relay, from here on by callbacks; 10. close comes from there.
  connection.phase = "relay";
  startRelay(connection);
}

const NOTHING_OFFERED: readonly string[] = [];

/** What is known of a connection so far, and the two legs that it owns. */
export class Connection {
  readonly id: number;
  /** Its index in the worker's list. */
  place = -1;
  readonly listener: Listener;
  readonly clock: Clock;
  readonly downstream: Leg;
  /** A new one for each attempt to connect: what an earlier socket still tells is told to nobody. */
  upstream: Leg;
  /** The one deadline: of the peek, then of the relay. The steps between have their own, in the runtime. */
  readonly timer: Timer;
  /** Number of the snapshot in force when it was accepted. */
  readonly generation: number;
  /** When it was admitted, by the coarse clock in ms; for deadlines. */
  acceptedMs: number;
  /** For the record: monotonic with a fraction, and wall clock; both in ms. */
  readonly acceptedPreciseMs: number;
  readonly startedAt: number;
  lastActivityMs: number;
  phase: Phase = "accept";

  /** Called when the downstream leg has more bytes pending, or has ended, while a step waits for that. */
  onHeld: (() => void) | null = null;
  /** Called when `timer` fires before the relay. */
  onDeadline: (() => void) | null = null;
  /** The dial that is under way. */
  dial: Dial<Leg> | null = null;

  /** The peer's address, and the true client's: another one only behind a PROXY header. */
  readonly direct: SourceAddress;
  source: SourceAddress;
  readonly local: string;
  /** The listener's spec when it was admitted: its counts are the ones to decrement. */
  countedBy: ListenerSpec;
  /** Whether it counts for its source. */
  countedSource = false;
  /** "" when none was sent or none was looked for. */
  sni = "";
  /** Whether its first bytes were looked at and are a ClientHello. */
  spokeTls = false;
  /** What its ClientHello offers; kept only where a route asks for it. */
  offeredAlpn: readonly string[] = NOTHING_OFFERED;
  route: RouteSpec | null = null;
  /** The route of the latest snapshot that has re-authorised it; null until there was one. */
  judgedBy: RouteSpec | null = null;
  /** What a trusted proxy's header said besides the source. */
  received: { readonly destination: ProxyAddress | null; readonly tlvs: readonly Tlv[] } | null = null;
  secured: Secured | null = null;
  /** The TLS that we speak to the endpoint. */
  upstreamTls: UpstreamTls | null = null;
  /** When the first certificate expires whose `on_expiry` is `close`, in ms since 1970. */
  expiresAtMs = Number.POSITIVE_INFINITY;
  identity: Identity | null = null;
  /** Of a client that was refused: what its certificate says. */
  refusedCertificate = "";
  policy = "";
  policyRule = "";
  backend: Backend | null = null;
  /** The endpoint that this connection counts at. */
  acquired: EndpointSpec | null = null;
  /** Whether it counts at its backend. */
  hasEntered = false;
  /** Records how the connection to that endpoint turns out; null without outlier detection. */
  attempt: Attempt | null = null;
  /** Endpoints that were dialled. */
  attempts = 0;
  connectMs = 0;
  /** See tried.ts. */
  tried: readonly TriedEndpoint[] = NONE_TRIED;
  /** Of the attempt that is under way, precise; 0 = none is. */
  attemptStartedMs = 0;
  /** How long its endpoint took to be connected to, prepared and secured; without those that were tried before it. */
  reachedInMs = 0;
  /** When the endpoint was first sent something, as `preciseNowMs` tells; only where that is of use. */
  askedMs = 0;

  /** One leg broke: which, whether it had ended in order before, and how the connection ends once the other has got what came before. */
  broken: Leg | null = null;
  brokenAfterEnd = false;
  ending: Ending | null = null;
  /** Bytes in the kernel that neither peer had acknowledged, when the deadline last looked. */
  unsentBytes = 0;
  /** Bytes of each direction that are in the metrics already. */
  meteredUp = 0;
  meteredDown = 0;
  /** The leg whose direction ended first, in a relay. */
  firstToEnd: "downstream" | "upstream" = "downstream";
  ended = false;

  constructor(listener: Listener, socket: StreamSocket<Leg>, id: number) {
    const { runtime } = listener.worker;
    this.id = id;
    this.listener = listener;
    this.countedBy = listener.spec;
    this.generation = listener.worker.generation;
    this.clock = runtime.clock;
    this.acceptedMs = runtime.clock.nowMs;
    this.acceptedPreciseMs = runtime.preciseNowMs();
    this.startedAt = Date.now();
    this.lastActivityMs = this.acceptedMs;
    this.timer = new Deadline(this);
    this.downstream = new Leg(this);
    this.upstream = new Leg(this);
    this.downstream.socket = socket;
    this.direct = new SourceAddress(socket.remoteAddress, socket.remotePort);
    this.source = this.direct;
    this.local = listener.localAddress(socket);
  }

  /** There was room for it, at a listener of this spec: it is counted there, and its time begins. */
  admitted(spec: ListenerSpec): void {
    this.countedBy = spec;
    if (!this.downstream.paused) return;
    this.acceptedMs = this.clock.nowMs;
    this.downstream.paused = false;
    this.downstream.socket?.resume();
  }

  /** Unique among all processes of the daemon: in the access log, in the admin API, and sent to endpoints as UNIQUE_ID. */
  get uniqueId(): string {
    return `${this.listener.worker.instanceId}-${this.id}`;
  }

  /** Ends it, in the relay, when a certificate that is valid up to this moment (ms since 1970) has expired. */
  expireAt(notAfterMs: number): void {
    this.expiresAtMs = Math.min(this.expiresAtMs, notAfterMs + 1);
  }

  other(leg: Leg): Leg {
    return leg === this.downstream ? this.upstream : this.downstream;
  }

  /** Ends the connection at once, unless it has ended: both legs are aborted and the record is written. */
  end(ending: Ending): void {
    if (this.ended) return;
    this.ended = true;
    close(this, ending);
  }
}

/** A timer with one function for all connections, of which there are many, instead of a closure for each. */
class Deadline extends Timer {
  readonly connection: Connection;

  constructor(connection: Connection) {
    super(passed);
    this.connection = connection;
  }
}

function passed(timer: Timer): void {
  const { connection } = timer as Deadline;
  if (connection.phase === "relay") relayDeadline(connection);
  else connection.onDeadline?.();
}
