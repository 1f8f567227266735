// A redis that knows nothing of TLS or passwords is safe behind mTLS: redis-cli with a certificate works, and without one, with a stranger's
// or with one that the policy does not name it is refused before redis sees so much as a connection.

import { expect, test } from "bun:test";
import { testPki } from "../support/certificates.ts";
import { type Outcome, run } from "../support/child.ts";
import { startDaemon } from "../support/daemon.ts";
import { missingPrograms } from "../support/programs.ts";
import { startRedis } from "../support/servers.ts";

const missing = missingPrograms("redis-server", "redis-cli");

test.skipIf(missing !== "")(`redis-cli needs the right certificate ${missing}`.trim(), async () => {
  const pki = await testPki();
  await using redis = await startRedis();
  await using daemon = await startDaemon(`
listeners:
  - name: redis
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
    routes: [{ name: redis, tls: terminate, policy: redis, backend: redis }]
policies:
  redis: { rules: [{ action: allow, uri: ["spiffe://bunnel.test/client"] }] }
backends:
  redis: { endpoints: ["${redis.address}"] }
`);
  const port = await daemon.port("redis");
  const cli = (...args: string[]): Promise<Outcome> =>
    run(["redis-cli", "-h", "127.0.0.1", "--tls", "--cacert", pki.authority.certificatePath, ...args]);
  const withCertificate = (files: typeof pki.client, ...args: string[]): Promise<Outcome> =>
    cli("-p", String(port), "--cert", files.certificatePath, "--key", files.keyPath, ...args);
  const connectionsSeen = async (): Promise<number> => {
    const { stdout } = await run(["redis-cli", "-p", String(redis.port), "INFO", "stats"]);
    return Number(/total_connections_received:(\d+)/.exec(stdout)?.[1]);
  };

  expect((await withCertificate(pki.client, "SET", "colour", "green")).stdout).toBe("OK\n");
  expect((await withCertificate(pki.client, "GET", "colour")).stdout).toBe("green\n");

  const before = await connectionsSeen();
  const refusals = [
    await cli("-p", String(port), "GET", "colour"),
    await withCertificate(pki.wrongAuthority, "GET", "colour"),
    await withCertificate(pki.otherClient, "GET", "colour"),
    // Not even TLS.
    await run(["redis-cli", "-p", String(port), "GET", "colour"]),
  ];
  for (const { exitCode, stdout } of refusals) {
    expect(exitCode).not.toBe(0);
    expect(stdout).not.toContain("green");
  }
  // Asking is a connection too.
  expect(await connectionsSeen()).toBe(before + 1);

  const reasons = (await daemon.recorded(6)).map(({ close_reason }) => close_reason);
  // redis-cli leaves without close_notify, which TLS calls a truncated stream.
  expect(reasons.slice(0, 2)).toEqual(["downstream_truncated", "downstream_truncated"]);
  expect(reasons.slice(2)).toEqual(["certificate_rejected", "certificate_rejected", "policy_denied", "not_tls"]);
});
