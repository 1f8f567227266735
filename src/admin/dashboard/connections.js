// Live connections: asked for while they are on the screen, filtered by the daemon, opened in a panel, and ended by a button that asks first.

/** @import { ConnectionRow } from "../../snapshot/inspection.ts" */
/** @import { Model } from "./model.js" */
/** @import { Panel } from "./connection-panel.js" */

import { get } from "./api.js";
import { find, make, setChoices, setLines, setText } from "./dom.js";
import { bytes, count, duration, some, unheard } from "./format.js";
import { poll } from "./poll.js";
import { Table } from "./table.js";

const EVERY_MS = 2000;
/** So many are shown; a filter finds the others. */
const MOST_ROWS = 25;
const PATIENCE_MS = 250;

/**
 * @param {Panel} panel
 * @returns {(model: Model) => void}
 */
export function connectionsView(panel) {
  const text = find("connections-text", HTMLInputElement);
  const listener = find("connections-listener", HTMLSelectElement);
  const backend = find("connections-backend", HTMLSelectElement);
  const counted = find("connections-count", HTMLElement);
  const missing = find("connections-missing", HTMLElement);
  const table = tableOf(panel);

  const load = async () => {
    const filter = { text: text.value.trim(), listener: listener.value, backend: backend.value };
    const isFiltered = Object.values(filter).some((value) => value !== "");
    try {
      const answer = await get("/api/v1/connections", { ...filter, limit: MOST_ROWS });
      table.render(answer.connections, isFiltered ? "No live connection fits the filter." : undefined);
      const shown = answer.connections.length;
      const { matching, total, elsewhere } = answer;
      const of = isFiltered ? `${count(matching)} of ${count(total)} fit` : `${count(total)} open`;
      setText(counted, shown < matching ? `the newest ${count(shown)}; ${of}` : of);
      const old = `${some(elsewhere, "connection")} of processes from before an upgrade cannot be listed; the access log has their ends.`;
      setText(missing, `${unheard(answer.silent_workers)} ${elsewhere > 0 ? old : ""}`.trim());
    } catch (thrown) {
      setText(counted, `not up to date: ${thrown instanceof Error ? thrown.message : thrown}`);
    }
  };
  const now = poll(find("connections", HTMLElement), EVERY_MS, { load, forget: () => table.forget() });
  panel.whenClosed(now);

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  text.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(now, PATIENCE_MS);
  });
  listener.addEventListener("change", now);
  backend.addEventListener("change", now);

  return ({ status }) => {
    setChoices(
      listener,
      (status?.listeners ?? []).map((each) => each.listener),
    );
    setChoices(
      backend,
      (status?.backends ?? []).map((each) => each.backend),
    );
  };
}

/** @param {Panel} panel */
function tableOf(panel) {
  /** @type {Table<ConnectionRow>} */
  const table = new Table(find("connections-table", HTMLElement), {
    label: "Live connections",
    empty: "No connection is open.",
    key: ({ id }) => id,
    opens: ({ downstream, id }) => `Connection ${id} of ${downstream}: details`,
    open: ({ id }) => panel.open(id),
    columns: [
      {
        title: "Client",
        kind: "code",
        text: ({ downstream, identity, sni }) => `${downstream}\n${identity || sni}`,
        paint: (cell, { downstream, identity, sni }) =>
          setLines(cell, downstream, identity || (sni === "" ? "" : `SNI ${sni}`)),
      },
      {
        title: "Listener",
        text: ({ listener, route }) => `${listener}\n${route}`,
        paint: (cell, { listener, route }) => setLines(cell, listener, route === listener ? "" : route),
      },
      {
        title: "Backend, endpoint",
        kind: "code",
        text: ({ backend, endpoint }) => `${backend}\n${endpoint}`,
        paint: (cell, { backend, endpoint }) => setLines(cell, backend || "–", endpoint),
      },
      { title: "Phase", kind: "word", text: ({ phase }) => phase },
      { title: "Age", kind: "number", text: ({ age_ms }) => duration(age_ms) },
      { title: "Idle", kind: "number", hint: "Since a byte moved", text: ({ idle_ms }) => duration(idle_ms) },
      { title: "Up", kind: "number", text: ({ bytes_up }) => bytes(bytes_up) },
      { title: "Down", kind: "number", text: ({ bytes_down }) => bytes(bytes_down) },
      { title: "TLS", kind: "version spare", text: ({ tls_version }) => tls_version || "–" },
      {
        title: "",
        kind: "action",
        text: ({ id }) => id,
        paint: (cell, row) => {
          // For the pointer: by keyboard it is reached in the panel, and all rows are one tab stop.
          const button =
            cell.querySelector("button") ??
            cell.appendChild(make("button", { type: "button", class: "danger", tabindex: "-1" }, "Close"));
          button.ariaLabel = `Close connection ${row.id} of ${row.downstream}`;
          button.onclick = () => panel.ask(row);
        },
      },
    ],
  });
  return table;
}
