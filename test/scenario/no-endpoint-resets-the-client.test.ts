// A client that cannot be served is reset, not ended in order: an empty answer and no answer are different things. So it is when all endpoints
// refuse, when none answers and when all are full; and TLS clients get no close_notify that would make it look like an end.

import { expect, test } from "bun:test";
import tls from "node:tls";
import { testPki } from "../support/certificates.ts";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { unusedPort } from "../support/servers.ts";
import { connectTo, hold, startEndpoint, startUnansweringEndpoint } from "../support/tcp.ts";

test("refused, unanswered or full: a RST", async () => {
  const pki = await testPki();
  await using unanswering = await startUnansweringEndpoint();
  await using holding = await startEndpoint(hold);
  await using daemon = await startDaemon(`
listeners:
  - { name: refused, address: 127.0.0.1:0, backend: refused }
  - { name: unanswered, address: 127.0.0.1:0, backend: unanswered }
  - { name: full, address: 127.0.0.1:0, backend: full }
  - name: secured
    address: 127.0.0.1:0
    tls: { certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }], client_auth: none }
    routes: [{ name: all, tls: terminate, backend: refused }]
backends:
  refused: { endpoints: ["127.0.0.1:${await unusedPort()}", "127.0.0.1:${await unusedPort()}"] }
  unanswered: { connect_timeout: 100ms, endpoints: ["${unanswering.address}"] }
  full: { endpoints: [{ address: "${holding.address}", max_connections: 1 }] }
`);
  const occupant = await connectTo(await daemon.address("full"));
  await holding.nth(0);
  for (const listener of ["refused", "unanswered", "full"]) {
    const client = await connectTo(await daemon.address(listener));
    await eventually(`${listener} was closed`, () => client.closed);
    expect([listener, client.errorCode, client.ended]).toEqual([listener, "ECONNRESET", false]);
  }
  expect(occupant.closed).toBe(false);

  const client = tls.connect({
    port: await daemon.port("secured"),
    host: "127.0.0.1",
    servername: "localhost",
    ca: pki.authority.certificatePem,
  });
  const outcome = await new Promise<string>((resolve) => {
    client.on("end", () => resolve("an orderly end"));
    client.on("error", (error: Error & { code?: string }) => resolve(error.code ?? error.message));
  });
  expect(outcome).toBe("ECONNRESET");
  const { attempts, close_reason } = await daemon.record(({ listener }) => listener === "secured");
  // Both, and one of them again.
  expect([attempts, close_reason]).toEqual([3, "connect_refused"]);
});
