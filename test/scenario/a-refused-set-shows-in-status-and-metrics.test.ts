// A set of certificates on the disk that cannot be served: the old one stays, and the log, `bunnel status` and a metric say so, until it is mended.

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Status } from "../../src/snapshot/status.ts";
import { testPki } from "../support/certificates.ts";
import { run } from "../support/child.ts";
import { bunnel, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { temporaryDirectory } from "../support/temporary.ts";

test("a key of another certificate: told in the log, in status and by a metric, until it is mended", async () => {
  const pki = await testPki();
  const directory = temporaryDirectory("bunnel-refused-");
  const admin = join(directory, "admin.sock");
  const install = (certificatePem: string, keyPem: string): void => {
    writeFileSync(join(directory, "edge.key"), keyPem);
    writeFileSync(join(directory, "edge.pem"), certificatePem);
  };
  install(pki.server.certificatePem, pki.server.keyPem);
  await using daemon = await startDaemon(`
admin: { address: "unix:${admin}" }
listeners:
  - name: edge
    address: 127.0.0.1:0
    tls: { certificates: [{ cert: ${directory}/edge.pem, key: ${directory}/edge.key }], client_auth: none }
    routes: [{ name: all, tls: terminate, backend: b }]
backends: { b: { endpoints: ["127.0.0.1:9"] } }
`);
  const config = join(daemon.directory, "bunnel.yaml");
  const status = async (): Promise<Status> =>
    JSON.parse((await run(bunnel("status", "--json", "-c", config))).stdout) as Status;
  const metrics = async (): Promise<string> => await (await fetch("http://bunnel/metrics", { unix: admin })).text();
  expect((await status()).config).toMatchObject({ certificate_problems: [], certificate_sets_refused: 0 });
  expect(await metrics()).toContain("\nbunnel_certificate_files_refused 0\n");

  install(pki.server.certificatePem, pki.client.keyPem);
  const line = await eventually(
    () => `the log tells of it: ${daemon.child.story}`,
    () => daemon.log.find(({ msg }) => msg === "new certificates refused: the old ones are still served"),
  );
  expect(String(line.problem)).toContain("edge.key");
  const { generation, config: told } = await status();
  expect(generation).toBe(1);
  expect(told.certificate_sets_refused).toBe(1);
  expect(told.certificate_problems.join()).toContain("edge.key");
  expect((await run(bunnel("status", "-c", config))).stdout).toContain("edge.key");
  const refused = await metrics();
  expect(refused).toContain("\nbunnel_certificate_files_refused 1\n");
  expect(refused).toContain("\nbunnel_certificate_sets_refused_total 1\n");

  install(pki.server.certificatePem, pki.server.keyPem);
  await eventually(
    () => `it is told to be over: ${daemon.child.story}`,
    async () => (await status()).config.certificate_problems.length === 0,
    15_000,
  );
  const mended = await metrics();
  expect(mended).toContain("\nbunnel_certificate_files_refused 0\n");
  expect(mended).toContain("\nbunnel_certificate_sets_refused_total 1\n");
}, 30_000);
