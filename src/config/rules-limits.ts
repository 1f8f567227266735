// Rules that concern several of the fields for rates and bandwidth.

import type { Path } from "./problems.ts";
import type { Report } from "./report.ts";
import type { BackendConfig, ListenerConfig } from "./schema.ts";

/** A source that may do more than all together; sources where there are none. */
export function checkConnectionRates(report: Report, path: Path, listener: ListenerConfig): void {
  const { max_connections_per_second: all, max_connections_per_second_per_source: each } = listener;
  const field: Path = [...path, "max_connections_per_second_per_source"];
  if (each === 0) return;
  if (listener.address.kind === "unix" && !listener.accept_proxy_protocol)
    report.error(field, "a unix socket has no source address; use `max_connections_per_second`");
  else if (all > 0 && each > all)
    report.error(field, `has no effect: ${each} is more than \`max_connections_per_second\`, ${all}`, [
      ...path,
      "max_connections_per_second",
    ]);
}

/** A connection that may do more than all together. */
export function checkBandwidth(report: Report, backendName: string, backend: BackendConfig): void {
  const { max_bandwidth: each, max_backend_bandwidth: all } = backend;
  const path: Path = ["backends", backendName];
  if (all > 0 && each > all)
    report.error([...path, "max_bandwidth"], "has no effect: it is more than `max_backend_bandwidth`", [
      ...path,
      "max_backend_bandwidth",
    ]);
}
