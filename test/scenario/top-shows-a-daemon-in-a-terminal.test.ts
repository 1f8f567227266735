// `bunnel top` in a real pseudo-terminal: it draws a daemon with traffic, follows keys and the size of the terminal, outlives the daemon, and leaves
// the terminal as it was, whatever ends it. What strangers have written into certificates reaches it as text.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { Child } from "../support/child.ts";
import { bunnel, startDaemon } from "../support/daemon.ts";
import { sampleStatus } from "../support/status-sample.ts";
import { echo, endInOrder, startEndpoint, talking } from "../support/tcp.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { TerminalProgram } from "../support/terminal.ts";
import { sampleClose, sampleConnection } from "../support/top-sample.ts";

const SIZE = { columns: 80, rows: 20 };
/** Longer than a reading and the start of a program. */
const PATIENCE_MS = 8000;
const SLOW_MS = 30_000;

function topOf(admin: string, options: { readonly env?: Readonly<Record<string, string>> } = {}): TerminalProgram {
  return new TerminalProgram(bunnel("top", "--admin", admin), { ...SIZE, ...options });
}

function expectRestored({ screen, isRaw }: TerminalProgram): void {
  const { isAlternate, hasCursor, wraps, style } = screen;
  expect({ isAlternate, hasCursor, wraps, style, isRaw }).toEqual({
    isAlternate: false,
    hasCursor: true,
    wraps: true,
    style: "",
    isRaw: false,
  });
}

function daemonAt(admin: string, endpoint: string) {
  return startDaemon(`
admin: { address: "${admin}" }
listeners: [{ name: edge, address: 127.0.0.1:0, backend: db }]
backends: { db: { endpoints: [${endpoint}] } }
`);
}

test(
  "it draws, sorts, filters, resizes, outlives the daemon, and quits",
  async () => {
    const admin = `unix:${join(temporaryDirectory("bunnel-top-"), "admin.sock")}`;
    await using endpoint = await startEndpoint(echo);
    await using first = await daemonAt(admin, endpoint.address);
    const address = await first.address("edge");
    const open = await talking(address);
    await using top = topOf(admin);
    await top.shows(/^bunnel \S+ {2}serving .*unix:.*\n1 connection /s, PATIENCE_MS);
    expect(top.screen.isAlternate).toBe(true);
    expect(top.screen.hasCursor).toBe(false);
    expect(top.isRaw).toBe(true);
    expect(top.screen.text).toMatch(/\[listeners\].*\nLISTENER .*CONNS▼.*\nedge {2}.* 1 .*\n\nBACKEND.*\ndb .*\n/s);

    for (let n = 0; n < 3; n++) await endInOrder(await talking(address));
    // Connections of one second, and then of none.
    await top.shows(/\n1 connection {2}[1-9]\S* new\/s/, PATIENCE_MS);
    await top.shows(/\n1 connection {2}0 new\/s/, PATIENCE_MS);

    top.press("e");
    await top.shows(/\[endpoints\].*\nENDPOINT +BACKEND +CONNS▼.*\n127\.0\.0\.1:\d+ +db +1 /s);
    top.press("\x1b[C");
    await top.shows(/NEW\/s▼/);
    top.press("r");
    await top.shows(/NEW\/s▲/);
    top.press("c");
    await top.shows(/\[connections\] .*1\nCLIENT.*AGE▲.*\n127\.0\.0\.1:\d+ +\d+s/s, PATIENCE_MS);
    top.press("/nobody");
    await top.shows(/\/nobody_ {2}enter keeps/);
    await top.shows(/\(nothing with that in it/, PATIENCE_MS);
    top.press("\x1b");
    await top.shows(/\n127\.0\.0\.1:\d+ +\d+s/, PATIENCE_MS);

    top.resize(40, 12);
    await top.shows(/\[connections\] {2}1\nCLIENT +AGE▲ +UP\/s +DOWN\/s\n(.*\n)*q quit {2}\? help/);
    expect(top.screen.text.split("\n").length).toBe(12);
    top.resize(140, 30);
    await top.shows(/CLIENT .* LISTENER .*ID\n(.*\n)*q quit {2}tab views[^\n]*$/);

    await first[Symbol.asyncDispose]();
    await top.shows(/\nNO ANSWER, retrying: unix:\S+ does not answer: /, PATIENCE_MS);
    expect(top.screen.text).toContain("[connections]");
    await using second = await daemonAt(admin, endpoint.address);
    await top.shows(/^(?!.*NO ANSWER).*up \ds .*\n0 connections/s, PATIENCE_MS);
    expect(second.child.hasExited).toBe(false);

    top.press("q");
    expect(await top.ended()).toBe(0);
    expectRestored(top);
    open.socket.destroy();
  },
  2 * SLOW_MS,
);

/** An admin API that says what it is told to. */
function fakeDaemon(answers: (path: string) => unknown) {
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) => Response.json(answers(new URL(request.url).pathname)),
  });
  return { admin: `127.0.0.1:${server.port}`, [Symbol.asyncDispose]: () => server.stop(true) };
}

test.each([
  ["ctrl-c", (top: TerminalProgram) => top.press("\x03")],
  ["SIGINT", (top: TerminalProgram) => top.signal("SIGINT")],
  ["SIGTERM", (top: TerminalProgram) => top.signal("SIGTERM")],
  ["SIGHUP", (top: TerminalProgram) => top.signal("SIGHUP")],
] as const)(
  "the terminal is as it was after %s",
  async (_, end) => {
    await using daemon = fakeDaemon(() => sampleStatus());
    await using top = topOf(daemon.admin);
    await top.shows(/\[listeners\]/, PATIENCE_MS);
    expect(top.isRaw).toBe(true);
    end(top);
    expect(await top.ended()).toBe(0);
    expectRestored(top);
  },
  SLOW_MS,
);

test(
  "it goes on after a stop, in which a shell had the terminal",
  async () => {
    await using daemon = fakeDaemon(() => sampleStatus());
    await using top = topOf(daemon.admin);
    await top.shows(/\[listeners\]/, PATIENCE_MS);
    top.signal("SIGSTOP");
    top.takeKeys();
    top.screen.write("\x1b[?1049l$ fg\r\n");
    expect(top.isRaw).toBe(false);
    top.signal("SIGCONT");
    await top.shows(/\[listeners\]/, PATIENCE_MS);
    expect(top.isRaw).toBe(true);
    top.press("e");
    await top.shows(/\[endpoints\]/, PATIENCE_MS);
    top.press("\x04");
    expect(await top.ended()).toBe(0);
    expectRestored(top);
  },
  SLOW_MS,
);

test(
  "the terminal is as it was after a defect, which is told there",
  async () => {
    let asked = 0;
    const broken = { ...sampleStatus(), listeners: [null] };
    await using daemon = fakeDaemon(() => (asked++ < 2 ? sampleStatus() : broken));
    await using top = topOf(daemon.admin);
    await top.shows(/TypeError/, PATIENCE_MS);
    expect(await top.ended()).toBe(1);
    expectRestored(top);
  },
  SLOW_MS,
);

test(
  "what strangers have written stays text, and colours stay away when they are not wanted",
  async () => {
    const evil = "x\x1b]0;owned\x07\x1b[31m\x9b2J\u202eend";
    await using daemon = fakeDaemon((path) => {
      if (path.endsWith("/connections"))
        return { connections: [sampleConnection({ identity: evil, sni: evil })], matching: 1, total: 1 };
      if (path.endsWith("/closes")) return { closes: [sampleClose({ sni: evil, detail: evil })] };
      return sampleStatus({ config: { ...sampleStatus().config, certificate_problems: [evil] } });
    });
    // The screen of the test throws at what it does not know.
    await using top = topOf(daemon.admin, { env: { NO_COLOR: "1" } });
    await top.shows(/CERTIFICATES NOT AS THEY LIE ON THE DISK:\n {2}x\\u\{1b\}\]0;owned/, PATIENCE_MS);
    top.resize(160, 20);
    for (const key of ["c", "f"]) {
      top.press(key);
      await top.shows(/(TIME|CLIENT).*\n.*end( |\n)/, PATIENCE_MS);
    }
    top.press("q");
    expect(await top.ended()).toBe(0);
    expect(top.written).not.toContain("\x1b[1;31m");
    await using coloured = topOf(daemon.admin);
    await coloured.shows(/CERTIFICATES/, PATIENCE_MS);
    expect(coloured.written).toContain("\x1b[1;31mCERTIFICATES");
  },
  SLOW_MS,
);

test(
  "without a terminal that can be drawn on, and with --once, it is one plain picture",
  async () => {
    await using daemon = fakeDaemon(() => sampleStatus());
    await using dumb = topOf(daemon.admin, { env: { TERM: "dumb" } });
    expect(await dumb.ended()).toBe(0);
    expect(dumb.written).not.toContain("\x1b");
    await using piped = new Child(bunnel("top", "--admin", daemon.admin, "--once", "--view", "workers"));
    expect(await piped.exited).toBe(0);
    expect(piped.stdout).toMatch(
      /^bunnel .*\n40 connections {2}0 new\/s.*\n\n.*\[workers\] {2}2\nWORKER.*\n +1 .*\n +2 .*\n$/,
    );
    expect(piped.stderr).toBe("");
  },
  SLOW_MS,
);

test("where nobody answers at the start it says so and fails", async () => {
  await using top = topOf("unix:/nonexistent/admin.sock");
  expect(await top.ended()).toBe(1);
  expect(top.written).toContain("no daemon runs there");
  expect(top.written).not.toContain("\x1b");
});
