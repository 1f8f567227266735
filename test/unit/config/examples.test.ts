// Every example in config/ passes `bunnel check`, without a warning.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { check } from "../../../src/cli/check.ts";
import { runtime } from "../../../src/runtime/bun/bun-runtime.ts";
import { files } from "../../../src/runtime/node/files.ts";
import { exampleFiles } from "../../golden/example-files.ts";
import { exampleConfigs } from "../../support/example-configs.ts";

const directory = join(import.meta.dir, "../../../config");
const examples = exampleConfigs();

test("there are examples", () => expect(examples.length).toBeGreaterThanOrEqual(8));

for (const name of examples) {
  test(name, async () => {
    const lines: string[] = [];
    const errors: string[] = [];
    const io = {
      out: (line: string) => lines.push(line),
      err: (line: string) => errors.push(line),
      files: await exampleFiles(files),
      environment: {},
      userId: 0,
      runtime,
    };
    const code = await check(io, { config: join(directory, name) });
    expect(errors).toEqual([]);
    expect(code).toBe(0);
    expect(lines).toHaveLength(1);
  });
}
