// The admin API: access, what all answers have in common, and the answers to unknown paths and methods. What the paths answer is in routes-*.ts.

import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { Control } from "../control/control.ts";
import { type DashboardRuntime, dashboardRoutes } from "./dashboard.ts";
import type { EventStreams } from "./events.ts";
import type { Gate } from "./gate.ts";
import { Problem } from "./problem.ts";
import { mount, pathsOf, type Route, route } from "./route.ts";
import { connectionRoutes } from "./routes-connections.ts";
import { daemonRoutes } from "./routes-daemon.ts";
import { eventRoutes } from "./routes-events.ts";

/** Longest body that is read. Nothing that is posted here has one. */
export const MAX_BODY_BYTES = 16 * 1024;

export interface AppOptions {
  readonly control: Control;
  /** Where the files of the dashboard are read. */
  readonly runtime: DashboardRuntime;
  readonly gate: Gate;
  readonly streams: EventStreams;
  /** Called with a defect. The client gets no details of it. */
  onDefect(thrown: unknown): void;
}

/** For every answer that does not say otherwise: nobody keeps it, nobody guesses what it is, and no page of another origin gets to see or frame it. */
const HEADERS: Readonly<Record<string, string>> = {
  "Cache-Control": "no-store",
  "X-Content-Type-Options": "nosniff",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
};

/** Answers requests for the API. */
export function adminApp({ control, runtime, gate, streams, onDefect }: AppOptions): Hono {
  const app = new Hono();
  app.use(async (context, next) => {
    await next();
    for (const [name, value] of Object.entries(HEADERS))
      if (!context.res.headers.has(name)) context.res.headers.set(name, value);
  });
  app.use(async (context, next) => {
    gate.refuse(context.req.raw);
    await next();
  });
  app.use(
    bodyLimit({
      maxSize: MAX_BODY_BYTES,
      onError: () => new Problem(413, `the body is longer than ${MAX_BODY_BYTES} bytes`).response(),
    }),
  );
  const api: readonly Route[] = [
    ...daemonRoutes(control),
    ...connectionRoutes(control),
    ...eventRoutes(streams, gate),
    route({
      method: "GET",
      path: "/api/v1/openapi.json",
      summary: "This description: OpenAPI 3.1.",
      answers: { 200: "application/json" },
      async answer() {
        // It takes memory that few daemons ever need.
        const { openApi } = await import("./openapi.ts");
        return Response.json(openApi(api, control.status().version));
      },
    }),
  ];
  const routes = [...api, ...dashboardRoutes(runtime)];
  mount(app, routes);
  app.notFound(() => new Problem(404, "there is no such path", { members: { paths: pathsOf(routes) } }).response());
  app.onError((thrown, context) => {
    if (thrown instanceof Problem) return thrown.response();
    // Who has gone before all of a request had come gets no answer, and is no defect.
    if (context.req.raw.signal.aborted && thrown.name === "AbortError") return new Response(null, { status: 400 });
    onDefect(thrown);
    return new Problem(500, "a defect in bunnel; its log says more").response();
  });
  return app;
}
