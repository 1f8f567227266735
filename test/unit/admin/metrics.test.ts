// The exposition: what it says, and that Prometheus' own tool takes it where it is installed.

import { describe, expect, test } from "bun:test";
import { metricsText } from "../../../src/admin/metrics.ts";
import type { Status } from "../../../src/snapshot/status.ts";
import { NOTHING_HAPPENED, QUIET_BACKEND, sampleStatus, UP } from "../../support/status-sample.ts";

const promtool = Bun.which("promtool");

async function samples(changes: Partial<Status> = {}): Promise<readonly string[]> {
  const text = await metricsText(sampleStatus(changes));
  return text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}

function withConfig(changes: Partial<Status["config"]>): Partial<Status> {
  return { config: { ...sampleStatus().config, ...changes } };
}

test("the whole of it", async () => {
  expect(await samples({ worker_restarts: 2 })).toEqual([
    'bunnel_build_info{version="0.1.0",runtime="bun 1.4.5"} 1',
    "bunnel_config_generation 3",
    "bunnel_config_last_reload_success 1",
    "bunnel_config_last_reload_timestamp_seconds 1795132800",
    "bunnel_certificate_sets_refused_total 0",
    "bunnel_certificate_files_refused 0",
    "bunnel_worker_restarts_total 2",
    'bunnel_connections_active{listener="edge"} 40',
    'bunnel_connections_opened_total{listener="edge"} 1234567',
    'bunnel_endpoint_connections_active{backend="db",endpoint="10.0.0.1:5432"} 20',
    'bunnel_endpoint_connections_active{backend="db",endpoint="10.0.0.2:5432"} 20',
    'bunnel_endpoint_connections_total{backend="db",endpoint="10.0.0.1:5432"} 617000',
    'bunnel_endpoint_connections_total{backend="db",endpoint="10.0.0.2:5432"} 617567',
    // The other one is not probed.
    'bunnel_endpoint_healthy{backend="db",endpoint="10.0.0.1:5432"} 1',
    'bunnel_endpoint_health_changes_total{backend="db",endpoint="10.0.0.1:5432"} 0',
    'bunnel_endpoint_health_changes_total{backend="db",endpoint="10.0.0.2:5432"} 0',
    'bunnel_endpoint_ejected{backend="db",endpoint="10.0.0.1:5432"} 0',
    'bunnel_endpoint_ejected{backend="db",endpoint="10.0.0.2:5432"} 0',
    'bunnel_backend_overloads_total{backend="db"} 0',
  ]);
});

test("a reload that was refused, and files that are not served", async () => {
  const lines = await samples(
    withConfig({
      last_reload_at: "2026-11-20T00:01:40.500Z",
      last_reload_ok: false,
      certificate_problems: ["edge.pem: expired"],
      certificate_sets_refused: 7,
    }),
  );
  expect(lines).toContain("bunnel_config_last_reload_success 0");
  expect(lines).toContain("bunnel_config_last_reload_timestamp_seconds 1795132900.5");
  expect(lines).toContain("bunnel_certificate_sets_refused_total 7");
  expect(lines).toContain("bunnel_certificate_files_refused 1");
});

test("an endpoint that is down by its probes and ejected, of a backend that was too full", async () => {
  const endpoint = { endpoint: "e", connections: 1, connections_total: 1, connect_failures_total: 0, ...UP };
  const endpoints = [
    { ...endpoint, health: "down", health_changes_total: 3, ejected_until: "2026-11-21T01:00:05.000Z" } as const,
  ];
  const lines = await samples({ backends: [{ ...QUIET_BACKEND, backend: "b", overloads_total: 7, endpoints }] });
  expect(lines).toContain('bunnel_endpoint_healthy{backend="b",endpoint="e"} 0');
  expect(lines).toContain('bunnel_endpoint_health_changes_total{backend="b",endpoint="e"} 3');
  expect(lines).toContain('bunnel_endpoint_ejected{backend="b",endpoint="e"} 1');
  expect(lines).toContain('bunnel_backend_overloads_total{backend="b"} 7');
});

test("names with quotes, backslashes and line ends stay one label", async () => {
  const endpoint = {
    endpoint: 'unix:/a"b\\c\nd',
    connections: 1,
    connections_total: 1,
    connect_failures_total: 0,
    ...UP,
  };
  const lines = await samples({ backends: [{ ...QUIET_BACKEND, backend: "b", endpoints: [endpoint] }] });
  expect(lines).toContain('bunnel_endpoint_connections_active{backend="b",endpoint="unix:/a\\"b\\\\c\\nd"} 1');
});

test("a scrape of 200 listeners and 1,000 endpoints takes less than 50 ms", async () => {
  const status = large();
  await metricsText(status);
  const before = performance.now();
  await metricsText(status);
  expect(performance.now() - before).toBeLessThan(50);
});

describe("promtool check metrics", () => {
  const check = async (status: Status): Promise<string> => {
    const child = Bun.spawn([promtool ?? "", "check", "metrics"], {
      stdin: new Blob([await metricsText(status)]),
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, err, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return `${out}${err}exit ${code}`;
  };

  test.skipIf(promtool === null)("finds nothing", async () => {
    expect(await check(sampleStatus())).toBe("exit 0");
    expect(await check(sampleStatus({ listeners: [], backends: [], workers: [] }))).toBe("exit 0");
    expect(await check(large())).toBe("exit 0");
  });
});

function large(): Status {
  const counts = { connections: 9, connections_total: 99_999, connect_failures_total: 0, ...UP };
  return sampleStatus({
    listeners: Array.from({ length: 200 }, (_, i) => ({
      listener: `l${i}`,
      address: `10.0.0.1:${i}`,
      ...NOTHING_HAPPENED,
      ...counts,
    })),
    backends: Array.from({ length: 20 }, (_, b) => ({
      ...QUIET_BACKEND,
      backend: `b${b}`,
      endpoints: Array.from({ length: 50 }, (_, i) => ({ endpoint: `10.${b}.0.${i}:80`, ...counts })),
    })),
  });
}
