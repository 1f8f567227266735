// Durations and sizes as an operator writes them (`250ms`, `10s`, `5m`, `24h`; `64KiB`, `10MB`) and as a reader likes to see them.

const DURATION_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of `250ms`, `10s`, `1.5m`, `24h`, `7d`, or null when the text is not a duration. */
export function parseDuration(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim());
  const scale = DURATION_MS[match?.[2] ?? ""];
  if (match === null || scale === undefined) return null;
  const exact = Number(match[1]) * scale;
  const rounded = Math.round(exact);
  // Zero means "off" or "no limit" wherever a duration is configured, so nothing else may round to it.
  return Number.isSafeInteger(rounded) && (rounded === 0) === (exact === 0) ? rounded : null;
}

/** The shortest exact spelling of a duration: 5000 → `5s`, 90000 → `90s`, 3600000 → `1h`. */
export function formatDuration(ms: number): string {
  for (const unit of ["h", "m", "s"]) {
    const scale = DURATION_MS[unit] ?? 1;
    if (ms >= scale && ms % scale === 0) return `${ms / scale}${unit}`;
  }
  return ms === 0 ? "0s" : `${ms}ms`;
}

const SIZE_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1000,
  KB: 1000,
  MB: 1_000_000,
  GB: 1_000_000_000,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
};

/** Bytes of `0B`, `64KiB`, `1.5MiB`, `10MB`, or null when the text is not a size. */
export function parseSize(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)([kKMG]?i?B)$/.exec(text.trim());
  const scale = SIZE_BYTES[match?.[2] ?? ""];
  if (match === null || scale === undefined) return null;
  const exact = Number(match[1]) * scale;
  const rounded = Math.round(exact);
  // As of durations.
  return Number.isSafeInteger(rounded) && (rounded === 0) === (exact === 0) ? rounded : null;
}

/** The shortest exact spelling of a size in binary units: 65536 → `64KiB`, 1000 → `1000B`. */
export function formatSize(bytes: number): string {
  for (const unit of ["GiB", "MiB", "KiB"]) {
    const scale = SIZE_BYTES[unit] ?? 1;
    if (bytes >= scale && bytes % scale === 0) return `${bytes / scale}${unit}`;
  }
  return `${bytes}B`;
}
