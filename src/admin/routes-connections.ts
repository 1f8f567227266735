// The paths about single connections. Every process that relays is asked, and the answers are merged.

import type { Control } from "../control/control.ts";
import type { Heard, PeerRow, Question } from "../snapshot/inspection.ts";
import { CLOSE_REASONS } from "../telemetry/close-reason.ts";
import { Problem } from "./problem.ts";
import type { QueryFields } from "./query.ts";
import { type Route, route } from "./route.ts";

/** Rows of one answer. */
const MOST_ROWS = 1000;
/** How many questions to the workers may be pending at once. */
const MOST_QUESTIONS = 16;

const limit = { kind: "integer", min: 1, max: MOST_ROWS, default: 100, about: "Rows at most." } as const;
const listener = { kind: "text", about: "The name of a listener." } as const;
const backend = { kind: "text", about: "The name of a backend." } as const;

const CONNECTION_FIELDS = {
  listener,
  backend,
  endpoint: { kind: "text", about: "An endpoint as the config has it." },
  source: { kind: "text", about: "An IP address of the client, or a part of one." },
  identity: { kind: "text", about: "A part of a name in the client's verified certificate." },
  text: { kind: "text", about: "A part of any text that the row shows." },
  limit,
} as const satisfies QueryFields;

const CLOSE_FIELDS = {
  failed: { kind: "flag", about: "true: only those that failed, were refused or were cut; false: only the others." },
  listener,
  backend,
  reason: { kind: "text", values: Object.keys(CLOSE_REASONS), about: "A close reason." },
  text: { kind: "text", about: "A part of any text of the record." },
  limit,
} as const satisfies QueryFields;

/** Routes for the live connections, one of them, closing it, the last closes, and who is connected to what. */
export function connectionRoutes(control: Pick<Control, "ask" | "connectionsElsewhere">): readonly Route[] {
  const ask = bounded(control);
  return [
    route({
      method: "GET",
      path: "/api/v1/connections",
      summary: "Live connections that fit, newest first.",
      query: CONNECTION_FIELDS,
      answers: { 200: "Connections" },
      problems: [503],
      async answer({ query: { limit, ...filter } }) {
        const heard = await ask({ ask: "connections", filter, limit });
        const answers = heard.answers.map(({ answer }) => answer);
        const connections = answers.flatMap(({ rows }) => rows).sort(newestBy(({ started_at }) => started_at));
        return Response.json({
          connections: connections.slice(0, limit),
          matching: sum(answers.map(({ matching }) => matching)),
          total: sum(answers.map(({ total }) => total)),
          elsewhere: control.connectionsElsewhere,
          silent_workers: heard.silent,
        });
      },
    }),
    route({
      method: "GET",
      path: "/api/v1/connections/{id}",
      summary: "All that is known of one live connection.",
      answers: { 200: "ConnectionDetail" },
      problems: [404, 503],
      async answer({ id }) {
        const heard = await ask({ ask: "connection", id });
        const found = heard.answers.find(({ answer }) => answer !== null);
        if (found === undefined) throw notFound(id, heard);
        return Response.json(found.answer);
      },
    }),
    route({
      method: "DELETE",
      path: "/api/v1/connections/{id}",
      summary: "Ends a live connection at once, by a reset of both legs. Close reason: `admin_closed`.",
      answers: { 200: "Closed" },
      problems: [404, 503],
      async answer({ id }) {
        const heard = await ask({ ask: "close", id });
        if (!heard.answers.some(({ answer }) => answer)) throw notFound(id, heard);
        return Response.json({ ok: true, id });
      },
    }),
    route({
      method: "GET",
      path: "/api/v1/closes",
      summary: "Records of the last closes, newest first. Each process keeps 1,000, whatever the access log is set to.",
      query: CLOSE_FIELDS,
      answers: { 200: "Closes" },
      problems: [503],
      async answer({ query: { limit, ...filter } }) {
        const { answers, silent } = await ask({ ask: "closes", after: {}, filter, limit });
        const closes = answers.flatMap(({ answer }) => answer.closes).sort(newestBy(({ ended_at }) => ended_at));
        return Response.json({ closes: closes.slice(0, limit), silent_workers: silent });
      },
    }),
    route({
      method: "GET",
      path: "/api/v1/peers",
      summary: "Who talks to whom now: live connections by client name, listener and backend, most first.",
      query: { limit: { ...limit, default: 200 } },
      answers: { 200: "Peers" },
      problems: [503],
      async answer({ query }) {
        const heard = await ask({ ask: "peers", limit: MOST_ROWS });
        const answers = heard.answers.map(({ answer }) => answer);
        const peers = addedUp(answers.flatMap(({ rows }) => rows));
        // Where a process has more than it told, how many of them are the same is not known.
        const matching = Math.max(peers.length, ...answers.map((answer) => answer.matching));
        return Response.json({ peers: peers.slice(0, query.limit), matching, silent_workers: heard.silent });
      },
    }),
  ];
}

/** Asks, with a limit on the questions pending at once. */
function bounded(control: Pick<Control, "ask">): Control["ask"] {
  let waiting = 0;
  return async <Q extends Question>(question: Q): Promise<Heard<Q>> => {
    if (waiting >= MOST_QUESTIONS)
      throw new Problem(503, "too many questions wait for their answers: ask again", {
        headers: { "Retry-After": "1" },
      });
    waiting++;
    try {
      return await control.ask(question);
    } finally {
      waiting--;
    }
  };
}

/** Rows of the same names become one. */
function addedUp(rows: readonly PeerRow[]): readonly PeerRow[] {
  const sums = new Map<string, PeerRow>();
  for (const row of rows) {
    const key = JSON.stringify([row.listener, row.backend, row.identity]);
    const before = sums.get(key);
    sums.set(key, {
      ...row,
      connections: row.connections + (before?.connections ?? 0),
      bytes_up: row.bytes_up + (before?.bytes_up ?? 0),
      bytes_down: row.bytes_down + (before?.bytes_down ?? 0),
    });
  }
  return [...sums.values()].sort((a, b) => b.connections - a.connections);
}

/** Nobody has it, as far as they have answered. What was asked of the others is done once they go on. */
function notFound(id: string, { silent }: Pick<Heard<Question>, "silent">): Problem {
  const named = JSON.stringify(id.slice(0, 100));
  if (silent.length === 0)
    return new Problem(404, `there is no live connection ${named}; /api/v1/closes has the last that ended`);
  const told = `worker ${silent.join(" and ")} did not answer, and none of the others has the connection ${named}: ask again`;
  return new Problem(503, told, { headers: { "Retry-After": "1" } });
}

/** ISO 8601 in UTC sorts as text. */
function newestBy<T>(time: (each: T) => string): (a: T, b: T) => number {
  return (a, b) => (time(a) < time(b) ? 1 : time(a) > time(b) ? -1 : 0);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
