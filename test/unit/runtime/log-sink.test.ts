import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openLogSink } from "../../../src/runtime/node/log-sink.ts";
import { Child, run } from "../../support/child.ts";

const WRITER = join(import.meta.dir, "../../support/log-writer.ts");
const LINES = 20_000;

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "bunnel-log-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

function writer(target: string, name: string, count: number): string[] {
  return [process.execPath, WRITER, target, name, String(count)];
}

/** The numbers of the whole lines of a writer; throws at a line that is none. */
function numbersOf(text: string, name: string): number[] {
  const numbers: number[] = [];
  for (const line of text.split("\n").slice(0, -1)) {
    const [who, number, padding, end] = line.split(" ");
    if (end !== "end" || padding?.length !== (Number(number) * 7919) % 900)
      throw new Error(`torn: ${line.slice(0, 200)}`);
    if (who === name) numbers.push(Number(number));
  }
  return numbers;
}

function expectAll(text: string): void {
  const all = Array.from({ length: LINES }, (_, index) => index);
  for (const name of ["a", "b"]) expect(numbersOf(text, name)).toEqual(all);
}

describe(`two processes write ${LINES} lines each, and every line is whole`, () => {
  const both = (target: string): string =>
    `${["a", "b"].map((name) => `${writer(target, name, LINES).join(" ")} &`).join(" ")} wait`;

  test("into one pipe, whose reader is slow", () => {
    const out = join(directory, "piped");
    // 8,000 bytes a time, so that the writers find it full again and again.
    const { status, stderr } = spawnSync("sh", ["-c", `{ ${both("stdout")}; } | dd of=${out} bs=8000 status=none`]);
    expect(status).toBe(0);
    expect(stderr.toString().match(/dropped 0 of/g)).toHaveLength(2);
    expectAll(readFileSync(out, "utf8"));
  }, 20_000);

  test("into one file that each has opened", () => {
    const out = join(directory, "shared.log");
    spawnSync("sh", ["-c", both(out)]);
    expectAll(readFileSync(out, "utf8"));
  }, 20_000);

  test("into one file that their parent has opened", () => {
    const out = join(directory, "inherited.log");
    spawnSync("sh", ["-c", `{ ${both("stdout")}; } > ${out}`]);
    expectAll(readFileSync(out, "utf8"));
  }, 20_000);
});

test("a line longer than a pipe takes at once arrives as it is, and those around it too", async () => {
  const script = `
    import { openLogSink } from ${JSON.stringify(join(import.meta.dir, "../../../src/runtime/node/log-sink.ts"))};
    const sink = openLogSink("stdout");
    sink.write("first\\n" + "y".repeat(300_000) + "\\nlast\\n");
    await sink.flush();`;
  const { stdout } = await run([process.execPath, "-e", script]);
  expect(stdout).toBe(`first\n${"y".repeat(300_000)}\nlast\n`);
});

test("a device without room: every line is counted, and nothing else happens", async () => {
  const sink = openLogSink("/dev/full");
  for (let round = 0; round < 3; round++) sink.write("one\ntwo\n");
  await sink.flush();
  expect(sink.droppedLines).toBe(6);
});

test("what was cut short by somebody else is ended before anything is written behind it", async () => {
  const path = join(directory, "torn.log");
  writeFileSync(path, "whole\nhal");
  const sink = openLogSink(path);
  sink.write("next\n");
  await sink.flush();
  appendFileSync(path, "anoth");
  sink.write("and\nnext\n");
  await sink.flush();
  expect(readFileSync(path, "utf8")).toBe("whole\nhal\nnext\nanoth\nand\nnext\n");
});

test("a reader that has stalled does not hold up the end of the process", async () => {
  const script = `
    import { openLogSink } from ${JSON.stringify(join(import.meta.dir, "../../../src/runtime/node/log-sink.ts"))};
    const sink = openLogSink("stdout");
    sink.write("y\\n".repeat(1_000_000));
    await sink.flush();
    process.exit(7);`;
  const child = Bun.spawn(["sh", "-c", `{ "$0" -e "$1"; echo $? >&2; } | sleep 4`, process.execPath, script], {
    stderr: "pipe",
  });
  const began = performance.now();
  for await (const chunk of child.stderr) {
    expect(new TextDecoder().decode(chunk).trim()).toBe("7");
    break;
  }
  expect(performance.now() - began).toBeLessThan(3500);
  child.kill();
});

const mayMount = spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"]).status === 0;

describe.skipIf(!mayMount)("a disk that is full", () => {
  test("whole lines are dropped and counted, and written again once there is room", async () => {
    const mount = join(directory, "small");
    const fill = `mkdir -p ${mount} && mount -t tmpfs -o size=64k none ${mount} && exec "$@"`;
    const log = join(mount, "access.log");
    await using child = new Child(["unshare", "-m", "sh", "-c", fill, "sh", ...writer(log, "a", 0)]);
    const seen = (): string => readFileSync(`/proc/${child.pid}/root${log}`, "utf8");
    const batches = async (total: number): Promise<number> => {
      child.write("\n");
      await child.says(`of ${total}`);
      return Number(new RegExp(`dropped (\\d+) of ${total}\\n`).exec(child.stderr)?.[1]);
    };
    // 100 lines are about 45 KiB.
    expect(await batches(100)).toBe(0);
    const dropped = await batches(200);
    expect(dropped).toBeGreaterThan(10);
    expect(await batches(300)).toBe(dropped + 100);
    expect(statSync(`/proc/${child.pid}/root${log}`).size).toBe(65_536);
    const half = seen().split("\n").at(-1) as string;
    const kept = 300 - dropped - 100;
    expect(numbersOf(seen(), "a")).toEqual(Array.from({ length: kept }, (_, index) => index));
    // There is room again: a reader that has taken the lines away.
    expect(half).not.toBe("");
    spawnSync("nsenter", ["-t", String(child.pid), "-m", "mount", "-o", "remount,size=1m", mount]);
    expect(await batches(400)).toBe(dropped + 100);
    const lines = seen().split("\n");
    expect(lines[kept]).toBe(half);
    expect(numbersOf(`${lines.slice(kept + 1).join("\n")}`, "a")).toEqual(
      Array.from({ length: 100 }, (_, index) => 300 + index),
    );
  });
});
