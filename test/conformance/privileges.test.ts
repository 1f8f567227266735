// `Runtime.dropPrivileges` and `userExists`: what a process is afterwards, all of its threads, and what it can still do.

import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { runtime } from "../../src/runtime/bun/bun-runtime.ts";
import { Child } from "../support/child.ts";
import { eventually } from "../support/eventually.ts";
import { connectTo } from "../support/tcp.ts";

const CHILD = join(import.meta.dir, "../support/privileges-child.ts");
const isRoot = process.getuid?.() === 0;
/** In every Debian, with a group of the same name. */
const USER = "daemon";

interface Answer {
  readonly refused: { readonly code: string; readonly message: string } | null;
  readonly port: number;
  readonly process: string;
  readonly threads: readonly string[];
  readonly secret: string;
  readonly status: string;
}

async function answerOf(child: Child): Promise<Answer> {
  await child.comesTo("it answered", () => child.stdout.includes("\n"));
  return JSON.parse(child.stdout) as Answer;
}

function startChild(user: string, secret = "/nonexistent", under: readonly string[] = []): Child {
  return new Child([...under, process.execPath, CHILD, user, secret]);
}

function idOf(option: string, user = USER): string {
  return spawnSync("id", [option, user]).stdout.toString().trim();
}

function field(status: string, name: string): string {
  return new RegExp(`^${name}:\\s*(.*?)\\s*$`, "m").exec(status)?.[1] ?? "";
}

test("userExists knows the users of the host", () => {
  expect(runtime.userExists("root")).toBe(true);
  expect(runtime.userExists("no-such-user")).toBe(false);
  expect(runtime.userExists("")).toBe(false);
  expect(runtime.userExists("root\0x")).toBe(false);
});

test("commandLine tells what a process was started with, and nothing of one that is not there", () => {
  expect(runtime.commandLine(process.pid)[0]).toContain("bun");
  expect(runtime.commandLine(2 ** 30)).toEqual([]);
});

describe.skipIf(!isRoot)("root becomes another user", () => {
  test("in every thread, for good, with its groups; what was open stays open", async () => {
    const directory = mkdtempSync(join(tmpdir(), "bunnel-privileges-"));
    const secret = join(directory, "secret");
    writeFileSync(secret, "secret", { mode: 0o600 });
    await using child = startChild(USER, secret);
    const answer = await answerOf(child);
    rmSync(directory, { recursive: true });
    expect(answer.refused).toBeNull();
    const four = (id: string): string => [id, id, id, id].join("\t");
    expect(answer.threads.length).toBeGreaterThan(3);
    for (const status of [answer.process, ...answer.threads]) {
      expect(field(status, "Uid")).toBe(four(idOf("-u")));
      expect(field(status, "Gid")).toBe(four(idOf("-g")));
      expect(field(status, "Groups").split(" ").sort()).toEqual(idOf("-G").split(" ").sort());
      expect(field(status, "NoNewPrivs")).toBe("1");
      for (const set of ["CapPrm", "CapEff", "CapAmb"]) expect(Number(`0x${field(status, set)}`)).toBe(0);
    }
    expect(field(answer.status, "NoNewPrivs")).toBe("1");
    // Its directory is root's alone as well.
    expect(answer.secret).toBe("EACCES");
    const peer = await connectTo(`127.0.0.1:${answer.port}`);
    await eventually("the inherited queue is served", () => peer.text === "hello");
    peer.socket.destroy();
  });

  test("threads that had the flag from the parent need no filter of system calls", async () => {
    await using bare = startChild(USER);
    expect(field((await answerOf(bare)).process, "Seccomp")).toBe("2");
    await using bound = startChild(USER, "/nonexistent", ["setpriv", "--no-new-privs"]);
    const answer = await answerOf(bound);
    expect(answer.refused).toBeNull();
    expect(field(answer.process, "Seccomp")).toBe(field(await Bun.file("/proc/self/status").text(), "Seccomp"));
    expect(field(answer.process, "NoNewPrivs")).toBe("1");
  });

  test("a user that does not exist is refused by name", async () => {
    await using child = startChild("no-such-user");
    const { refused, process: status } = await answerOf(child);
    expect(refused?.code).toBe("EUSER");
    expect(refused?.message).toContain("no user no-such-user");
    expect(field(status, "Uid")).toStartWith("0");
  });

  test("without the capability it is refused, and says what is needed", async () => {
    await using child = startChild(USER, "/nonexistent", ["setpriv", "--bounding-set", "-setuid,-setgid"]);
    const { refused } = await answerOf(child);
    expect(refused?.code).toBe("EPERM");
    expect(refused?.message).toMatch(new RegExp(`user ${USER}: .*CAP_SETUID`));
  });
});

describe("who is not root", () => {
  const asUser = isRoot ? ["setpriv", `--reuid=${USER}`, `--regid=${USER}`, "--init-groups"] : [];
  const self = isRoot ? USER : userInfo().username;

  test("may stay who it is", async () => {
    await using child = startChild(self, "/nonexistent", asUser);
    const { refused, process: status } = await answerOf(child);
    expect(refused).toBeNull();
    expect(field(status, "NoNewPrivs")).toBe("1");
  });

  test("cannot become another one", async () => {
    await using child = startChild("nobody", "/nonexistent", asUser);
    const { refused } = await answerOf(child);
    expect(refused?.code).toBe("EPERM");
    expect(refused?.message).toContain("cannot run as user nobody: only root");
  });
});
