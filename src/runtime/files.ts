// The seam for files: the little that config, PKI and quickstart need of a file system. No function here is for the data
// path: each call waits for the disk.

/**
 * Paths are absolute, or relative to the working directory. Text is UTF-8. Every failure is a ProxyError whose code is the
 * errno's name (ENOENT, EACCES, EISDIR, ENOSPC …) and whose message names the path.
 */
export interface Files {
  /**
   * The whole of a regular file of at most 16 MiB. Never waits for a writer: refuses a directory (EISDIR), a FIFO, a device or another special
   * file (EINVAL, or the errno of opening it) and a larger file (EFBIG).
   */
  readText(path: string): string;
  /** Whether something is there. False also when a directory above it cannot be entered. */
  exists(path: string): boolean;
  /**
   * What tells one content of a file from the next, without reading it: `dev:ino:size:mtimeNs:ctimeNs` of the file that the path leads to
   * (symbolic links are followed), or the errno's name (ENOENT …) where it leads to none. Never throws.
   */
  stamp(path: string): string;
  /** The names in a directory, sorted, without `.` and `..`. */
  list(directory: string): readonly string[];
  /**
   * Puts a whole file in place, so that a reader sees the old text or the new one, never a part, and a crash leaves no
   * key readable by others. Replaces what is there.
   */
  writeText(path: string, text: string, options: { readonly mode: number }): void;
  /** Takes a file away, if it is there. */
  remove(path: string): void;
  /** Makes a directory and those above it, all with this mode (less the umask); leaves one that exists as it is. */
  makeDirectory(path: string, options: { readonly mode: number }): void;
}
