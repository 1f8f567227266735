// Opaque means opaque: on a listener whose bytes nobody has to see, a server that speaks first is heard before the client has sent anything,
// however long `peek_timeout` is. An opaque route that stands first and is chosen by its source keeps that on a port it shares with TLS.

import { expect, test } from "bun:test";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";

const GREETING = "220 mail.test ESMTP\r\n";

test("a silent client hears the server's greeting", async () => {
  await using server = await startEndpoint(({ socket }) => socket.write(GREETING));
  await using daemon = await startDaemon(`
listeners:
  - { name: opaque, address: 127.0.0.1:0, peek_timeout: 1h, backend: smtp }
  - name: shared
    address: 127.0.0.1:0
    peek_timeout: 1h
    routes:
      - { name: greeted, match: { source: [127.0.0.2] }, tls: none, backend: smtp }
      - { name: others, tls: passthrough, backend: smtp }
backends:
  smtp: { endpoints: ["${server.address}"] }
`);
  // A greeting that waited for the peek would wait for an hour.
  for (const [listener, from] of [
    ["opaque", "127.0.0.1"],
    ["shared", "127.0.0.2"],
  ] as const) {
    const client = await connectTo(await daemon.address(listener), from);
    await eventually(`the greeting came through ${listener}`, () => client.text === GREETING);
    expect(client.socket.bytesWritten).toBe(0);
    client.socket.end();
  }
});
