// Spans go to a collector over https only if an authority that the config names vouches for it, whatever the environment says, and ours is shown to it. The files are followed as all others
// are: a collector that was not believed is, once its authority's file is the right one. Without these fields the public authorities are asked.

import { expect, test } from "bun:test";
import { chmodSync, copyFileSync, cpSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { testPki } from "../support/certificates.ts";
import { Child } from "../support/child.ts";
import { Collector } from "../support/collector.ts";
import { Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { endInOrder, startEndpoint, talking } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const isRoot = process.getuid?.() === 0;
const PROJECT = join(import.meta.dir, "../..");
/** What turns off every check of certificates that says nothing of it. */
const env = { NODE_TLS_REJECT_UNAUTHORIZED: "0" };

const configOf = (url: string, endpoint: string, more: string, top = ""): string => `
drain_timeout: 1s
telemetry: { otlp: { endpoint: "${url}"${more} } }
listeners: [{ name: in, address: 127.0.0.1:0, backend: web }]
backends: { web: { endpoints: ["${endpoint}"] } }
${top}
`;

for (const workers of [0, 1]) {
  test(`workers: ${workers}: by the authority in \`ca\`, which is followed, and it is shown \`cert\``, async () => {
    const { server, authority, otherAuthority, client } = await testPki();
    await using collector = await Collector.start(0, {
      cert: server.certificatePem,
      key: server.keyPem,
      ca: authority.certificatePem,
    });
    await using endpoint = await startEndpoint();
    const ca = join(temporaryDirectory("bunnel-collector-"), "ca.pem");
    copyFileSync(otherAuthority.certificatePath, ca);
    const tls = `, tls: { ca: ["${ca}"], cert: "${client.certificatePath}", key: "${client.keyPath}" }`;
    const config = configOf(collector.url, endpoint.address, tls, `workers: ${workers}`);
    await using daemon = await startDaemon(config, { env });
    const serve = async (): Promise<void> => endInOrder(await talking(await daemon.address("in")));
    const said = (part: string): boolean => JSON.stringify(daemon.log).includes(part);
    await serve();
    await eventually("it is not believed", () => said("they do not reach the collector"));
    expect(daemon.child.stderr).toMatch(/certificate/);
    expect(collector.paths).toEqual([]);
    copyFileSync(authority.certificatePath, `${ca}.new`);
    renameSync(`${ca}.new`, ca);
    await eventually("the file was followed", () => said("certificates replaced"));
    await serve();
    await eventually("its span came", () => collector.spans.length > 0);
  });
}

test("by the public authorities where none is named: a private one is not believed", async () => {
  const { server } = await testPki();
  await using collector = await Collector.start(0, { cert: server.certificatePem, key: server.keyPem });
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(configOf(collector.url, endpoint.address, ""), { env });
  await eventually("it is not believed, which is told before there is a span", () =>
    daemon.log.some(({ msg }) => String(msg).includes("they do not reach the collector")),
  );
  expect(collector.paths).toEqual([]);
});

for (const workers of [0, 1])
  test.skipIf(!isRoot)(`workers: ${workers}: spans come from a \`user\` who may not read the program`, async () => {
    await using collector = await Collector.start();
    await using endpoint = await startEndpoint();
    const directory = temporaryDirectory("bunnel-unreadable-");
    for (const name of ["src", "package.json", "tsconfig.json"])
      cpSync(join(PROJECT, name), join(directory, name), { recursive: true });
    symlinkSync(join(PROJECT, "node_modules"), join(directory, "node_modules"));
    chmodSync(directory, 0o700);
    const path = join(directory, "bunnel.yaml");
    const top = `user: nobody\nworkers: ${workers}\nadmin: { address: off }\naccess_log: { output: off }`;
    writeFileSync(path, configOf(collector.url, endpoint.address, "", top));
    const child = new Child([process.execPath, join(directory, "src/main.ts"), "run", "-c", path]);
    await using daemon = await new Daemon(directory, child).started();
    await endInOrder(await talking(await daemon.address("in")));
    await eventually(
      () => `its span came: ${child.story}`,
      () => collector.spans.length > 0,
    );
  });
