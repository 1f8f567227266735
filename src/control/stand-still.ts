// Detects when files have changed and then stayed the same. A file may be written in place, and a key and its certificate one after the other, so
// changed files are read only after two polls in a row have found the same. Compares stamps only, and reads no file.

/** What a poll finds: `same` as when the files were read, `changing`, or `still`: changed, and the same as at the last poll. */
export type Sight = "same" | "changing" | "still";

/** A set of files, and what they were like when they were read last. */
export class StandStill {
  readonly #stamp: (path: string) => string;
  /** Stamps of the files as they were last read, whether their content is in use or was refused. */
  #read: ReadonlyMap<string, string> = new Map();
  /** Stamps at the last poll, when they differed from those. */
  #changed: ReadonlyMap<string, string> | null = null;

  /** `stamp` gives the current stamp of a file (runtime/files.ts). */
  constructor(stamp: (path: string) => string) {
    this.#stamp = stamp;
  }

  /** These files were read, with the stamps that they had just before. From now on these files are polled. */
  wasRead(stamps: ReadonlyMap<string, string>): void {
    this.#read = stamps;
  }

  /** Polls the files. After `still` the caller has to read them and to call `wasRead`. */
  look(): Sight {
    const now = new Map([...this.#read.keys()].map((path) => [path, this.#stamp(path)]));
    if (sameStamps(now, this.#read)) {
      this.#changed = null;
      return "same";
    }
    const isStill = this.#changed !== null && sameStamps(now, this.#changed);
    this.#changed = isStill ? null : now;
    return isStill ? "still" : "changing";
  }
}

function sameStamps(first: ReadonlyMap<string, string>, second: ReadonlyMap<string, string>): boolean {
  if (first.size !== second.size) return false;
  for (const [path, stamp] of first) if (second.get(path) !== stamp) return false;
  return true;
}
