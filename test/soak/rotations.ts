// Ten thousand rotations in one process: does memory stay flat, and does every handshake meet the certificate of its moment? Run by hand, with a
// number for other than 10,000: `bun test/soak/rotations.ts 2000`. Prints memory every 1,000, as it is and after a collection, and fails when an identity was not the
// right one. Both the listener's certificate and the one shown to the endpoint alternate; one connection stays open all the time.

import { formatAddress } from "../../src/base/address.ts";
import { OneProcess } from "../../src/cli/one-process.ts";
import { runtime } from "../../src/runtime/bun/bun-runtime.ts";
import type { Snapshot, TerminationSpec } from "../../src/snapshot/snapshot.ts";
import { createAuthority, issueCertificate, type KeyPair } from "../../src/tls-tools/tls-tools.ts";
import { connected, fingerprintOf, shakeHands, startSecureEcho } from "../support/live-clients.ts";
import { backendSpec, endpointSpec, listenerSpec, routeSpec, ruleSpec, snapshotSpec } from "../support/sim-snapshot.ts";

const DAY_MS = 86_400_000;
const HANDSHAKE_EVERY = 50;
const REPORT_EVERY = 1000;
const rotations = Number(process.argv[2] ?? 10_000);

const authority = await createAuthority({ commonName: "soak", lifetimeMs: 2 * DAY_MS });
const issue = (): Promise<KeyPair> =>
  issueCertificate(authority, {
    usage: "both",
    dns: ["localhost"],
    uri: "spiffe://soak.test/host",
    lifetimeMs: DAY_MS,
  });
/** Three, so that every 50th generation is not always the same one. */
const identities = [await issue(), await issue(), await issue()] as const;
const client = await issue();
await using endpoint = await startSecureEcho(await issue(), authority.certificatePem);

function snapshot(generation: number): Snapshot {
  const { certificatePem: chainPem, keyPem } = identities[generation % identities.length] as KeyPair;
  const both = { minVersion: "1.3", alpn: [], trustDomains: [], onExpiry: "keep" } as const;
  const termination: TerminationSpec = {
    ...({
      certificates: [{ chainPem, keyPem, names: ["localhost"] }],
      clientAuth: "required",
      sessionTickets: false,
    } as const),
    ...{ clientCaPem: [authority.certificatePem], clientCrlPem: [], ...both },
  };
  const origination = {
    ...{ chainPem, keyPem, serverCaPem: [authority.certificatePem], serverCrlPem: [], ...both },
    ...{ serverName: "localhost", verifyDns: [], verifyUri: [] },
  };
  const port = Number(endpoint.address.split(":").at(-1));
  const address = { kind: "tcp", host: "127.0.0.1", port } as const;
  return snapshotSpec({
    generation,
    policies: [{ name: "all", mode: "enforce", meter: 92_000, rules: [ruleSpec({ uri: ["spiffe://soak.test/*"] })] }],
    backends: [backendSpec({ endpoints: [endpointSpec(0, { address })], connectTimeoutMs: 5000, origination })],
    listeners: [
      listenerSpec({
        address: { kind: "tcp", host: "127.0.0.1", port: 0 },
        handshakeTimeoutMs: 5000,
        routes: [routeSpec({ tls: "terminate", termination, policy: 0 })],
      }),
    ],
  });
}

const worker = new OneProcess({ runtime, snapshot: snapshot(1), accessLog: null });
const [listener] = worker.listening;
if (listener === undefined) throw new Error("nothing listens");
const target = { to: formatAddress(listener.address), ca: authority.certificatePem, certificate: client };
const staying = await connected(target);
let handshakes = 0;
let mismatched = 0;
const startedMs = performance.now();
for (let rotation = 1; rotation <= rotations; rotation++) {
  const generation = rotation + 1;
  worker.apply(snapshot(generation));
  if (rotation % HANDSHAKE_EVERY === 0) {
    const expected = fingerprintOf(identities[generation % identities.length] as KeyPair);
    const shown = await shakeHands(target);
    handshakes++;
    if (shown !== expected || endpoint.clients.at(-1) !== expected) mismatched++;
    await staying.echo();
  }
  if (rotation % REPORT_EVERY === 0) {
    const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    const before = megabytes(process.memoryUsage.rss());
    Bun.gc(true);
    const { rss, heapUsed } = process.memoryUsage();
    console.log(
      `${rotation} rotations, ${seconds} s: resident ${before}, collected ${megabytes(rss)}, heap ${megabytes(heapUsed)}`,
    );
  }
}
staying.close();
worker.abort();
console.log(`${handshakes} handshakes, ${mismatched} with another certificate than that of their moment`);
process.exit(mismatched === 0 ? 0 : 1);
