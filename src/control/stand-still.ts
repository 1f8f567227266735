// Tells when files have changed and then stood still. A file may be written in place, and a key and its certificate one after the other, so what
// has changed is not to be read before two looks in a row have seen the same. Goes by stamps alone, and reads nothing.

/** What a look shows: `same` as when they were read, `changing`, or `still` with a change that can be read now. */
export type Sight = "same" | "changing" | "still";

/** A set of files, and what they were like when they were read last. */
export class StandStill {
  readonly #stamp: (path: string) => string;
  /** Stamps as the files were read last, whether what was in them is served or was refused. */
  #read: ReadonlyMap<string, string> = new Map();
  /** Stamps that differ from those, as of the last look. */
  #changed: ReadonlyMap<string, string> | null = null;

  /** `stamp`: of a file as it is now (runtime/files.ts). */
  constructor(stamp: (path: string) => string) {
    this.#stamp = stamp;
  }

  /** These files were read, and had these stamps just before. From now on they are the ones that are looked at. */
  wasRead(stamps: ReadonlyMap<string, string>): void {
    this.#read = stamps;
  }

  /** Looks. After `still` it is for the caller to read the files, and to say so. */
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
