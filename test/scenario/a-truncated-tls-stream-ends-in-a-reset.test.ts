// A TLS stream that stops without close_notify may have been cut by somebody on the path, so the endpoint must not take it for complete: it gets
// the bytes that came and then a reset. A stream that ends with close_notify ends in order.

import { expect, test } from "bun:test";
import { testPki } from "../support/certificates.ts";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { opensslClient } from "../support/openssl.ts";
import { missingPrograms } from "../support/programs.ts";
import { hold, startEndpoint } from "../support/tcp.ts";

const missing = missingPrograms("openssl");

for (const version of ["-tls1_2", "-tls1_3"]) {
  test.skipIf(missing !== "")(`openssl s_client ${version} is killed, or ends in order ${missing}`.trim(), async () => {
    const pki = await testPki();
    await using endpoint = await startEndpoint(hold);
    await using daemon = await startDaemon(`
listeners:
  - name: tls
    address: 127.0.0.1:0
    tls: { certificates: [{ cert: ${pki.server.certificatePath}, key: ${pki.server.keyPath} }], client_auth: none }
    routes: [{ name: all, tls: terminate, backend: hold }]
backends: { hold: { endpoints: ["${endpoint.address}"] } }
`);
    const to = await daemon.address("tls");
    for (const [index, killed] of [true, false].entries()) {
      await using client = opensslClient({ to, ca: pki.authority.certificatePath, extra: [version] });
      client.write("pay 100 to Alice");
      const server = await endpoint.nth(index);
      await eventually("it arrived", () => server.text === "pay 100 to Alice");
      if (killed) client.signal("SIGKILL");
      else client.endInput();
      await eventually("the endpoint was told", () => server.ended || server.closed);
      expect([server.ended, server.errorCode]).toEqual(killed ? [false, "ECONNRESET"] : [true, ""]);
      server.socket.end();
      const record = (await daemon.recorded(index + 1))[index];
      expect(record?.close_reason).toBe(killed ? "downstream_truncated" : "completed");
      expect(record?.bytes_up).toBe(16);
    }
  });
}
