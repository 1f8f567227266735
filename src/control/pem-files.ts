// The PEM files that a config names: each is read once, however often it is named, and its stamp is kept, so that a change can be seen.
// Messages never quote what is in a file: it may be a key, or a path may point at another secret.

import { messageOf } from "../base/errors.ts";
import type { Path } from "../config/problems.ts";
import { pemLabels, splitPem } from "../protocol/pem.ts";
import type { Files } from "../runtime/files.ts";
import { decodePem } from "../tls-tools/pem.ts";

/** PKCS #8 (RFC 5958), and the older forms that openssl still writes. */
const KEY_LABELS = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"];

/** Reads files, and reports what is wrong with them at the place in the config that names them. */
export class PemFiles {
  /** Of every file and folder that was looked for, as it was just before: what to watch. */
  readonly stamps = new Map<string, string>();
  /** Of every file that could be read and is whole. Never to be logged: keys are among them. */
  readonly texts = new Map<string, string>();
  readonly #files: Pick<Files, "readText" | "list" | "stamp">;
  readonly #report: (path: Path, message: string) => void;

  constructor(files: Pick<Files, "readText" | "list" | "stamp">, report: (path: Path, message: string) => void) {
    this.#files = files;
    this.#report = report;
  }

  /** The names in a folder; null when it cannot be read. */
  names(folder: string, path: Path): readonly string[] | null {
    this.stamps.set(folder, this.#files.stamp(folder));
    try {
      return this.#files.list(folder);
    } catch (error) {
      this.#report(path, messageOf(error));
      return null;
    }
  }

  /** The blocks with this label of a file, which must have one and be sound base64. */
  blocks(file: string, label: string, path: Path): string[] {
    const text = this.text(file, path);
    if (text === null) return [];
    const blocks = splitPem(text, label);
    if (blocks.length === 0) this.#report(path, `${file}: expected a PEM block "${label}", found ${foundIn(text)}`);
    return blocks.filter((block) => {
      try {
        return decodePem(block, label).length > 0;
      } catch (error) {
        this.#report(path, `${file}: ${messageOf(error)}`);
        return false;
      }
    });
  }

  /** The private key in a file; null when there is none that can be used. */
  key(file: string, path: Path): string | null {
    const text = this.text(file, path);
    if (text === null) return null;
    const key = KEY_LABELS.flatMap((label) => splitPem(text, label))[0];
    const encrypted = text.includes("BEGIN ENCRYPTED PRIVATE KEY") || key?.includes("Proc-Type: 4,ENCRYPTED") === true;
    if (encrypted) this.#report(path, `${file}: the key is encrypted, and there is nobody to ask for its password`);
    else if (key === undefined)
      this.#report(path, `${file}: expected a PEM block "PRIVATE KEY", found ${foundIn(text)}`);
    return encrypted ? null : (key ?? null);
  }

  /** All of a file; null when it cannot be read, or is cut off. */
  text(file: string, path: Path): string | null {
    const known = this.texts.get(file);
    if (known !== undefined) return known;
    // Before it is read: what is written meanwhile counts as new.
    this.stamps.set(file, this.#files.stamp(file));
    try {
      const text = this.#files.readText(file);
      // What comes before the cut is whole and would be taken for all: a bundle without some of its authorities.
      if (text.split("-----BEGIN ").length !== text.split("-----END ").length) {
        this.#report(path, `${file}: ends in the middle of a PEM block: it is being written, or was cut off`);
        return null;
      }
      this.texts.set(file, text);
      return text;
    } catch (error) {
      this.#report(path, messageOf(error));
      return null;
    }
  }
}

function foundIn(text: string): string {
  return pemLabels(text).join(", ") || "no PEM block";
}
