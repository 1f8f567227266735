// The file seam by node:fs, which both runtimes have.

import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { codeOf, messageOf, ProxyError } from "../../base/errors.ts";
import type { Files } from "../files.ts";

const TEXT_MAX_BYTES = 16 * 1024 * 1024;

/** The file system, through node:fs. */
export const files: Files = {
  readText: (path) => attempt("read", path, () => readWhole(path)),
  exists: (path) => existsSync(path),
  stamp: stampOf,
  list: (directory) => attempt("list", directory, () => readdirSync(directory).sort()),
  writeText: (path, text, { mode }) => attempt("write", path, () => replaceFile(path, text, mode)),
  remove: (path) => attempt("remove", path, () => rmSync(path, { force: true })),
  makeDirectory: (path, { mode }) =>
    attempt("make the directory", path, () => {
      mkdirSync(path, { recursive: true, mode });
    }),
};

function stampOf(path: string): string {
  try {
    // A change of content with the old size and a forged mtime still shows in the ctime.
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
  } catch (error) {
    return codeOf(error) || "EIO";
  }
}

/** A FIFO without a writer, a terminal or /dev/zero would hold up the whole process: all that is read here is looked at first. */
function readWhole(path: string): string {
  // Without the flag, opening a FIFO waits for its writer.
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const found = fstatSync(descriptor);
    if (found.isDirectory()) throw new ProxyError("EISDIR", "it is a directory");
    if (!found.isFile()) throw new ProxyError("EINVAL", "it is no regular file but a FIFO, a device or the like");
    if (found.size > TEXT_MAX_BYTES)
      throw new ProxyError("EFBIG", `it has ${found.size} bytes, and ${TEXT_MAX_BYTES} is the most that is read`);
    return readFileSync(descriptor, "utf8");
  } finally {
    closeSync(descriptor);
  }
}

function replaceFile(path: string, text: string, mode: number): void {
  // In the same directory, since a rename cannot cross file systems.
  const temporary = `${path}.${process.pid}.${crypto.randomUUID()}.tmp`;
  try {
    // "wx" follows no link that someone put there before us.
    const descriptor = openSync(temporary, "wx", mode);
    try {
      // The umask has narrowed the mode given to open; a certificate asked for as 0644 must not depend on it.
      fchmodSync(descriptor, mode);
      writeFileSync(descriptor, text);
      // Without it a crash may leave the new name with no bytes behind it.
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

function attempt<T>(verb: string, path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const code = codeOf(error) || "EIO";
    throw new ProxyError(code, `cannot ${verb} ${path}: ${explain(code) ?? messageOf(error)}`, { cause: error });
  }
}

function explain(code: string): string | undefined {
  switch (code) {
    case "ENOENT":
      return "no such file or directory";
    case "EACCES":
    case "EPERM":
      return "permission denied";
    case "EISDIR":
      return "it is a directory";
    case "ENOTDIR":
      return "a part of the path is not a directory";
    case "EEXIST":
      return "a file is in the way";
    case "ENOSPC":
      return "no space left on the device";
    case "EROFS":
      return "the file system is read-only";
    default:
      return undefined;
  }
}
