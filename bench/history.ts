// Runs on disk: those that are kept in bench/history/, one file each, and the one that is not finished yet.
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Processes } from "./processes.ts";
import type { Run } from "./results.ts";

/** Where runs are kept. */
const HISTORY = join(import.meta.dir, "history");
const UNFINISHED = join(import.meta.dir, "results/unfinished.json");

/** Keeps a run and gives its path. */
export async function keepRun(run: Run, folder = HISTORY): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const name = `${run.startedAt.replaceAll(":", "")}-${run.commit.replace("+", "-changed") || "no-commit"}.json`;
  const file = join(folder, name);
  await Bun.write(file, textOf(run));
  return file;
}

/** Reads a kept run. Throws, naming the file, when it is none. */
export async function readRun(file: string): Promise<Run> {
  let run: Partial<Run>;
  try {
    run = JSON.parse(await Bun.file(file).text());
  } catch (error) {
    throw new Error(`${file} cannot be read as a run: ${error instanceof Error ? error.message : error}`);
  }
  if (!Array.isArray(run.workloads) || !Array.isArray(run.contenders) || run.workloads.some(({ noise }) => !noise))
    throw new Error(`${file} is no run of this lab: give it a file of bench/history or one that --json wrote`);
  return run as Run;
}

/** Puts a run away that may be interrupted. */
export async function saveUnfinished(run: Run): Promise<void> {
  await Bun.write(UNFINISHED, textOf(run));
}

/** The run that was put away last. Throws when there is none. */
export async function readUnfinished(): Promise<Run> {
  if (!(await Bun.file(UNFINISHED).exists())) throw new Error("--resume: there is no unfinished run");
  return readRun(UNFINISHED);
}

/** Forgets the unfinished run. */
export function forgetUnfinished(): void {
  rmSync(UNFINISHED, { force: true });
}

/** Abbreviated commit of the checkout, with "+" when files differ from it, but for the lab's own output; "" without git. */
export async function currentCommit(processes: Processes): Promise<string> {
  try {
    const git = (...args: string[]) => processes.run(["git", "-C", import.meta.dir, ...args], 10);
    const { stdout: commit } = await git("rev-parse", "--short", "HEAD");
    const { stdout: changes } = await git("status", "--porcelain", "--", ":/", ":!/bench/report", ":!/bench/history");
    return `${commit.trim()}${changes.trim() === "" ? "" : "+"}`;
  } catch {
    return "";
  }
}

/** One line for each innermost list, so that a change of a run can be read. */
function textOf(run: Run): string {
  const text = JSON.stringify(run, undefined, 1);
  return `${text.replace(/\[\s+([^[\]{}]*?)\s+\]/g, (_, items: string) => `[${items.replace(/,\s+/g, ", ")}]`)}\n`;
}
