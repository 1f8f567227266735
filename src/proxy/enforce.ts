// A change of policies, authorities or revocation lists reaches connections that are open: those that would now be refused are ended, and
// nothing happens to the others. They are gone through in slices, so that the relay of the others hardly waits.

import { type Clock, Timer } from "../base/clock.ts";
import type { Runtime, StreamSocket } from "../runtime/runtime.ts";
import type { OriginationSpec, TerminationSpec } from "../snapshot/snapshot.ts";
import type { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";
import type { ActiveRoute } from "./listener.ts";
import type { Origination } from "./originate.ts";
import { Trust } from "./trust.ts";

/** Looked at in one turn of the clock. At 20 µs for each, a slice holds up the others for about as long as one large read. */
const SLICE = 1000;

/** Goes through the connections of a worker after each change. */
export class Enforcement {
  readonly #clock: Clock;
  readonly #timer = new Timer(() => this.#slice());
  #left: Connection[] = [];

  constructor({ clock }: Pick<Runtime, "clock">) {
    this.#clock = clock;
  }

  /** Starts over with all of them: what is not looked at yet from an earlier change is looked at by the rules of now. */
  start(connections: Iterable<Connection>): void {
    this.#left = [...connections];
    this.#slice();
  }

  #slice(): void {
    for (const connection of this.#left.splice(-SLICE)) {
      // Before the relay `serve` itself looks, because only then is everything known.
      if (connection.ended || connection.phase !== "relay") continue;
      const ending = refusalNow(connection);
      if (ending !== null) connection.end(ending);
    }
    if (this.#left.length > 0) this.#clock.arm(this.#timer, 0);
  }
}

/** Why a connection that was let through would be refused by the rules of now, or null. Where its route is gone nothing refuses it. */
export function refusalNow(connection: Connection): Ending | null {
  const { listener, route } = connection;
  const now = route === null || listener.isClosed ? undefined : listener.routeNamed(route.name);
  return (now === undefined ? null : downstreamRefusal(connection, now)) ?? upstreamRefusal(connection);
}

function downstreamRefusal(connection: Connection, now: ActiveRoute): Ending | null {
  const { route, downstream, identity, listener } = connection;
  const before = route?.termination ?? null;
  const { termination } = now.spec;
  if (identity !== null && before !== null && termination !== null && termination.clientAuth !== "none") {
    const reason = trustRefusal(downstream.socket, trustOf(before), trustOf(termination), listener.worker.runtime);
    if (reason !== "") return new Ending("certificate_revoked", `the client's certificate: ${reason}`);
  }
  if (identity === null && termination?.clientAuth === "required" && connection.secured !== null)
    return new Ending("policy_revoked", "a client certificate is required now");
  if (now.policy !== null) {
    const verdict = now.policy.evaluate(identity, connection.source);
    connection.policy = now.policy.name;
    connection.policyRule = verdict.rule;
    if (!verdict.allowed) return new Ending("policy_revoked", verdict.rule);
  }
  connection.route = now.spec;
  return null;
}

function upstreamRefusal(connection: Connection): Ending | null {
  const { backend, upstream, listener, acquired } = connection;
  const before = backend?.origination ?? null;
  if (backend === null || before === null || acquired === null) return null;
  const current = listener.worker.backendNamed(backend.spec.name);
  const now = current?.origination ?? null;
  if (now === null || now === before) return null;
  const { runtime } = listener.worker;
  const reason =
    trustRefusal(upstream.socket, originationTrust(before), originationTrust(now), runtime) ||
    nameRefusal(upstream.socket, before, now, now.serverName(acquired), runtime);
  return reason === "" ? null : new Ending("certificate_revoked", `the endpoint's certificate: ${reason}`);
}

function trustRefusal(socket: StreamSocket<unknown> | null, before: Trust, now: Trust, runtime: Runtime): string {
  if (before === now || socket === null || before.equals(now)) return "";
  const leaf = runtime.peerCertificate(socket);
  // It is closing: nothing is left to be refused.
  return leaf === null ? "" : now.refusal(leaf, before, runtime);
}

function nameRefusal(
  socket: StreamSocket<unknown> | null,
  before: Origination,
  now: Origination,
  serverName: string,
  runtime: Runtime,
): string {
  if (before === now || socket === null) return "";
  const leaf = runtime.peerCertificate(socket);
  return leaf === null ? "" : now.verifier.judge(leaf, serverName);
}

// What is built for a part of a snapshot lives as long as that part.
const trusts = new WeakMap<object, Trust>();

function trustOf(spec: TerminationSpec): Trust {
  return remembered(spec, () => ({
    anchorsPem: spec.clientCaPem,
    crlsPem: spec.clientCrlPem,
    trustDomains: spec.trustDomains,
  }));
}

function originationTrust({ spec }: Origination): Trust {
  return remembered(spec, (): Trust["spec"] => ({
    anchorsPem: spec.serverCaPem,
    crlsPem: spec.serverCrlPem,
    trustDomains: spec.trustDomains,
  }));
}

function remembered(key: OriginationSpec | TerminationSpec, spec: () => Trust["spec"]): Trust {
  let trust = trusts.get(key);
  if (trust === undefined) {
    trust = new Trust(spec());
    trusts.set(key, trust);
  }
  return trust;
}
