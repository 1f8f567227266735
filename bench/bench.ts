// `npm run bench`: what bunnel costs beside HAProxy, nginx stream and no proxy at all, on this machine, in one run.
//   bun bench/bench.ts [--rounds 5] [--only workload,…] [--contender name,…] [--json FILE] [--quick]
//     [--no-pin] [--write-readme] [--list]
// bench/README.md says what each number means and how it is measured. Exit code: 0 well, 1 something failed, 2 usage.
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { CONTENDERS, REFERENCE } from "./contenders.ts";
import { DIRECT, runLab } from "./lab.ts";
import { machineTicks, ownTicks } from "./measure.ts";
import { type Placement, Processes } from "./processes.ts";
import { type Report, renderMarkdown, replaceResults } from "./report.ts";
import { WORKLOADS } from "./workloads/all.ts";

const ROUNDS = 5;
const QUICK_SCALE = 0.25;
const README = join(import.meta.dir, "README.md");

interface Choices {
  readonly rounds: number;
  readonly scale: number;
  readonly workloads: readonly string[];
  readonly contenders: readonly string[];
  /** False: the scheduler places every process. */
  readonly pin: boolean;
  readonly json: string | undefined;
  readonly writeReadme: boolean;
}

process.exitCode = await main();

async function main(): Promise<number> {
  const choices = readArguments();
  if (typeof choices === "number") return choices;
  const folder = mkdtempSync(join(tmpdir(), "bunnel-bench-"));
  const placement = choices.pin ? choosePlacement() : undefined;
  const processes = new Processes(folder, placement);
  let interrupted = false;
  const cleanUp = async (): Promise<void> => {
    await processes.close();
    rmSync(folder, { recursive: true, force: true });
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.once(signal, () => {
      interrupted = true;
      void cleanUp().then(() => process.exit(130));
    });
  }
  try {
    const report = await run(choices, { folder, processes, placement });
    // Half a run, all of whose rest "failed", is no report.
    if (interrupted) return 130;
    await publish(report, choices);
    return report.failures.length > 0 ? 1 : 0;
  } finally {
    await cleanUp();
  }
}

function readArguments(): Choices | number {
  const names = {
    workloads: WORKLOADS.map(({ name }) => name),
    contenders: [DIRECT, ...CONTENDERS.map(({ name }) => name)],
  };
  try {
    const { values } = parseArgs({
      options: {
        rounds: { type: "string" },
        only: { type: "string", multiple: true, default: [] },
        contender: { type: "string", multiple: true, default: [] },
        json: { type: "string" },
        quick: { type: "boolean", default: false },
        "no-pin": { type: "boolean", default: false },
        "write-readme": { type: "boolean", default: false },
        list: { type: "boolean", default: false },
      },
    });
    if (values.list) {
      for (const { name, about } of [...WORKLOADS, ...CONTENDERS]) console.log(`${name.padEnd(20)} ${about}`);
      return 0;
    }
    const rounds = Number(values.rounds ?? (values.quick ? 1 : ROUNDS));
    if (!Number.isInteger(rounds) || rounds < 1)
      throw new Error(`--rounds ${values.rounds}: not a whole number above 0`);
    return {
      rounds,
      scale: values.quick ? QUICK_SCALE : 1,
      workloads: chosen(values.only, names.workloads),
      contenders: chosen(values.contender, names.contenders),
      pin: !values["no-pin"],
      json: values.json,
      writeReadme: values["write-readme"],
    };
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return 2;
  }
}

/** The names asked for, in the lab's order; all of them when none is. Throws on one that does not exist. */
function chosen(asked: readonly string[], known: readonly string[]): readonly string[] {
  const wanted = asked.flatMap((list) => list.split(","));
  const unknown = wanted.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new Error(`"${unknown}" is none of: ${known.join(", ")}`);
  return wanted.length === 0 ? known : known.filter((name) => wanted.includes(name));
}

/** The first CPU for the contender, the others for the load, the second for a second daemon; undefined where that cannot be had. */
function choosePlacement(): Placement | undefined {
  const count = availableParallelism();
  if (count < 2 || Bun.which("taskset") === null) return undefined;
  return { contender: "0", far: "1", load: count === 2 ? "1" : `1-${count - 1}` };
}

interface Setting {
  readonly folder: string;
  readonly processes: Processes;
  readonly placement: Placement | undefined;
}

async function run(choices: Choices, { folder, processes, placement }: Setting): Promise<Report> {
  const startedAt = new Date();
  const load = loadavg()[0] ?? 0;
  const ticks = machineTicks();
  const ownBefore = ownTicks();
  const contenders = CONTENDERS.filter(({ name }) => choices.contenders.includes(name));
  const direct = choices.contenders.includes(DIRECT);
  const versions = await readVersions(processes);
  const result = await runLab(
    {
      folder,
      rounds: choices.rounds,
      scale: choices.scale,
      workloads: WORKLOADS.filter(({ name }) => choices.workloads.includes(name)),
      contenders,
      direct,
      reference: REFERENCE,
      progress: (line) => console.error(line),
    },
    processes,
  );
  // What children used is ours to count only once they have ended.
  await processes.stopAll();
  const after = machineTicks();
  const share = (part: number): string => `${((100 * part) / Math.max(1, after.total - ticks.total)).toFixed(1)} %`;
  const others = Math.max(0, after.busy - ticks.busy - (ownTicks() - ownBefore));
  return {
    command: ["npm run bench --", ...process.argv.slice(2)].join(" ").replace(/ --$/, ""),
    startedAt: startedAt.toISOString().slice(0, 16),
    seconds: (Date.now() - startedAt.getTime()) / 1000,
    rounds: choices.rounds,
    scale: choices.scale,
    machine: {
      machine: `${cpus().length} CPUs (${cpus()[0]?.model}), ${Math.round(totalmem() / 1024 ** 3)} GiB, Linux ${release()}`,
      placement:
        placement === undefined
          ? "left to the scheduler"
          : `contender on CPU ${placement.contender}, load and endpoints on CPU ${placement.load}; two-hop: client and first ` +
            `daemon on CPU ${placement.contender}, second daemon and server on CPU ${placement.far}`,
      noise:
        `load average ${load.toFixed(2)} before the run; during it other programs used ${share(others)} of all CPU time, ` +
        `and ${share(after.stolen - ticks.stolen)} was stolen`,
    },
    versions,
    reference: REFERENCE,
    contenders: [
      ...(direct ? [{ name: DIRECT, about: "no proxy: what the load and its endpoint do by themselves" }] : []),
      ...contenders.map(({ name, about }) => ({ name, about })),
    ],
    ...result,
  };
}

async function readVersions(processes: Processes): Promise<Record<string, string>> {
  const versions: Record<string, string> = { bun: `Bun ${Bun.version}` };
  const asks = { haproxy: ["-v"], nginx: ["-v"], openssl: ["version"], iperf3: ["--version"], curl: ["--version"] };
  for (const [program, args] of Object.entries(asks)) {
    if (Bun.which(program) === null) continue;
    const { stdout, stderr } = await processes.run([program, ...args], 10);
    versions[program] = /^[^(\n]*?[\d.]+\S*/.exec(stdout || stderr)?.[0] ?? program;
  }
  return versions;
}

async function publish(report: Report, choices: Choices): Promise<void> {
  const markdown = renderMarkdown(report);
  console.log(markdown);
  if (choices.json !== undefined) await Bun.write(choices.json, `${JSON.stringify(report, undefined, 2)}\n`);
  if (!choices.writeReadme) return;
  const text = replaceResults(await Bun.file(README).text(), markdown);
  if (text === undefined) throw new Error(`${README} has no results markers`);
  await Bun.write(README, text);
}
