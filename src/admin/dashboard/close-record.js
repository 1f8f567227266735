// One close, opened: what its reason means, what happened to this connection, what to look at, and all fields of its record.

/** @import { CloseLine } from "../../snapshot/inspection.ts" */
/** @import { Meanings } from "./explain.js" */

import { make } from "./dom.js";
import { explain, field, reasonWords, triedOf } from "./explain.js";
import { bytes, duration } from "./format.js";

/** Shown elsewhere in the record, or of no use to a reader. */
const NOT_LISTED = new Set(["level", "msg", "time", "seq", "tried", "identity", "close_reason"]);
/** Fields in the order in which they are asked for; others follow. */
const ORDER = [
  "ended_at",
  "downstream",
  "downstream_direct",
  "sni",
  "alpn",
  "refused_certificate",
  "listener",
  "local",
  "route",
  "policy",
  "policy_rule",
  "backend",
  "endpoint",
  "attempts",
  "phase",
  "close_side",
  "termination",
  "error",
  "detail",
  "tls_version",
  "tls_cipher",
];
const SIDES = /** @type {Readonly<Record<string, string>>} */ ({
  downstream: "by the client's side",
  upstream: "by the endpoint's side",
  proxy: "by bunnel, as configured or told",
});

/**
 * @param {CloseLine} line
 * @param {Meanings} meanings
 */
export function closeRecord(line, meanings) {
  const { meaning, here, advice } = explain(line, meanings);
  const phase = field(line, "phase");
  const side = field(line, "close_side");
  const ended = [SIDES[side] ?? side, phase === "" ? "" : `in the ${phase} phase`].filter((part) => part !== "");
  return make(
    "div",
    { class: "record" },
    make(
      "div",
      { class: "explained" },
      make("h3", {}, reasonWords(field(line, "close_reason"))),
      meaning === "" ? null : make("p", { class: "meaning" }, meaning),
      here === "" ? null : make("p", { class: "here" }, make("strong", {}, here)),
      advice === "" ? null : make("p", { class: "advice" }, advice),
      ended.length === 0 ? null : make("p", { class: "note" }, `Ended ${ended.join(", ")}.`),
      triedTable(line),
    ),
    fields(line),
  );
}

/** @param {CloseLine} line */
function fields(line) {
  const isTold = (/** @type {string} */ name) =>
    NOT_LISTED.has(name) || (name === "detail" && line.detail === line.error);
  const names = [...new Set([...ORDER, ...Object.keys(line)])].filter((name) => !isTold(name));
  const list = make("dl", { class: "fields" });
  for (const [name, value] of [...identityFields(line), ...names.map((name) => [name, textOf(name, line[name])])])
    if (name !== undefined && value !== undefined && value !== "")
      list.append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));
  return list;
}

/** @param {CloseLine} line */
function identityFields({ identity }) {
  if (typeof identity !== "object" || identity === null) return [];
  return Object.entries(identity)
    .filter(([, names]) => Array.isArray(names) && names.length > 0)
    .map(([kind, names]) => [`identity ${kind}`, names.join(", ")]);
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function textOf(name, value) {
  if (value === undefined || value === null) return "";
  if (typeof value === "number") {
    if (name.endsWith("_ms")) return duration(value);
    if (name.startsWith("bytes_")) return bytes(value);
  }
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** @param {CloseLine} line */
function triedTable(line) {
  const tried = triedOf(line);
  if (tried.length === 0) return null;
  const rows = tried.map(({ endpoint, result, ms }) =>
    make(
      "tr",
      {},
      make("td", { class: "code" }, endpoint),
      make("td", { class: "code" }, result),
      make("td", { class: "number" }, ms === null ? "" : duration(ms)),
    ),
  );
  const head = ["Endpoint tried", "Result", "After"].map((title, index) =>
    make("th", { scope: "col", class: index === 2 ? "number" : null }, title),
  );
  return make("table", { class: "tried" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
}
