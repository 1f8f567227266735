// Config in, snapshot or problems out: each config/NAME.yaml has a NAME.snapshot.json or a NAME.problems.txt beside it that says what
// becomes of it. `UPDATE_GOLDEN=1 bun test test/golden` writes them anew; read the difference before committing it.

import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { loadConfig } from "../../src/config/load.ts";
import { formatProblem } from "../../src/config/problems.ts";
import { compile } from "../../src/control/compile.ts";
import { runtime } from "../../src/runtime/bun/bun-runtime.ts";
import { files as systemFiles } from "../../src/runtime/node/files.ts";
import { exampleFiles } from "./example-files.ts";

const directory = join(import.meta.dir, "config");
const environment = { EDGE_PORT: "8443", LIMIT: "500", CERTIFICATES: "certs", PLAIN: "yes: [a" };
const names = readdirSync(directory).filter((name) => name.endsWith(".yaml"));

test("there are golden configs", () => expect(names.length).toBeGreaterThan(20));

for (const name of names) {
  test(name, async () => {
    const { suffix, text } = await outcomeOf(name);
    const expected = join(directory, name.replace(/\.yaml$/, suffix));
    const other = join(directory, name.replace(/\.yaml$/, suffix === SNAPSHOT ? PROBLEMS : SNAPSHOT));
    if (process.env.UPDATE_GOLDEN === "1") {
      writeFileSync(expected, text);
      rmSync(other, { force: true });
    }
    expect(existsSync(other)).toBe(false);
    expect(text).toBe(readFileSync(expected, "utf8"));
    // The billion laughs take two seconds before they are refused, more on a busy machine.
  }, 30_000);
}

const SNAPSHOT = ".snapshot.json";
const PROBLEMS = ".problems.txt";

async function outcomeOf(name: string): Promise<{ suffix: string; text: string }> {
  const loaded = loadConfig(readFileSync(join(directory, name), "utf8"), { file: name, environment });
  const problemsOf = (problems: Parameters<typeof formatProblem>[0][]): { suffix: string; text: string } => ({
    suffix: PROBLEMS,
    text: `${problems.map(formatProblem).join("\n")}\n`,
  });
  if (!loaded.ok) return problemsOf([...loaded.problems]);
  const files = await exampleFiles(systemFiles);
  const compiled = await compile(loaded, {
    generation: 1,
    files,
    runtime,
    slots: new Map(),
    served: null,
    resolve: async (host) => {
      if (host.endsWith(".invalid")) throw new Error("no such host");
      return "192.0.2.1";
    },
    nowMs: Date.now(),
  });
  if (!compiled.ok) return problemsOf([...compiled.problems]);
  const warnings = compiled.warnings.map(formatProblem);
  return { suffix: SNAPSHOT, text: `${JSON.stringify({ snapshot: compiled.snapshot, warnings }, elide, 2)}\n` };
}

/** Keys and certificates are made anew by each run, so dates and texts differ. */
function elide(_key: string, value: unknown): unknown {
  if (typeof value !== "string") return value;
  if (value.startsWith("-----BEGIN ")) return `${value.split("\n")[0]}…`;
  return value.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "DATE");
}
