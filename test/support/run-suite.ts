// `npm test`: everything that must hold before a change lands, in the order of how fast it fails. Types, format and lint, then all tests;
// before the tests that drive real programs, those programs are installed where that is possible.

import { spawnSync } from "node:child_process";
import { installPrograms } from "./programs.ts";

const ROOT = `${import.meta.dir}/../..`;

function step(title: string, command: readonly [string, ...string[]]): void {
  console.log(`\n== ${title}: ${command.join(" ")}`);
  const { status } = spawnSync(command[0], command.slice(1), { cwd: ROOT, stdio: "inherit" });
  if (status !== 0) fail(title);
}

function fail(title: string): never {
  console.log(`\n${title} failed.\n0 passed, 1 failed`);
  process.exit(1);
}

step("types", ["tsc", "--noEmit"]);
// What runs in a browser knows other globals.
step("types of the dashboard", ["tsc", "--noEmit", "-p", "src/admin/dashboard"]);
step("format and lint", ["biome", "check", "--error-on-warnings", "."]);
installPrograms();

console.log("\n== tests: bun test");
const tests = Bun.spawn(["bun", "test", ...process.argv.slice(2)], { cwd: ROOT, stdout: "inherit", stderr: "pipe" });
let summary = "";
for await (const chunk of tests.stderr) {
  process.stderr.write(chunk);
  summary = (summary + new TextDecoder().decode(chunk)).slice(-4096);
}
const status = await tests.exited;
const count = (word: string): number => Number(new RegExp(`^\\s*(\\d+) ${word}`, "m").exec(summary)?.[1] ?? 0);
const failed = Math.max(count("fail"), status === 0 ? 0 : 1);
const skipped = count("skip");
console.log(`\n${count("pass")} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
process.exit(failed === 0 && count("pass") > 0 ? 0 : 1);
