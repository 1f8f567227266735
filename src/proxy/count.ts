// What connections are counted for, beside the connections themselves: a few additions to memory that all processes share (snapshot/meters.ts) in the whole life
// of a connection, and none for a chunk. Bytes are added once a second by byte-sweep.ts, and here at the end.

import {
  BACKEND_METERS,
  BYTES_METERS,
  LISTENER_METERS,
  LONG_BOUNDS,
  POLICY_METERS,
  SHORT_BOUNDS,
} from "../snapshot/meters.ts";
import type { CloseRecord } from "../telemetry/access-log.ts";
import { closeReasonPlace, failedHandshake, handshakePlace } from "../telemetry/outcomes.ts";
import type { Policy, Verdict } from "./authorize.ts";
import type { Connection } from "./connection.ts";

/** A handshake with a client that has shown who it is, as far as it was asked. */
export function countHandshake({ listener, countedBy }: Connection, tookMs: number): void {
  const { meters } = listener.worker;
  meters.add(countedBy.meter + LISTENER_METERS.handshakes + handshakePlace("ok"));
  meters.observe(countedBy.meter + LISTENER_METERS.handshakeSeconds, SHORT_BOUNDS, tookMs);
}

/** What a policy has said of it. */
export function countDecision({ listener }: Connection, { meter }: Policy, { allowed, rule }: Verdict): void {
  const { allow, deny, shadow_deny } = POLICY_METERS;
  const decision = !allowed ? deny : rule.startsWith("shadow:") ? shadow_deny : allow;
  listener.worker.meters.add(meter + decision);
}

/** Its end. */
export function countEnd(
  connection: Connection,
  { closeReason: reason, durationMs }: Pick<CloseRecord, "closeReason" | "durationMs">,
): void {
  const { listener, countedBy, backend, phase } = connection;
  const { meters } = listener.worker;
  meters.add(countedBy.meter + LISTENER_METERS.closed + closeReasonPlace(reason));
  // Whoever has ended its handshake is asked about by the policy at once, and then the phase is another one.
  if (phase === "handshake" && reason !== "policy_denied")
    meters.add(countedBy.meter + LISTENER_METERS.handshakes + handshakePlace(failedHandshake(reason)));
  if (backend === null) return;
  const { meter } = backend.spec;
  meters.observe(meter + BACKEND_METERS.connectionSeconds, LONG_BOUNDS, durationMs);
  if (reason === "no_endpoint") meters.add(meter + BACKEND_METERS.noEndpoint);
  countBytes(connection);
}

/** What has been relayed since it was counted last. */
export function countBytes(connection: Connection): void {
  const { route, downstream, upstream, listener } = connection;
  const up = downstream.bytesDelivered;
  const down = upstream.bytesDelivered;
  if (route === null || (up === connection.meteredUp && down === connection.meteredDown)) return;
  const { meters } = listener.worker;
  if (up > connection.meteredUp) meters.add(route.bytesMeter + BYTES_METERS.up, up - connection.meteredUp);
  if (down > connection.meteredDown) meters.add(route.bytesMeter + BYTES_METERS.down, down - connection.meteredDown);
  connection.meteredUp = up;
  connection.meteredDown = down;
}
