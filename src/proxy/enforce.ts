// A change of policies, authorities or revocation lists reaches connections that are open: those that would now be refused are ended, and
// nothing happens to the others. They are gone through in slices, so that the relay of the others hardly waits.

import { type Clock, Timer } from "../base/clock.ts";
import { refusalCode } from "../protocol/leaf.ts";
import type { Runtime, StreamSocket } from "../runtime/runtime.ts";
import type { OriginationSpec, TerminationSpec } from "../snapshot/snapshot.ts";
import { denialOf, type Policy } from "./authorize.ts";
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

  /** Starts over with all connections: those that are not checked yet for an earlier change are checked against the current rules. */
  start(connections: Iterable<Connection>): void {
    this.#left = [...connections];
    this.#slice();
  }

  #slice(): void {
    for (const connection of this.#left.splice(-SLICE)) {
      // Before authorisation there is nothing to revoke; what is authorised meanwhile is checked again before its relay.
      if (connection.ended || (connection.phase !== "relay" && connection.phase !== "connect")) continue;
      const ending = refusalNow(connection);
      if (ending !== null) connection.end(ending);
    }
    if (this.#left.length > 0) this.#clock.arm(this.#timer, 0);
  }
}

/**
 * Why a connection that was let through would be refused by the rules of now, or null. It is judged by the route that it would take now, whatever
 * that is called; where it would find none, by the policy that it was let through by.
 */
export function refusalNow(connection: Connection): Ending | null {
  return downstreamRefusal(connection) ?? upstreamRefusal(connection);
}

function downstreamRefusal(connection: Connection): Ending | null {
  const now = routeNow(connection);
  const policy = now === null ? connection.listener.worker.policyNamed(connection.policy) : now.policy;
  const refused = (now === null ? null : trustRefusalOf(connection, now)) ?? policyRefusal(connection, policy ?? null);
  if (refused === null && now !== null) connection.judgedBy = now.spec;
  return refused;
}

/** Null when it would be turned away, or its listener is gone: that alone ends no connection. */
function routeNow({ listener, sni, offeredAlpn, source, spokeTls }: Connection): ActiveRoute | null {
  const rules = listener.worker.rulesOf(listener);
  if (rules === undefined) return null;
  return rules.routes[rules.router.route(spokeTls ? { sni, alpn: offeredAlpn } : null, source)] ?? null;
}

function policyRefusal(connection: Connection, policy: Policy | null): Ending | null {
  if (policy === null) return null;
  const verdict = policy.evaluate(connection.identity, connection.source);
  connection.policy = policy.name;
  connection.policyRule = verdict.rule;
  return verdict.allowed ? null : new Ending("policy_revoked", denialOf(policy.name, verdict));
}

function trustRefusalOf(connection: Connection, now: ActiveRoute): Ending | null {
  const { downstream, identity, listener } = connection;
  const before = (connection.judgedBy ?? connection.route)?.termination ?? null;
  const { termination } = now.spec;
  if (identity !== null && before !== null && termination !== null && termination.clientAuth !== "none") {
    const reason = trustRefusal(downstream.socket, trustOf(before), trustOf(termination), listener.worker.runtime);
    if (reason !== "") return revoked("client", reason);
  }
  if (identity === null && termination?.clientAuth === "required" && connection.secured !== null)
    return new Ending("policy_revoked", "a client certificate is required now");
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
  return reason === "" ? null : revoked("endpoint", reason);
}

function revoked(whose: "client" | "endpoint", reason: string): Ending {
  return new Ending("certificate_revoked", `the ${whose}'s certificate: ${reason}`, refusalCode(reason));
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
  return leaf === null ? "" : now.judge(leaf, serverName);
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
