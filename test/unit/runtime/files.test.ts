import { afterAll, describe, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ProxyError } from "../../../src/base/errors.ts";
import { files } from "../../../src/runtime/node/files.ts";

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

  test("are told apart by their stamp, however they are replaced", () => {
    const at = (name: string): string => join(directory, "stamps", name);
    mkdirSync(at("one"), { recursive: true });
    mkdirSync(at("two"));
    for (const folder of ["one", "two"]) writeFileSync(at(`${folder}/key.pem`), "same");
    // As Kubernetes mounts a secret: the file is reached through a link to a folder, and that link is swapped.
    symlinkSync("one", at("data"));
    symlinkSync("data/key.pem", at("key.pem"));
    const seen = [files.stamp(at("key.pem"))];
    expect(files.stamp(at("key.pem"))).toBe(seen[0] as string);
    expect(files.stamp(at("one/key.pem"))).toBe(seen[0] as string);

    symlinkSync("two", at("next"));
    renameSync(at("next"), at("data"));
    seen.push(files.stamp(at("key.pem")));

    const { atime, mtime } = statSync(at("key.pem"));
    writeFileSync(at("two/key.pem"), "SAME");
    utimesSync(at("two/key.pem"), atime, mtime);
    seen.push(files.stamp(at("key.pem")));

    writeFileSync(at("fresh"), "SAME");
    renameSync(at("fresh"), at("two/key.pem"));
    seen.push(files.stamp(at("key.pem")));

    for (const stamp of seen) expect(stamp).toMatch(/^\d+(:\d+){4}$/);
    expect(new Set(seen).size).toBe(seen.length);
  });

  test("that are not there have the errno's name for a stamp", () => {
    symlinkSync("loop", join(directory, "loop"));
    expect(files.stamp(join(directory, "nothing"))).toBe("ENOENT");
    expect(files.stamp("/dev/null/x")).toBe("ENOTDIR");
    expect(files.stamp(join(directory, "loop"))).toBe("ELOOP");
    expect(files.stamp("\0")).not.toBe("");
  });

  test("of a directory are listed in order", () => {
    const path = join(directory, "listed");
    mkdirSync(join(path, "b"), { recursive: true });
    for (const name of ["c", "a", ".hidden"]) writeFileSync(join(path, name), "");
    expect(files.list(path)).toEqual([".hidden", "a", "b", "c"]);
  });

  test("fail with the errno's name and the path", () => {
    const absent = join(directory, "absent/file");
    const cases: [() => unknown, string, string][] = [
      [() => files.readText(absent), "ENOENT", absent],
      [() => files.readText(directory), "EISDIR", directory],
      [() => files.list(absent), "ENOENT", absent],
      [() => files.list("/dev/null"), "ENOTDIR", "/dev/null"],
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
