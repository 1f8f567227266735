// The admin API: every path of it, and what is answered to everything else. It reads what the control plane knows and disturbs no worker. Errors are
// JSON with one field, `error`.

import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { Control } from "../control/control.ts";
import { refusalOf } from "./gate.ts";
import { METRICS_CONTENT_TYPE, metricsText } from "./metrics.ts";
import { readinessOf } from "./readiness.ts";

/** Nothing that is posted here has a body; clients that send an empty object are let. */
export const MAX_BODY_BYTES = 16 * 1024;

export interface AppOptions {
  readonly control: Control;
  /** What requests come over. */
  readonly kind: "tcp" | "unix";
  /** Tells of a defect. The client learns nothing of it. */
  onDefect(thrown: unknown): void;
}

/** Methods and paths, as they are told to who asks for another one. */
const PATHS: Readonly<Record<string, readonly string[]>> = {
  "/healthz": ["GET", "HEAD"],
  "/readyz": ["GET", "HEAD"],
  "/metrics": ["GET", "HEAD"],
  "/api/v1/status": ["GET", "HEAD"],
  "/api/v1/reload": ["POST"],
  "/api/v1/drain": ["POST"],
};

/** For every answer: nobody keeps it, nobody guesses what it is, and no page of another origin gets to see or frame it. */
const HEADERS: Readonly<Record<string, string>> = {
  "Cache-Control": "no-store",
  "X-Content-Type-Options": "nosniff",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
};

/** Answers requests for the API. */
export function adminApp({ control, kind, onDefect }: AppOptions): Hono {
  const app = new Hono();
  app.use(async (context, next) => {
    const refusal = refusalOf(kind, context.req.raw);
    if (refusal !== null) context.res = failure(context, refusal.status, refusal.message);
    else if (isAllowed(context)) await next();
    for (const [name, value] of Object.entries(HEADERS)) context.res.headers.set(name, value);
  });
  app.use(
    bodyLimit({
      maxSize: MAX_BODY_BYTES,
      onError: (context) => failure(context, 413, `the body is longer than ${MAX_BODY_BYTES} bytes`),
    }),
  );

  app.get("/healthz", (context) => context.json({ ok: true }));
  app.get("/readyz", (context) => {
    const readiness = readinessOf(control.status());
    return context.json(readiness, readiness.ready ? 200 : 503);
  });
  app.get("/metrics", async (context) =>
    context.body(await metricsText(control.status()), 200, { "Content-Type": METRICS_CONTENT_TYPE }),
  );
  app.get("/api/v1/status", (context) => context.json(control.status()));
  app.post("/api/v1/reload", async (context) => {
    const problems = await control.reload();
    if (problems.length > 0) return context.json({ ok: false, problems }, 409);
    return context.json({ ok: true, generation: control.status().generation });
  });
  app.post("/api/v1/drain", (context) => {
    // Twice would be as a second signal: at once.
    if (control.status().state !== "draining") control.drain();
    return context.json({ ok: true, state: "draining" }, 202);
  });

  app.onError((thrown, context) => {
    onDefect(thrown);
    return failure(context, 500, "a defect in bunnel; its log says more");
  });
  return app;
}

/** Whether path and method are ours; if not, that is the answer. */
function isAllowed(context: Context): boolean {
  const { method, path } = context.req;
  const methods = Object.hasOwn(PATHS, path) ? PATHS[path] : undefined;
  if (methods?.includes(method) === true) return true;
  if (methods === undefined) {
    context.res = context.json({ error: "there is no such path", paths: Object.keys(PATHS) }, 404);
  } else {
    context.res = failure(context, 405, `${path} takes ${methods.join(" and ")} only`);
    context.res.headers.set("Allow", methods.join(", "));
  }
  return false;
}

function failure(context: Context, status: 403 | 405 | 413 | 421 | 500, error: string): Response {
  return context.json({ error }, status);
}
