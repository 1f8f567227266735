// Directories for a whole test process, removed at its end. What lives as long as one test, or one file, is removed by that.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const directories: string[] = [];

/** Makes a directory that stays until the process has run its tests. `prefix` begins its name. */
export function temporaryDirectory(prefix: string): string {
  const directory = mkdtempSync(join(tmpdir(), prefix));
  directories.push(directory);
  return directory;
}

/** Removes all of them. preload.ts calls it: Bun's test runner ends without the `exit` event. */
export function removeTemporaryDirectories(): void {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
}
