// What a config asks for and the platform cannot do: refused with the option's place, never ignored.

import type { Path } from "../config/problems.ts";
import type { Config } from "../config/schema.ts";
import type { RefusableOption, Refusal } from "../runtime/refusals.ts";

/** The places in a config that these refusals are about. */
export function refusedPlaces(config: Config, refusals: readonly Refusal[]): { path: Path; message: string }[] {
  return refusals.flatMap(({ option, reason }) => placesOf(option, config).map((path) => ({ path, message: reason })));
}

function placesOf(option: RefusableOption, config: Config): Path[] {
  const { workers, user, pid_file: pidFile, admin, telemetry, listeners } = config;
  const all = listeners.map((listener, index) => ({ listener, path: ["listeners", index] as Path }));
  switch (option) {
    case "workers":
      return workers !== "auto" && workers > 1 ? [["workers"]] : [];
    case "user":
      return user === undefined ? [] : [["user"]];
    case "pid_file":
      return pidFile === undefined ? [] : [["pid_file"]];
    case "admin.tls":
      return admin.tls === undefined ? [] : [["admin", "tls"]];
    case "telemetry.otlp":
      return telemetry.otlp === undefined ? [] : [["telemetry", "otlp"]];
    case "systemd":
      return all.flatMap(({ listener, path }) => (listener.address.kind === "systemd" ? [[...path, "address"]] : []));
    case "session_tickets":
      return all.flatMap(({ listener: { tls, routes = [] }, path }) => [
        ...(tls?.session_tickets === true ? [[...path, "tls", "session_tickets"]] : []),
        ...routes.flatMap((route, index) =>
          route.terminate?.session_tickets === true ? [[...path, "routes", index, "terminate", "session_tickets"]] : [],
        ),
      ]);
  }
}
