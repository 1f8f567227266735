// Where a contender's CPU time goes: perf samples it during one more load, and every sample is put under what the CPU was doing.
// Linux's perf only has to be installed; the programs are profiled as they are, without symbols of their own, so what is told is coarse.
import { join } from "node:path";
import { missingProgram } from "./contenders/contender.ts";
import { processTree } from "./measure.ts";
import { eventually, LabError, type Processes, type RunningProcess } from "./processes.ts";

/** What a CPU can be doing for a proxy, in the order of the table. */
export const PROFILE_KINDS = {
  kernelCopies: "kernel: copying bytes",
  kernel: "kernel: the rest",
  copies: "copying bytes in the process",
  tls: "TLS library, where it is apart",
  compiled: "compiled JavaScript",
  program: "the program itself",
  helpers: "its other threads",
} as const;

export type ProfileKind = keyof typeof PROFILE_KINDS;

/** How the samples of one load were spread; the shares add up to 1. */
export interface Profile {
  readonly contender: string;
  readonly samples: number;
  readonly shares: Readonly<Record<ProfileKind, number>>;
}

const SAMPLES_A_SECOND = 1999;
/** Fewer say nothing of a share of a few percent. */
const SAMPLES_AT_LEAST = 200;
const REPORT_SECONDS_AT_MOST = 60;

/** Why there can be no profiles; undefined when there can. */
export const profilingMissing = (): string | undefined => missingProgram("perf");

export interface ProfileOptions {
  readonly contender: string;
  readonly subject: readonly RunningProcess[];
  /** For perf's data. */
  readonly folder: string;
}

/** Samples the process trees of `subject` while `load` runs. Rejects when perf cannot, or when there was too little to see. */
export async function profile(
  { contender, subject, folder }: ProfileOptions,
  processes: Processes,
  load: () => Promise<unknown>,
): Promise<Profile> {
  const pids = subject.flatMap(({ pid }) => processTree(pid)).join(",");
  const file = join(folder, `${contender}.perf`);
  const sampling = ["-e", "cpu-clock", "-F", String(SAMPLES_A_SECOND), "-p", pids, "-o", file];
  const recorder = processes.start({ name: `perf-${contender}`, command: ["perf", "record", ...sampling] });
  // It has opened its counters once it has begun its file.
  await eventually("perf records", () => Bun.file(file).exists(), { owner: recorder });
  await load();
  await recorder.stop();
  const columns = ["--no-children", "-g", "none", "--sort", "comm,dso,symbol", "-n", "-t", "\t"];
  const report = await processes.run(["perf", "report", "-i", file, ...columns], REPORT_SECONDS_AT_MOST);
  const found = readProfile(report.stdout);
  if (found.samples < SAMPLES_AT_LEAST)
    throw new LabError(`perf has only ${found.samples} samples of ${contender}`, report.stderr.slice(-2000));
  return { contender, ...found };
}

/** Reads what `perf report -n -t TAB --sort comm,dso,symbol` prints: percent, samples, thread name, object, `[k] symbol`. */
export function readProfile(text: string): Omit<Profile, "contender"> {
  const rows = text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split("\t").map((cell) => cell.trim()))
    .flatMap(([, count, thread = "", object = "", symbol = ""]) => {
      const samples = Number(count);
      return Number.isInteger(samples) && samples > 0 ? [{ samples, thread, object, symbol }] : [];
    });
  const byThread = new Map<string, number>();
  for (const { thread, samples } of rows) byThread.set(thread, (byThread.get(thread) ?? 0) + samples);
  const [busiest = ""] = [...byThread].sort((a, b) => b[1] - a[1]).map(([thread]) => thread);
  const total = rows.reduce((sum, { samples }) => sum + samples, 0);
  const shares = Object.fromEntries(Object.keys(PROFILE_KINDS).map((kind) => [kind, 0])) as Record<ProfileKind, number>;
  for (const { samples, thread, object, symbol } of rows)
    shares[thread === busiest ? kindOf(object, symbol) : "helpers"] += samples / total;
  return { samples: total, shares };
}

function kindOf(object: string, symbol: string): ProfileKind {
  const name = symbol.replace(/^\[.\] /, "");
  if (symbol.startsWith("[k]"))
    return /^_*(copy_(to|from)_(iter|user)|copy_page|rep_movs|memcpy|skb_copy)/.test(name) ? "kernelCopies" : "kernel";
  if (/^_*mem(move|cpy)/.test(name)) return "copies";
  if (/^lib(crypto|ssl)\b/.test(object)) return "tls";
  return /^\[JIT\]|^perf-\d+\.map$/.test(object) ? "compiled" : "program";
}
