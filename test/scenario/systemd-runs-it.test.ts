// Under a real systemd, with the unit files of config/ as they are: whoever operates it starts, looks at, reloads, upgrades, restarts and stops the service with
// systemctl, and gets what they asked for; connections survive whatever they may survive, and a service that hangs or dies is started anew.

import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, readFileSync } from "node:fs";
import { Child } from "../support/child.ts";
import { IS_DENO } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { SystemdMachine } from "../support/systemd-machine.ts";
import { connectTo, type Endpoint, endInOrder, startEndpoint, talking } from "../support/tcp.ts";

const booted = IS_DENO ? "Bun: elsewhere there are no worker processes" : await SystemdMachine.boot();
const missing = typeof booted === "string" ? ` (needs ${booted})` : "";
const machine = booted as SystemdMachine;
/** A whole machine, and programs that start in it. */
const TEST_MS = 30_000;
const PATIENCE_MS = 10_000;
const DROP_IN = "/etc/systemd/system/bunnel.service.d/test.conf";

/** What is served; `more` is added to the config. */
function config(listeners: readonly string[], more = ""): string {
  return `workers: 1
user: bunnel
pid_file: /run/bunnel/bunnel.pid
admin: { address: "unix:/run/bunnel/admin.sock" }
access_log: { output: /var/log/bunnel/access.log }
drain_timeout: 50s
${more}
listeners:
${listeners.map((address, index) => `  - { name: l${index}, address: "${address}", allow_plaintext: true, backend: web }`).join("\n")}
backends: { web: { endpoints: ["unix:/run/echo.sock"] } }
`;
}

function accessLog(): string {
  return readFileSync(machine.path("/var/log/bunnel/access.log"), "utf8");
}

const OWN = ["unix:/run/bunnel/web.sock", "127.0.0.1:443"];

describe.skipIf(missing !== "")(`systemd${missing}`, () => {
  let endpoint: Endpoint;
  let web = "";

  beforeAll(async () => {
    web = `unix:${machine.path("/run/bunnel/web.sock")}`;
    const path = machine.path("/run/echo.sock");
    endpoint = await startEndpoint(undefined, { path });
    // Workers are another user's.
    chmodSync(path, 0o777);
  });

  // Each finds the service as it was installed, and not started.
  beforeEach(async () => {
    await machine.systemctl("stop", "bunnel.socket", "bunnel.service");
    machine.write(DROP_IN, "");
    machine.write("/etc/bunnel/bunnel.yaml", config(OWN));
    await machine.systemctl("daemon-reload");
    // Also what counts against its start limit.
    await machine.systemctl("reset-failed");
  }, TEST_MS);

  afterAll(async () => {
    endpoint?.[Symbol.asyncDispose]();
    if (missing === "") await machine[Symbol.asyncDispose]();
  });

  /** What an echo behind the TCP port says. */
  async function echoedAt443(): Promise<string> {
    const talk = ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/443; echo hello >&3; head -1 <&3"];
    return (await machine.run(...talk)).stdout;
  }

  /** Upgrades, and gives the id of the process that is the service then. */
  async function upgraded(): Promise<string> {
    const before = await machine.property("MainPID");
    await machine.systemctl("kill", "-s", "USR2", "--kill-whom=main", "bunnel");
    return await machine.becomes("MainPID", new RegExp(`^(?!${before}$)[1-9]`));
  }

  /** Waits until systemd has started the service anew, so many times, and it is active. */
  async function startedAnew(times: number): Promise<void> {
    await machine.becomes("NRestarts,ActiveState", new RegExp(`^${times}\\nactive$`));
  }

  test(
    "what it needs is allowed, and it tells how it is",
    async () => {
      await machine.systemctl("start", "bunnel");
      // systemd has waited for it.
      await endInOrder(await talking(web));
      const shown = (await machine.run("systemctl", "status", "bunnel")).stdout;
      expect(shown).toContain("Active: active (running)");
      expect(shown).toMatch(/Status: "generation 1, 1 worker, [01] connections?"/);
      expect(await echoedAt443()).toBe("hello\n");
      const asked = await machine.run("bunnel", "status", "-c", "/etc/bunnel/bunnel.yaml");
      expect(asked.stderr).toBe("");
      expect(asked.stdout).toContain("serving");
      await eventually("there is a line for each connection", () => accessLog().split("completed").length === 3);
      const main = await machine.property("MainPID");
      expect(readFileSync(machine.path("/run/bunnel/bunnel.pid"), "utf8").trim()).toBe(main);
      const [worker] = readFileSync(machine.path(`/proc/${main}/task/${main}/children`), "utf8").split(" ");
      const status = readFileSync(machine.path(`/proc/${worker}/status`), "utf8");
      expect(status).toMatch(/^Uid:\s+900\b/m);
      expect(status).toMatch(/^CapEff:\s+0+$/m);
      // The filter for calls is in force.
      expect(status).toMatch(/^Seccomp:\s+2$/m);
      expect(await machine.property("Result")).toBe("success");
    },
    TEST_MS,
  );

  test(
    "a reload is waited for, and one that is refused fails and says why",
    async () => {
      await machine.systemctl("start", "bunnel");
      machine.write("/etc/bunnel/bunnel.yaml", config([...OWN, "unix:/run/bunnel/more.sock"]));
      await machine.systemctl("reload", "bunnel");
      await endInOrder(await talking(`unix:${machine.path("/run/bunnel/more.sock")}`));
      expect(await machine.property("StatusText")).toStartWith("generation 2, ");
      machine.write("/etc/bunnel/bunnel.yaml", config(OWN, "drain_time: 1s"));
      expect((await machine.run("systemctl", "reload", "bunnel")).exitCode).toBe(1);
      expect(await machine.property("ActiveState")).toBe("active");
      expect(await machine.property("StatusText")).toMatch(/^generation 2, .* reload refused: .*bunnel\.yaml:7:1: /);
      await endInOrder(await talking(`unix:${machine.path("/run/bunnel/more.sock")}`));
      machine.write("/etc/bunnel/bunnel.yaml", config(OWN));
      await machine.systemctl("reload", "bunnel");
      expect(await machine.property("StatusText")).toMatch(/^generation 3, 1 worker, \d+ connections?$/);
    },
    TEST_MS,
  );

  test(
    "upgrades are followed, and a stop waits for the connections of all programs",
    async () => {
      await machine.systemctl("start", "bunnel");
      const oldest = await talking(web);
      await upgraded();
      await machine.systemctl("reload", "bunnel");
      const older = await talking(web);
      const main = await upgraded();
      // What is not its own child, systemd neither waits for nor misses.
      expect(readFileSync(machine.path(`/proc/${main}/status`), "utf8")).toMatch(/^PPid:\s+1$/m);
      expect(await machine.property("ActiveState")).toBe("active");
      const stopping = machine.systemctl("stop", "bunnel");
      await machine.becomes("StatusText", /^draining/);
      await endInOrder(older);
      expect(await machine.property("ActiveState")).toBe("deactivating");
      await endInOrder(oldest);
      await stopping;
      expect(await machine.property("Result")).toBe("success");
      expect(accessLog()).not.toContain("reset");
    },
    TEST_MS,
  );

  test(
    "one that is killed while the program before it drains is started anew at once, and so is one that hangs",
    async () => {
      machine.write(DROP_IN, "[Service]\nWatchdogSec=2s\nRestartSec=0\n");
      await machine.systemctl("daemon-reload");
      await machine.systemctl("start", "bunnel");
      const stream = await talking(web);
      await upgraded();
      await machine.systemctl("kill", "-s", "KILL", "--kill-whom=main", "bunnel");
      await startedAnew(1);
      stream.socket.destroy();
      await endInOrder(await talking(web));
      await machine.systemctl("kill", "-s", "STOP", "--kill-whom=main", "bunnel");
      await startedAnew(2);
      await endInOrder(await talking(web));
    },
    TEST_MS,
  );

  /** Has systemd listen for it. */
  async function activated(listen: string): Promise<void> {
    machine.write("/etc/systemd/system/bunnel.socket.d/test.conf", `[Socket]\nListenStream=\nListenStream=${listen}\n`);
    machine.write("/etc/bunnel/bunnel.yaml", config(["systemd:web"]));
    await machine.systemctl("daemon-reload");
    await machine.systemctl("start", "bunnel.socket");
    expect(await machine.property("ActiveState")).toBe("inactive");
  }

  test(
    "with a socket of systemd's nobody is refused or reset by a restart, and the first client starts it",
    async () => {
      await activated("/run/socket-web.sock");
      const passed = `unix:${machine.path("/run/socket-web.sock")}`;
      const stream = await talking(passed);
      const restarting = machine.systemctl("restart", "bunnel");
      await machine.becomes("StatusText", /^draining/);
      // They wait in the queue until it is there again.
      const waiting = await Promise.all(Array.from({ length: 20 }, () => connectTo(passed)));
      for (const { socket } of waiting) socket.write("hello");
      await endInOrder(stream);
      await restarting;
      await eventually("all are served", () => waiting.every(({ text }) => text === "hello"), PATIENCE_MS);
      for (const peer of [...waiting, await talking(passed)]) await endInOrder(peer);
    },
    TEST_MS,
  );

  test(
    "when the supervisor is killed, newcomers wait in systemd's socket for the next one",
    async () => {
      // Its workers have the time to notice, and the one with a client goes on.
      machine.write(DROP_IN, "[Service]\nKillMode=process\nRestartSec=1500ms\n");
      await activated("127.0.0.1:443");
      const hold = "exec 3<>/dev/tcp/127.0.0.1/443; echo hello >&3; head -1 <&3; cat";
      await using client = new Child([...machine.under, "bash", "-c", hold]);
      await client.says("hello");
      await machine.systemctl("kill", "-s", "KILL", "--kill-whom=main", "bunnel");
      await eventually("its workers noticed", async () => (await machine.journal()).includes("the supervisor is gone"));
      const connect = "for i in {1..20}; do exec {f}<>/dev/tcp/127.0.0.1/443; done; echo connected";
      expect((await machine.run("timeout", "1", "bash", "-c", connect)).stdout).toBe("connected\n");
      expect(await machine.property("ActiveState")).toBe("activating");
      await startedAnew(1);
      expect(await echoedAt443()).toBe("hello\n");
    },
    TEST_MS,
  );

  test("nothing of it is left", async () => {
    await machine[Symbol.asyncDispose]();
    expect(machine.remains).toBe("");
    expect(existsSync(machine.path(""))).toBe(false);
  });
});
