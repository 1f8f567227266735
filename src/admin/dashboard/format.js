// Numbers, times and sizes as people read them. Pure: no page is needed.

const WHOLE = new Intl.NumberFormat("en");
const SIZES = ["B", "kB", "MB", "GB", "TB", "PB"];

/**
 * 12,345.
 * @param {number} value
 */
export function count(value) {
  return WHOLE.format(value);
}

/**
 * 1.2 MB, in powers of 1,000.
 * @param {number} value
 */
export function bytes(value) {
  let size = Math.max(0, value);
  let unit = 0;
  while (size >= 999.5 && unit < SIZES.length - 1) {
    size /= 1000;
    unit++;
  }
  return `${unit === 0 || size >= 99.95 ? Math.round(size) : size.toFixed(1)} ${SIZES[unit]}`;
}

/**
 * 12, 3 or 1.4: what happens in a second; a dash where nothing is known yet.
 * @param {number | null} value
 */
export function rate(value) {
  if (value === null) return "–";
  const whole = Math.round(value);
  return value >= 10 || Math.abs(value - whole) < 0.05 ? count(whole) : value.toFixed(1);
}

/**
 * 1.2 MB/s.
 * @param {number | null} value
 */
export function byteRate(value) {
  return value === null ? "–" : `${bytes(value)}/s`;
}

/**
 * 340 ms, 3.2 s, 5 min 2 s, 2 h 10 min, 3 d 4 h.
 * @param {number} ms
 */
export function duration(ms) {
  if (ms < 1) return "0 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return two(Math.floor(seconds / 60), "min", seconds % 60, "s");
  if (seconds < 86_400) return two(Math.floor(seconds / 3600), "h", Math.floor((seconds % 3600) / 60), "min");
  return two(Math.floor(seconds / 86_400), "d", Math.floor((seconds % 86_400) / 3600), "h");
}

/**
 * @param {number} big
 * @param {string} bigUnit
 * @param {number} small
 * @param {string} smallUnit
 */
function two(big, bigUnit, small, smallUnit) {
  return small === 0 ? `${big} ${bigUnit}` : `${big} ${bigUnit} ${small} ${smallUnit}`;
}

/**
 * 03:12:05 in the browser's zone, with the day in front when it is another one than that of `now`.
 * @param {string | number} time
 * @param {number} [now] ms since 1970
 */
export function clock(time, now = Date.now()) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return "–";
  const isToday = date.toDateString() === new Date(now).toDateString();
  const day = isToday ? "" : `${date.toLocaleDateString("en", { month: "short", day: "numeric" })} `;
  return (
    day + [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => `${part}`.padStart(2, "0")).join(":")
  );
}

/**
 * "3 min ago", from the clock of the daemon.
 * @param {string} time
 * @param {number} now ms since 1970
 */
export function ago(time, now) {
  return `${duration(Math.max(0, Math.round((now - Date.parse(time)) / 1000) * 1000)).replace("0 ms", "0 s")} ago`;
}

/**
 * Whose rows are missing in a list because they did not answer; "" when all did.
 * @param {readonly number[]} silentWorkers
 */
export function unheard(silentWorkers) {
  if (silentWorkers.length === 0) return "";
  const who = silentWorkers.join(" and ");
  return silentWorkers.length === 1
    ? `Worker ${who} does not answer (hung or stopped): what it has is missing here.`
    : `Workers ${who} do not answer (hung or stopped): what they have is missing here.`;
}

/**
 * One connection, 2 connections.
 * @param {number} number
 * @param {string} noun
 */
export function some(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}
