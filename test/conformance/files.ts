// 0. Reading a file. The path comes from an operator and may lead anywhere; whatever is there, one read must not hold up the process.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe } from "node:test";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { test } from "./lines.ts";

const MAX_BYTES = 16 * 1024 * 1024;

/** Registers the tests of `Files.readText`. */
export function fileConformance({ files }: Runtime): void {
  describe("0. readText", () => {
    let directory: string;
    const at = (name: string): string => join(directory, name);

    before(() => {
      directory = mkdtempSync(join(tmpdir(), "conformance-files-"));
      mkdirSync(at("directory"));
      assert.equal(spawnSync("mkfifo", [at("fifo")]).status, 0);
      symlinkSync("/dev/zero", at("zeros"));
      for (const [name, bytes] of [
        ["sparse", 64 * 1024 * 1024],
        ["one-too-many", MAX_BYTES + 1],
        ["largest", MAX_BYTES],
      ] as const) {
        writeFileSync(at(name), "");
        truncateSync(at(name), bytes);
      }
      writeFileSync(at("text"), "Grüße\n");
      symlinkSync("text", at("link"));
    });
    after(() => rmSync(directory, { recursive: true }));

    const refused: readonly (readonly [string, string, RegExp])[] = [
      ["fifo", "EINVAL", /no regular file/],
      ["zeros", "EINVAL", /no regular file/],
      ["sparse", "EFBIG", /67108864 bytes/],
      ["one-too-many", "EFBIG", /16777217 bytes/],
      ["directory", "EISDIR", /it is a directory/],
      ["nothing", "ENOENT", /no such file/],
    ];
    for (const [name, code, message] of refused) {
      test(`${name}: is refused at once, by ${code}`, { timeout: 5000 }, () => {
        assert.throws(
          () => files.readText(at(name)),
          (thrown: { code?: unknown; message: string }) => {
            assert.equal(thrown.code, code);
            assert.match(thrown.message, message);
            assert.ok(thrown.message.includes(at(name)));
            return true;
          },
        );
      });
    }

    test("a regular file is read, through a link too, up to the limit", () => {
      assert.equal(files.readText(at("text")), "Grüße\n");
      assert.equal(files.readText(at("link")), "Grüße\n");
      assert.equal(files.readText(at("largest")).length, MAX_BYTES);
    });
  });
}
