// The messages between the supervisor and its workers. Both are always of the same version: a worker that finds another one reports that and ends.
// A "queue" is a listening socket with its accept queue, passed as a descriptor; a "place" is its address as text (`placeOf`).

import type { Address } from "../base/address.ts";
import type { Question } from "./inspection.ts";
import type { BackendSpec, EndpointSpec, Snapshot } from "./snapshot.ts";

/** A listening socket that is passed along with a message, in the order of its list. */
export interface PassedQueue {
  /** As `placeOf` gives it. */
  readonly place: string;
  /** As bound. */
  readonly address: Address;
}

/** A backend, or an endpoint of the last one. */
export type Piece = { readonly backend: Omit<BackendSpec, "endpoints"> } | { readonly endpoint: EndpointSpec };

export type ToWorker =
  /** Some of the snapshot that comes next. Not answered. */
  | { readonly kind: "pieces"; readonly pieces: readonly Piece[] }
  /** The first message but for `pieces`. Passed with it: the table of counts, then the queues of all listeners. */
  | {
      readonly kind: "start";
      readonly version: string;
      /** From 1. */
      readonly worker: number;
      /** Of the table of counts. */
      readonly row: number;
      readonly log: { readonly level: "debug" | "info" | "warn" | "error"; readonly format: "json" | "pretty" };
      readonly accessLog: {
        /** stdout, stderr, off or a path. */
        readonly output: string;
        readonly format: "json" | "text";
        readonly level: "info" | "warn";
        /** Of those of level `info`, from 0 to 1. */
        readonly sample: number;
      };
      /** The user to run as; null = as started. */
      readonly user: string | null;
      readonly shared: boolean;
      readonly snapshot: Snapshot;
      readonly queues: readonly PassedQueue[];
    }
  /** Build the snapshot without using it. Passed: the queues that are new. Answered by `prepared` or `refused`. */
  | { readonly kind: "prepare"; readonly snapshot: Snapshot; readonly queues: readonly PassedQueue[] }
  /** Switch to what was prepared. Answered by `serving`. */
  | { readonly kind: "commit" }
  /** Forget what was prepared. */
  | { readonly kind: "abandon" }
  /** Whether another daemon accepts from the queues too, for as long as an upgrade takes. A worker that loses its supervisor then leaves them to that daemon. */
  | { readonly kind: "share"; readonly shared: boolean }
  /** Stop accepting, finish, and end. Answered by `draining`, and by `drained`. `others`: the places that another process accepts from. */
  | { readonly kind: "drain"; readonly others: readonly string[] }
  /** Write the access log to the file that is passed from now on. */
  | { readonly kind: "log file" }
  /** End every connection now. */
  | { readonly kind: "abort" }
  /** Are you there? Answered by `pong`. */
  | { readonly kind: "ping" }
  /** Answered by `answer` with the same number. */
  | { readonly kind: "ask"; readonly number: number; readonly question: Question };

export type FromWorker =
  /** It accepts, or uses a new snapshot from now on. */
  | { readonly kind: "serving"; readonly generation: number }
  | { readonly kind: "prepared" }
  /** The start or `prepare` has failed. */
  | { readonly kind: "refused"; readonly problem: string }
  /** It has to end: it got a signal, or cannot go on. Answered by `drain`. */
  | { readonly kind: "leaving" }
  /** It no longer accepts from places that others accept from. */
  | { readonly kind: "draining" }
  | { readonly kind: "drained"; readonly aborted: number }
  | { readonly kind: "pong" }
  /** As the question wants it: see `Answers`. */
  | { readonly kind: "answer"; readonly number: number; readonly answer: unknown }
  /** A line for the operational log. */
  | {
      readonly kind: "log";
      readonly level: "debug" | "info" | "warn" | "error" | "fatal";
      readonly fields: Readonly<Record<string, unknown>>;
      readonly message: string;
    };

/** What a supervisor tells its successor, with the table of counts and then all queues passed along. Understood across versions: fields are only added. */
export interface HandOver {
  readonly kind: "hand over";
  readonly queues: readonly PassedQueue[];
  /** Who has which slot of the table. */
  readonly slots: readonly (readonly [string, number])[];
  /** And which counters (meters.ts). Absent in early versions. */
  readonly meters?: readonly (readonly [string, number])[];
  readonly generation: number;
}

/** What the successor answers, once its workers accept. */
export interface TakenOver {
  readonly kind: "taken over";
  /** Whose queues it kept: it accepts from them. Absent in early versions: from all. */
  readonly places?: readonly string[];
}

/** What it answers when it cannot. */
export interface NotTakenOver {
  readonly kind: "not taken over";
  /** Why. */
  readonly problem: string;
}

/** Of one message: to read it takes a fraction of a millisecond. */
const MOST_PIECES = 200;

/** A snapshot on its way to a worker. */
export interface TakenApart {
  /** To be sent before the rest, in this order. */
  readonly ahead: readonly Extract<ToWorker, { kind: "pieces" }>[];
  readonly rest: Snapshot;
}

/** Takes a snapshot apart, so that no message is long: a worker reads one at a time, and whoever has something to relay comes between two. */
export function takeApart(snapshot: Snapshot): TakenApart {
  const pieces = snapshot.backends.flatMap(({ endpoints, ...backend }): Piece[] => [
    { backend },
    ...endpoints.map((endpoint) => ({ endpoint })),
  ]);
  const ahead = Array.from({ length: Math.ceil(pieces.length / MOST_PIECES) }, (_, at) => ({
    kind: "pieces" as const,
    pieces: pieces.slice(at * MOST_PIECES, (at + 1) * MOST_PIECES),
  }));
  return { ahead, rest: { ...snapshot, backends: [] } };
}

/** Puts snapshots together again. */
export class Joiner {
  #backends: (Omit<BackendSpec, "endpoints"> & { readonly endpoints: EndpointSpec[] })[] = [];

  add(pieces: readonly Piece[]): void {
    for (const piece of pieces) {
      if ("backend" in piece) this.#backends.push({ ...piece.backend, endpoints: [] });
      else this.#backends.at(-1)?.endpoints.push(piece.endpoint);
    }
  }

  /** The snapshot that all this belongs to. The next one begins with nothing. */
  join(rest: Snapshot): Snapshot {
    const backends = this.#backends;
    this.#backends = [];
    return { ...rest, backends };
  }
}
