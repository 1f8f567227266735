// The file that holds our process id, for scripts that want to signal the daemon. It is a courtesy and no lock: what keeps two daemons apart is
// that both cannot have the same addresses.

import { ProxyError } from "../base/errors.ts";
import type { Files } from "../runtime/files.ts";
import type { Runtime } from "../runtime/runtime.ts";

const MODE = 0o644;

export interface PidFileOptions {
  readonly path: string;
  readonly pid: number;
  readonly files: Files;
  readonly commandLine: Runtime["commandLine"];
}

/** One process's claim to the file. */
export class PidFile {
  readonly #options: PidFileOptions;

  constructor(options: PidFileOptions) {
    this.#options = options;
  }

  /**
   * Throws ProxyError EEXIST when another bunnel that lives is named in the file, unless it is the predecessor that we have taken over from, or
   * when the file is something else.
   */
  check({ takeOver = false } = {}): void {
    const { path, pid } = this.#options;
    const text = this.#text();
    const named = Number(text);
    if (text !== "" && !(Number.isSafeInteger(named) && named > 0))
      throw new ProxyError("EEXIST", `${path} holds no process id but something else: give \`pid_file\` another path`);
    if (named > 0 && named !== pid && !takeOver && isDaemon(this.#options.commandLine(named)))
      throw new ProxyError(
        "EEXIST",
        `${path} names process ${named}, which is a bunnel that runs: stop it, or give this one another \`pid_file\``,
      );
  }

  /**
   * Puts our process id into the file. Throws what `check` throws, and what writing it throws. A file whose process has gone is replaced. Who
   * claims has the addresses: of two that start at once the one that cannot have them leaves the file alone.
   */
  claim({ takeOver = false } = {}): void {
    this.check({ takeOver });
    const { path, pid, files } = this.#options;
    files.writeText(path, `${pid}\n`, { mode: MODE });
  }

  /** Takes the file away, if it is still ours: a successor may have it by now. Never throws: it is called at the end. */
  release(): void {
    const { path, pid, files } = this.#options;
    try {
      if (this.#text() === String(pid)) files.remove(path);
    } catch {
      // A file that stays behind names a process that has gone, and is replaced by whoever comes next.
    }
  }

  /** What the file holds, "" when there is none. */
  #text(): string {
    const { path, files } = this.#options;
    return files.exists(path) ? files.readText(path).trim() : "";
  }
}

/** Whether a process with this command line is a daemon of bunnel. A process id is given to others in time: only a command line tells whose it is. */
export function isDaemon(commandLine: readonly string[]): boolean {
  const end = commandLine.indexOf("run");
  // `bunnel run`, or `bun …/bunnel/src/main.ts run`.
  return commandLine.slice(0, Math.max(end, 0)).some((word) => /(^|\/)(bunnel|main\.ts)$/.test(word));
}
