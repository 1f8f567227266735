// What the counters say, in the words of the status.

import {
  BACKEND_METERS,
  BYTES_METERS,
  type BytesBlock,
  LISTENER_METERS,
  type Meters,
  POLICY_METERS,
} from "../snapshot/meters.ts";
import type { BackendSpec, ListenerSpec, PolicySpec } from "../snapshot/snapshot.ts";
import type { BackendStatus, CertificateStatus, ListenerStatus, PolicyStatus } from "../snapshot/status.ts";
import { CLOSE_REASON_NAMES, HANDSHAKE_RESULTS } from "../telemetry/outcomes.ts";
import { DAY_MS, renewalOf } from "./renewal.ts";
import type { ServedCertificate } from "./served-certificates.ts";

type Bytes = Pick<ListenerStatus, "bytes_up" | "bytes_down">;
const NO_BYTES: Bytes = { bytes_up: 0, bytes_down: 0 };

/** Bytes of listeners and of backends, by their names. */
export interface ByteSums {
  readonly listeners: ReadonlyMap<string, Bytes>;
  readonly backends: ReadonlyMap<string, Bytes>;
}

/** What has moved, also by routes that are no more: a listener or a backend that stays has not moved less by that. */
export function byteSums(meters: Meters, blocks: readonly BytesBlock[]): ByteSums {
  const [listeners, backends] = [new Map<string, Bytes>(), new Map<string, Bytes>()];
  for (const { listener, backend, place } of blocks) {
    const up = meters.read(place + BYTES_METERS.up);
    const down = meters.read(place + BYTES_METERS.down);
    for (const [sums, name] of [[listeners, listener] as const, [backends, backend] as const]) {
      const { bytes_up, bytes_down } = sums.get(name) ?? NO_BYTES;
      sums.set(name, { bytes_up: bytes_up + up, bytes_down: bytes_down + down });
    }
  }
  return { listeners, backends };
}

/** Ends, handshakes and bytes of a listener. */
export function listenerMeters(
  meters: Meters,
  { name, meter, routes }: ListenerSpec,
  { listeners }: ByteSums,
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
  return { closed, handshakes, ...(listeners.get(name) ?? NO_BYTES) };
}

/** Whether there are handshakes with its clients. */
export function terminates(routes: ListenerSpec["routes"]): boolean {
  return routes.some(({ termination }) => termination !== null);
}

/** Bytes of a backend, and those for whom it had no endpoint. */
export function backendMeters(
  meters: Meters,
  { name, meter }: BackendSpec,
  { backends }: ByteSums,
): Bytes & Pick<BackendStatus, "no_endpoint_total"> {
  return { no_endpoint_total: meters.read(meter + BACKEND_METERS.noEndpoint), ...(backends.get(name) ?? NO_BYTES) };
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
export function certificateStatus(certificate: ServedCertificate, nowMs: number): CertificateStatus {
  const { usedBy, role, file, subject, names, notBeforeMs, notAfterMs } = certificate;
  return {
    used_by: usedBy,
    role,
    file,
    subject,
    names,
    not_before: new Date(notBeforeMs).toISOString(),
    not_after: new Date(notAfterMs).toISOString(),
    days_left: Math.floor(((notAfterMs - nowMs) / DAY_MS) * 10) / 10,
    renewal: renewalOf(certificate, nowMs),
  };
}
