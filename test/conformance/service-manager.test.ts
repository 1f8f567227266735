// `Runtime.serviceManager`, `Runtime.inheritedSockets` and what src/control/service-manager.ts tells: a real process under something that receives and
// passes as systemd does, and under systemd-socket-activate itself.

import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Child } from "../support/child.ts";
import { eventually } from "../support/eventually.ts";
import { NoticeReceiver, type Passed, passing } from "../support/service-manager.ts";
import { connectTo, listensAt } from "../support/tcp.ts";

const COMMAND = [process.execPath, join(import.meta.dir, "../support/service-child.ts")];
const directory = mkdtempSync(join(tmpdir(), "bunnel-service-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

interface Answer {
  readonly inherited: Readonly<Record<string, string>>;
  readonly unknown: { readonly code: string; readonly message: string };
  readonly watchdogMs: number | null;
  readonly successor: Readonly<Record<string, string>> | null;
  readonly left: readonly string[];
}

async function answerOf(child: Child): Promise<Answer> {
  await child.says("\n");
  await eventually(
    () => `it answered: ${child.story}`,
    () => child.stdout.includes("\n"),
  );
  return JSON.parse(child.stdout.split("\n")[0] as string) as Answer;
}

describe("notices", () => {
  for (const path of [join(directory, "notify.sock"), `@bunnel-notify-${process.pid}`]) {
    test(`to ${path.startsWith("@") ? "an abstract name" : "a path"}, in the order of a life`, async () => {
      await using receiver = await new NoticeReceiver(path).bound();
      await using child = new Child(COMMAND, { env: { NOTIFY_SOCKET: path, WATCHDOG_USEC: undefined } });
      const answer = await answerOf(child);
      expect(answer.left).toEqual([]);
      expect(answer.watchdogMs).toBe(0);
      expect(answer.successor).toEqual({ NOTIFY_SOCKET: path });
      child.write("ready\nreloading\nready\nstatus\nrefused\nstopping\nstatus\nready\nreloading\nclock\n");
      child.endInput();
      expect(await child.exited).toBe(0);
      const state = "generation 3, 2 workers, 1,204 connections";
      const ready = `READY=1\nMAINPID=${child.pid}\nSTATUS=${state}`;
      await eventually("all came", () => receiver.notices.length >= 5);
      expect(receiver.notices.map((notice) => notice.replace(/\d{6,}/, "N"))).toEqual([
        ready.replace(/\d{6,}/, "N"),
        "RELOADING=1\nMONOTONIC_USEC=N\nSTATUS=reloading",
        ready.replace(/\d{6,}/, "N"),
        // A line, and not longer than what the manager reads.
        `${ready.replace(/\d{6,}/, "N")}; reload refused: edge.yaml:1:1: ${"no ".repeat(161)}no …`,
        `STOPPING=1\nSTATUS=draining, ${state}`,
      ]);
    });
  }

  test("MONOTONIC_USEC is the clock that all processes of the host share", async () => {
    const path = join(directory, "clock.sock");
    await using receiver = await new NoticeReceiver(path).bound();
    await using child = new Child(COMMAND, { env: { NOTIFY_SOCKET: path } });
    await answerOf(child);
    // CLOCK_MONOTONIC does not count suspension, /proc/uptime does; a machine that runs tests has not been suspended since the test began.
    const before = monotonic();
    child.write("reloading\n");
    await eventually("it was told", () => receiver.notices.length > 0);
    const told = BigInt(/MONOTONIC_USEC=(\d+)/.exec(receiver.notices[0] ?? "")?.[1] ?? 0);
    expect(told).toBeGreaterThanOrEqual(before);
    expect(told).toBeLessThanOrEqual(monotonic());
  });

  test("signs of life come twice in each period, while it is well and only then", async () => {
    const path = join(directory, "watchdog.sock");
    await using receiver = await new NoticeReceiver(path).bound();
    await using child = new Child(COMMAND, { env: { NOTIFY_SOCKET: path, WATCHDOG_USEC: "200000" } });
    const answer = await answerOf(child);
    expect(answer.watchdogMs).toBe(200);
    expect(answer.successor).toEqual({ NOTIFY_SOCKET: path, WATCHDOG_USEC: "200000" });
    expect(receiver.notices).toEqual([]);
    const lives = (): number => receiver.notices.filter((notice) => notice === "WATCHDOG=1").length;
    const began = performance.now();
    child.write("ready\n");
    await eventually("there were several", () => lives() >= 6);
    const periods = (performance.now() - began) / 200;
    expect(lives() / periods).toBeLessThan(3.5);
    child.write("unwell\n");
    await child.says("not well");
    const atMost = lives() + 1;
    await new Promise((resolve) => setTimeout(resolve, 350));
    expect(lives()).toBeLessThanOrEqual(atMost);
    child.write("well\n");
    await eventually("it lives again", () => lives() > atMost);
  });

  test("a watchdog that is meant for another process is not ours", async () => {
    await using child = new Child(COMMAND, {
      env: { NOTIFY_SOCKET: join(directory, "nobody.sock"), WATCHDOG_USEC: "200000", WATCHDOG_PID: "1" },
    });
    const answer = await answerOf(child);
    expect(answer.watchdogMs).toBe(0);
    expect(answer.left).toEqual([]);
  });

  test("a manager that has gone is said once, and nothing else happens", async () => {
    await using child = new Child(COMMAND, { env: { NOTIFY_SOCKET: join(directory, "nobody.sock") } });
    child.write("ready\nreloading\nready\n");
    child.endInput();
    expect(await child.exited).toBe(0);
    expect(child.stderr.match(/cannot be told/g)).toHaveLength(1);
    expect(child.stderr).toContain("ENOENT");
  });

  test("without a manager nothing happens at all", async () => {
    await using child = new Child(COMMAND, { env: { NOTIFY_SOCKET: undefined } });
    child.write("ready\nreloading\nready\nstopping\n");
    child.endInput();
    expect(await child.exited).toBe(0);
    expect(child.stderr).toBe("");
    expect((await answerOf(child)).watchdogMs).toBeNull();
  });
});

describe("sockets that are passed", () => {
  const start = (sockets: readonly Passed[], env = {}): Child => new Child(passing(sockets, COMMAND), { env });

  test("are known by their names and addresses; the variables are gone", async () => {
    const path = join(directory, "passed.sock");
    await using child = start([
      { kind: "stream", name: "web", host: "127.0.0.1" },
      { kind: "stream", name: "six", host: "::1" },
      { kind: "stream", name: "local", path },
      { kind: "stream", name: "abstract", path: `@bunnel-passed-${process.pid}` },
    ]);
    const { inherited, left, unknown } = await answerOf(child);
    const [web, six] = [...child.stderr.matchAll(/passed (\d+)/g)].map((match) => match[1]);
    expect(inherited).toEqual({
      web: `127.0.0.1:${web}`,
      six: `[::1]:${six}`,
      local: `unix:${path}`,
      abstract: `unix:@bunnel-passed-${process.pid}`,
    });
    expect(left).toEqual([]);
    expect(unknown.code).toBe("ENOTPASSED");
    expect(unknown.message).toBe(
      "no socket named unknown-name was passed by systemd (it passed: web, six, local, abstract): add FileDescriptorName=unknown-name to the .socket unit",
    );
    // Also after a first listener on it was closed.
    const peer = await connectTo(`127.0.0.1:${web}`);
    await eventually("it serves", () => peer.text === "hello");
    peer.socket.destroy();
    child.endInput();
    expect(await child.exited).toBe(0);
    expect(existsSync(path)).toBe(true);
  });

  const refused: readonly (readonly [string, readonly Passed[], RegExp])[] = [
    ["a datagram socket", [{ kind: "datagram", name: "udp", host: "127.0.0.1" }], /3 \(udp\) is no stream socket/],
    [
      "a connection",
      [{ kind: "pair", name: "accepted" }],
      /3 \(accepted\) is a socket that does not listen.*Accept=no/,
    ],
    [
      "one that is only bound",
      [{ kind: "unlistened", name: "idle", host: "127.0.0.1" }],
      /\(idle\) is a socket that does not/,
    ],
    ["a file", [{ kind: "file", name: "fifo" }], /3 \(fifo\) is no socket/],
    [
      "two of one name",
      [
        { kind: "stream", name: "web", host: "127.0.0.1" },
        { kind: "stream", name: "web", host: "127.0.0.1" },
      ],
      /127\.0\.0\.1:\d+ and 127\.0\.0\.1:\d+ are both named web: give each a \.socket unit of its own/,
    ],
    [
      "two without a name",
      [
        { kind: "stream", host: "127.0.0.1" },
        { kind: "stream", host: "127.0.0.1" },
      ],
      /both named unknown/,
    ],
  ];
  for (const [what, sockets, message] of refused) {
    test(`${what} is refused by name`, async () => {
      await using child = start(sockets);
      const { inherited } = await answerOf(child);
      expect(inherited.code).toBe("BAD_INHERITED_SOCKET");
      expect(inherited.message).toMatch(message);
    });
  }

  test("that were meant for another process are not ours", async () => {
    await using child = start([{ kind: "stream", name: "web", host: "127.0.0.1" }], { LISTEN_PID: "1" });
    const { inherited, left } = await answerOf(child);
    expect(inherited).toEqual({});
    expect(left).toEqual([]);
  });

  const activate = Bun.which("systemd-socket-activate");
  test.skipIf(activate === null)("systemd-socket-activate passes one, with the client that woke us", async () => {
    const path = join(directory, "activated.sock");
    await using child = new Child([activate ?? "", "-l", path, "--fdname=woken", ...COMMAND]);
    await eventually("it listens", () => listensAt(path));
    const peer = await connectTo(`unix:${path}`);
    await eventually("it was served", () => peer.text === "hello");
    expect((await answerOf(child)).inherited).toEqual({ woken: `unix:${path}` });
    peer.socket.destroy();
  });
});

/** CLOCK_MONOTONIC in microseconds, by another program. */
function monotonic(): bigint {
  const { stdout } = Bun.spawnSync(["python3", "-c", "import time; print(time.monotonic_ns() // 1000)"]);
  return BigInt(stdout.toString().trim() || readFileSync("/proc/uptime", "utf8").length);
}
