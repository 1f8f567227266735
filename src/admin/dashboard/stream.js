// The stream of events from the daemon, opened again whenever it breaks off or falls silent.

/** @import { CloseLine } from "../../snapshot/inspection.ts" */
/** @import { Status } from "../../snapshot/status.ts" */
/** @import { Tick } from "../tick.ts" */

/** @typedef {{ readonly closes: readonly CloseLine[], readonly silent_workers: readonly number[] }} Closes As the API gives them, too. */

/**
 * @typedef {object} Followers
 * @property {(status: Status) => void} status
 * @property {(tick: Tick) => void} tick
 * @property {(closes: readonly CloseLine[], silentWorkers: readonly number[]) => void} closes
 * @property {(isLive: boolean) => void} state Called when it changes, and first when the first event has come or could not.
 */

const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 5000;
/** There is a tick each second: a stream that is silent for this long is dead, whatever the browser reports. */
const SILENCE_MS = 8000;

/**
 * Follows the daemon for as long as the page is open.
 * @param {Followers} followers
 */
export function follow({ status, tick, closes, state }) {
  /** @type {boolean | null} */
  let isLive = null;
  let retryMs = FIRST_RETRY_MS;
  let heardAtMs = 0;

  /** @param {boolean} now */
  const tell = (now) => {
    if (isLive === now) return;
    isLive = now;
    state(now);
  };

  const open = () => {
    const source = new EventSource("/api/v1/events");
    heardAtMs = performance.now();
    const lose = () => {
      clearInterval(watch);
      source.close();
      tell(false);
      setTimeout(open, retryMs);
      retryMs = Math.min(2 * retryMs, LAST_RETRY_MS);
    };
    const watch = setInterval(() => {
      if (performance.now() - heardAtMs > SILENCE_MS) lose();
    }, 1000);
    /**
     * @template Data
     * @param {string} type
     * @param {(data: Data) => void} take
     */
    const on = (type, take) =>
      source.addEventListener(type, ({ data }) => {
        heardAtMs = performance.now();
        retryMs = FIRST_RETRY_MS;
        take(JSON.parse(data));
        tell(true);
      });
    on("status", status);
    on("tick", tick);
    on("closes", (/** @type {Closes} */ event) => closes(event.closes, event.silent_workers));
    source.addEventListener("error", lose, { once: true });
  };
  open();
}
