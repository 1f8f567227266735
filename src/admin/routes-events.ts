// The path by which a dashboard follows the daemon.

import type { EventStreams } from "./events.ts";
import type { Gate } from "./gate.ts";
import { type Route, route } from "./route.ts";

/** The stream of events. */
export function eventRoutes(streams: EventStreams, gate: Gate): readonly Route[] {
  return [
    route({
      method: "GET",
      path: "/api/v1/events",
      summary:
        "Server-sent events: `status` (a Status, at first and when the service has changed), `tick` (each second: the rows of the status that have changed) and `closes` (records of connections that failed since).",
      answers: { 200: "text/event-stream" },
      problems: [403, 503],
      answer({ request }) {
        // There are so few that a page of somebody else could take them all.
        gate.refuseForeign(request);
        if (request.method === "HEAD") return new Response(null, { headers: { "Content-Type": "text/event-stream" } });
        return streams.open();
      },
    }),
  ];
}
