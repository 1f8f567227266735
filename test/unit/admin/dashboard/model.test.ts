// What the page makes of the events of the daemon, without a browser.

import { describe, expect, test } from "bun:test";
import { concernsOf } from "../../../../src/admin/dashboard/attention.js";
import { explain, why } from "../../../../src/admin/dashboard/explain.js";
import { bytes, clock, duration, rate } from "../../../../src/admin/dashboard/format.js";
import { CLOSES_LENGTH, Model } from "../../../../src/admin/dashboard/model.js";
import type { Tick } from "../../../../src/admin/tick.ts";
import type { CloseLine } from "../../../../src/snapshot/inspection.ts";
import type { Status } from "../../../../src/snapshot/status.ts";
import { CLOSE_REASONS } from "../../../../src/telemetry/close-reason.ts";
import { sampleStatus } from "../../../support/status-sample.ts";

const START_MS = Date.parse("2026-11-21T03:00:00.000Z");

function statusWith(parts: Partial<Status> = {}): Status {
  return sampleStatus({ started_at: new Date(START_MS).toISOString(), uptime_s: 0, ...parts });
}

function tickAt(second: number, more: Partial<Tick> = {}): Tick {
  const time = new Date(START_MS + second * 1000).toISOString();
  const { access_log, telemetry } = sampleStatus();
  const rows = { workers: [], listeners: [], backends: [], policies: [] };
  return { time, uptime_s: second, connections: 1, connections_elsewhere: 0, access_log, telemetry, ...rows, ...more };
}

function closeLine(seq: number, more: object = {}): CloseLine {
  return { seq, id: `a-${seq}`, worker: 1, ended_at: new Date(START_MS + seq).toISOString(), ...more };
}

describe("the model", () => {
  test("makes rates of what has changed from one tick to the next, and gaps of what it did not see", () => {
    const model = new Model(CLOSE_REASONS);
    const status = statusWith();
    const listener = status.listeners[0];
    if (listener === undefined) throw new Error("the sample has no listener");
    const row = (opened: number, down: number, refused: number) => ({
      listeners: [
        { ...listener, connections_total: opened, bytes_down: down, closed: { completed: 5, policy_denied: refused } },
      ],
    });
    model.takeStatus(status);
    model.takeTick(tickAt(1, row(100, 1000, 0)));
    expect(model.latest.opened).toBe(null);
    model.takeTick(tickAt(3, row(120, 5000, 4)));
    expect(model.latest).toEqual({ opened: 10, up: 0, down: 2000, failed: 2 });
    expect(model.listenerRates(listener.listener)).toMatchObject({ opened: 10, down: 2000 });
    // Nothing has changed: no row comes.
    model.takeTick(tickAt(4));
    expect(model.latest.opened).toBe(0);
    model.lost();
    model.takeTick(tickAt(9, row(900, 5000, 4)));
    expect(model.latest.opened).toBe(null);
    // Another run of the daemon counts from 0.
    model.takeStatus({ ...status, pid: 9, started_at: new Date(START_MS + 10_000).toISOString() });
    model.takeTick(tickAt(11, row(3, 0, 0)));
    expect(model.latest.opened).toBe(null);
    expect(model.listenerRates(listener.listener).opened).toBe(null);
  });

  test("lays changed endpoints over those that there are", () => {
    const model = new Model(CLOSE_REASONS);
    const status = statusWith();
    model.takeStatus(status);
    const backend = status.backends.find(({ endpoints }) => endpoints.length > 1);
    const endpoint = backend?.endpoints[1];
    if (backend === undefined || endpoint === undefined) throw new Error("the sample has no such backend");
    model.takeTick(tickAt(1, { backends: [{ ...backend, endpoints: [{ ...endpoint, connections: 77 }] }] }));
    const after = model.status?.backends.find((each) => each.backend === backend.backend);
    expect(after?.endpoints.map((each) => each.connections)).toEqual(
      backend.endpoints.map((each) => (each === endpoint ? 77 : each.connections)),
    );
    expect(model.status?.listeners).toEqual(status.listeners);
  });

  test("keeps ten minutes and a bounded list of closes, each once and newest first", () => {
    const model = new Model(CLOSE_REASONS);
    model.takeStatus(statusWith());
    for (let second = 1; second <= 1800; second++) model.takeTick(tickAt(second));
    expect(Object.values(model.history).map((series) => series.length)).toEqual([600, 600, 600, 600, 600]);
    for (let seq = 1; seq <= 700; seq++) model.takeCloses([closeLine(seq), closeLine(seq)], []);
    model.takeCloses([closeLine(650)], []);
    expect(model.closes.length).toBe(CLOSES_LENGTH);
    expect(model.closes.slice(0, 2).map(({ seq }) => seq)).toEqual([700, 699]);
  });
});

describe("why a connection failed", () => {
  for (const [line, words] of [
    [
      { close_reason: "certificate_rejected", error: "CERT_HAS_EXPIRED", detail: "CERT_HAS_EXPIRED" },
      "the certificate has expired",
    ],
    [
      { close_reason: "certificate_rejected", detail: "an authority in its chain: CERT_HAS_EXPIRED" },
      "an authority in its chain: the certificate has expired",
    ],
    [
      { close_reason: "policy_denied", policy_rule: "default", detail: "policy clients: no rule matches" },
      "policy clients: no rule matches",
    ],
    [
      { close_reason: "connect_refused", tried: [{ endpoint: "10.0.0.1:1", result: "ECONNREFUSED", ms: 1 }] },
      "the connection was refused",
    ],
    [{ close_reason: "no_route", sni: "a.test" }, "it asked for a.test"],
    [{ close_reason: "handshake_failed", detail: "SOME_NEW_CODE" }, "SOME_NEW_CODE"],
  ] as const)
    test(words, () => expect(why(closeLine(1, line))).toBe(words));

  test("is explained with the meaning that the daemon gives", () => {
    const line = closeLine(1, { close_reason: "certificate_rejected", error: "PEER_DID_NOT_RETURN_A_CERTIFICATE" });
    const { meaning, here, advice } = explain(line, CLOSE_REASONS);
    expect(meaning).toBe(CLOSE_REASONS.certificate_rejected.meaning);
    expect(here).toBe("The client sent no certificate.");
    expect(advice).toContain("--cert");
    expect(explain(closeLine(1, { close_reason: "constructor" }), CLOSE_REASONS).meaning).toBe("");
  });
});

test("what needs attention is named, the worst first", () => {
  const down = { health: "down", reason: "ECONNREFUSED", ejected_until: null };
  const [backend] = statusWith().backends;
  if (backend === undefined) throw new Error("the sample has no backend");
  const [certificate] = statusWith().certificates;
  const status = statusWith({
    config: { ...statusWith().config, last_reload_ok: false, last_reload_problems: ["a.yaml:1:1: wrong"] },
    backends: [{ ...backend, endpoints: backend.endpoints.map((each) => ({ ...each, ...down }) as typeof each) }],
    certificates: certificate === undefined ? [] : [{ ...certificate, days_left: 5, renewal: "due" }],
  });
  const concerns = concernsOf(status, START_MS, [4]);
  expect(concerns.map(({ level }) => level)).toEqual(["bad", "bad", "bad", "warn"]);
  expect(concerns[0]).toMatchObject({ lines: ["a.yaml:1:1: wrong"] });
  expect(concerns[1]?.text).toContain("has no endpoint left");
  expect(concerns[1]?.lines?.[0]).toContain("down: the connection was refused");
  expect(concerns[2]?.text).toStartWith("Worker 4 does not answer");
  expect(concerns[3]?.text).toContain("expires in 5 days");
  const calm = statusWith({ certificates: [], backends: [] });
  expect(
    concernsOf({ ...calm, config: { ...calm.config, last_reload_ok: true, certificate_problems: [] } }, START_MS, []),
  ).toEqual([]);
  const warned = { ...calm.config, last_reload_warnings: ["`admin` changed: that takes a restart"] };
  expect(concernsOf({ ...calm, config: warned }, START_MS, [])).toMatchObject([
    { level: "warn", lines: warned.last_reload_warnings },
  ]);
});

test("lines and spans that are dropped while the page is open need attention", () => {
  const model = new Model(CLOSE_REASONS);
  model.takeStatus(statusWith());
  model.takeTick(tickAt(1, { access_log: { dropped_lines_total: 7 }, telemetry: { dropped_spans_total: 1 } }));
  const texts = concernsOf(model.status as Status, START_MS, []).map(({ text }) => text);
  expect(texts).toContain("7 lines of the access log were dropped: what it is written to is slow or full.");
  expect(texts).toContain("1 span never reached the collector.");
});

test("numbers are written as people read them", () => {
  expect([0, 999, 1000, 12_345, 999_600, 5e9].map(bytes)).toEqual([
    "0 B",
    "999 B",
    "1.0 kB",
    "12.3 kB",
    "1.0 MB",
    "5.0 GB",
  ]);
  expect([0, 0.4, 340, 3200, 59_400, 302_000, 7_800_000, 274_000_000].map((ms) => duration(ms))).toEqual([
    "0 ms",
    "0 ms",
    "340 ms",
    "3.2 s",
    "59 s",
    "5 min 2 s",
    "2 h 10 min",
    "3 d 4 h",
  ]);
  expect([null, 0, 0.25, 9.96, 1234.5].map(rate)).toEqual(["–", "0", "0.3", "10", "1,235"]);
  const noon = new Date(2026, 10, 21, 12, 1, 2).getTime();
  expect([clock(noon, noon), clock(noon, noon + 86_400_000), clock("?", noon)]).toEqual([
    "12:01:02",
    "Nov 21 12:01:02",
    "–",
  ]);
});
