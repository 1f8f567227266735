// `npm test`: everything that must hold before a change lands, in the order of how fast it fails. Types, format and lint, then all tests;
// before the tests that drive real programs, those programs are installed where that is possible.
//
// Arguments are given to one `bun test`. Without any, the tests are jobs, of which two run at a time where there are two CPUs. A job that
// fails beside another one is run again by itself, and that counts: many tests wait for seconds, and a neighbour may use them up.

import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { installPrograms } from "./programs.ts";
import { add, type Counts, countsOf, type Job, jobsOf, NO_COUNTS } from "./suite-jobs.ts";

const ROOT = `${import.meta.dir}/../..`;
const MOST_LANES = 2;
/** A job that takes longer hangs. */
const JOB_LIMIT_MS = 5 * 60_000;

step("types", ["tsc", "--noEmit"]);
// What runs in a browser knows other globals.
step("types of the dashboard", ["tsc", "--noEmit", "-p", "src/admin/dashboard"]);
step("format and lint", ["biome", "check", "--error-on-warnings", "."]);
installPrograms();

const chosen = process.argv.slice(2);
const jobs = chosen.length > 0 ? [chosen] : jobsOf(`${ROOT}/test`);
/** Of each job the last time that it was run. */
const results = new Map<Job, Counts>();
const lanes = Math.min(MOST_LANES, availableParallelism(), jobs.length);
await runJobs(jobs, lanes);
const suspects = lanes > 1 ? jobs.filter(hasFailed) : [];
await runJobs(suspects, 1);
for (const job of suspects)
  console.log(`\n${job.join(" ")} failed beside another job${hasFailed(job) ? "" : ", and passed by itself"}`);
end([...results.values()].reduce(add, NO_COUNTS));

function step(title: string, command: readonly [string, ...string[]]): void {
  console.log(`\n== ${title}: ${command.join(" ")}`);
  const { status } = spawnSync(command[0], command.slice(1), { cwd: ROOT, stdio: "inherit" });
  if (status === 0) return;
  console.log(`\n${title} failed.`);
  end({ ...NO_COUNTS, failed: 1 });
}

/** The last line always says how many. */
function end({ passed, failed, skipped }: Counts): never {
  console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
}

/** Each lane takes the next job when it is through with its last one. */
async function runJobs(some: readonly Job[], atOnce: number): Promise<void> {
  const waiting = [...some];
  const lane = async (): Promise<void> => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift())
      results.set(job, await run(job, atOnce === 1));
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
}

/** What it prints is shown at once, or when all of it is there. */
async function run(job: Job, atOnce: boolean): Promise<Counts> {
  const began = performance.now();
  const command = ["bun", "test", ...job];
  if (atOnce) console.log(`\n== ${command.join(" ")}`);
  const child = Bun.spawn(command, { cwd: ROOT, stdout: "inherit", stderr: "pipe", timeout: JOB_LIMIT_MS });
  const decoder = new TextDecoder();
  let output = "";
  // `bun test` tells all but what a test itself prints on stderr.
  for await (const chunk of child.stderr) {
    if (atOnce) process.stderr.write(chunk);
    output += decoder.decode(chunk, { stream: true });
  }
  const status = await child.exited;
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  if (!atOnce) console.log(`\n== ${command.join(" ")}: ${seconds} s\n${output.trimEnd()}`);
  if (child.signalCode !== null) console.log(`ended by ${child.signalCode} after ${seconds} s`);
  return countsOf(output, status);
}

function hasFailed(job: Job): boolean {
  return results.get(job)?.failed !== 0;
}
