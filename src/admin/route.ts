// A path of the admin API as data: what is served at it, what it takes, and what it answers. The app and the API's own description are made from the same.

import type { Hono } from "hono";
import { Problem, type ProblemStatus } from "./problem.ts";
import { type QueryFields, type QueryOf, readQuery } from "./query.ts";
import type { SchemaName } from "./schemas.ts";

/** A request that is to be answered. */
export interface Asked<F extends QueryFields> {
  readonly request: Request;
  readonly query: QueryOf<F>;
  /** The one parameter of the path; "" where it has none. */
  readonly id: string;
}

export interface Route {
  readonly method: "GET" | "POST" | "DELETE";
  /** As in OpenAPI; there is one parameter at most, `{id}`. */
  readonly path: string;
  /** One sentence. */
  readonly summary: string;
  readonly query: QueryFields;
  /** What is answered when all is well, by status: JSON of a schema, or another media type. */
  readonly answers: Readonly<Record<number, SchemaName | `${string}/${string}`>>;
  /** What else may be answered, beside what every path may. */
  readonly problems: readonly ProblemStatus[];
  answer(request: Request, id: string): Response | Promise<Response>;
}

/** Describes a route. A GET takes HEAD, too. */
export function route<F extends QueryFields>(
  parts: Pick<Route, "method" | "path" | "summary" | "answers"> & {
    readonly query?: F;
    readonly problems?: Route["problems"];
    answer(asked: Asked<F>): Response | Promise<Response>;
  },
): Route {
  const { method, path, summary, answers, problems = [], answer } = parts;
  const query = parts.query ?? ({} as F);
  return {
    method,
    path,
    summary,
    query,
    answers,
    problems,
    answer: (request, id) => answer({ request, id, query: readQuery(query, request.url) }),
  };
}

/** Has an app answer these, and tell who asks with another method which there are. */
export function mount(app: Hono, routes: readonly Route[]): void {
  for (const { method, path, answer } of routes) {
    app.on(method, ofHono(path), async (context) => {
      if (method !== "GET") refuseBody(await context.req.text());
      return await answer(context.req.raw, context.req.param("id") ?? "");
    });
  }
  for (const path of new Set(routes.map((each) => each.path))) {
    const methods = methodsOf(routes, path);
    app.all(ofHono(path), () => {
      throw new Problem(405, `${path} takes ${methods.join(" and ")} only`, { headers: { Allow: methods.join(", ") } });
    });
  }
}

/** All that there are, in their order. */
export function pathsOf(routes: readonly Route[]): readonly string[] {
  return [...new Set(routes.map(({ path }) => path))];
}

function methodsOf(routes: readonly Route[], path: string): readonly string[] {
  const methods = routes.filter((each) => each.path === path).map(({ method }) => method);
  return methods.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]));
}

function ofHono(path: string): string {
  return path.replace("{id}", ":id");
}

/** Nothing that is posted here has a body; clients that send an empty object are let. */
function refuseBody(text: string): void {
  if (text.trim() === "") return;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Problem(400, "the body is not JSON; nothing is taken in it, so leave it empty");
  }
  const isEmpty = typeof value === "object" && value !== null && Object.keys(value).length === 0;
  if (!isEmpty) throw new Problem(400, "nothing is taken in the body: leave it empty");
}
