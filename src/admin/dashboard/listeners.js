// Listeners: what comes in at each, what moves, and how handshakes fail and connections end there. Reasons lead to the failures of that kind.

/** @import { ListenerStatus } from "../../snapshot/status.ts" */
/** @import { Model, Rates } from "./model.js" */

import { find, make, setText } from "./dom.js";
import { reasonWords } from "./explain.js";
import { byteRate, bytes, count, rate } from "./format.js";
import { Table } from "./table.js";

/** @typedef {ListenerStatus & { readonly rates: Rates }} Row */
/** @typedef {(filter: { reason: string, listener: string }) => void} Show */

/** More of them are summed up. */
const MOST_CHIPS = 6;

/**
 * @param {Show} show Shows failures.
 * @returns {(model: Model) => void}
 */
export function listenersView(show) {
  /** @type {Model | null} */
  let shown = null;
  /** @param {string} reason */
  const isFailure = (reason) => shown?.isFailure(reason) === true;
  /** @type {Table<Row>} */
  const table = new Table(find("listeners-table", HTMLElement), {
    label: "Listeners",
    empty: "The config has no listener.",
    key: ({ listener }) => listener,
    columns: [
      { title: "Listener", kind: "name", text: ({ listener }) => listener },
      { title: "Address", kind: "code", text: ({ address }) => address },
      { title: "Open", kind: "number", text: ({ connections }) => count(connections) },
      { title: "New/s", kind: "number", text: ({ rates }) => rate(rates.opened) },
      { title: "Accepted", kind: "number spare", text: ({ connections_total }) => count(connections_total) },
      { title: "Up", kind: "number", hint: "From clients to endpoints", text: ({ rates }) => byteRate(rates.up) },
      { title: "Down", kind: "number", hint: "From endpoints to clients", text: ({ rates }) => byteRate(rates.down) },
      {
        title: "Moved",
        kind: "number spare",
        hint: "Both ways, since the start",
        text: ({ bytes_up, bytes_down }) => bytes(bytes_up + bytes_down),
      },
      {
        title: "Failed handshakes",
        kind: "chips",
        text: ({ handshakes }) => signature(failedHandshakes(handshakes)),
        paint: (cell, { listener, handshakes }) =>
          paintChips(cell, failedHandshakes(handshakes), { listener, show, isFailure }),
      },
      {
        title: "Closes",
        kind: "chips",
        text: ({ closed }) => signature(sorted(closed)),
        paint: (cell, { listener, closed }) => paintChips(cell, sorted(closed), { listener, show, isFailure }),
      },
    ],
  });
  return (model) => {
    shown = model;
    table.render((model.status?.listeners ?? []).map((row) => ({ ...row, rates: model.listenerRates(row.listener) })));
  };
}

/** @typedef {readonly (readonly [name: string, number: number])[]} Counts */

/** @param {Readonly<Record<string, number>>} counts @returns {Counts} */
function sorted(counts) {
  return Object.entries(counts)
    .filter(([, number]) => number > 0)
    .sort(([, a], [, b]) => b - a);
}

/** @param {Readonly<Record<string, number>>} handshakes */
function failedHandshakes(handshakes) {
  return sorted(handshakes).filter(([result]) => result !== "ok");
}

/** The close reasons of connections whose handshake came to something else than its own name. */
const REASONS = /** @type {Readonly<Record<string, string>>} */ ({
  failed: "handshake_failed",
  timeout: "handshake_timeout",
  overload: "handshake_overload",
});

/** @param {Counts} counts */
function signature(counts) {
  return counts.map(([name, number]) => `${name} ${number}`).join(",");
}

/**
 * Chips stay while their names do: only their numbers change each second.
 * @param {HTMLElement} cell
 * @param {Counts} counts
 * @param {{ listener: string, show: Show, isFailure: (reason: string) => boolean }} options
 */
function paintChips(cell, counts, { listener, show, isFailure }) {
  const names = counts.slice(0, MOST_CHIPS).map(([name]) => name);
  const rest = counts.slice(MOST_CHIPS).reduce((sum, [, number]) => sum + number, 0);
  if (rest > 0) names.push("others");
  const kept = `${listener}\n${names.join("\n")}`;
  if (cell.dataset.chips !== kept) {
    cell.dataset.chips = kept;
    const chips = names.map((name) => {
      const text = [reasonWords(name), " ", make("b")];
      const reason = REASONS[name] ?? name;
      if (!isFailure(reason)) return make("span", { class: "chip" }, ...text);
      const title = `Show failures of ${listener} that ended so`;
      const onclick = () => show({ reason, listener });
      return make("button", { type: "button", class: "chip", title, onclick }, ...text);
    });
    cell.replaceChildren(...(chips.length === 0 ? ["–"] : chips));
  }
  for (const [index, figure] of cell.querySelectorAll("b").entries())
    setText(figure, count(index < MOST_CHIPS ? (counts[index]?.[1] ?? 0) : rest));
}
