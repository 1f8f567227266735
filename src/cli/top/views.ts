// The tables of `bunnel top`: which columns each has, what stands in them, and by what they are sorted at first.

import type { CloseLine, ConnectionRow } from "../../snapshot/inspection.ts";
import type { BackendStatus, EndpointStatus, ListenerStatus, WorkerStatus } from "../../snapshot/status.ts";
import { causeOf, clientOf, identityOf, pathOf, text } from "../close-text.ts";
import { age, count, frequency, milliseconds, size } from "../quantities.ts";
import { failedTotal, healthOf } from "../status-screen.ts";
import type { Column } from "../table.ts";
import { endpointKey, type Flow, type Flows, NO_FLOW, type Reading } from "./reading.ts";

/** How a line looks where the terminal can show it. */
export type Style = "plain" | "strong" | "bad" | "warn" | "dim" | "head";

/** In the order of the tab key. */
export const VIEW_NAMES = ["listeners", "backends", "endpoints", "connections", "failures", "workers"] as const;

/** A table of `top`. */
export type ViewName = (typeof VIEW_NAMES)[number];

export interface ViewColumn extends Column {
  /** Sorted by it, the least stands first. Default: the greatest. */
  readonly ascending?: boolean;
}

export interface ViewRow {
  /** One for each column. */
  readonly cells: readonly string[];
  /** What is sorted by, one for each column; null: not known, and last. */
  readonly keys: readonly (string | number | null)[];
  readonly style: Style;
}

export interface View {
  /** Selects it. */
  readonly key: string;
  readonly columns: readonly ViewColumn[];
  /** The column that it is sorted by at first. */
  readonly sortedBy: number;
  /** Which list it needs beside the status; the daemon filters that. */
  readonly list: "connections" | "closes" | null;
  rows(reading: Reading, flows: Flows): readonly ViewRow[];
}

interface Field<R> extends ViewColumn {
  text(row: R): string;
  key(row: R): string | number | null;
}

/** A row with what flows through it. */
type Flowing<R> = R & { readonly flow: Flow };

/** Each view by its name. */
export const VIEWS: Readonly<Record<ViewName, View>> = {
  listeners: view<Flowing<ListenerStatus>>({
    key: "l",
    sortedBy: "CONNS",
    fields: [
      word("LISTENER", ({ listener }) => listener, { least: 8 }),
      word("ADDRESS", ({ address }) => address, { least: 14, spare: 4 }),
      number("CONNS", ({ connections }) => connections, count),
      ...flowFields<Flowing<ListenerStatus>>(({ flow }) => flow),
      number("TOTAL", ({ connections_total }) => connections_total, count, { spare: 6 }),
      number("FAILED", failedTotal, count, { spare: 5 }),
    ],
    rows: ({ status }, { listeners }) =>
      status.listeners.map((each) => ({ ...each, flow: listeners.get(each.listener) ?? NO_FLOW })),
    style: ({ flow }) => ((flow.failed ?? 0) > 0 ? "warn" : "plain"),
  }),
  backends: view<Flowing<BackendStatus>>({
    key: "b",
    sortedBy: "CONNS",
    fields: [
      word("BACKEND", ({ backend }) => backend, { least: 8 }),
      word("IN ORDER", ({ endpoints }) => `${endpoints.filter(isUsable).length} of ${endpoints.length}`, { spare: 3 }),
      number("CONNS", ({ endpoints }) => endpoints.reduce((sum, each) => sum + each.connections, 0), count),
      ...flowFields<Flowing<BackendStatus>>(({ flow }) => flow),
      number("NO ENDPOINT", ({ no_endpoint_total }) => no_endpoint_total, count, { spare: 5 }),
      number("OVERLOAD", ({ overloads_total }) => overloads_total, count, { spare: 6 }),
    ],
    rows: ({ status }, { backends }) =>
      status.backends.map((each) => ({ ...each, flow: backends.get(each.backend) ?? NO_FLOW })),
    style: ({ endpoints }) => (endpoints.some(isUsable) ? (endpoints.every(isUsable) ? "plain" : "warn") : "bad"),
  }),
  endpoints: view<Flowing<EndpointStatus> & { readonly backend: string; readonly healthText: string }>({
    key: "e",
    sortedBy: "CONNS",
    fields: [
      word("ENDPOINT", ({ endpoint }) => endpoint, { least: 15 }),
      word("BACKEND", ({ backend }) => backend, { least: 8, spare: 3 }),
      number("CONNS", ({ connections }) => connections, count),
      number("NEW/s", ({ flow }) => flow.opened, frequency, { spare: 2 }),
      number("FAIL/s", ({ flow }) => flow.failed, frequency, { spare: 4 }),
      number("TOTAL", ({ connections_total }) => connections_total, count, { spare: 6 }),
      number("FAILED", ({ connect_failures_total }) => connect_failures_total, count, { spare: 5 }),
      word("HEALTH", ({ healthText }) => healthText, { least: 7 }),
    ],
    rows: ({ status }, { endpoints }) =>
      status.backends.flatMap(({ backend, endpoints: all }) =>
        all.map((each) => ({
          ...each,
          backend,
          healthText: healthOf(each, status),
          flow: endpoints.get(endpointKey(backend, each.endpoint)) ?? NO_FLOW,
        })),
      ),
    style: (row) => (isUsable(row) ? ((row.flow.failed ?? 0) > 0 || row.reason !== "" ? "warn" : "plain") : "bad"),
  }),
  connections: view<Flowing<ConnectionRow>>({
    key: "c",
    sortedBy: "AGE",
    list: "connections",
    fields: [
      word("CLIENT", ({ downstream }) => downstream, { least: 21 }),
      {
        head: "AGE",
        right: true,
        ascending: true,
        text: ({ age_ms }) => seconds(age_ms),
        // The age is of the moment at which its worker was asked, and workers are not asked at the same one.
        key: ({ started_at }) => -Date.parse(started_at),
      },
      number("IDLE", ({ idle_ms }) => idle_ms, seconds, { spare: 4 }),
      word("LISTENER", ({ listener }) => listener, { least: 8, spare: 8 }),
      word("BACKEND", ({ backend }) => backend, { least: 8, spare: 5 }),
      word("ENDPOINT", ({ endpoint }) => endpoint, { least: 13, spare: 6 }),
      number("UP/s", ({ flow }) => flow.up, size, { spare: 1 }),
      number("DOWN/s", ({ flow }) => flow.down, size),
      number("UP", ({ bytes_up }) => bytes_up, size, { spare: 9 }),
      number("DOWN", ({ bytes_down }) => bytes_down, size, { spare: 9 }),
      word("IDENTITY", ({ identity }) => identity, { least: 12, keep: "end", spare: 3 }),
      word("SNI", ({ sni }) => sni, { least: 12, spare: 10 }),
      word("ID", ({ id }) => id, { spare: 7 }),
    ],
    rows: ({ connections }, flows) =>
      connections.map((each) => ({ ...each, flow: flows.connections.get(each.id) ?? NO_FLOW })),
    style: ({ phase }) => (phase === "relay" ? "plain" : "dim"),
  }),
  failures: view<CloseLine>({
    key: "f",
    sortedBy: "TIME",
    list: "closes",
    fields: [
      { head: "TIME", text: ({ ended_at }) => ended_at.slice(11, 19), key: ({ ended_at }) => ended_at },
      word("CLIENT", clientOf, { least: 12 }),
      word("REASON", (close) => text(close, "close_reason"), { least: 12 }),
      word("WHERE", pathOf, { least: 14, spare: 2 }),
      word("IDENTITY", identityOf, { least: 12, keep: "end", spare: 3 }),
      word("WHY", causeOf, { least: 16, spare: 1 }),
    ],
    rows: ({ closes }) => closes,
    style: () => "plain",
  }),
  workers: view<WorkerStatus & { readonly isCurrent: boolean }>({
    key: "w",
    sortedBy: "WORKER",
    fields: [
      number(
        "WORKER",
        ({ worker }) => worker,
        (worker) => (worker === 0 ? "all in one" : String(worker)),
        {
          ascending: true,
        },
      ),
      number(
        "PID",
        ({ pid }) => pid,
        (pid) => (pid === 0 ? "-" : String(pid)),
        { spare: 3 },
      ),
      word("STATE", ({ state }) => (state === "serving" ? state : state.toUpperCase()), { least: 8 }),
      number("CONNS", ({ connections }) => connections, count),
      number("LAG", ({ event_loop_lag_ms }) => event_loop_lag_ms, milliseconds),
      number("GEN", ({ generation }) => generation, String, { spare: 4 }),
      number("UP", ({ uptime_s }) => uptime_s, age, { spare: 5 }),
      number("RESTARTS", ({ restarts }) => restarts, count, { spare: 6 }),
    ],
    rows: ({ status }) => status.workers.map((each) => ({ ...each, isCurrent: each.generation === status.generation })),
    style: ({ state, isCurrent }) => (state === "serving" && isCurrent ? "plain" : "bad"),
  }),
};

/** Whether new connections may go to it. */
function isUsable({ health, ejected_until }: EndpointStatus): boolean {
  return health !== "down" && ejected_until === null;
}

interface ViewDefinition<R> {
  readonly key: string;
  readonly sortedBy: string;
  readonly list?: View["list"];
  readonly fields: readonly Field<R>[];
  rows(reading: Reading, flows: Flows): readonly R[];
  style(row: R): Style;
}

function view<R>({ key, sortedBy, list = null, fields, rows, style }: ViewDefinition<R>): View {
  return {
    key,
    columns: fields,
    sortedBy: fields.findIndex(({ head }) => head === sortedBy),
    list,
    rows: (reading, flows) =>
      rows(reading, flows).map((row) => ({
        cells: fields.map((field) => field.text(row)),
        keys: fields.map((field) => field.key(row)),
        style: style(row),
      })),
  };
}

function word<R>(head: string, value: (row: R) => string, more: Omit<Column, "head"> = {}): Field<R> {
  return { head, ascending: true, text: value, key: value, ...more };
}

function number<R>(
  head: string,
  value: (row: R) => number | null,
  format: (value: number) => string,
  more: Omit<ViewColumn, "head"> = {},
): Field<R> {
  return {
    head,
    right: true,
    text: (row) => {
      const known = value(row);
      return known === null ? "-" : format(known);
    },
    key: value,
    ...more,
  };
}

function flowFields<R>(flow: (row: R) => Flow): readonly Field<R>[] {
  return [
    number("NEW/s", (row) => flow(row).opened, frequency),
    number("FAIL/s", (row) => flow(row).failed, frequency, { spare: 1 }),
    number("UP/s", (row) => flow(row).up, size, { spare: 2 }),
    number("DOWN/s", (row) => flow(row).down, size, { spare: 2 }),
  ];
}

function seconds(ms: number): string {
  return age(ms / 1000);
}
