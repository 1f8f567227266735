// Which certificates are served or trusted, by what, and until when, so that they can be renewed in time. One that the same listener uses twice is listed once.

import type { Config } from "../config/schema.ts";
import type { Expiring } from "./findings.ts";

/** One of them, in the words of the status. */
export interface ServedCertificate
  extends Pick<Expiring, "role" | "file" | "subject" | "names" | "notBeforeMs" | "notAfterMs"> {
  /** `listener edge`, `backend db`, `admin`, `telemetry`. */
  readonly usedBy: string;
}

/** What was found at a place of the config. */
export interface ExpiringAt {
  /** `listeners` and an index, `backends` and a name, `admin`, or `telemetry`. */
  readonly section: string | number | undefined;
  readonly entry: string | number | undefined;
  readonly expiring: Expiring;
}

/** For each listener or backend, at most so many CAs and CRLs are kept, those that expire first: a bundle may hold hundreds. */
const MOST_FOR_EACH = 10;

/** All of them, those of one user together. Of several of one name in one file, the one that lasts longest: it is there to replace the others. */
export function servedCertificates(found: readonly ExpiringAt[], { listeners }: Config): readonly ServedCertificate[] {
  const users = new Map<string, Map<string, ServedCertificate>>();
  for (const { section, entry, expiring } of found) {
    const user = section === "listeners" ? `listener ${listeners[Number(entry)]?.name}` : `backend ${entry}`;
    const usedBy = section === "admin" || section === "telemetry" ? section : user;
    const { role, file, subject, names, notBeforeMs, notAfterMs } = expiring;
    const ofUser = users.get(usedBy) ?? new Map<string, ServedCertificate>();
    users.set(usedBy, ofUser);
    const key = JSON.stringify([role, file, subject]);
    if ((ofUser.get(key)?.notAfterMs ?? 0) < notAfterMs)
      ofUser.set(key, { usedBy, role, file, subject, names, notBeforeMs, notAfterMs });
  }
  return [...users.values()].flatMap((ofUser) => {
    const all = [...ofUser.values()];
    const shown = all.filter(({ role }) => role === "certificate" || role === "intermediate");
    const trusted = all.filter((each) => !shown.includes(each)).sort((a, b) => a.notAfterMs - b.notAfterMs);
    return [...shown, ...trusted.slice(0, MOST_FOR_EACH)];
  });
}
