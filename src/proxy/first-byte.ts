// How long an endpoint takes to say its first byte, for the balancer that wants to know. The time runs from the first byte that it was sent, or from the start of the
// relay if it speaks first: how long a client thinks before it asks says nothing of the endpoint.
//
// The relay pays nothing for it: a leg that has not been heard has a flow of its own, which its first chunk changes to the ordinary one.

import type { Connection } from "./connection.ts";
import { type Leg, RELAYING, SILENT } from "./leg.ts";

/** At the start of a relay. Legs with a limit of bandwidth are not watched: it would be the limit that is measured. */
export function watchFirstByte(connection: Connection): void {
  const { downstream, upstream, backend, listener } = connection;
  if (backend?.learnsLatency !== true || downstream.flow !== RELAYING || upstream.flow !== RELAYING) return;
  connection.askedMs = listener.worker.runtime.preciseNowMs();
  upstream.flow = SILENT;
  if (upstream.pendingBytes > 0) heardFirst(upstream);
  else if (downstream.pendingBytes === 0) downstream.flow = SILENT;
}

/** The first chunk of a leg that was SILENT has come. */
export function heardFirst(leg: Leg): void {
  const { connection } = leg;
  const { upstream, backend, acquired, listener } = connection;
  leg.flow = RELAYING;
  const nowMs = listener.worker.runtime.preciseNowMs();
  if (leg !== upstream) connection.askedMs = nowMs;
  else if (acquired !== null) backend?.answered(acquired, connection.reachedInMs + nowMs - connection.askedMs);
}

/** At the end of a connection: an endpoint that never said anything is known by how long it took to be connected to. */
export function endFirstByte({ upstream, backend, acquired, reachedInMs }: Connection): void {
  if (upstream.flow === SILENT && acquired !== null) backend?.answered(acquired, reachedInMs);
}
