// Why was my client refused? The last closes that did not end well, filtered, and each of them opened as a whole record with what it means.

/** @import { CloseLine } from "../../snapshot/inspection.ts" */
/** @import { Meanings } from "./explain.js" */
/** @import { Model } from "./model.js" */

import { get } from "./api.js";
import { closeRecord } from "./close-record.js";
import { find, make, setChoices, setText } from "./dom.js";
import { explain, field, inWords, reasonWords, triedOf, why } from "./explain.js";
import { clock, count, unheard } from "./format.js";
import { CLOSES_LENGTH, closeKey, mergeCloses } from "./model.js";
import { onScreen } from "./on-screen.js";
import { Table } from "./table.js";

/** So many are shown; a filter finds the others. */
const MOST_ROWS = 25;
/** How long after the last key press the daemon is asked for older matching closes. */
const PATIENCE_MS = 300;

/** Text by which a record is found, made once. @type {WeakMap<CloseLine, string>} */
const searchTexts = new WeakMap();

/**
 * @typedef {object} ClosesView
 * @property {(model: Model) => void} render
 * @property {(filter: { reason: string, listener: string }) => void} show Filters, and brings the list into view.
 */

/**
 * @param {Meanings} meanings
 * @returns {ClosesView}
 */
export function closesView(meanings) {
  const section = find("closes", HTMLElement);
  const text = find("closes-text", HTMLInputElement);
  const reason = find("closes-reason", HTMLSelectElement);
  const listener = find("closes-listener", HTMLSelectElement);
  const clear = find("closes-clear", HTMLButtonElement);
  const counted = find("closes-count", HTMLElement);
  const missing = find("closes-missing", HTMLElement);
  const table = tableOf(meanings);
  /** Older ones that the daemon has found for the filter. @type {readonly CloseLine[]} */
  let found = [];
  /** What is shown: while a record is open the list stands still, so that it is not pushed away. @type {readonly CloseLine[]} */
  let held = [];
  /** @type {Model | null} */
  let shown = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  const isFiltered = () => text.value.trim() !== "" || reason.value !== "" || listener.value !== "";
  const changed = () => {
    found = [];
    clearTimeout(timer);
    if (isFiltered()) timer = setTimeout(search, PATIENCE_MS);
    if (shown !== null) render(shown);
  };
  const search = async () => {
    const query = { failed: "true", text: text.value.trim(), reason: reason.value, listener: listener.value };
    const asked = JSON.stringify(query);
    const answer = await get("/api/v1/closes", { ...query, limit: CLOSES_LENGTH }).catch(() => null);
    const now = { failed: "true", text: text.value.trim(), reason: reason.value, listener: listener.value };
    if (answer === null || JSON.stringify(now) !== asked) return;
    found = answer.closes;
    if (shown !== null) render(shown);
  };
  text.addEventListener("input", changed);
  reason.addEventListener("change", changed);
  listener.addEventListener("change", changed);
  /** @param {string} newReason @param {string} newListener */
  const set = (newReason, newListener) => {
    text.value = "";
    setChoices(reason, [...new Set([...choices(reason), newReason])].filter(Boolean), reasonWords);
    setChoices(listener, [...new Set([...choices(listener), newListener])].filter(Boolean));
    reason.value = newReason;
    listener.value = newListener;
    changed();
  };
  clear.addEventListener("click", () => {
    set("", "");
    text.focus();
  });

  /** @param {Model} model */
  const render = (model) => {
    shown = model;
    setChoices(
      listener,
      (model.status?.listeners ?? []).map((each) => each.listener),
    );
    setChoices(reason, [...new Set(model.closes.map((line) => field(line, "close_reason")))].sort(), reasonWords);
    if (!table.hasOpen) held = model.closes;
    const [newest] = held;
    const newer = newest === undefined ? 0 : model.closes.indexOf(newest);
    const wanted = text.value.trim().toLowerCase();
    const rows = mergeCloses(held, found).filter(
      (line) =>
        (reason.value === "" || line.close_reason === reason.value) &&
        (listener.value === "" || line.listener === listener.value) &&
        (wanted === "" || searchText(line).includes(wanted)),
    );
    clear.hidden = !isFiltered();
    setText(missing, unheard(model.silentWorkers));
    table.render(
      rows.slice(0, MOST_ROWS),
      isFiltered() ? "None of the last failures fits the filter." : emptyOf(model),
    );
    const all = isFiltered() ? `${count(rows.length)} that fit` : `the last ${count(rows.length)}`;
    const extent =
      rows.length > MOST_ROWS ? `the newest ${MOST_ROWS} of ${all}` : rows.length === 0 && !isFiltered() ? "" : all;
    setText(counted, newer > 0 ? `${extent}; ${count(newer)} newer when the record is closed` : extent);
  };

  return {
    render: onScreen(section, render),
    show(filter) {
      set(filter.reason, filter.listener);
      section.scrollIntoView();
      section.focus({ preventScroll: true });
    },
  };
}

const NONE = "No connection has been refused or has failed. Those that are will stand here, with the reason.";

/** @param {Model} model */
function emptyOf({ closesProblem }) {
  if (closesProblem === null) return "Looking …";
  return closesProblem === "" ? NONE : `The last failures are not known, retrying: ${closesProblem}`;
}

/** @param {Meanings} meanings */
function tableOf(meanings) {
  /** Of one that has nothing to tell beside its reason, what that means. @param {CloseLine} line */
  const happened = (line) => why(line) || explain(line, meanings).meaning;
  return new Table(find("closes-table", HTMLElement), {
    label: "Refused and failed connections",
    empty: NONE,
    key: closeKey,
    opens: (line) =>
      `${clock(line.ended_at)} ${field(line, "downstream")}, ${reasonWords(field(line, "close_reason"))}: details`,
    detail: (line) => closeRecord(line, meanings),
    columns: [
      { title: "Time", kind: "time", text: (line) => clock(line.ended_at) },
      { title: "Client", kind: "code", text: nameOfClient, paint: paintClient },
      { title: "Listener", kind: "listener", text: (line) => field(line, "listener") },
      { title: "Route", kind: "spare", text: (line) => field(line, "route") || "–" },
      { title: "Reason", kind: "reason", text: (line) => reasonWords(field(line, "close_reason")) },
      {
        title: "What happened",
        kind: "why",
        text: happened,
        paint: (cell, line) => paintWhy(cell, line, happened(line)),
      },
    ],
  });
}

/** @param {CloseLine} line */
function nameOfClient(line) {
  const { identity } = line;
  const names = /** @type {{ uri?: string[], dns?: string[], cn?: string[] } | undefined} */ (identity);
  const name = names?.uri?.[0] ?? names?.dns?.[0] ?? names?.cn?.[0] ?? field(line, "refused_certificate");
  return `${field(line, "downstream")}\n${name}`;
}

/** @param {HTMLElement} cell @param {CloseLine} line */
function paintClient(cell, line) {
  const [address = "", name = ""] = nameOfClient(line).split("\n");
  cell.replaceChildren(
    make("span", {}, address || "–"),
    name === "" ? "" : make("span", { class: "sub clip", title: name }, name),
  );
}

/** @param {HTMLElement} cell @param {CloseLine} line @param {string} words */
function paintWhy(cell, line, words) {
  const code = field(line, "error") || (inWords(field(line, "detail")) === words ? field(line, "detail") : "");
  const tried = triedOf(line).map(({ endpoint, result }) => (result === code ? endpoint : `${endpoint} ${result}`));
  const more = [code === words ? "" : code, ...tried];
  const rest = more.filter((part) => part !== "").join(" · ");
  cell.replaceChildren(
    make("span", {}, words || "–"),
    rest === "" ? "" : make("span", { class: "sub code clip", title: rest }, rest),
  );
}

/** @param {CloseLine} line */
function searchText(line) {
  const known = searchTexts.get(line);
  if (known !== undefined) return known;
  const text = `${JSON.stringify(line)} ${reasonWords(field(line, "close_reason"))} ${why(line)}`.toLowerCase();
  searchTexts.set(line, text);
  return text;
}

/** @param {HTMLSelectElement} select */
function choices(select) {
  return [...select.options].slice(1).map((option) => option.value);
}
