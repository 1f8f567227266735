// Behind HAProxy, `send-proxy` and `send-proxy-v2` tell bunnel who the client is: the log, allow_sources, routes and the limit for each source go
// by that address, the bytes after the header arrive untouched, TLS included, and only trusted_sources are believed.

import { expect, test } from "bun:test";
import { testPki } from "../support/certificates.ts";
import { run } from "../support/child.ts";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { missingPrograms } from "../support/programs.ts";
import { startHaproxy, startNginx } from "../support/servers.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";

const missing = missingPrograms("haproxy", "nginx", "curl");

test.skipIf(missing !== "").each(["send-proxy", "send-proxy-v2"])(`HAProxy's %s ${missing}`.trim(), async (option) => {
  const pki = await testPki();
  await using nginx = await startNginx(`server { listen 127.0.0.1:PORT; location / { return 200 "served\\n"; } }`);
  await using daemon = await startDaemon(`
listeners:
  - name: behind-lb
    address: 127.0.0.1:0
    accept_proxy_protocol: true
    trusted_sources: [127.0.0.1]
    allow_sources: [127.0.0.8/29]
    max_connections_per_source: 1
    tls:
      certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }]
      client_ca: [${pki.authority.certificatePath}]
    routes:
      - { name: nine, match: { source: [127.0.0.9] }, tls: none, backend: web }
      - { name: secure, tls: terminate, policy: local, backend: web }
policies: { local: { rules: [{ action: allow, source: [127.0.0.10], uri: ["spiffe://bunnel.test/client"] }] } }
backends: { web: { endpoints: ["${nginx.address}"] } }
`);
  const to = await daemon.address("behind-lb");
  await using haproxy = await startHaproxy(`listen lb
  bind 127.0.0.1:PORT
  server bunnel ${to} ${option}`);
  const curl = (from: string, ...args: string[]): ReturnType<typeof run> =>
    run(["curl", "--silent", "--max-time", "4", "--interface", from, ...args]);
  const secure = [
    ...["--cacert", pki.authority.certificatePath, "--cert", pki.client.certificatePath],
    ...["--key", pki.client.keyPath, `https://localhost:${haproxy.port}/`],
  ];

  expect((await curl("127.0.0.9", `http://${haproxy.address}/`)).stdout).toBe("served\n");
  expect((await curl("127.0.0.10", ...secure)).stdout).toBe("served\n");
  expect((await curl("127.0.0.11", ...secure)).exitCode).not.toBe(0);
  expect((await curl("127.0.0.2", `http://${haproxy.address}/`)).exitCode).not.toBe(0);

  // The helper that waited for HAProxy to listen came from 127.0.0.1, or was gone before it was accepted, and is left out.
  const fromClients = (): typeof daemon.records =>
    daemon.records.filter(
      ({ downstream, detail }) => !downstream.startsWith("127.0.0.1:") && detail !== "before it was accepted",
    );
  await eventually("all four have their record", () => fromClients().length === 4);
  const seen = fromClients().map((line) => [line.downstream.split(":")[0], line.route, line.close_reason]);
  expect(seen).toEqual([
    ["127.0.0.9", "nine", "completed"],
    ["127.0.0.10", "secure", "completed"],
    ["127.0.0.11", "secure", "policy_denied"],
    ["127.0.0.2", undefined, "source_denied"],
  ]);
  expect(fromClients().every((line) => line.downstream_direct?.startsWith("127.0.0.1:"))).toBe(true);
});

test("the header is believed from trusted sources only, and must be there", async () => {
  await using endpoint = await startEndpoint();
  await using daemon = await startDaemon(`
listeners:
  - name: behind-lb
    address: 127.0.0.1:0
    accept_proxy_protocol: true
    trusted_sources: [127.0.0.1]
    peek_timeout: 200ms
    backend: echo
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`);
  const address = await daemon.address("behind-lb");
  const header = "PROXY TCP4 192.0.2.7 192.0.2.8 4711 443\r\n";
  const attempts = [
    ["127.0.0.2", header],
    ["127.0.0.1", "hello, no header here\r\n"],
    ["127.0.0.1", `${header.slice(0, 20)}`],
    ["127.0.0.1", `${header}payload`],
  ] as const;
  for (const [index, [from, bytes]] of attempts.entries()) {
    const peer = await connectTo(address, from);
    peer.socket.write(bytes);
    if (index === 3) await eventually("the payload came back alone", () => peer.text === "payload");
    peer.socket.end();
    await daemon.recorded(index + 1);
  }
  expect(daemon.records.map(({ downstream, close_reason }) => [downstream, close_reason])).toEqual([
    [expect.stringMatching(/^127\.0\.0\.2:/), "source_denied"],
    [expect.stringMatching(/^127\.0\.0\.1:/), "malformed_header"],
    [expect.stringMatching(/^127\.0\.0\.1:/), "downstream_left"],
    ["192.0.2.7:4711", "completed"],
  ]);
});
