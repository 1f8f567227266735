// Numbers, sizes and times as a person reads them in the output of commands.

const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 86_400;

/** `1,234,567`. */
export function count(number: number): string {
  return number.toLocaleString("en-US");
}

/** `1 connection`, `2 connections`. */
export function counted(number: number, one: string): string {
  const plural = one === one.toUpperCase() ? "S" : "s";
  return `${count(number)} ${one}${number === 1 ? "" : plural}`;
}

/** `0`, `0.4`, `12`, `1,235`: how often something happens in a second; `-` when it is not known. */
export function frequency(perSecond: number | null): string {
  if (perSecond === null) return "-";
  if (perSecond === 0) return "0";
  return perSecond < 9.95 ? perSecond.toFixed(1).replace(/\.0$/, "") : count(Math.round(perSecond));
}

/** `0 B`, `999 B`, `1.2 kB`, `34 MB`: powers of 1,000, as networks are measured; `-` when it is not known. */
export function size(bytes: number | null): string {
  if (bytes === null) return "-";
  let value = bytes;
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (value < 999.5 || unit === "TB") {
      const digits = unit !== "B" && value < 9.95 ? 1 : 0;
      return `${value.toFixed(digits)} ${unit}`;
    }
    value /= 1000;
  }
  return "";
}

/** `2026-11-21 03:02:11Z`. */
export function moment(iso: string): string {
  return iso.replace("T", " ").replace(/\.\d+Z$/, "Z");
}

/** The two largest units: `3d 4h`, `12m 5s`. */
export function age(seconds: number): string {
  const whole = Math.floor(seconds);
  const units = [
    [DAY_S, "d"],
    [HOUR_S, "h"],
    [MINUTE_S, "m"],
    [1, "s"],
  ] as const;
  const first = units.findIndex(([size]) => whole >= size);
  if (first < 0) return "0s";
  let rest = whole;
  const parts: string[] = [];
  for (const [size, unit] of units.slice(first, first + 2)) {
    if (rest >= size) parts.push(`${Math.floor(rest / size)}${unit}`);
    rest %= size;
  }
  return parts.join(" ");
}

/** `0.3 ms`, `12 ms`, `1,200 ms`. */
export function milliseconds(ms: number): string {
  return `${ms < 9.95 ? ms.toFixed(1).replace(/\.0$/, "") : count(Math.round(ms))} ms`;
}
