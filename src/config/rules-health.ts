// The rules about probes: that what a backend's `health` says can be done, and that none of it would be without effect.

import { formatAddress } from "../base/address.ts";
import { formatDuration } from "../base/units.ts";
import type { Path } from "./problems.ts";
import type { Report } from "./report.ts";
import type { BackendConfig } from "./schema.ts";

/** What must hold between the fields of a backend's `health`, and with the rest of it. */
export function checkHealth(report: Report, backendName: string, backend: BackendConfig): void {
  const path: Path = ["backends", backendName];
  const { health } = backend;
  if (health === undefined) {
    if (backend.on_down === "close")
      report.error([...path, "on_down"], "has no effect without `health`: nothing would say that an endpoint is down");
    return;
  }
  const healthPath: Path = [...path, "health"];
  const error = (field: keyof typeof health, message: string): void =>
    report.error([...healthPath, field], message, path);
  if (health.timeout !== undefined && health.timeout > health.interval)
    error(
      "timeout",
      `${formatDuration(health.timeout)} is longer than \`interval\` (${formatDuration(health.interval)}): a probe would still be under way when the next one is due`,
    );
  if (health.type === "tls" && backend.tls === undefined)
    error("type", "`tls` needs the backend's `tls`, which says who the endpoints have to be");
  if (health.type === "http") {
    for (const field of ["send", "expect"] as const)
      if (health[field] !== undefined)
        error(field, "is for `type: tcp` and `tls`; what is asked by HTTP is said in `http`");
  } else {
    if (health.http !== undefined) error("http", `has no effect with \`type: ${health.type}\`; write \`type: http\``);
    if (health.send !== undefined && health.expect === undefined)
      error("send", "needs `expect`: else nothing is made of the answer");
  }
  if (health.port === undefined) return;
  for (const [index, { address }] of backend.endpoints.entries()) {
    if (address.kind !== "unix") continue;
    report.error(
      [...path, "endpoints", index],
      `${formatAddress(address)} has no port, and \`health.port\` would be another one of it`,
      [...healthPath, "port"],
    );
  }
}
