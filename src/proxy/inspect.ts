// Answers questions of operators about single connections. There may be very many, and relaying waits meanwhile: so questions are
// answered one after the other, each in small slices. Nothing is stored for this except the records of the last closes.

import type { Runtime } from "../runtime/runtime.ts";
import type {
  Answers,
  CloseFilter,
  CloseLine,
  ConnectionFilter,
  ConnectionRow,
  PeerRow,
  Question,
} from "../snapshot/inspection.ts";
import { type CloseRecord, formatJson } from "../telemetry/access-log.ts";
import { isFailure } from "../telemetry/close-reason.ts";
import type { Connection } from "./connection.ts";
import { Ending } from "./ending.ts";
import { detailOf, firstName, rowOf } from "./inspect-rows.ts";
import type { Worker } from "./worker.ts";

/** Connections that are looked at in one turn of the event loop, unless its time is over before. */
const SLICE = 1000;
/** How long such a turn may take. */
const SLICE_MS = 1;
/** Connections between two readings of the clock. */
const LOOKS_A_READING = 16;

/** Answers for one process. */
export class Inspector {
  readonly #worker: Worker;
  /** The worker's number; 0 with a single process. */
  readonly #number: number;
  /** The previous answer, which the next one waits for. */
  #before: Promise<unknown> = Promise.resolve();

  constructor(worker: Worker, number: number) {
    this.#worker = worker;
    this.#number = number;
  }

  /** As `Answers` has it for the question. */
  answer(question: Question): Promise<Answers[Question["ask"]]> {
    const answer = this.#before.then(() => this.#answer(question));
    // The error goes to whoever asked.
    this.#before = answer.catch(() => {});
    return answer;
  }

  async #answer(question: Question): Promise<Answers[Question["ask"]]> {
    switch (question.ask) {
      case "connections":
        return await this.#connections(question.filter, question.limit);
      case "connection": {
        const connection = await this.#find(question.id);
        return connection === null ? null : detailOf(connection, this.#number);
      }
      case "close": {
        const connection = await this.#find(question.id);
        connection?.end(new Ending("admin_closed"));
        return connection !== null;
      }
      case "closes":
        return await this.#closes(question);
      case "peers":
        return await this.#peers(question.limit);
    }
  }

  async #connections(filter: ConnectionFilter, limit: number): Promise<Answers["connections"]> {
    /** A ring: the newest come last. */
    const found: Connection[] = [];
    let matching = 0;
    await this.#walk((connection) => {
      if (!matches(connection, filter, this.#number)) return true;
      found[matching % limit] = connection;
      matching++;
      return true;
    });
    const rows: ConnectionRow[] = [];
    const turn = new Turn(this.#worker.runtime);
    for (let back = 1; back <= found.length; back++) {
      const rest = turn.isOver ? turn.next() : null;
      if (rest !== null) await rest;
      rows.push(rowOf(found[(matching - back) % limit] as Connection, this.#number));
    }
    return { rows, matching, total: this.#worker.connectionCount };
  }

  async #find(id: string): Promise<Connection | null> {
    const { instanceId } = this.#worker;
    if (!id.startsWith(`${instanceId}-`)) return null;
    const number = Number(id.slice(instanceId.length + 1));
    let found: Connection | null = null;
    await this.#walk((connection) => {
      if (connection.id === number) found = connection;
      return found === null;
    });
    return found;
  }

  async #closes({ after, filter, limit }: Extract<Question, { readonly ask: "closes" }>): Promise<Answers["closes"]> {
    const { recorder, runtime, instanceId: process } = this.#worker;
    const before = Object.hasOwn(after, process) ? (after[process] as number) : 0;
    const { last } = recorder;
    const closes: CloseLine[] = [];
    const turn = new Turn(runtime);
    for (let number = last; number > before && closes.length < limit; number--) {
      const rest = turn.isOver ? turn.next() : null;
      if (rest !== null) await rest;
      const record = recorder.record(number);
      if (record === undefined) break;
      const line = this.#closeLine(record, number, filter);
      if (line !== null) closes.push(line);
    }
    return { process, closes, last };
  }

  /** Null when it is not meant. */
  #closeLine(record: CloseRecord, seq: number, filter: CloseFilter): CloseLine | null {
    if (filter.failed !== null && filter.failed !== isFailure(record.closeReason)) return null;
    if (!isSame(filter.listener, record.listener) || !isSame(filter.backend, record.backend)) return null;
    if (!isSame(filter.reason, record.closeReason)) return null;
    const text = formatJson(record, this.#number);
    if (!contains(text, filter.text)) return null;
    const ended_at = new Date(record.timeMs + record.durationMs).toISOString();
    return { seq, ended_at, ...(JSON.parse(text) as Record<string, unknown>) };
  }

  async #peers(limit: number): Promise<Answers["peers"]> {
    interface Sum extends PeerRow {
      connections: number;
      bytes_up: number;
      bytes_down: number;
    }
    const sums = new Map<string, Sum>();
    await this.#walk((connection) => {
      const identity = firstName(connection.identity);
      const listener = connection.listener.spec.name;
      const backend = connection.backend?.spec.name ?? "";
      if (backend === "") return true;
      const key = `${listener}\n${backend}\n${identity}`;
      let sum = sums.get(key);
      if (sum === undefined) {
        sum = { identity, listener, backend, connections: 0, bytes_up: 0, bytes_down: 0 };
        sums.set(key, sum);
      }
      sum.connections++;
      sum.bytes_up += connection.downstream.bytesDelivered;
      sum.bytes_down += connection.upstream.bytesDelivered;
      return true;
    });
    const rows = [...sums.values()].sort((a, b) => b.connections - a.connections).slice(0, limit);
    return { rows, matching: sums.size };
  }

  /** Looks at those that are there now, oldest first, until one says `false`. Those that end meanwhile may be left out. */
  async #walk(look: (connection: Connection) => boolean): Promise<void> {
    const { connections, connectionCount, runtime } = this.#worker;
    const turn = new Turn(runtime);
    // New connections are appended: without this count the walk might never end.
    let left = connectionCount;
    for (const connection of connections) {
      if (left-- <= 0) return;
      const rest = turn.isOver ? turn.next() : null;
      if (rest !== null) await rest;
      if (!connection.ended && !look(connection)) return;
    }
  }
}

/** What is done until the loop has to have its turn. */
class Turn {
  readonly #runtime: Pick<Runtime, "preciseNowMs">;
  #looks = 0;
  #startedMs: number;

  constructor(runtime: Pick<Runtime, "preciseNowMs">) {
    this.#runtime = runtime;
    this.#startedMs = runtime.preciseNowMs();
  }

  /** To be asked before each look. */
  get isOver(): boolean {
    this.#looks++;
    if (this.#looks % LOOKS_A_READING !== 0) return false;
    return this.#looks >= SLICE || this.#runtime.preciseNowMs() - this.#startedMs >= SLICE_MS;
  }

  /** Resolves when the loop has gone round. */
  next(): Promise<void> {
    return new Promise((resolve) =>
      setTimeout(() => {
        this.#looks = 0;
        this.#startedMs = this.#runtime.preciseNowMs();
        resolve();
      }),
    );
  }
}

function matches(connection: Connection, filter: ConnectionFilter, worker: number): boolean {
  if (!isSame(filter.listener, connection.listener.spec.name)) return false;
  if (!isSame(filter.backend, connection.backend?.spec.name ?? "")) return false;
  if (!isSame(filter.endpoint, connection.acquired?.name ?? "")) return false;
  if (!contains(connection.source.ip, filter.source)) return false;
  const { identity } = connection;
  if (filter.identity !== "") {
    if (identity === null) return false;
    const names = [...identity.uris, ...identity.dnsNames, ...identity.commonNames];
    if (!names.some((name) => contains(name, filter.identity))) return false;
  }
  if (filter.text === "") return true;
  const shown = Object.values(rowOf(connection, worker));
  return shown.some((value) => typeof value === "string" && contains(value, filter.text));
}

function isSame(wanted: string, value: string): boolean {
  return wanted === "" || wanted === value;
}

function contains(text: string, part: string): boolean {
  return part === "" || text.toLowerCase().includes(part.toLowerCase());
}
