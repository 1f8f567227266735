// What a platform may have to refuse: options of the config that not every one can honour.

/** An option of the config that not every platform can honour. */
export type RefusableOption =
  | "workers"
  | "user"
  | "pid_file"
  | "systemd"
  | "session_tickets"
  | "admin.tls"
  | "telemetry.otlp";

/** What a platform cannot do. */
export interface Refusal {
  readonly option: RefusableOption;
  /** For who wrote the option: why not, and what to write instead. */
  readonly reason: string;
}
