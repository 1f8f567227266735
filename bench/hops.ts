// Of how many processes a contender is made for a workload, and what each of them listens for: one that does everything,
// one that speaks mTLS to its endpoints, or two in a row as on two hosts, of which the first speaks mTLS to the second.
import type { BackendPorts } from "./backends.ts";
import type { BenchListener } from "./contenders.ts";

/** How a contender is set up for a workload. */
export type Topology = "one" | "originate" | "two-hop";

/** As many free ports as `layOut` ever asks for. */
export const PORTS_AT_MOST = 4;

/**
 * The one suite of the mTLS between two daemons. It is the one that two ends on BoringSSL agree on, where the TLS 1.3 suites
 * cannot be chosen; the others are told to use it too. A test keeps that true.
 */
export const TWO_HOP_SUITE = "TLS_AES_128_GCM_SHA256";

/** The listeners of each process, the process that the load connects to first. `free` holds `PORTS_AT_MOST` free ports. */
export function layOut(
  topology: Topology,
  ports: BackendPorts,
  free: readonly number[],
): readonly (readonly BenchListener[])[] {
  const [first = 0, second = 0, third = 0, fourth = 0] = free;
  if (topology === "originate") return [[{ name: "originate", port: first, endpoints: ports.https, originates: true }]];
  if (topology === "two-hop") {
    return [
      [{ name: "two-hop", port: first, endpoints: [second], originates: true }],
      [{ name: "two-hop", port: second, endpoints: [ports.iperf], terminates: { suite: TWO_HOP_SUITE } }],
    ];
  }
  return [
    [
      { name: "http", port: first, endpoints: ports.http },
      { name: "iperf", port: second, endpoints: [ports.iperf] },
      { name: "ping", port: third, endpoints: [ports.ping] },
      { name: "mtls", port: fourth, endpoints: ports.http, terminates: {} },
    ],
  ];
}
