import { expect, test } from "bun:test";
import { statusScreen } from "../../../src/cli/status-screen.ts";
import type { Status } from "../../../src/snapshot/status.ts";
import { NOT_PROBED, QUIET_BACKEND, sampleStatus, UP } from "../../support/status-sample.ts";

function screen(changes: Partial<Status> = {}): string {
  return statusScreen(sampleStatus(changes)).join("\n");
}

test("all in order", () => {
  expect(`\n${screen()}\n`).toBe(`
bunnel        0.1.0 (bun 1.4.5), pid 100, up 1d 1h, since 2026-11-20 00:00:00Z
state         serving, 2 workers by generation 3
config        /etc/bunnel/bunnel.yaml
last reload   none since the start
certificates  as they lie on the disk
              /etc/bunnel/edge.pem (listener edge) ends in 30 days
connections   40

WORKER  PID  STATE    GENERATION     UP  RESTARTS  CONNECTIONS     LAG
1       101  serving  3           1d 1h         0           20  0.5 ms
2       102  serving  3           1d 1h         0           20  0.5 ms

LISTENER  ADDRESS       CONNECTIONS  SINCE START  FAILED   UP  DOWN
edge      0.0.0.0:8443           40    1,234,567       0  0 B   0 B

BACKEND  ENDPOINT       CONNECTIONS  SINCE START  CONNECT FAILURES  HEALTH
db       10.0.0.1:5432           20      617,000                 0  up
         10.0.0.2:5432           20      617,567                 4  -

POLICY   MODE     ALLOWED  DENIED  WOULD DENY
clients  enforce        0       0           0
`);
});

test("what is wrong is told in capitals, with its reasons, and workers that are behind stand first", () => {
  const { config, workers } = sampleStatus();
  const [first, second] = workers as [Status["workers"][number], Status["workers"][number]];
  const text = screen({
    worker_restarts: 1,
    workers: [first, { ...second, generation: 2 }],
    config: {
      ...config,
      last_reload_at: "2026-11-21T00:50:00.000Z",
      last_reload_ok: false,
      last_reload_problems: ["a.yaml:1:1: wrong"],
      certificate_problems: ["edge.pem: expired"],
      certificate_sets_refused: 2,
    },
  });
  expect(text).toContain("state         serving, ONLY 1 OF 2 workers by generation 3, 1 WORKER RESTART\n");
  expect(text).toContain(
    "REFUSED 2026-11-21 00:50:00Z, 10m ago; generation 3 is still served:\n              a.yaml:1:1: wrong\n",
  );
  expect(text).toContain(
    "NOT AS THEY LIE ON THE DISK, 2 sets refused since the start; older ones are served, because:\n",
  );
  expect(text).toContain("\n              edge.pem: expired\n");
  expect(text).toMatch(/CONNECTIONS +LAG\n2 +102 +serving +2 \(not 3\)/);
});

test("long lists are folded, and an endpoint that fails is not folded away", () => {
  const endpoints = Array.from({ length: 1300 }, (_, i) => ({
    endpoint: `e${i}`,
    connections: 0,
    connections_total: 0,
    connect_failures_total: i === 1250 ? 1 : 0,
    ...UP,
  }));
  const lines = statusScreen(
    sampleStatus({
      policies: [],
      backends: [
        { ...QUIET_BACKEND, backend: "b", endpoints },
        { ...QUIET_BACKEND, backend: "none", endpoints: [] },
      ],
    }),
  );
  expect(lines.filter((line) => / e\d+ /.test(line)).length).toBe(20);
  expect(lines.find((line) => line.startsWith("b "))).toContain("e1250");
  expect(lines.at(-2)).toBe("         … and 1,280 more (--json shows all)");
  expect(lines.at(-1)).toBe("none     NO ENDPOINT");
});

test("how endpoints are by their probes, since when and why", () => {
  const counts = { connections: 0, connections_total: 0, connect_failures_total: 0 };
  // The status was taken at 2026-11-21 01:00:00.
  const down = { health: "down", health_since: "2026-11-21T00:55:57.000Z", reason: "status 503" } as const;
  const endpoints = [
    { endpoint: "a", ...counts, ...UP },
    { endpoint: "b", ...counts, ...UP, reason: "connect: ECONNREFUSED" },
    ...Array.from({ length: 20 }, (_, i) => ({ endpoint: `c${i}`, ...counts, ...UP })),
    { endpoint: "d", ...counts, health_changes_total: 1, ejected_until: null, ...down },
    { endpoint: "f", ...counts, ...UP, ejected_until: "2026-11-21T01:00:05.000Z" },
    { endpoint: "g", ...counts, ...NOT_PROBED, ejected_until: "2026-11-21T00:59:05.000Z" },
  ];
  const text = screen({ backends: [{ ...QUIET_BACKEND, backend: "all", endpoints }] });
  expect(text).toMatch(/ d .*DOWN for 4m 3s: status 503\n/);
  expect(text).toMatch(/ b .*up: last probe failed: connect: ECONNREFUSED\n/);
  expect(text).toMatch(/ a .*up\n/);
  expect(text).toMatch(/ f .*EJECTED for another 5s; up\n/);
  expect(text).toMatch(/ g .*EJECTED, to be tried; -\n/);
});

test("what has gone wrong since the start, and certificates that end soon, the soonest first", () => {
  const { certificates, listeners, backends } = sampleStatus();
  const [certificate] = certificates as [Status["certificates"][number]];
  const [backend] = backends as [Status["backends"][number]];
  const [listener] = listeners as [Status["listeners"][number]];
  const text = screen({
    certificates: [
      certificate,
      { ...certificate, file: "ca.pem", role: "authority", days_left: 2.9, renewal: "due" },
      { ...certificate, file: "", subject: "CN=old", days_left: -0.1, renewal: "overdue" },
      { ...certificate, file: "today.pem", days_left: 0.4, renewal: "overdue" },
    ],
    listeners: [
      { ...listener, closed: { completed: 10, policy_denied: 3, no_route: 4 }, bytes_up: 1_250_000, bytes_down: 999 },
    ],
    backends: [{ ...backend, no_endpoint_total: 1, overloads_total: 1200 }],
    access_log: { dropped_lines_total: 1200 },
    telemetry: { dropped_spans_total: 1 },
    connections_elsewhere: 12,
  });
  expect(text).toMatch(/\nconnections +\d+, 12 of them finished by processes from before an upgrade\n/);
  expect(text).toMatch(/\naccess log +1,200 LINES DROPPED\ntelemetry +1 SPAN DROPPED\n/);
  expect(text).toContain(`
              CN=old (listener edge) HAS EXPIRED
              today.pem (listener edge) EXPIRES IN less than a day
              authority ca.pem (listener edge) EXPIRES IN 2 days
connections`);
  expect(text).toMatch(/\nedge +0.0.0.0:8443 +40 +1,234,567 +7 +1.3 MB +999 B\n/);
  expect(text).toContain("\n         1 TIME NO ENDPOINT\n         1,200 TIMES NO ROOM\n");
});

test("what a reload warned of, and what takes a restart", () => {
  const { config } = sampleStatus();
  const at = {
    last_reload_at: "2026-11-21T00:50:00.000Z",
    last_reload_warnings: ["`admin` changed: that takes a restart"],
  };
  expect(screen({ config: { ...config, ...at } })).toContain(`ago, WITH WARNINGS:
              \`admin\` changed: that takes a restart
certificates`);
});

test("workers that drain are not missing", () => {
  const workers = sampleStatus().workers.map((worker) => ({ ...worker, state: "draining" as const }));
  expect(screen({ state: "draining", workers })).toContain("state         DRAINING, 2 workers by generation 3\n");
});

test("what probes and certificates say does not reach the terminal as it is", () => {
  const { backends, certificates, config } = sampleStatus();
  const [backend] = backends as [Status["backends"][number]];
  const endpoints = backend.endpoints.map((each) => ({ ...each, reason: "status \x1b[2J" }));
  const text = screen({
    backends: [{ ...backend, endpoints }],
    certificates: certificates.map((each) => ({ ...each, file: "", subject: "CN=\x1b]0;x\x07" })),
    config: { ...config, file: "a\rb" },
  });
  expect(text.replaceAll("\n", "")).not.toMatch(/\p{C}/u);
});
