// The paths about the daemon as a whole: its state, reload and drain.

import type { Control } from "../control/control.ts";
import { METRICS_CONTENT_TYPE, metricsText } from "./metrics.ts";
import { Problem } from "./problem.ts";
import { readinessOf } from "./readiness.ts";
import { type Route, route } from "./route.ts";
import { maskedSnapshot } from "./snapshot-view.ts";

/** Health, status, metrics, snapshot, reload and drain. */
export function daemonRoutes(control: Control): readonly Route[] {
  return [
    route({
      method: "GET",
      path: "/healthz",
      summary: "Whether the daemon is there.",
      answers: { 200: "Health" },
      answer: () => Response.json({ ok: true }),
    }),
    route({
      method: "GET",
      path: "/readyz",
      summary: "Whether a connection that came now would be served by the config of now.",
      answers: { 200: "Readiness", 503: "Readiness" },
      answer() {
        const readiness = readinessOf(control.status());
        return Response.json(readiness, { status: readiness.ready ? 200 : 503 });
      },
    }),
    route({
      method: "GET",
      path: "/metrics",
      summary: "All metrics, in the text format of Prometheus.",
      answers: { 200: "text/plain" },
      async answer() {
        const headers = { "Content-Type": METRICS_CONTENT_TYPE };
        const { snapshot, meters, bytesBlocks } = control;
        const text = await metricsText({ status: control.status(), snapshot, meters, bytesBlocks });
        return new Response(text, { headers });
      },
    }),
    route({
      method: "GET",
      path: "/api/v1/status",
      summary: "What the daemon is and does.",
      answers: { 200: "Status" },
      answer: () => Response.json(control.status()),
    }),
    route({
      method: "GET",
      path: "/api/v1/snapshot",
      summary:
        "What is served, as compiled from the config. Keys and secrets are masked; its inner fields change with versions.",
      answers: { 200: "Snapshot" },
      answer: () => Response.json(maskedSnapshot(control.snapshot)),
    }),
    route({
      method: "POST",
      path: "/api/v1/reload",
      summary:
        "Reads the config and all its files anew. Refused as a whole, with every problem, when anything is wrong.",
      answers: { 200: "Reloaded" },
      problems: [409],
      async answer() {
        const problems = await control.reload();
        if (problems.length > 0)
          throw new Problem(409, "the config is refused, and nothing has changed", { members: { problems } });
        const { generation, config } = control.status();
        return Response.json({ ok: true, generation, warnings: config.last_reload_warnings });
      },
    }),
    route({
      method: "POST",
      path: "/api/v1/drain",
      summary: "Begins to drain and to end, as SIGTERM does.",
      answers: { 202: "Draining" },
      answer() {
        // Twice would be as a second signal: at once.
        if (control.status().state !== "draining") control.drain();
        return Response.json({ ok: true, state: "draining" }, { status: 202 });
      },
    }),
  ];
}
