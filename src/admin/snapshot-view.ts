// The snapshot as an operator may see it: all of it but what is secret. Field names are those of the snapshot, in the API's spelling.

import { formatAddress } from "../base/address.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";

/** What stands for a secret. */
export const MASK = "(masked)";

/** Fields that hold secrets, or may: probes and the span exporter may send credentials. */
const SECRET_FIELDS: ReadonlySet<string> = new Set(["keyPem", "send", "headers"]);
const PRIVATE_KEY = /-----BEGIN [A-Z ]*PRIVATE KEY-----/;

/** A copy without secrets. */
export function maskedSnapshot(snapshot: Snapshot): Readonly<Record<string, unknown>> {
  return masked(snapshot) as Readonly<Record<string, unknown>>;
}

function masked(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(masked);
  if (typeof value === "string") return PRIVATE_KEY.test(value) ? MASK : value;
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([name, each]) => [snakeCase(name), maskedField(name, each)]);
  return Object.fromEntries(entries);
}

function maskedField(name: string, value: unknown): unknown {
  if (SECRET_FIELDS.has(name)) return value === "" ? "" : MASK;
  if (name === "address") return formatAddress(value as Parameters<typeof formatAddress>[0]);
  // Of a probe: what is asked for may carry a token.
  if (name === "path" && typeof value === "string") return value.replace(/\?.*$/s, `?${MASK}`);
  return masked(value);
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
