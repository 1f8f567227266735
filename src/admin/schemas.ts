// The names of what the admin API answers.

/** By which routes refer to them. */
export type SchemaName =
  | "Health"
  | "Readiness"
  | "Status"
  | "Snapshot"
  | "Reloaded"
  | "Draining"
  | "Connections"
  | "ConnectionDetail"
  | "Closed"
  | "Closes"
  | "Peers";
