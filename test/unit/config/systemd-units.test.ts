// The unit files in config/: systemd itself reads them without complaint, and they keep what the daemon depends on.

import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { configSchema } from "../../../src/config/schema.ts";

const LISTENER = { name: "in", address: "127.0.0.1:1", backend: "web" };
const CONFIG = join(import.meta.dir, "../../../config");
const service = readFileSync(join(CONFIG, "bunnel.service"), "utf8");
const socket = readFileSync(join(CONFIG, "bunnel.socket"), "utf8");

function settings(unit: string, name: string): readonly (string | undefined)[] {
  return [...unit.matchAll(new RegExp(`^${name}=(.*)$`, "gm"))].map(([, value]) => value);
}

function setting(unit: string, name: string): string | undefined {
  return settings(unit, name)[0];
}

test("the service is told of, reloaded, watched and stopped in the daemon's own way", () => {
  expect(setting(service, "Type")).toBe("notify");
  expect(setting(service, "NotifyAccess")).toBe("all");
  expect(settings(service, "ExecReload")).toEqual([
    "/bin/kill -HUP $MAINPID",
    "/usr/bin/bunnel check -c /etc/bunnel/bunnel.yaml",
  ]);
  expect(setting(service, "KillMode")).toBe("mixed");
  expect(setting(service, "MemoryDenyWriteExecute")).toBe("no");
  const { drain_timeout: drainTimeoutMs } = configSchema.parse({ listeners: [LISTENER], backends: {} });
  expect(Number.parseInt(setting(service, "TimeoutStopSec") ?? "", 10) * 1000).toBeGreaterThan(drainTimeoutMs);
});

test("the socket is one that the daemon takes", () => {
  expect(setting(socket, "Accept")).toBe("no");
  expect(setting(socket, "Service")).toBe("bunnel.service");
  expect(setting(socket, "FileDescriptorName")).toBe("web");
});

test.skipIf(Bun.which("systemd-analyze") === null)("systemd finds nothing wrong, and the exposure low", () => {
  const directory = mkdtempSync(join(tmpdir(), "bunnel-units-"));
  const paths = ["bunnel.service", "bunnel.socket"].map((name) => join(directory, name));
  // The program need not be installed.
  writeFileSync(paths[0] as string, service.replaceAll("/usr/bin/bunnel", "/bin/true"));
  writeFileSync(paths[1] as string, socket);
  const verified = spawnSync("systemd-analyze", ["verify", "--man=no", ...paths]);
  const security = spawnSync("systemd-analyze", ["security", "--offline=true", paths[0] as string]);
  rmSync(directory, { recursive: true });
  const complaints = verified.stderr.toString().split("\n");
  expect(complaints.filter((line) => line.includes("bunnel"))).toEqual([]);
  const exposure = Number(/exposure level for \S+: ([\d.]+)/.exec(security.stdout.toString())?.[1]);
  expect(exposure).toBeLessThan(3);
});
