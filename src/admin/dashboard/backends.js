// Backends and their endpoints: who may be given connections and who not, why not, and how the load is spread.

/** @import { BackendStatus, EndpointStatus } from "../../snapshot/status.ts" */
/** @import { Model, Rates } from "./model.js" */

import { find, make, pill, setText } from "./dom.js";
import { inWords } from "./explain.js";
import { byteRate, clock, count, duration, some } from "./format.js";
import { Table } from "./table.js";

/** @typedef {{ readonly kind: "backend", readonly backend: BackendStatus, readonly rates: Rates, readonly nowMs: number }} BackendRow */
/** @typedef {{ readonly kind: "endpoint", readonly backend: string, readonly endpoint: EndpointStatus, readonly share: number, readonly nowMs: number }} EndpointRow */
/** @typedef {BackendRow | EndpointRow} Row */
/** @typedef {{ readonly word: string, readonly level: "good" | "warn" | "bad" | "none", readonly because: string }} Health */

/** With more endpoints than these only those are shown at first that are not well: a row costs the browser some 20 KB each time that the table is laid out. */
const MOST_ENDPOINTS = 50;

/** @returns {(model: Model) => void} */
export function backendsView() {
  const counted = find("backends-count", HTMLElement);
  /** Backends that were opened or closed by hand. @type {Map<string, boolean>} */
  const chosen = new Map();
  let isLarge = false;
  /** @type {Model | null} */
  let shown = null;
  /** @param {string} name */
  const isOpen = (name) => chosen.get(name) ?? !isLarge;
  /** @type {Table<Row>} */
  const table = new Table(find("backends-table", HTMLElement), {
    label: "Backends and endpoints",
    empty: "The config has no backend.",
    key: (row) => (row.kind === "backend" ? row.backend.backend : `${row.backend}\n${row.endpoint.endpoint}`),
    rowClass: ({ kind }) => kind,
    opens: (row) => (row.kind === "backend" ? `Endpoints of backend ${row.backend.backend}` : ""),
    isOpen: (row) => row.kind === "backend" && isOpen(row.backend.backend),
    open: (row) => {
      if (row.kind !== "backend") return;
      chosen.set(row.backend.backend, !isOpen(row.backend.backend));
      if (shown !== null) render(shown);
    },
    columns: [
      {
        title: "Backend, endpoint",
        kind: "name",
        text: (row) => (row.kind === "backend" ? row.backend.backend : row.endpoint.endpoint),
      },
      { title: "Health", text: healthText, paint: paintHealth },
      {
        title: "Open",
        kind: "number",
        text: (row) => count(row.kind === "backend" ? openOf(row.backend) : row.endpoint.connections),
      },
      {
        title: "Load",
        kind: "load",
        hint: "Against the busiest endpoint of the backend",
        text: (row) => (row.kind === "backend" ? "" : `${Math.round(row.share * 100)}%`),
        paint: paintLoad,
      },
      {
        title: "Attempts",
        kind: "number",
        hint: "Attempts to connect, since the start",
        text: (row) =>
          count(row.kind === "backend" ? sumOf(row.backend, "connections_total") : row.endpoint.connections_total),
      },
      {
        title: "Failed",
        kind: "number",
        hint: "Attempts that failed, since the start",
        text: (row) =>
          count(
            row.kind === "backend" ? sumOf(row.backend, "connect_failures_total") : row.endpoint.connect_failures_total,
          ),
      },
      { title: "Up", kind: "number spare", text: (row) => (row.kind === "backend" ? byteRate(row.rates.up) : "") },
      { title: "Down", kind: "number spare", text: (row) => (row.kind === "backend" ? byteRate(row.rates.down) : "") },
      { title: "Why, since when", kind: "why", text: remarks },
    ],
  });
  /** @param {Model} model */
  const render = (model) => {
    shown = model;
    const { nowMs, status } = model;
    const backends = status?.backends ?? [];
    const all = backends.reduce((sum, { endpoints }) => sum + endpoints.length, 0);
    const usable = backends.reduce((sum, backend) => sum + usableOf(backend, nowMs), 0);
    isLarge = all > MOST_ENDPOINTS;
    /** @type {Row[]} */
    const rows = [];
    for (const backend of backends) {
      const name = backend.backend;
      rows.push({ kind: "backend", backend, rates: model.backendRates(name), nowMs });
      const most = Math.max(1, ...backend.endpoints.map(({ connections }) => connections));
      for (const endpoint of backend.endpoints) {
        // What is wrong is shown, also where it was not asked for.
        if (!isOpen(name) && (chosen.has(name) || isWell(endpoint, nowMs))) continue;
        rows.push({ kind: "endpoint", backend: name, endpoint, share: endpoint.connections / most, nowMs });
      }
    }
    table.render(rows);
    const folded = all > rows.length - backends.length ? "; open a backend to see all of its own" : "";
    setText(counted, `${count(usable)} of ${some(all, "endpoint")} usable${folded}`);
  };
  return render;
}

/**
 * Whether there is nothing to say of it but that it is there.
 * @param {EndpointStatus} endpoint
 * @param {number} nowMs
 */
function isWell(endpoint, nowMs) {
  const { level } = healthOf(endpoint, nowMs);
  return level === "good" || level === "none";
}

/**
 * Whether new connections are given to an endpoint, and why not.
 * @param {EndpointStatus} endpoint
 * @param {number} nowMs
 * @returns {Health}
 */
export function healthOf({ health, reason, ejected_until }, nowMs) {
  if (health === "down") return { word: "down", level: "bad", because: reason };
  if (ejected_until !== null) {
    const leftMs = Date.parse(ejected_until) - nowMs;
    if (leftMs > 0)
      return { word: "ejected", level: "bad", because: `failed too often; back on trial in ${duration(leftMs)}` };
    return { word: "on trial", level: "warn", because: "was ejected for failing; the next connection tries it" };
  }
  if (health === "up") return { word: "up", level: reason === "" ? "good" : "warn", because: reason };
  return { word: "not probed", level: "none", because: reason };
}

/**
 * Endpoints that are given new connections.
 * @param {BackendStatus} backend
 * @param {number} nowMs
 */
export function usableOf({ endpoints }, nowMs) {
  return endpoints.filter((endpoint) => healthOf(endpoint, nowMs).level !== "bad").length;
}

/** @param {Row} row */
function healthText(row) {
  if (row.kind === "endpoint") return healthOf(row.endpoint, row.nowMs).word;
  return `${usableOf(row.backend, row.nowMs)} of ${row.backend.endpoints.length}`;
}

/** @param {HTMLElement} cell @param {Row} row */
function paintHealth(cell, row) {
  if (row.kind === "endpoint") {
    const { word, level } = healthOf(row.endpoint, row.nowMs);
    cell.replaceChildren(pill(word, level));
    return;
  }
  const usable = usableOf(row.backend, row.nowMs);
  const level = usable === row.backend.endpoints.length ? "none" : usable === 0 ? "bad" : "warn";
  cell.replaceChildren(pill(healthText(row), level));
}

/** @param {HTMLElement} cell @param {Row} row */
function paintLoad(cell, row) {
  if (row.kind === "backend") return;
  const known = cell.querySelector("i");
  const fill = known ?? make("i");
  fill.style.width = `${Math.round(row.share * 100)}%`;
  if (known === null) cell.append(make("span", { class: "load-bar", "aria-hidden": "true" }, fill));
}

/** @param {Row} row */
function remarks(row) {
  if (row.kind === "backend") {
    const { overloads_total, no_endpoint_total } = row.backend;
    const parts = [
      no_endpoint_total > 0 ? `${some(no_endpoint_total, "connection")} found no endpoint` : "",
      overloads_total > 0 ? `${some(overloads_total, "connection")} found no room` : "",
    ];
    return parts.filter((part) => part !== "").join(", ");
  }
  const { endpoint, nowMs } = row;
  const { because } = healthOf(endpoint, nowMs);
  const since = endpoint.health_since;
  const when = since === null ? "" : `since ${clock(since, nowMs)}`;
  const changes = endpoint.health_changes_total > 1 ? `${count(endpoint.health_changes_total)} changes` : "";
  return [because === "" ? "" : inWords(because), when, changes].filter((part) => part !== "").join(" · ");
}

/** @param {BackendStatus} backend */
function openOf(backend) {
  return sumOf(backend, "connections");
}

/** @param {BackendStatus} backend @param {"connections" | "connections_total" | "connect_failures_total"} name */
function sumOf({ endpoints }, name) {
  return endpoints.reduce((sum, endpoint) => sum + endpoint[name], 0);
}
