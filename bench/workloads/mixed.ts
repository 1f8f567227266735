// Thousands of connections of all kinds at once: most of them idle, some busy, some short.

import { LabError } from "../processes.ts";
import { residentAtRest, withHolder } from "./idle.ts";
import { wrkOf } from "./requests.ts";
import { BUSY, costFigures, costOf, type Figures, type Workload } from "./workload.ts";

/** Of each kind: idle plain, idle mTLS. */
const HELD = 1900;
/** With them, 4,000. */
const BUSY_CONNECTIONS = 168;
const SHORT_CONNECTIONS = 32;

/** 4,000 connections. */
export const mixed: Workload = {
  name: "mixed",
  about:
    `${2 * HELD + BUSY_CONNECTIONS + SHORT_CONNECTIONS} connections: ${HELD} idle plain, ${HELD} idle mTLS, ${BUSY_CONNECTIONS} with keep-alive requests ` +
    `and ${SHORT_CONNECTIONS} that are new for every request, by two wrk`,
  meaning:
    "CPU time of the proxy for each request, of both kinds together, while thousands of other connections are open; and what all weigh.",
  figures: [
    { key: "cpu", label: "CPU µs per request", digits: 1, compared: true },
    { key: "rate", label: "requests per second", digits: 0, compared: false, better: "more" },
    { key: "memory", label: "MiB of the process with all of them", digits: 1, compared: true },
    BUSY,
  ],
  programs: ["wrk", "nginx"],
  rare: true,
  listeners: ["http", "mtls"],
  connections: 4500,
  measure: (subject, bench) => {
    const held = Math.max(1, Math.round(HELD * bench.scale));
    return withHolder(subject, bench, "http", (openPlain) =>
      withHolder(subject, bench, "mtls", async (openTls): Promise<Figures> => {
        await openPlain(held);
        await openTls(held);
        const memory = (await residentAtRest(subject)) / 1024 ** 2;
        const busy = { listener: "http", headers: [], connections: BUSY_CONNECTIONS } as const;
        const short = { listener: "http", headers: ["Connection: close"], connections: SHORT_CONNECTIONS } as const;
        const cost = await costOf(subject, () =>
          Promise.all([wrkOf(subject, bench, busy), wrkOf(subject, bench, short)]),
        );
        const requests = cost.result.reduce((sum, one) => sum + one.requests, 0);
        if (requests === 0) throw new LabError("wrk made no request");
        return { ...costFigures(cost, requests, 1e6), memory };
      }),
    );
  },
};
