// One port serves TLS that ends here, TLS that goes through with the endpoint's own certificate, and bytes that are no TLS: each client gets
// what its first bytes ask for, and the record names the route.

import { expect, test } from "bun:test";
import { testPki } from "../support/certificates.ts";
import { run } from "../support/child.ts";
import { startDaemon } from "../support/daemon.ts";
import { clientCommand } from "../support/openssl.ts";
import { missingPrograms } from "../support/programs.ts";
import { startNginx } from "../support/servers.ts";

const missing = missingPrograms("curl", "nginx", "openssl");

test.skipIf(missing !== "")(`curl gets all three from one port ${missing}`.trim(), async () => {
  const pki = await testPki();
  await using plain = await startNginx(`server { listen 127.0.0.1:PORT; location / { return 200 "plain\\n"; } }`);
  await using secure = await startNginx(`server {
    listen 127.0.0.1:PORT ssl;
    ssl_certificate ${pki.databaseServer.certificatePath};
    ssl_certificate_key ${pki.databaseServer.keyPath};
    location / { return 200 "tls of nginx\\n"; }
  }`);
  await using daemon = await startDaemon(`
listeners:
  - name: mixed
    address: 127.0.0.1:0
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
    routes:
      - { name: ends-here, match: { sni: [localhost] }, tls: terminate, policy: any, backend: plain }
      - { name: goes-through, match: { sni: ["*.db.test"] }, tls: passthrough, backend: secure }
      - { name: opaque, tls: none, backend: plain }
backends:
  plain: { endpoints: ["${plain.address}"] }
  secure: { endpoints: ["${secure.address}"] }
`);
  const to = await daemon.address("mixed");
  const port = await daemon.port("mixed");
  const ca = pki.authority.certificatePath;
  const certificate = ["--cert", pki.client.certificatePath, "--key", pki.client.keyPath];
  const curl = (...args: string[]): ReturnType<typeof run> =>
    run(["curl", "--silent", "--show-error", "--max-time", "4", "--cacert", ca, ...args]);

  expect((await curl(...certificate, `https://localhost:${port}/`)).stdout).toBe("plain\n");
  expect((await curl("--connect-to", `::${to}`, "https://one.db.test/")).stdout).toBe("tls of nginx\n");
  expect((await curl(`http://${to}/`)).stdout).toBe("plain\n");

  // Which certificate a client sees tells where its TLS ends.
  const presentedTo = async (sni: string): Promise<string> => {
    const { stdout } = await run(clientCommand({ to, ca, sni, certificate: pki.client }));
    return /-----BEGIN CERTIFICATE-----[\s\S]*END CERTIFICATE-----\n/.exec(stdout)?.[0] ?? stdout;
  };
  expect(await presentedTo("localhost")).toBe(pki.server.certificatePem);
  expect(await presentedTo("one.db.test")).toBe(pki.databaseServer.certificatePem);

  const records = await daemon.recorded(5);
  const seen = records.map(({ route, sni, tls_version, identity }) => [route, sni, tls_version, identity?.uri[0]]);
  const terminated = ["ends-here", "localhost", "TLSv1.3", "spiffe://bunnel.test/client"];
  const passed = ["goes-through", "one.db.test", undefined, undefined];
  expect(seen).toEqual([terminated, passed, ["opaque", undefined, undefined, undefined], terminated, passed]);
});
