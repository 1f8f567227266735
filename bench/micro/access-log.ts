// What access logging costs for each connection: making the record, formatting it, and writing it to a file; that as CPU time of this whole process, so that
// the threads count that write. No socket and no other program.
//
// Two cores that others used too, Bun 1.4.5, medians of 31 batches of 20,000: the record 0.08 µs, a JSON line 1.6, one of a connection that failed twice 2.2, a
// text line 0.9; all of it, up to the file, 2.9 (2.7 to 3.7) of the 5 that it may cost.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Clock } from "../../src/base/clock.ts";
import { recordOf } from "../../src/proxy/close.ts";
import type { Connection } from "../../src/proxy/connection.ts";
import { Ending } from "../../src/proxy/ending.ts";
import { openLogSink } from "../../src/runtime/node/log-sink.ts";
import { AccessLog, type AccessLogOptions, type CloseRecord } from "../../src/telemetry/access-log.ts";
import { SimWorker } from "../../test/support/sim-worker.ts";
import { cpuSamples, type Micro } from "./micro.ts";

const BATCHES = 15;
const BATCH = 20_000;
/** As many as 20,000 connections a second make between two looks at the file, less than a sink drops. */
const IN_A_ROW = 1000;
/** What this project set itself, for all of it. */
const BUDGET = 5000;

/** Takes lines as a file does: as bytes. */
const NOWHERE = { write: (lines: string) => Buffer.from(lines) };
const ENDED = new Ending("completed");
const FAILED = new Ending("connect_timeout", "10.0.0.2:5432: ETIMEDOUT", "ETIMEDOUT");

/** A connection as mTLS clients have them, ready to be told of. */
function connectionOf(sim: SimWorker): Connection {
  sim.connect();
  const connection = [...sim.worker.connections][0] as Connection;
  connection.sni = "db.example.internal";
  connection.policy = "db-clients";
  connection.policyRule = "allow[3]";
  connection.secured = {
    version: "TLSv1.3",
    cipher: "TLS_AES_128_GCM_SHA256",
    resumed: false,
    alpn: "postgresql",
    handshakeMs: 1.234567,
    shown: { signatureAlgorithm: "", keyAlgorithm: "" },
  };
  connection.identity = {
    uris: ["spiffe://prod.example/ns/team-0999/sa/client"],
    dnsNames: ["client-0999.prod.example"],
    ips: [],
    commonNames: ["client-0999"],
    organizationalUnits: [],
    notAfterMs: 0,
    fingerprint: "ab".repeat(32),
    spkiFingerprint: "cd".repeat(32),
  };
  return connection;
}

const connection = connectionOf(new SimWorker());
const record = recordOf(connection, ENDED);
const failed: CloseRecord = {
  ...recordOf(connection, FAILED),
  tried: [
    { endpoint: "10.0.0.1:5432", result: "ECONNREFUSED", ms: 0.123456 },
    { endpoint: "10.0.0.2:5432", result: "ETIMEDOUT", ms: 3000.123456 },
  ],
};
const logTo = (options: AccessLogOptions): AccessLog => new AccessLog(NOWHERE, new Clock(), options);

const json = logTo({ format: "json" });
const text = logTo({ format: "text" });
const quiet = logTo({ format: "json", level: "warn" });

async function toFile(): Promise<readonly number[]> {
  const directory = mkdtempSync(join(tmpdir(), "bench-access-log-"));
  const sink = openLogSink(join(directory, "access.log"));
  const whole = new AccessLog(sink, new Clock(), { format: "json" });
  const samples = await cpuSamples({ times: BATCHES, count: BATCH }, async (lines) => {
    for (let line = 1; line <= lines; line++) {
      whole.write(recordOf(connection, ENDED));
      if (line % IN_A_ROW !== 0) continue;
      whole.flush();
      await sink.flush();
    }
  });
  rmSync(directory, { recursive: true });
  if (sink.droppedLines > 0) throw new Error(`${sink.droppedLines} lines were dropped: those cost nothing`);
  return samples;
}

/** See micro.ts. */
export const MICRO: readonly Micro[] = [
  { name: "log: the record", budget: 300, call: () => recordOf(connection, ENDED) },
  { name: "log: a JSON line", budget: 3000, call: () => json.write(record) },
  { name: "log: a JSON line of one that failed twice", budget: 4000, call: () => json.write(failed) },
  { name: "log: a text line", budget: 2000, call: () => text.write(record) },
  { name: "log: level warn, one that went well", budget: 50, call: () => quiet.write(record) },
  { name: "log: all of it, the record, a JSON line, the file", budget: BUDGET, samples: toFile },
];
