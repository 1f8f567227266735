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
   * Puts our process id into the file. Throws ProxyError EEXIST when another bunnel that lives is named there, unless it is the predecessor
   * that we have taken over from, or when the file is something else; or what writing it throws. A file whose process has gone is replaced.
   */
  claim({ takeOver = false } = {}): void {
    const { path, pid, files } = this.#options;
    const text = this.#text();
    const named = Number(text);
    if (text !== "" && !(Number.isSafeInteger(named) && named > 0))
      throw new ProxyError("EEXIST", `${path} holds no process id but something else: give \`pid_file\` another path`);
    if (named > 0 && named !== pid && !takeOver && this.#isBunnel(named))
      throw new ProxyError(
        "EEXIST",
        `${path} names process ${named}, which is a bunnel that runs: stop it, or give this one another \`pid_file\``,
      );
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

  /** A process id is given to others in time: only a command line tells whose it is. */
  #isBunnel(pid: number): boolean {
    const words = this.#options.commandLine(pid);
    const end = words.indexOf("run");
    // `bunnel run`, or `bun …/bunnel/src/main.ts run`.
    return words.slice(0, Math.max(end, 0)).some((word) => /(^|\/)(bunnel|main\.ts)$/.test(word));
  }
}
