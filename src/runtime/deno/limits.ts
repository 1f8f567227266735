// What Deno cannot do, as data: what a config may not ask for, what README.md says, and which lines of the conformance suite are left out. A test holds the
// three together.

import type { Refusal } from "../refusals.ts";

/** One thing that Deno cannot do. */
export interface Limit {
  /** Markdown, for the table in README.md. */
  readonly what: string;
  readonly instead: string;
  /** The option of the config that is refused, and what its writer is told. */
  readonly refusal?: Refusal;
  /** Lines of the conformance suite that need it: names of tests, or the beginnings of several. */
  readonly lines?: readonly string[];
}

/** All of it. */
export const LIMITS: readonly Limit[] = [
  {
    what: "`workers` of 2 or more",
    instead: "Refused: descriptors and memory cannot be shared between processes. `auto`, 0 and 1 are one process.",
    refusal: {
      option: "workers",
      reason: "Deno cannot share listening sockets and memory between processes: write workers: auto",
    },
  },
  {
    what: "Upgrade without downtime (SIGUSR2), a successor at the same address",
    instead: "The log says that it is not possible, and the program keeps serving.",
    lines: [
      "a port that is served is EADDRINUSE, but for a successor",
      "a socket file that is answered is EADDRINUSE, but for a successor",
    ],
  },
  {
    what: "`user`",
    instead: "Refused: start it as that user.",
    refusal: { option: "user", reason: "Deno cannot go on as another user: start it as that user" },
  },
  {
    what: "`pid_file`",
    instead: "Refused: there is no way to find out whether another daemon holds it.",
    refusal: { option: "pid_file", reason: "on Deno it cannot be told whether another daemon holds the file" },
  },
  {
    what: "`address: systemd:NAME`, notifying systemd",
    instead: "The address is refused: descriptors cannot be adopted. `Type=exec` is the type of its unit.",
    refusal: { option: "systemd", reason: "Deno cannot adopt descriptors: write the address itself" },
  },
  {
    what: "`session_tickets: true`",
    instead:
      "Refused. Clients may resume sessions for a while even without it; each is verified again, with validity dates and CRLs.",
    refusal: { option: "session_tickets", reason: "Deno's TLS library cannot give out tickets: leave it off" },
    lines: [
      "off: openssl cannot resume",
      "off: a client has no session to resume, or is not resumed",
      "on: resumed, and the certificate is still there",
      "a new context makes old sessions void",
      "a session from where no certificate is asked for opens no door",
      "a client that was refused gets no session that lets it in later",
      "a client whose certificate has expired since is not let in",
      "a session does not outlive the CRL",
      "an anonymous session where a certificate is optional resumes as anonymous",
    ],
  },
  {
    what: "`admin.tls`",
    instead: "Refused: Deno's server cannot ask clients for a certificate. Use loopback or a unix socket.",
    refusal: { option: "admin.tls", reason: "Deno's HTTP server cannot ask clients for a certificate" },
    lines: [
      "only who shows a certificate that is vouched for is answered",
      "no session can be resumed",
      "versions before 1.2, and plain HTTP, are not answered",
      "material that would serve in another way than it reads is refused",
      "a fetch sends nothing to a server with another certificate",
    ],
  },
  {
    what: "Closing admin API clients that are idle or do not read their answers",
    instead: "They stay connected. The admin API is for this host only, as there is no `admin.tls`.",
    lines: ["whoever was answered and asks nothing more is cut"],
  },
  {
    what: "`telemetry.otlp`",
    instead: "Refused: which CAs its TLS client trusts cannot be configured there.",
    refusal: { option: "telemetry.otlp", reason: "on Deno it cannot be said whom the exporter trusts" },
  },
  {
    what: "Replacing the socket file that a killed program has left",
    instead: "EADDRINUSE: remove it. There is no synchronous way to find out whether it is still in use.",
    lines: ["a stale file is replaced", "a socket file that a dead program left is replaced"],
  },
  {
    what: "Binding all addresses of a port beside one of them, on a reload",
    instead: "EADDRINUSE; the reload is refused, and the old config stays in force.",
    lines: ["all addresses and one of them on the same port"],
  },
  {
    what: "Certificates signed with SHA-1 or SHA-224, RSA keys of less than 2048 bits, CAs on P-521, version 1 certificates, critical policies, more than six in a chain, constraints on directory names",
    instead: "Refused, as Deno's library or our verification does not read them.",
  },
  {
    what: "An alert for a client that shows no certificate, or one that does not verify",
    instead: "It is reset. Its handshake has ended by then, as with TLS 1.3 everywhere; the access log has the reason.",
    lines: ["openssl without a certificate, "],
  },
  {
    what: "Reading the descriptor limit",
    instead: "1,024 are assumed, also for `max_connections: 0`: Deno allows reading it only with all permissions.",
  },
  {
    what: "Keeping new connections in the accept queue at `max_connections`",
    instead: "Up to 4,096 are accepted and wait unread; more are reset. A drain refuses new connections at once.",
  },
  {
    what: "Resetting open connections when the process is killed",
    instead:
      "They end with a FIN. When the process exits by itself, also after a drain timeout, they are reset as on Bun.",
  },
  {
    what: "Noticing a reset that arrives behind more than 64 KiB for a slow peer",
    instead: "It is noticed once these bytes have been relayed.",
  },
  {
    what: "The kernel's TCP state of a connection (`socketState`), and unacknowledged bytes",
    instead: "Not shown; only bytes that the kernel has not accepted count as unsent.",
  },
];

/** What a config may not ask for. */
export const refusals: readonly Refusal[] = LIMITS.flatMap(({ refusal }) => refusal ?? []);
