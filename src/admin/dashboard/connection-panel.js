// One live connection in a panel, kept up to date while it is open, and the question before a connection is ended.

/** @import { ConnectionDetail, ConnectionRow, LegDetail } from "../../snapshot/inspection.ts" */

import { ApiError, closeConnection, get } from "./api.js";
import { find, make, setText } from "./dom.js";
import { bytes, clock, count, duration } from "./format.js";

/** @typedef {{ open: (id: string) => void, ask: (row: ConnectionRow) => void, whenClosed: (then: () => void) => void }} Panel */
/** @typedef {readonly (readonly [name: string, value: string])[]} Facts */

const EVERY_MS = 1000;

/**
 * @param {(text: string) => void} say Tells what was done, also to those who do not see it.
 * @returns {Panel}
 */
export function connectionPanel(say) {
  const panel = find("panel", HTMLDialogElement);
  const asking = find("ask", HTMLDialogElement);
  /** @type {() => void} */
  let closed = () => {};
  for (const dialog of [panel, asking]) dialog.addEventListener("click", closeOutside);

  /** @param {ConnectionRow} row */
  const ask = (row) => {
    const problem = make("p", { class: "problem", role: "alert" });
    const end = async () => {
      try {
        await closeConnection(row.id);
        say(`Connection ${row.id} was closed.`);
      } catch (thrown) {
        if (!(thrown instanceof ApiError) || thrown.status !== 404) {
          setText(problem, `It was not closed: ${thrown instanceof Error ? thrown.message : thrown}.`);
          return;
        }
        say(`Connection ${row.id} had ended already.`);
      }
      asking.close();
      panel.close();
      closed();
    };
    const to = row.endpoint === "" ? "" : ` to ${row.endpoint}`;
    asking.replaceChildren(
      make("h2", { id: "ask-title" }, "Close this connection?"),
      make("p", {}, make("code", {}, row.downstream), row.identity === "" ? "" : ` (${row.identity})`, to),
      make("p", { class: "note" }, "Both sides are reset at once. The access log will say admin_closed."),
      problem,
      make(
        "div",
        { class: "buttons" },
        make("button", { type: "button", autofocus: "", onclick: () => asking.close() }, "Keep it"),
        make("button", { type: "button", class: "danger", onclick: end }, "Close connection"),
      ),
    );
    asking.showModal();
  };

  /** @param {string} id */
  const open = (id) => {
    const content = make("div", { class: "content" }, make("p", { class: "note" }, "Looking …"));
    const end = make("button", { type: "button", class: "danger", disabled: "" }, "Close connection");
    panel.replaceChildren(
      make(
        "div",
        { class: "head" },
        make("h2", { id: "panel-title" }, "Connection ", make("code", {}, id)),
        make(
          "button",
          { type: "button", autofocus: "", "aria-label": "Close panel", onclick: () => panel.close() },
          "✕",
        ),
      ),
      content,
      make("div", { class: "buttons" }, end),
    );
    /** @type {ConnectionDetail | null} */
    let detail = null;
    end.addEventListener("click", () => detail !== null && ask(detail));
    const show = async () => {
      try {
        detail = await get(`/api/v1/connections/${encodeURIComponent(id)}`);
        // What is being selected, to be copied, stays.
        if (detail !== null && getSelection()?.isCollapsed !== false) content.replaceChildren(...groupsOf(detail));
        end.disabled = false;
      } catch (thrown) {
        const isGone = thrown instanceof ApiError && thrown.status === 404;
        end.disabled = true;
        const what = isGone ? "It has ended. If it failed, it stands among the failures." : `Not up to date: ${thrown}`;
        const line = make("p", { class: "problem", role: "status" }, what);
        content.querySelector(".problem")?.remove();
        content.prepend(line);
        if (isGone) clearInterval(timer);
      }
    };
    const timer = setInterval(show, EVERY_MS);
    panel.addEventListener("close", () => clearInterval(timer), { once: true });
    panel.showModal();
    show();
  };

  return {
    open,
    ask,
    whenClosed(then) {
      closed = then;
    },
  };
}

/** @param {Event} event */
function closeOutside(event) {
  const { target, currentTarget } = event;
  // What is beside the dialog is its backdrop, which counts as the dialog itself.
  if (target === currentTarget && currentTarget instanceof HTMLDialogElement) currentTarget.close();
}

/** @param {ConnectionDetail} detail */
function groupsOf(detail) {
  const { legs, names, timers } = detail;
  const direct = detail.downstream_direct === detail.downstream ? "" : detail.downstream_direct;
  return [
    group("Client", [
      ["address", detail.downstream],
      ["came from", direct],
      ["SNI", detail.sni],
      ["ALPN", detail.alpn],
      ["identity uri", names?.uri.join(", ") ?? ""],
      ["identity dns", names?.dns.join(", ") ?? ""],
      ["identity cn", names?.cn.join(", ") ?? ""],
      ["fingerprint", detail.peer_fingerprint],
      ["TLS", [detail.tls_version, detail.tls_cipher, detail.tls_resumed ? "resumed" : ""].filter(Boolean).join(" · ")],
    ]),
    group("Path", [
      ["listener", detail.listener],
      ["route", detail.route],
      ["policy", [detail.policy, detail.policy_rule].filter(Boolean).join(": ")],
      ["backend", detail.backend],
      ["endpoint", detail.endpoint],
      ["attempts", count(detail.attempts)],
      ["TLS to it", [detail.upstream_tls_version, detail.upstream_peer].filter(Boolean).join(" · ")],
      ["worker", String(detail.worker)],
    ]),
    group("Now", [
      ["phase", detail.phase],
      ["since", `${clock(detail.started_at)} (${duration(detail.age_ms)})`],
      ["idle for", duration(detail.idle_ms)],
      ["up", bytes(detail.bytes_up)],
      ["down", bytes(detail.bytes_down)],
      ["idle timeout in", left(timers.idle_timeout_in_ms)],
      ["max lifetime in", left(timers.max_lifetime_in_ms)],
      [
        "certificate expires in",
        timers.certificate_expires_in_ms === null ? "" : left(timers.certificate_expires_in_ms),
      ],
    ]),
    sockets(legs.downstream, legs.upstream),
  ];
}

/** @param {number | null} ms */
function left(ms) {
  return ms === null ? "no limit" : duration(Math.max(0, ms));
}

/**
 * @param {string} title
 * @param {Facts} facts
 */
function group(title, facts) {
  const list = make("dl", { class: "fields" });
  for (const [name, value] of facts)
    if (value !== "") list.append(make("div", {}, make("dt", {}, name), make("dd", {}, value)));
  return make("section", {}, make("h3", {}, title), list);
}

/**
 * What the kernel says, the two sockets side by side.
 * @param {LegDetail} client
 * @param {LegDetail | null} endpoint
 */
function sockets(client, endpoint) {
  /** @type {readonly (readonly [string, (leg: LegDetail) => string])[]} */
  const rows = [
    ["remote", ({ remote }) => remote],
    ["local", ({ local }) => local],
    ["reading", ({ paused, ended }) => (ended ? "has ended" : paused ? "paused: the other side is slow" : "yes")],
    ["waiting to be sent on", ({ pending_bytes }) => bytes(pending_bytes)],
    ["state", ({ tcp }) => tcp?.state ?? "–"],
    [
      "round trip",
      ({ tcp }) => (tcp === null ? "–" : `${tcp.rtt_ms.toFixed(2)} ± ${tcp.rtt_variance_ms.toFixed(2)} ms`),
    ],
    ["retransmits", ({ tcp }) => (tcp === null ? "–" : count(tcp.retransmits_total))],
    ["unacknowledged", ({ tcp }) => (tcp === null ? "–" : count(tcp.unacknowledged))],
    ["congestion window", ({ tcp }) => (tcp === null ? "–" : `${count(tcp.congestion_window)} × ${count(tcp.mss)} B`)],
  ];
  const head = ["", "Client", "Endpoint"].map((title) => make("th", { scope: "col" }, title));
  const body = rows.map(([name, text]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, name),
      make("td", { class: "code" }, text(client)),
      make("td", { class: "code" }, endpoint === null ? "–" : text(endpoint)),
    ),
  );
  const table = make(
    "table",
    { class: "sockets" },
    make("thead", {}, make("tr", {}, ...head)),
    make("tbody", {}, ...body),
  );
  return make("section", {}, make("h3", {}, "Sockets"), make("div", { class: "scroll", tabindex: "0" }, table));
}
