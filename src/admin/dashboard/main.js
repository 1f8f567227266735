// Puts the page together: the stream feeds the model, the model is rendered at most once a frame, and keys lead to filters.

/** @import { Meanings } from "./explain.js" */

import { get } from "./api.js";
import { attentionView, factsView } from "./attention.js";
import { backendsView } from "./backends.js";
import { chart } from "./charts.js";
import { closesView } from "./closes.js";
import { connectionPanel } from "./connection-panel.js";
import { connectionsView } from "./connections.js";
import { find, setText } from "./dom.js";
import { clock } from "./format.js";
import { listenersView } from "./listeners.js";
import { Model } from "./model.js";
import { certificatesView, peersView, policiesView, workersView } from "./node-tables.js";
import { onScreen } from "./on-screen.js";
import { follow } from "./stream.js";

/** @type {Meanings} */
const meanings = await get("/assets/close-reasons.json").catch(() => ({}));
const model = new Model(meanings);
const said = find("said", HTMLElement);
/** For those who do not see the page: only what was done, and whether it is up to date. @param {string} text */
const say = (text) => setText(said, text);

/** So many are asked for at first; a filter finds older ones. */
const FIRST_CLOSES = 50;

const RETRY_MS = 2000;

let isScheduled = false;
const renderSoon = () => {
  if (isScheduled) return;
  isScheduled = true;
  requestAnimationFrame(() => {
    isScheduled = false;
    if (model.status === null) return;
    for (const render of views) {
      // A defect in one table must not hide the others.
      try {
        render(model);
      } catch (thrown) {
        reportError(thrown);
      }
    }
  });
};

const closes = closesView(meanings);
const views = [
  factsView(),
  attentionView(),
  chart(find("bytes-chart", HTMLElement), "bytes", [
    { label: "up", color: "ink-1", of: "up" },
    { label: "down", color: "ink-2", of: "down" },
  ]),
  chart(find("rates-chart", HTMLElement), "rates", [
    { label: "new/s", color: "ink-1", of: "opened" },
    { label: "failed/s", color: "ink-bad", of: "failed" },
  ]),
  closes.render,
  onScreen(find("listeners", HTMLElement), listenersView(closes.show)),
  onScreen(find("backends", HTMLElement), backendsView()),
  connectionsView(connectionPanel(say)),
  certificatesView(),
  workersView(),
  policiesView(),
];
peersView();

follow({
  status: (status) => {
    model.takeStatus(status);
    renderSoon();
  },
  tick: (tick) => {
    model.takeTick(tick);
    renderSoon();
  },
  closes: (lines, silentWorkers) => {
    model.takeCloses(lines, silentWorkers);
    renderSoon();
  },
  state: showStream,
});

/** @param {boolean} isLive */
async function showStream(isLive) {
  const stream = find("stream", HTMLElement);
  const lost = find("lost", HTMLElement);
  stream.dataset.state = isLive ? "live" : "lost";
  setText(stream, isLive ? "live" : "connection lost");
  find("main", HTMLElement).classList.toggle("stale", !isLive);
  lost.hidden = isLive;
  if (!isLive) {
    model.lost();
    const since = model.status === null ? "" : ` What is shown is as of ${clock(model.nowMs)}.`;
    setText(lost, `Connection lost, retrying.${since}`);
    say("Connection lost, retrying.");
    renderSoon();
    return;
  }
  say("Connected.");
  await loadCloses();
}

/** The stream brings failures from now on; earlier ones are requested once. */
async function loadCloses() {
  try {
    const { closes, silent_workers } = await get("/api/v1/closes", { failed: "true", limit: FIRST_CLOSES });
    model.takeCloses(closes, silent_workers);
    model.closesProblem = "";
  } catch (thrown) {
    model.closesProblem = thrown instanceof Error ? thrown.message : String(thrown);
    if (!find("lost", HTMLElement).hidden) return;
    setTimeout(loadCloses, RETRY_MS);
  }
  renderSoon();
}

addEventListener("keydown", (event) => {
  const { target, key } = event;
  const isTyping = target instanceof HTMLInputElement || target instanceof HTMLSelectElement;
  if (key === "Escape" && target instanceof HTMLInputElement) target.blur();
  if (key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]") !== null) return;
  event.preventDefault();
  filterInView().focus();
});

/** The filter of the live connections when their table is what is looked at; else that of the failures. */
function filterInView() {
  const { top } = find("connections", HTMLElement).getBoundingClientRect();
  const isThere = top < innerHeight / 2 && find("connections", HTMLElement).getBoundingClientRect().bottom > 0;
  return find(isThere ? "connections-text" : "closes-text", HTMLInputElement);
}
