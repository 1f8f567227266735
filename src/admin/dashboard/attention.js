// What is wrong with the node now, worst first, and the few numbers that say what it is and does.

/** @import { Status } from "../../snapshot/status.ts" */
/** @import { Model } from "./model.js" */

import { healthOf, usableOf } from "./backends.js";
import { find, make, setText } from "./dom.js";
import { inWords } from "./explain.js";
import { ago, clock, count, duration, rate, some } from "./format.js";
import { RENEWAL_LEVELS } from "./node-tables.js";

/**
 * @typedef {object} Concern
 * @property {"bad" | "warn"} level
 * @property {string} text
 * @property {string} section Where more stands.
 * @property {readonly string[]} [lines]
 */

/** An event-loop delay of this length is noticed by every connection that is relayed. */
const LATE_MS = 200;
/** More problems of a config are counted only. */
const MOST_LINES = 20;
/** More concerns than these are counted only. */
const MOST_CONCERNS = 12;

/**
 * All that needs somebody's attention, worst first. Pure.
 * @param {Status} status
 * @param {number} nowMs
 * @param {readonly number[]} silentWorkers
 * @returns {readonly Concern[]}
 */
export function concernsOf(status, nowMs, silentWorkers) {
  /** @type {Concern[]} */
  const concerns = [];
  /** @param {Concern["level"]} level @param {string} section @param {string} text @param {readonly string[]} [lines] */
  const add = (level, section, text, lines = []) => concerns.push({ level, section, text, lines });
  const { config, workers, backends, certificates, state, generation } = status;
  if (state === "draining") add("warn", "workers", "The daemon is draining: it takes no new connections.");
  if (!config.last_reload_ok)
    add(
      "bad",
      "facts",
      `The last reload was refused; generation ${generation} is served still.`,
      config.last_reload_problems,
    );
  if (config.last_reload_warnings.length > 0)
    add("warn", "facts", "The last reload was taken over, with warnings.", config.last_reload_warnings);
  if (config.certificate_problems.length > 0)
    add(
      "bad",
      "certificates",
      "Certificate files on the disk are refused; older ones are served still.",
      config.certificate_problems,
    );
  for (const backend of backends) {
    const bad = backend.endpoints.filter((endpoint) => healthOf(endpoint, nowMs).level === "bad");
    if (bad.length === 0) continue;
    const lines = bad.map((endpoint) => {
      const { word, because } = healthOf(endpoint, nowMs);
      // Without the time that is left: that would have the list made anew each second.
      const why = word === "ejected" ? "it failed too often" : inWords(because);
      return `${endpoint.endpoint} is ${word}${why === "" ? "" : `: ${why}`}`;
    });
    if (usableOf(backend, nowMs) === 0)
      add("bad", "backends", `Backend ${backend.backend} has no endpoint left: its clients are refused.`, lines);
    else
      add(
        "warn",
        "backends",
        `Backend ${backend.backend}: ${bad.length} of ${some(backend.endpoints.length, "endpoint")} out.`,
        lines,
      );
  }
  for (const certificate of certificates) {
    const { days_left, names, renewal, subject, used_by, role } = certificate;
    if (renewal === "in_time") continue;
    const inTime = days_left < 1 ? duration(days_left * 86_400_000) : some(Math.floor(days_left), "day");
    const left = days_left < 0 ? "has expired" : `expires in ${inTime}`;
    const text = `The ${role.replace("_", " ")} ${names[0] ?? subject} of ${used_by} ${left}.`;
    add(RENEWAL_LEVELS[renewal], "certificates", text);
  }
  for (const worker of silentWorkers)
    add("bad", "workers", `Worker ${worker} does not answer: it hangs, or is stopped.`);
  for (const worker of workers) {
    if (worker.state === "waiting to restart")
      add("bad", "workers", `Worker ${worker.worker} has died and waits to be started again.`);
    if (worker.state === "not answering")
      add("bad", "workers", `Worker ${worker.worker} does not answer. If it stays so, it is ended and started again.`);
    if (worker.event_loop_lag_ms >= LATE_MS)
      add(
        "warn",
        "workers",
        `Worker ${worker.worker} was held up for ${duration(worker.event_loop_lag_ms)}: it is overloaded.`,
      );
  }
  if (status.access_log.dropped_lines_total > 0)
    add(
      "warn",
      "facts",
      `${some(status.access_log.dropped_lines_total, "line")} of the access log were dropped: what it is written to is slow or full.`,
    );
  if (status.telemetry.dropped_spans_total > 0)
    add("warn", "facts", `${some(status.telemetry.dropped_spans_total, "span")} never reached the collector.`);
  return concerns.sort((a, b) => Number(b.level === "bad") - Number(a.level === "bad"));
}

/** @returns {(model: Model) => void} */
export function attentionView() {
  const section = find("attention", HTMLElement);
  let shown = "";
  return ({ status, nowMs, silentWorkers }) => {
    if (status === null) return;
    const concerns = concernsOf(status, nowMs, silentWorkers);
    const now = JSON.stringify(concerns);
    if (now === shown) return;
    shown = now;
    section.hidden = concerns.length === 0;
    const items = concerns.slice(0, MOST_CONCERNS).map(({ level, text, section: where, lines = [] }) => {
      const more = lines.slice(0, MOST_LINES).map((line) => make("li", {}, line));
      if (lines.length > MOST_LINES) more.push(make("li", {}, `and ${count(lines.length - MOST_LINES)} more`));
      return make(
        "li",
        { "data-level": level },
        make("a", { href: `#${where}` }, text),
        more.length === 0 ? null : make("ul", {}, ...more),
      );
    });
    if (concerns.length > MOST_CONCERNS)
      items.push(make("li", { "data-level": "warn" }, `and ${some(concerns.length - MOST_CONCERNS, "more thing")}`));
    section.replaceChildren(make("ul", {}, ...items));
  };
}

/** @returns {(model: Model) => void} */
export function factsView() {
  const list = find("facts", HTMLElement);
  const state = find("state", HTMLElement);
  /** @type {Map<string, { value: HTMLElement, note: HTMLElement }>} */
  const known = new Map();
  /** @param {string} name @param {string} text @param {string} [more] */
  const set = (name, text, more = "") => {
    let fact = known.get(name);
    if (fact === undefined) {
      fact = { value: make("dd"), note: make("dd", { class: "note" }) };
      known.set(name, fact);
      list.append(make("div", {}, make("dt", {}, name), fact.value, fact.note));
    }
    setText(fact.value, text);
    setText(fact.note, more);
    if (fact.note.title !== more) fact.note.title = more;
  };
  return (model) => {
    const { status, nowMs, latest } = model;
    if (status === null) return;
    const { config } = status;
    setText(state, model.isLive ? status.state : "not known");
    const level = !model.isLive ? "none" : status.state === "serving" ? "good" : "warn";
    if (state.dataset.level !== level) state.dataset.level = level;
    const title = `${status.state === "serving" ? "" : `${status.state} · `}bunnel · ${location.host}`;
    if (document.title !== title) document.title = title;
    set("Connections", count(status.connections), `at ${some(status.listeners.length, "listener")}`);
    set(
      "New per second",
      rate(latest.opened),
      `${count(sum(status.listeners.map((each) => each.connections_total)))} in all`,
    );
    set(
      "Failed per second",
      rate(latest.failed),
      `${count(sum(status.listeners.map((each) => model.failuresOf(each))))} in all`,
    );
    set("Uptime", duration(status.uptime_s * 1000), `since ${clock(status.started_at, nowMs)}`);
    const reloaded = config.last_reload_at;
    const outcome = config.last_reload_ok ? "taken over" : "refused";
    set(
      "Last reload",
      reloaded === null ? "none" : outcome,
      reloaded === null ? "" : `${clock(reloaded, nowMs)}, ${ago(reloaded, nowMs)}`,
    );
    set("Generation", String(status.generation), some(status.workers.length, "worker"));
    set("Config", config.file?.split("/").at(-1) ?? "embedded", config.file ?? "the default");
    set("Version", status.version, `${status.runtime}, pid ${status.pid}`);
  };
}

/** @param {readonly number[]} values */
function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
