import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ProxyError } from "../../../src/base/errors.ts";
import { files } from "../../../src/runtime/bun/bun-files.ts";

const directory = mkdtempSync(join(tmpdir(), "bunnel-files-"));
afterAll(() => rmSync(directory, { recursive: true }));

function modeOf(path: string): number {
  return statSync(path).mode & 0o777;
}

function failure(work: () => unknown): ProxyError {
  try {
    work();
  } catch (error) {
    if (error instanceof ProxyError) return error;
    throw error;
  }
  throw new Error("it should have failed");
}

describe("files", () => {
  test("write a text whole, with exactly the mode asked for, whatever the umask", () => {
    const path = join(directory, "mode");
    const before = process.umask(0o077);
    try {
      files.writeText(path, "Grüße\n", { mode: 0o644 });
    } finally {
      process.umask(before);
    }
    expect(files.readText(path)).toBe("Grüße\n");
    expect(modeOf(path)).toBe(0o644);
  });

  test("replace a file that anyone could read by one that only its owner can, and leave nothing behind", () => {
    const own = join(directory, "replace");
    files.makeDirectory(own, { mode: 0o700 });
    const path = join(own, "key");
    writeFileSync(path, "old", { mode: 0o666 });
    const inode = statSync(path).ino;
    files.writeText(path, "new", { mode: 0o600 });
    expect(modeOf(path)).toBe(0o600);
    // Another inode: who holds the old file open reads the old text to its end.
    expect(statSync(path).ino).not.toBe(inode);
    expect(readdirSync(own)).toEqual(["key"]);
  });

  test("leave no temporary file behind when the rename fails", () => {
    const path = join(directory, "occupied");
    files.makeDirectory(join(path, "inside"), { mode: 0o755 });
    expect(failure(() => files.writeText(path, "x", { mode: 0o600 })).message).toContain(path);
    expect(readdirSync(directory).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("make directories above, private ones, and leave one that exists alone", () => {
    const path = join(directory, "a/b/c");
    files.makeDirectory(path, { mode: 0o700 });
    expect([modeOf(join(directory, "a")), modeOf(path)]).toEqual([0o700, 0o700]);
    files.makeDirectory(join(directory, "a"), { mode: 0o777 });
    expect(modeOf(join(directory, "a"))).toBe(0o700);
  });

  test("know what exists", () => {
    expect(files.exists(directory)).toBe(true);
    expect(files.exists(join(directory, "nothing"))).toBe(false);
  });

  test("fail with the errno's name and the path", () => {
    const absent = join(directory, "absent/file");
    const cases: [() => unknown, string, string][] = [
      [() => files.readText(absent), "ENOENT", absent],
      [() => files.readText(directory), "EISDIR", directory],
      [() => files.writeText(absent, "x", { mode: 0o600 }), "ENOENT", absent],
      [() => files.makeDirectory("/dev/null/x", { mode: 0o700 }), "ENOTDIR", "/dev/null/x"],
    ];
    for (const [work, code, path] of cases) {
      const error = failure(work);
      expect(error.code).toBe(code);
      expect(error.message).toContain(path);
    }
  });
});
