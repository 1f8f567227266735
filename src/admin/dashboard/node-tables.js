// The smaller tables: who is connected to what, certificates, workers, policies.

/** @import { PeerRow } from "../../snapshot/inspection.ts" */
/** @import { CertificateStatus, PolicyStatus, WorkerStatus } from "../../snapshot/status.ts" */
/** @import { Model } from "./model.js" */

import { get } from "./api.js";
import { find, make, pill, setText } from "./dom.js";
import { bytes, count, duration, unheard } from "./format.js";
import { poll } from "./poll.js";
import { Table } from "./table.js";

const PEERS_EVERY_MS = 4000;
const MOST_PEERS = 25;
const DAY_MS = 86_400_000;
/** How a certificate is coloured. */
export const RENEWAL_LEVELS = /** @type {const} */ ({ in_time: "good", due: "warn", overdue: "bad" });

/** States of workers that relay nothing. */
const BROKEN = ["waiting to restart", "not answering"];

/** Asks by itself, while it is on the screen. */
export function peersView() {
  const counted = find("peers-count", HTMLElement);
  const missing = find("peers-missing", HTMLElement);
  /** @type {Table<PeerRow>} */
  const table = new Table(find("peers-table", HTMLElement), {
    label: "Who talks to whom",
    empty: "Nobody is connected.",
    key: ({ identity, listener, backend }) => `${identity}\n${listener}\n${backend}`,
    columns: [
      {
        title: "Client identity",
        kind: "code",
        text: ({ identity }) => identity || "without a certificate",
        paint: paintIdentity,
      },
      { title: "Listener", kind: "word", text: ({ listener }) => listener },
      { title: "Backend", kind: "word", text: ({ backend }) => `→ ${backend || "none yet"}` },
      { title: "Open", kind: "number", text: ({ connections }) => count(connections) },
      { title: "Up", kind: "number spare", text: ({ bytes_up }) => bytes(bytes_up) },
      { title: "Down", kind: "number spare", text: ({ bytes_down }) => bytes(bytes_down) },
    ],
  });
  const load = async () => {
    try {
      const { peers, matching, silent_workers } = await get("/api/v1/peers", { limit: MOST_PEERS });
      table.render(peers);
      setText(missing, unheard(silent_workers));
      setText(counted, peers.length < matching ? `the first ${count(peers.length)} of ${count(matching)}` : "");
    } catch (thrown) {
      setText(counted, `not up to date: ${thrown instanceof Error ? thrown.message : thrown}`);
    }
  };
  poll(find("peers", HTMLElement), PEERS_EVERY_MS, { load, forget: () => table.forget() });
}

/** @param {HTMLElement} cell @param {PeerRow} row */
function paintIdentity(cell, { identity }) {
  const none = identity === "";
  cell.replaceChildren(
    make("span", { class: none ? "sub" : "clip", title: identity }, none ? "without a certificate" : identity),
  );
}

/** @returns {(model: Model) => void} */
export function certificatesView() {
  /** @type {Table<CertificateStatus>} */
  const table = new Table(find("certificates-table", HTMLElement), {
    label: "Certificates",
    empty: "No certificate is configured: nothing here terminates or originates TLS.",
    key: ({ used_by, role, file, subject, not_after }) => [used_by, role, file, subject, not_after].join("\n"),
    columns: [
      {
        title: "Left",
        kind: "number",
        text: ({ days_left, renewal }) => `${daysText(days_left)} ${renewal}`,
        paint: (cell, { days_left, renewal }) =>
          cell.replaceChildren(pill(daysText(days_left), RENEWAL_LEVELS[renewal])),
      },
      {
        title: "Certificate",
        text: ({ names, subject, file }) => [names.join(", ") || subject, file].join("\n"),
        paint: (cell, { names, subject, file }) => {
          const name = names.join(", ") || subject;
          cell.replaceChildren(
            make("span", { class: "clip", title: `${subject} ${name}` }, name),
            make("span", { class: "sub code clip", title: file }, file),
          );
        },
      },
      {
        title: "Used by",
        text: ({ used_by, role }) => `${used_by}${role === "certificate" ? "" : ` (${role.replace("_", " ")})`}`,
      },
      { title: "Until", kind: "number spare", text: ({ not_after }) => not_after.slice(0, 10) },
    ],
  });
  return ({ status }) => table.render([...(status?.certificates ?? [])].sort((a, b) => a.days_left - b.days_left));
}

/** @param {number} days */
function daysText(days) {
  if (days < 0) return "expired";
  return days < 1 ? duration(days * DAY_MS) : `${count(Math.floor(days))} ${days < 2 ? "day" : "days"}`;
}

/** @returns {(model: Model) => void} */
export function workersView() {
  /** @type {Table<WorkerStatus>} */
  const table = new Table(find("workers-table", HTMLElement), {
    label: "Workers",
    empty: "No worker runs.",
    key: ({ worker }) => String(worker),
    columns: [
      { title: "Worker", kind: "name", text: ({ worker }) => (worker === 0 ? "one process" : String(worker)) },
      {
        title: "State",
        text: ({ state }) => state,
        paint: (cell, { state }) =>
          cell.replaceChildren(pill(state, state === "serving" ? "good" : BROKEN.includes(state) ? "bad" : "warn")),
      },
      { title: "Generation", kind: "number", text: ({ generation }) => String(generation) },
      { title: "Open", kind: "number", text: ({ connections }) => count(connections) },
      {
        title: "Lag",
        kind: "number",
        hint: "How late its event loop is",
        text: ({ event_loop_lag_ms }) =>
          event_loop_lag_ms < 1000 ? `${event_loop_lag_ms.toFixed(1)} ms` : duration(event_loop_lag_ms),
      },
      { title: "Restarts", kind: "number", text: ({ restarts }) => count(restarts) },
      { title: "Up for", kind: "number spare", text: ({ uptime_s }) => duration(uptime_s * 1000) },
      { title: "PID", kind: "number spare", text: ({ pid }) => String(pid) },
    ],
  });
  return ({ status }) => table.render(status?.workers ?? []);
}

/** @returns {(model: Model) => void} */
export function policiesView() {
  /** @type {Table<PolicyStatus>} */
  const table = new Table(find("policies-table", HTMLElement), {
    label: "Policies",
    empty: "The config has no policy.",
    key: ({ policy }) => policy,
    columns: [
      { title: "Policy", kind: "name", text: ({ policy }) => policy },
      {
        title: "Mode",
        text: ({ mode }) => mode,
        paint: (cell, { mode }) => cell.replaceChildren(pill(mode, mode === "enforce" ? "none" : "warn")),
      },
      { title: "Allowed", kind: "number", text: ({ allowed_total }) => count(allowed_total) },
      { title: "Denied", kind: "number", text: ({ denied_total }) => count(denied_total) },
      {
        title: "Would deny",
        kind: "number",
        hint: "Let pass in shadow mode only",
        text: ({ shadow_denied_total }) => count(shadow_denied_total),
      },
    ],
  });
  return ({ status }) => table.render(status?.policies ?? []);
}
