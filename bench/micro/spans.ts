// What the export of spans costs for each connection, in CPU time of this whole process, up to the socket. The collector is another process, on the
// loopback interface.
//
// Two cores that others used too, Bun 1.4.5: 40 to 50 µs, of which 14 are the making of the span. A batch of 32 takes 0.3 ms of one turn up to the socket, 1.5 to 2 when garbage is
// collected meanwhile; with 128 it was 33 to 36 µs for each span, and 4 to 6 ms of one turn.
import { SpanExport } from "../../src/telemetry/span-export.ts";
import { closeRecord } from "../../test/support/close-record.ts";
import { cpuSamples, type Micro } from "./micro.ts";

const SPANS = 8000;
const BATCHES = 3;
/** So many each 5 ms: 8,000 connections a second. */
const AT_ONCE = 40;
const EVERY_MS = 5;

const COLLECTOR = `
const server = require("node:http").createServer((request, response) => {
  request.resume().on("end", () => response.writeHead(200, { "content-type": "application/json" }).end("{}"));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));`;

async function exported(): Promise<readonly number[]> {
  const collector = Bun.spawn([process.execPath, "-e", COLLECTOR], { stdout: "pipe" });
  const { value } = await collector.stdout.getReader().read();
  const port = Number(new TextDecoder().decode(value));
  let dropped = 0;
  const spans = new SpanExport(
    { endpoint: `http://127.0.0.1:${port}/v1/traces`, headers: {}, sample: 1, caPem: [], chainPem: "", keyPem: "" },
    {
      version: "0",
      instance: "bench",
      worker: 0,
      log: { info: console.error, warn: console.error } as never,
      dropped: (count) => {
        dropped += count;
      },
    },
  );
  const record = closeRecord();
  const samples = await cpuSamples({ times: BATCHES, count: SPANS }, async (count) => {
    for (let written = 0; written < count; written += AT_ONCE) {
      for (let each = 0; each < AT_ONCE; each++) spans.write(record);
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  });
  await spans.close();
  collector.kill();
  if (dropped > 0) throw new Error(`${dropped} spans were dropped: those cost nothing`);
  return samples;
}

/** See micro.ts. */
export const MICRO: readonly Micro[] = [
  { name: "span: made, exported, up to the socket", budget: 60_000, samples: exported },
];
