// What the counters say, in the words of the status.

import { BACKEND_METERS, BYTES_METERS, LISTENER_METERS, type Meters, POLICY_METERS } from "../snapshot/meters.ts";
import type { BackendSpec, ListenerSpec, PolicySpec, Snapshot } from "../snapshot/snapshot.ts";
import type { BackendStatus, CertificateStatus, ListenerStatus, PolicyStatus } from "../snapshot/status.ts";
import { CLOSE_REASON_NAMES, HANDSHAKE_RESULTS } from "../telemetry/outcomes.ts";
import type { ServedCertificate } from "./served-certificates.ts";

const DAY_MS = 86_400_000;

type Bytes = Pick<ListenerStatus, "bytes_up" | "bytes_down">;

/** Ends, handshakes and bytes of a listener. */
export function listenerMeters(
  meters: Meters,
  { meter, routes }: ListenerSpec,
): Bytes & Pick<ListenerStatus, "closed" | "handshakes"> {
  const closed: Record<string, number> = {};
  for (const [place, reason] of CLOSE_REASON_NAMES.entries()) {
    const count = meters.read(meter + LISTENER_METERS.closed + place);
    if (count > 0) closed[reason] = count;
  }
  const handshakes: Record<string, number> = {};
  if (terminates(routes))
    for (const [place, result] of HANDSHAKE_RESULTS.entries())
      handshakes[result] = meters.read(meter + LISTENER_METERS.handshakes + place);
  return { closed, handshakes, ...bytes(meters, new Set(routes.map(({ bytesMeter }) => bytesMeter))) };
}

/** Whether there are handshakes with its clients. */
export function terminates(routes: ListenerSpec["routes"]): boolean {
  return routes.some(({ termination }) => termination !== null);
}

/** The blocks for bytes that lead to each backend, by its index. */
export function bytesMetersOf({ listeners, backends }: Snapshot): readonly ReadonlySet<number>[] {
  const found = backends.map(() => new Set<number>());
  for (const { routes } of listeners) for (const { backend, bytesMeter } of routes) found[backend]?.add(bytesMeter);
  return found;
}

/** Bytes of a backend, and those for whom it had no endpoint. */
export function backendMeters(
  meters: Meters,
  { meter }: BackendSpec,
  bytesMeters: ReadonlySet<number>,
): Bytes & Pick<BackendStatus, "no_endpoint_total"> {
  return { no_endpoint_total: meters.read(meter + BACKEND_METERS.noEndpoint), ...bytes(meters, bytesMeters) };
}

/** What policies have decided. */
export function policyStatus(meters: Meters, { name, mode, meter }: PolicySpec): PolicyStatus {
  return {
    policy: name,
    mode,
    allowed_total: meters.read(meter + POLICY_METERS.allow),
    denied_total: meters.read(meter + POLICY_METERS.deny),
    shadow_denied_total: meters.read(meter + POLICY_METERS.shadow_deny),
  };
}

/** What ends when, as of a moment in ms since 1970. */
export function certificateStatus(
  { usedBy, role, file, subject, names, notBeforeMs, notAfterMs }: ServedCertificate,
  nowMs: number,
): CertificateStatus {
  return {
    used_by: usedBy,
    role,
    file,
    subject,
    names,
    not_before: new Date(notBeforeMs).toISOString(),
    not_after: new Date(notAfterMs).toISOString(),
    days_left: Math.floor(((notAfterMs - nowMs) / DAY_MS) * 10) / 10,
  };
}

function bytes(meters: Meters, blocks: ReadonlySet<number>): Bytes {
  let up = 0;
  let down = 0;
  for (const block of blocks) {
    up += meters.read(block + BYTES_METERS.up);
    down += meters.read(block + BYTES_METERS.down);
  }
  return { bytes_up: up, bytes_down: down };
}
