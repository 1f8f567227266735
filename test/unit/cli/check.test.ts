import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { Command } from "commander";
import { check, EXIT_BAD_CONFIG, registerCheck } from "../../../src/cli/check.ts";
import { reference } from "../../../src/cli/reference.ts";
import { schema } from "../../../src/cli/schema.ts";
import { version } from "../../../src/cli/version.ts";
import { runtime } from "../../../src/runtime/bun/bun-runtime.ts";
import { files } from "../../../src/runtime/node/files.ts";
import { exampleFiles } from "../../golden/example-files.ts";
import { temporaryDirectory } from "../../support/temporary.ts";

const golden = join(import.meta.dir, "../../golden/config");

async function recordingIo() {
  const out: string[] = [];
  const err: string[] = [];
  return {
    output: { out, err },
    out: (line: string) => void out.push(line),
    err: (line: string) => void err.push(line),
    files: await exampleFiles(files),
    environment: {} as Record<string, string>,
    userId: 1000,
    runtime,
  };
}

describe("check", () => {
  test("a good config: 0, and a line that counts", async () => {
    const io = await recordingIo();
    const file = join(golden, "minimal.yaml");
    expect(await check(io, { config: file })).toBe(0);
    expect(io.output).toEqual({
      out: [`${file}: ok, 1 listener, 1 route, 0 policies, 1 backend, 1 endpoint`],
      err: [],
    });
  });
  test("a bad config: 78, and every problem on standard error", async () => {
    const io = await recordingIo();
    expect(await check(io, { config: join(golden, "misspelt.yaml") })).toBe(EXIT_BAD_CONFIG);
    expect(io.output.out).toEqual([]);
    expect(io.output.err.length).toBeGreaterThan(5);
    for (const line of io.output.err) expect(line).toMatch(/misspelt\.yaml:\d+:\d+: [\w.[\]<]+: ./);
  });
  test("a bad certificate is a bad config; names are not resolved", async () => {
    const io = await recordingIo();
    expect(await check(io, { config: join(golden, "mismatched-key.yaml") })).toBe(EXIT_BAD_CONFIG);
    expect(await check(io, { config: join(golden, "unresolvable.yaml") })).toBe(0);
  });
  test("warnings are printed and do not refuse", async () => {
    const io = await recordingIo();
    expect(await check(io, { config: join(golden, "warnings.yaml") })).toBe(0);
    expect(io.output.err.every((line) => line.startsWith("warning: "))).toBe(true);
    expect(io.output.err.length).toBe(4);
  });
  test("a file that is not there: 78", async () => {
    const io = await recordingIo();
    expect(await check(io, { config: "/nowhere/x.yaml" })).toBe(EXIT_BAD_CONFIG);
    expect(io.output.err).toEqual(["/nowhere/x.yaml: cannot be read: no such file or directory"]);
  });
  test("without a config: the embedded default, or 1 when it cannot be set up", async () => {
    const io = await recordingIo();
    io.environment.XDG_STATE_HOME = temporaryDirectory("bunnel-check-");
    expect(await check(io, {})).toBe(0);
    expect(io.output.out).toEqual([
      "the embedded default: ok, 2 listeners, 2 routes, 1 policy, 1 backend, 3 endpoints",
    ]);
    io.environment.XDG_STATE_HOME = "/proc/nowhere";
    expect(await check(io, {})).toBe(1);
    expect(io.output.err.at(-1)).toStartWith("the embedded default cannot be set up: cannot make the directory /proc");
  });
  test("it is a command with -c", async () => {
    const io = await recordingIo();
    const codes: number[] = [];
    const program = new Command();
    registerCheck(program, io, (code) => codes.push(code));
    await program.parseAsync(["check", "-c", join(golden, "minimal.yaml")], { from: "user" });
    expect(codes).toEqual([0]);
  });
});

test("schema, reference and version print what they name", () => {
  const printed: string[] = [];
  const out = (text: string): void => void printed.push(text);
  expect(schema({ out })).toBe(0);
  expect(JSON.parse(printed[0] ?? "").properties.listeners.type).toBe("array");
  expect(reference({ out })).toBe(0);
  expect(printed[1]).toStartWith("# Configuration reference");
  expect(version({ out, version: "1.2.3", runtimeVersion: "bun 1.0.0" })).toBe(0);
  expect(printed[2]).toBe("bunnel 1.2.3 (bun 1.0.0)");
});
