// `bunnel bench`: the lab is found in a checkout, its options go through, and where there is none that is said.

import { expect, spyOn, test } from "bun:test";
import { existsSync } from "node:fs";
import { bench } from "../../../src/cli/bench.ts";

test("options go to the lab of the checkout", async () => {
  const printed = spyOn(console, "log").mockImplementation(() => {});
  try {
    const io = { files: { exists: existsSync }, err: () => {} };
    expect(await bench(["--list"], io)).toBe(0);
    const lines = printed.mock.calls.map(([line]) => String(line));
    for (const name of ["tcp-up", "bunnel", "haproxy"]) expect(lines.some((line) => line.startsWith(name))).toBe(true);
  } finally {
    printed.mockRestore();
  }
});

test("without a lab it says where there is one", async () => {
  const said: string[] = [];
  const io = { files: { exists: () => false }, err: (line: string) => void said.push(line) };
  expect(await bench([], io)).toBe(1);
  expect(said.join()).toContain("checkout of the repository");
});
