// What the lab understands of its tools' output, on output that they really gave.
import { expect, test } from "bun:test";
import { parseStubStatus } from "../../../bench/backends.ts";
import { rotated } from "../../../bench/lab.ts";
import { freePorts } from "../../../bench/processes.ts";
import { parseCurlSizes, parseIperf } from "../../../bench/workloads/bulk.ts";
import { parsePgbench } from "../../../bench/workloads/databases.ts";
import { parseSockperf } from "../../../bench/workloads/ping.ts";
import { parseSessionTime, parseWrk } from "../../../bench/workloads/requests.ts";

test("wrk: requests and every kind of failure", () => {
  const good =
    "Running 4s test\n  Thread Stats   Avg\n  123456 requests in 4.00s, 25.55MB read\nRequests/sec: 30864.0\n";
  expect(parseWrk(good)).toEqual({ requests: 123456, failed: 0 });
  const bad = `${good}  Socket errors: connect 1, read 2, write 0, timeout 3\n  Non-2xx or 3xx responses: 4\n`;
  expect(parseWrk(bad)).toEqual({ requests: 123456, failed: 10 });
  expect(parseWrk("unable to connect to 127.0.0.1:1 Connection refused\n")).toBeUndefined();
});

test("openssl s_time: connections and the size of their answers", () => {
  const text = "\n\n621 connections in 0.42s; 1478.57 connections/user sec, bytes read 137862\n";
  expect(parseSessionTime(`${text}621 connections in 2 real seconds, 222 bytes read per connection\n`)).toEqual({
    connections: 621,
    bytesPerConnection: 222,
    full: 0,
  });
  const resumed = "starting\nrrr*r\n\n5 connections in 2 real seconds, 222 bytes read per connection\n";
  expect(parseSessionTime(resumed)?.full).toBe(1);
  expect(parseSessionTime("ERROR\n")).toBeUndefined();
});

test("sockperf: percentiles", () => {
  const text =
    "sockperf: ---> percentile 99.900 =   90.100\nsockperf: ---> percentile 99.000 =   65.019\nsockperf: ---> percentile 50.000 =   44.443\n";
  expect(parseSockperf(text)).toEqual({ p50: 44.443, p99: 65.019, p999: 90.1 });
  expect(parseSockperf("sockperf: No messages were received from the server.\n")).toBeUndefined();
});

test("iperf3: the receiver's total, and none after an error", () => {
  const json = '{"end":{"sum_sent":{"bytes":9},"sum_received":{"bytes":8,"bits_per_second":80}}}';
  expect(parseIperf(json)).toEqual({ receivedBytes: 8, bytesPerSecond: 10 });
  expect(parseIperf('{"start":{},"end":{},"error":"unable to connect"}')).toBeUndefined();
});

test("curl: sizes are summed over transfers", () => {
  expect(parseCurlSizes("10 0 1\n10 0 0\n")).toEqual({ downloaded: 20, uploaded: 0, connections: 1 });
});

test("pgbench: transactions, and none when some failed", () => {
  const text = "number of failed transactions: 0 (0.000%)\nnumber of transactions actually processed: 1234\n";
  expect(parsePgbench(text)).toBe(1234);
  expect(parsePgbench(text.replace("failed transactions: 0", "failed transactions: 2"))).toBeUndefined();
});

test("nginx: its own count of connections", () => {
  const page =
    "Active connections: 291 \nserver accepts handled requests\n 16630948 16630948 31070465 \nReading: 6 Writing: 179\n";
  expect(parseStubStatus(page)).toEqual({ accepted: 16630948, active: 291 });
  expect(parseStubStatus("<html>404</html>")).toBeUndefined();
});

test("every contender is first once", () => {
  expect([0, 1, 2, 3].map((round) => rotated(["a", "b", "c"], round)[0])).toEqual(["a", "b", "c", "a"]);
  expect(rotated(["a", "b", "c"], 1)).toEqual(["b", "c", "a"]);
  expect(rotated([], 3)).toEqual([]);
});

test("free ports are distinct and can be bound", async () => {
  const ports = await freePorts(8);
  expect(new Set(ports).size).toBe(8);
  for (const port of ports) {
    const server = Bun.listen({ hostname: "127.0.0.1", port, socket: { data() {} } });
    server.stop(true);
  }
});
