// `npm run bench:micro`: each piece of the hot path by itself, without sockets, beside its budget. Each file is run in a process of its own, or
// one would find a compiler that has seen the others.
//   bun bench/micro/run.ts [--json] [FILE …]     all files unless named, as in `relay`
// Exit code: 0 when every median is within its budget, 1 when one is not or could not be measured, 2 usage.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { do_not_optimize, measure } from "mitata";
import { type MicroResult, summarise } from "../results.ts";
import type { Micro } from "./micro.ts";

const NO_MICRO = ["micro.ts", "run.ts"];
/** Other programs only ever make it slower: what is beyond its budget is measured again, and the best of so many stands. */
const ATTEMPTS = 3;
/** Long enough for the compiler's last stage and hundreds of samples. */
const MEASURE_NS = 250e6;

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  const [first, file] = args;
  if (first === "--child" && file !== undefined) {
    for await (const result of measureFile(file)) console.log(JSON.stringify(result));
    return 0;
  }
  const files = microFiles();
  const asked = args.filter((arg) => arg !== "--json").map((name) => `${name.replace(/\.ts$/, "")}.ts`);
  const unknown = asked.find((name) => !files.includes(name));
  if (unknown !== undefined) {
    console.error(`"${unknown}" is none of: ${files.join(", ")}`);
    return 2;
  }
  const chosen = asked.length === 0 ? files : asked;
  const isJson = args.includes("--json");
  const print = (result: MicroResult): void => console.log(isJson ? JSON.stringify(result) : lineOf(result));
  if (!isJson)
    console.log(`${"ns, Bun ".concat(Bun.version).padEnd(64)}${"budget".padStart(13)}   median (least..p99)`);
  return (await runMicro(chosen, print)) ? 0 : 1;
}

/** The files of this folder that measure something. */
export function microFiles(): readonly string[] {
  const files = readdirSync(import.meta.dir).filter((name) => name.endsWith(".ts") && !NO_MICRO.includes(name));
  return files.sort();
}

/** Measures the files and tells of each result. False when one is beyond its budget or a file failed. */
export async function runMicro(files: readonly string[], tell: (result: MicroResult) => void): Promise<boolean> {
  let isGood = true;
  for (const file of files) {
    const command = [process.execPath, import.meta.path, "--child", file];
    const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
    let rest = "";
    for await (const chunk of child.stdout) {
      const lines = (rest + new TextDecoder().decode(chunk)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        // What else a file prints is no result.
        if (!line.startsWith("{")) continue;
        const result: MicroResult = JSON.parse(line);
        isGood &&= isWithin(result);
        tell(result);
      }
    }
    if ((await child.exited) !== 0) {
      console.error(`${file} failed`);
      isGood = false;
    }
  }
  return isGood;
}

/** Whether the median is within the budget. */
export function isWithin({ median, budget }: Pick<MicroResult, "median" | "budget">): boolean {
  return median <= budget;
}

/** A line for people: name, budget, what was measured, ✓ or ✗. */
export function lineOf(result: MicroResult): string {
  const { name, budget, median, min, max } = result;
  const text = (value: number): string => (value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString("en"));
  const measured = `${text(median)} (${text(min)}..${text(max)})`;
  return `${name.padEnd(64)}${`≤ ${text(budget)}`.padStart(13)} ${isWithin(result) ? "✓" : "✗"} ${measured}`;
}

async function* measureFile(file: string): AsyncGenerator<MicroResult> {
  const { MICRO }: { MICRO?: readonly Micro[] } = await import(join(import.meta.dir, file));
  if (MICRO === undefined) throw new Error(`${file} exports no MICRO: see micro.ts`);
  for (const micro of MICRO) {
    let best = await measureOne(micro);
    for (let attempt = 1; attempt < ATTEMPTS && !isWithin(best); attempt += 1) {
      const again = await measureOne(micro);
      if (again.median < best.median) best = again;
    }
    yield best;
  }
}

async function measureOne(micro: Micro): Promise<MicroResult> {
  const { name, budget } = micro;
  if ("samples" in micro) {
    const summary = summarise(await micro.samples());
    if (summary === undefined) throw new Error(`${name} gave no samples`);
    return { name, budget, ...summary };
  }
  const { call } = micro;
  const { p50, min, p99 } = await measure(() => do_not_optimize(call()), { min_cpu_time: MEASURE_NS });
  return { name, budget, median: p50, min, max: p99 };
}
