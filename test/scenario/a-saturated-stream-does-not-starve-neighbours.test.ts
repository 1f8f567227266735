// While some connections move as many bytes as the machine can, hundreds of small questions on another one are answered all the same. How fast is
// a matter for the bench; here it is that they do not have to wait for the streams to end.

import { expect, test } from "bun:test";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Child } from "../support/child.ts";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { missingPrograms } from "../support/programs.ts";
import { startNginx } from "../support/servers.ts";
import { connectTo, startEndpoint } from "../support/tcp.ts";

const STREAMS = 3;
const ROUND_TRIPS = 200;
/** Of the file that is downloaded, which has holes only: more than this test can move. */
const ENDLESS_BYTES = 4 * 1024 ** 4;
const IN_FULL_FLOW_BYTES = 20_000_000;

const missing = missingPrograms("nginx", "curl");

/** Bytes that a process has written so far: to /dev/null, what it received. */
function bytesWritten({ pid }: Child): number {
  return Number(/^wchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1]);
}

test.skipIf(missing !== "")(
  `${ROUND_TRIPS} round trips beside ${STREAMS} endless downloads ${missing}`.trim(),
  async () => {
    await using nginx = await startNginx("server { listen 127.0.0.1:PORT; root .; sendfile on; }");
    const file = join(nginx.directory, "endless");
    writeFileSync(file, "");
    truncateSync(file, ENDLESS_BYTES);
    await using echo = await startEndpoint();
    await using daemon = await startDaemon(`
listeners:
  - { name: bulk, address: 127.0.0.1:0, backend: bulk }
  - { name: ping, address: 127.0.0.1:0, backend: ping }
backends: { bulk: { endpoints: ["${nginx.address}"] }, ping: { endpoints: ["${echo.address}"] } }
`);
    const url = `http://${await daemon.address("bulk")}/endless`;
    await using stack = new AsyncDisposableStack();
    const downloads = Array.from({ length: STREAMS }, () =>
      stack.use(new Child(["curl", "--silent", "--output", "/dev/null", url])),
    );
    await eventually("all downloads are in full flow", () =>
      downloads.every((download) => bytesWritten(download) > IN_FULL_FLOW_BYTES),
    );

    const pinger = await connectTo(await daemon.address("ping"));
    const before = downloads.map(bytesWritten);
    for (let round = 1; round <= ROUND_TRIPS; round++) {
      pinger.socket.write("p");
      await new Promise<void>((resolve) => pinger.socket.once("data", () => resolve()));
    }
    expect(pinger.text).toBe("p".repeat(ROUND_TRIPS));
    // And none of the downloads had to stop, or had ended, for that.
    for (const [index, download] of downloads.entries()) {
      expect(download.hasExited).toBe(false);
      expect(bytesWritten(download)).toBeGreaterThan(before[index] as number);
    }
    pinger.socket.end();
  },
  20_000,
);
