// What is costly to build for a snapshot: TLS contexts, compiled policies and routers. A part whose spec is equal in the previous snapshot is reused
// as it is. That makes a reload cheap, and it keeps sessions: the tickets of a TLS context are worth nothing to the next one, so a context that
// is rebuilt for no reason costs every client that comes back a full handshake.

import type { Runtime } from "../runtime/runtime.ts";
import type { OriginationSpec, PolicySpec, RouteSpec, TerminationSpec } from "../snapshot/snapshot.ts";
import { Policy } from "./authorize.ts";
import { Termination } from "./handshake.ts";
import { Origination } from "./originate.ts";
import { Router } from "./router.ts";

const TEXT = new TextEncoder();

/** The parts of one snapshot. Equal specs share one part. */
export class Parts {
  readonly #runtime: Pick<Runtime, "sha256" | "serverContext" | "clientContext">;
  readonly #before: ReadonlyMap<string, unknown>;
  readonly #built = new Map<string, unknown>();

  /** `served`: the parts of the snapshot in force, which are reused where they are equal. */
  constructor(runtime: Pick<Runtime, "sha256" | "serverContext" | "clientContext">, served: Parts | null) {
    this.#runtime = runtime;
    this.#before = served === null ? new Map() : served.#built;
  }

  /** Throws ProxyError `BAD_TLS_MATERIAL`. */
  termination(spec: TerminationSpec): Termination {
    return this.#part("termination", spec, () => new Termination(this.#runtime, spec));
  }

  /** Throws ProxyError `BAD_TLS_MATERIAL`. */
  origination(spec: OriginationSpec): Origination {
    return this.#part("origination", spec, () => new Origination(this.#runtime, spec));
  }

  policy(spec: PolicySpec): Policy {
    return this.#part("policy", spec, () => new Policy(spec));
  }

  router(routes: readonly RouteSpec[]): Router {
    const words = routes.map(({ match, tls }) => ({ match, tls }));
    return this.#part("router", words, () => new Router(routes));
  }

  /** `words` have to say all that is built from. A digest stands for them: they hold private keys, which are not to be kept once more. */
  #part<T>(kind: string, words: object, build: () => T): T {
    const key = `${kind} ${this.#runtime.sha256(TEXT.encode(JSON.stringify(words)))}`;
    // Under one kind there is only what was built for that kind.
    const part = (this.#built.get(key) ?? this.#before.get(key) ?? build()) as T;
    this.#built.set(key, part);
    return part;
  }
}
