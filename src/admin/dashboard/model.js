// What the page knows of the node: the last status with each tick laid over it, rates by the difference between ticks, ten minutes of history, and the last
// failed closes. All of it is bounded. Pure: no page is needed.

/** @import { CloseLine } from "../../snapshot/inspection.ts" */
/** @import { BackendStatus, ListenerStatus, Status } from "../../snapshot/status.ts" */
/** @import { Tick } from "../tick.ts" */
/** @import { Meanings } from "./explain.js" */

/** @typedef {{ readonly opened: number | null, readonly up: number | null, readonly down: number | null }} Rates Each per second; null: not known yet. */
/** @typedef {{ readonly opened: number, readonly failed: number, readonly up: number, readonly down: number }} Totals */

/** Ten minutes at one a second. */
const HISTORY_LENGTH = 600;
/** Also the most that a search for failures brings. */
export const CLOSES_LENGTH = 500;
/** @type {Rates} */
const UNKNOWN = { opened: null, up: null, down: null };

export class Model {
  /** @type {Status | null} */
  status = null;
  /** Whether that is what is true now. */
  isLive = false;
  /** The daemon's clock at the last event, in ms since 1970. */
  nowMs = 0;
  /** By second, oldest first: time in s since 1970, then what happened per second; null is a gap. */
  history = {
    time: /** @type {number[]} */ ([]),
    up: /** @type {(number | null)[]} */ ([]),
    down: /** @type {(number | null)[]} */ ([]),
    opened: /** @type {(number | null)[]} */ ([]),
    failed: /** @type {(number | null)[]} */ ([]),
  };
  /**
   * Failed ones, newest first.
   * @type {readonly CloseLine[]}
   */
  closes = [];
  /**
   * Why those before the page was opened are not known; "" when they are, null before they have been asked for.
   * @type {string | null}
   */
  closesProblem = null;
  /** Workers that did not answer when they were asked for failed ones. @type {readonly number[]} */
  silentWorkers = [];
  /** @type {Meanings} */
  #meanings;
  /** @type {Map<string, Totals>} */
  #totals = new Map();
  /** @type {Map<string, Rates>} */
  #rates = new Map();
  #lastMs = 0;

  /** @param {Meanings} meanings */
  constructor(meanings) {
    this.#meanings = meanings;
  }

  /**
   * A whole status. What was counted by another run of the daemon says nothing of this one.
   * @param {Status} status
   */
  takeStatus(status) {
    if (this.status?.started_at !== status.started_at || this.status.pid !== status.pid) {
      this.#totals.clear();
      this.#rates.clear();
    }
    this.status = status;
    this.isLive = true;
    this.nowMs = Date.parse(status.started_at) + status.uptime_s * 1000;
  }

  /** The stream has broken off: the charts get a gap, and rates start anew. */
  lost() {
    this.isLive = false;
    this.#totals.clear();
    this.#rates.clear();
  }

  /** @param {Tick} tick */
  takeTick(tick) {
    if (this.status === null) return;
    const { status } = this;
    this.status = {
      ...status,
      uptime_s: tick.uptime_s,
      connections: tick.connections,
      connections_elsewhere: tick.connections_elsewhere,
      access_log: tick.access_log,
      telemetry: tick.telemetry,
      workers: tick.workers,
      listeners: merge(status.listeners, tick.listeners, ({ listener }) => listener),
      backends: merge(status.backends, tick.backends, ({ backend }) => backend, mergeBackend),
      policies: merge(status.policies, tick.policies, ({ policy }) => policy),
    };
    this.nowMs = Date.parse(tick.time);
    this.#measure(this.status);
  }

  /**
   * Takes failed closes in, in whatever order they come and however often.
   * @param {readonly CloseLine[]} lines
   * @param {readonly number[]} silentWorkers
   */
  takeCloses(lines, silentWorkers) {
    this.silentWorkers = silentWorkers;
    this.closes = mergeCloses(this.closes, lines);
  }

  /** @param {string} name */
  listenerRates(name) {
    return this.#rates.get(`l ${name}`) ?? UNKNOWN;
  }

  /** @param {string} name */
  backendRates(name) {
    return this.#rates.get(`b ${name}`) ?? UNKNOWN;
  }

  /** The last of each series. */
  get latest() {
    const { up, down, opened, failed } = this.history;
    return {
      up: up.at(-1) ?? null,
      down: down.at(-1) ?? null,
      opened: opened.at(-1) ?? null,
      failed: failed.at(-1) ?? null,
    };
  }

  /**
   * Whether a connection that ends so is what the failures count.
   * @param {string} reason
   */
  isFailure(reason) {
    return Object.hasOwn(this.#meanings, reason) && this.#meanings[reason]?.level === "warn";
  }

  /**
   * Connections of a listener that failed, were refused or were cut.
   * @param {ListenerStatus} listener
   */
  failuresOf({ closed }) {
    let failed = 0;
    for (const [reason, number] of Object.entries(closed)) if (this.isFailure(reason)) failed += number;
    return failed;
  }

  /** @param {Status} status */
  #measure({ listeners, backends }) {
    const seconds = (this.nowMs - this.#lastMs) / 1000;
    this.#lastMs = this.nowMs;
    const sum = { opened: 0, failed: 0, up: 0, down: 0 };
    let isKnown = false;
    for (const row of listeners) {
      const { listener, connections_total, bytes_up, bytes_down } = row;
      const totals = { opened: connections_total, failed: this.failuresOf(row), up: bytes_up, down: bytes_down };
      const moved = this.#difference(`l ${listener}`, totals, seconds);
      if (moved === null) continue;
      isKnown = true;
      sum.opened += moved.opened;
      sum.failed += moved.failed;
      sum.up += moved.up;
      sum.down += moved.down;
    }
    for (const { backend, bytes_up: up, bytes_down: down } of backends)
      this.#difference(`b ${backend}`, { opened: 0, failed: 0, up, down }, seconds);
    this.#remember(isKnown ? sum : null);
  }

  /**
   * What happened per second since the last tick; null when that cannot be known.
   * @param {string} key
   * @param {Totals} totals
   * @param {number} seconds
   * @returns {Totals | null}
   */
  #difference(key, totals, seconds) {
    const before = this.#totals.get(key);
    this.#totals.set(key, totals);
    if (before === undefined || seconds <= 0 || totals.opened < before.opened) return null;
    const per = {
      opened: (totals.opened - before.opened) / seconds,
      failed: Math.max(0, totals.failed - before.failed) / seconds,
      up: Math.max(0, totals.up - before.up) / seconds,
      down: Math.max(0, totals.down - before.down) / seconds,
    };
    this.#rates.set(key, per);
    return per;
  }

  /** @param {Totals | null} per */
  #remember(per) {
    const { history } = this;
    const time = this.nowMs / 1000;
    const last = history.time.at(-1);
    if (last !== undefined && time <= last) return;
    history.time.push(time);
    history.up.push(per?.up ?? null);
    history.down.push(per?.down ?? null);
    history.opened.push(per?.opened ?? null);
    history.failed.push(per?.failed ?? null);
    if (history.time.length > HISTORY_LENGTH) for (const series of Object.values(history)) series.shift();
  }
}

/**
 * Identifies a close among those of all workers and runs.
 * @param {CloseLine} line
 */
export function closeKey(line) {
  return `${line.worker ?? 0} ${line.id} ${line.seq}`;
}

/**
 * Each once, newest first, no more than are kept.
 * @param {readonly CloseLine[]} known
 * @param {readonly CloseLine[]} more
 * @returns {readonly CloseLine[]}
 */
export function mergeCloses(known, more) {
  if (more.length === 0) return known;
  // What is known stays the same object: its row is not rendered anew.
  const byKey = new Map([...more, ...known].map((line) => [closeKey(line), line]));
  return [...byKey.values()].sort(byEnd).slice(0, CLOSES_LENGTH);
}

/**
 * @param {CloseLine} a
 * @param {CloseLine} b
 */
function byEnd(a, b) {
  if (a.ended_at !== b.ended_at) return a.ended_at < b.ended_at ? 1 : -1;
  return b.seq - a.seq;
}

/**
 * Rows by name, those that have changed in the place of those that had been.
 * @template Row
 * @param {readonly Row[]} rows
 * @param {readonly Row[]} changed
 * @param {(row: Row) => string} nameOf
 * @param {(before: Row, after: Row) => Row} [join]
 * @returns {readonly Row[]}
 */
function merge(rows, changed, nameOf, join = (_, after) => after) {
  if (changed.length === 0) return rows;
  const left = new Map(changed.map((row) => [nameOf(row), row]));
  const merged = rows.map((row) => {
    const after = left.get(nameOf(row));
    left.delete(nameOf(row));
    return after === undefined ? row : join(row, after);
  });
  return [...merged, ...left.values()];
}

/**
 * @param {BackendStatus} before
 * @param {BackendStatus} after
 * @returns {BackendStatus}
 */
function mergeBackend(before, after) {
  return { ...before, ...after, endpoints: merge(before.endpoints, after.endpoints, ({ endpoint }) => endpoint) };
}
