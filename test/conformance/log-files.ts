// Where log lines go: into the file that is open, and from one moment on into another one, whole and in order.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe } from "node:test";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { eventually } from "../support/eventually.ts";
import { test } from "./lines.ts";
import { openDescriptors } from "./peers.ts";

const MOVES = 20;
const BATCHES = 50;
const LINES = 100;

/** Registers the tests of `Runtime.openLogSink` and `openLogFile`. */
export function logFileConformance(runtime: Runtime): void {
  describe("log files", () => {
    let directory: string;
    const at = (name: string): string => join(directory, name);
    const numbersIn = (name: string): number[] => readFileSync(at(name), "utf8").split("\n").slice(0, -1).map(Number);

    before(() => {
      directory = mkdtempSync(join(tmpdir(), "conformance-logs-"));
    });
    after(() => rmSync(directory, { recursive: true }));

    test("a sink that moves in the middle of its writes loses no line, tears none and keeps their order", async () => {
      const sink = runtime.openLogSink(at("moving.log"));
      let number = 0;
      for (let move = 0; move < MOVES; move++) {
        for (let batch = 0; batch < BATCHES; batch++) {
          let lines = "";
          for (let line = 0; line < LINES; line++) lines += `${number++}\n`;
          sink.write(lines);
        }
        renameSync(at("moving.log"), at(`moving.log.${String(move).padStart(2, "0")}`));
        sink.moveTo(runtime.openLogFile(at("moving.log")));
        // A second one while the first has not been written to.
        if (move % 3 === 0) sink.moveTo(runtime.openLogFile(at("moving.log")));
        if (move % 4 === 0) await sink.flush();
      }
      await sink.flush();
      const rotated = readdirSync(directory).filter((name) => name.startsWith("moving.log."));
      const all = [...rotated.sort(), "moving.log"].flatMap(numbersIn);
      assert.equal(sink.droppedLines, 0);
      assert.equal(all.length, MOVES * BATCHES * LINES);
      assert.ok(all.every((value, index) => value === index));
    });

    test("a write that has just begun goes to the file before, whole", async () => {
      const sink = runtime.openLogSink(at("begun.log"));
      const lines = `${"y".repeat(99)}\n`.repeat(5000);
      for (let move = 0; move < MOVES; move++) {
        sink.write(lines);
        sink.moveTo(runtime.openLogFile(at(`begun.log.${move}`)));
        await sink.flush();
        const file = move === 0 ? "begun.log" : `begun.log.${move - 1}`;
        assert.equal(readFileSync(at(file), "utf8").length, lines.length);
      }
      assert.equal(sink.droppedLines, 0);
    });

    test("what it has left is closed", async () => {
      const sink = runtime.openLogSink(at("first.log"));
      const open = (): number => openDescriptors();
      const before = open();
      for (let move = 0; move < 50; move++) {
        sink.write("line\n");
        sink.moveTo(runtime.openLogFile(at("second.log")));
        await sink.flush();
      }
      // A platform may close in its own time.
      await eventually(
        () => `${open()} descriptors, ${before} before`,
        () => open() <= before + 2,
      );
    });

    const unopened: readonly (readonly [string, string])[] = [
      ["absent/access.log", "ENOENT"],
      ["directory", "EISDIR"],
      ["fifo", "ENXIO"],
    ];
    for (const [name, code] of unopened) {
      test(`${name} is refused at once, by ${code}`, { timeout: 5000 }, () => {
        if (name === "directory") mkdirSync(at(name));
        if (name === "fifo") assert.equal(spawnSync("mkfifo", [at(name)]).status, 0);
        assert.throws(
          () => runtime.openLogFile(at(name)),
          (thrown: { code?: unknown; message: string }) => thrown.code === code && thrown.message.includes(at(name)),
        );
      });
    }
  });
}
