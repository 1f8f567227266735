// `bunnel pki …` as it would be typed, in this process and on real files.

import { Command } from "commander";
import { registerPki } from "../../src/cli/pki.ts";
import type { PkiIo } from "../../src/cli/pki-files.ts";
import { files } from "../../src/runtime/node/files.ts";

/** What the command said. */
export interface PkiOutcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs it. `fileSeam` stands in for the real files where a test wants to see or break them. Throws CommanderError for an unknown option. */
export async function pki(parameters: readonly string[], fileSeam: PkiIo["files"] = files): Promise<PkiOutcome> {
  const result = { code: -1, out: "", err: "" };
  const io: PkiIo = {
    out: (line) => {
      result.out += `${line}\n`;
    },
    err: (line) => {
      result.err += `${line}\n`;
    },
    files: fileSeam,
  };
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  registerPki(program, io, (code) => {
    result.code = code;
  });
  await program.parseAsync(["pki", ...parameters], { from: "user" });
  return result;
}
