// Of how many processes a contender is made for a workload, and what each of them listens for: one that does everything that the
// workload asks for, or two in a row as on two hosts, of which the first speaks mTLS to the second.
import type { BackendPorts } from "./backends.ts";
import { SERVER_NAME } from "./certificates.ts";
import type { BenchListener, ListenerName } from "./contenders/contender.ts";

/** As many free ports as `layOut` ever asks for. */
export const PORTS_AT_MOST = 10;

/**
 * The one suite of the mTLS between two daemons. It is the one that two ends on BoringSSL agree on, where the TLS 1.3 suites
 * cannot be chosen; the others are told to use it too. A test keeps that true.
 */
export const TWO_HOP_SUITE = "TLS_AES_128_GCM_SHA256";

/** Every listener that one process can have. */
export const EVERY_LISTENER: readonly ListenerName[] = [
  "http",
  "iperf",
  "ping",
  "redis",
  "postgres",
  "mtls",
  "mtls-tickets",
  "originate",
  "sni",
];

/** The listeners of each process, the process that the load connects to first. `free` holds `PORTS_AT_MOST` free ports. */
export function layOut(
  names: readonly ListenerName[],
  ports: BackendPorts,
  free: readonly number[],
): readonly (readonly BenchListener[])[] {
  const [first = 0, second = 0] = free;
  if (names.includes("two-hop")) {
    return [
      [{ name: "two-hop", port: first, endpoints: [second], originates: true }],
      [{ name: "two-hop", port: second, endpoints: [ports.iperf], terminates: { suite: TWO_HOP_SUITE } }],
    ];
  }
  return [names.map((name, index) => ({ name, port: free[index] ?? 0, ...kindOf(name, ports) }))];
}

function kindOf(name: ListenerName, ports: BackendPorts): Omit<BenchListener, "name" | "port"> {
  if (name === "mtls") return { endpoints: ports.http, terminates: {} };
  if (name === "mtls-tickets") return { endpoints: ports.http, terminates: { tickets: true } };
  if (name === "originate") return { endpoints: ports.https, originates: true };
  if (name === "sni") return { endpoints: ports.https, sni: SERVER_NAME };
  if (name === "http") return { endpoints: ports.http };
  if (name === "two-hop") return { endpoints: [ports.iperf] };
  return { endpoints: [ports[name]] };
}
