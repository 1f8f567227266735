// `npm run bench` and `bunnel bench`: what bunnel costs beside the proxies that are installed here and beside no proxy at all, on this machine, in one
// run. bench/README.md says how it is used and measured; options.ts what it is told. Exit code: 0 well, 1 something failed, 2 usage.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { compareRuns, renderComparison } from "./compare.ts";
import { CONTENDERS } from "./contenders/all.ts";
import { describeSetup, USUAL_CONNECTIONS } from "./contenders/contender.ts";
import { measureCurves } from "./curves.ts";
import { currentCommit, forgetUnfinished, keepRun, readRun, readUnfinished, saveUnfinished } from "./history.ts";
import { EVERY_LISTENER, layOut } from "./hops.ts";
import { DIRECT, type LabResult, runLab } from "./lab.ts";
import { noiseMark, noiseSince } from "./noise.ts";
import { type Choices, readChoices } from "./options.ts";
import { chartName, renderPage } from "./page.ts";
import { LabError, type Placement, Processes } from "./processes.ts";
import type { MicroResult, Run } from "./results.ts";
import { renderPlain, renderRun } from "./tables.ts";
import { WORKLOADS } from "./workloads/all.ts";

const REPORT = join(import.meta.dir, "report");

/** Of a run that becomes the report: what curves and micro-benchmarks take. */
const REST_OF_REPORT_MS = 150_000;

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));

/** Does what the arguments say, and gives the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    const choices = readChoices(args);
    if (choices.show !== undefined) return show(choices);
    if (choices.reportOf !== undefined) {
      await writeReport(await readRun(choices.reportOf));
      return 0;
    }
    // A file that is no run should be known before minutes are spent.
    const before = choices.compare === undefined ? undefined : await readRun(choices.compare);
    if (before !== undefined && choices.to !== undefined) {
      const after = await readRun(choices.to);
      console.log(renderComparison(before, after, compareRuns(before, after)));
      return 0;
    }
    const begun = choices.resume ? await readUnfinished() : undefined;
    return await measure(choices, { args, before, begun });
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return 2;
  }
}

interface Request {
  readonly args: readonly string[];
  /** To compare with. */
  readonly before: Run | undefined;
  /** To go on with. */
  readonly begun: Run | undefined;
}

async function measure(choices: Choices, { args, before, begun }: Request): Promise<number> {
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
    const run = await runAll(choices, { args, folder, processes, placement, begun, isInterrupted: () => interrupted });
    // Half a run, all of whose rest "failed", is no report.
    if (interrupted) return 130;
    await publish(run, choices);
    if (before !== undefined) console.log(renderComparison(before, run, compareRuns(before, run)));
    return run.failures.length > 0 ? 1 : 0;
  } catch (error) {
    if (error instanceof LabError) console.error([error.message, error.logTail].filter(Boolean).join("\n"));
    else console.error(error instanceof Error ? (error.stack ?? error.message) : error);
    return 1;
  } finally {
    await cleanUp();
  }
}

/** The first CPU for the contender, the others for the load, the second for a second daemon; undefined where that cannot be had. */
function choosePlacement(): Placement | undefined {
  const count = availableParallelism();
  if (count < 2 || Bun.which("taskset") === null) return undefined;
  return { contender: "0", far: "1", load: count === 2 ? "1" : `1-${count - 1}` };
}

interface Setting {
  readonly args: readonly string[];
  readonly folder: string;
  readonly processes: Processes;
  readonly placement: Placement | undefined;
  readonly begun: Run | undefined;
  readonly isInterrupted: () => boolean;
}

async function runAll(choices: Choices, setting: Setting): Promise<Run> {
  const { args, folder, processes, placement, begun } = setting;
  const startedAt = new Date();
  const startedMs = performance.now();
  const load = loadavg()[0] ?? 0;
  const mark = noiseMark();
  const contenders = CONTENDERS.filter(({ name }) => choices.contenders.includes(name));
  const direct = choices.contenders.includes(DIRECT);
  const versions = await readVersions(processes);
  const commit = await currentCommit(processes);
  if (begun !== undefined && begun.commit !== commit)
    throw new LabError(`--resume: the unfinished run is of ${begun.commit}, and this is ${commit}`);
  const runOf = (result: LabResult): Run => ({
    command: ["npm run bench --", ...args].join(" ").replace(/ --$/, ""),
    startedAt: startedAt.toISOString().slice(0, 16),
    seconds: (begun?.seconds ?? 0) + (performance.now() - startedMs) / 1000,
    commit,
    rounds: choices.rounds,
    scale: choices.scale,
    machine: {
      machine: `${cpus().length} CPUs (${cpus()[0]?.model}), ${Math.round(totalmem() / 1024 ** 3)} GiB, Linux ${release()}`,
      placement: placementText(placement),
      noise: noiseText(load, noiseSince(mark)),
    },
    versions,
    contenders: [
      ...(direct
        ? [{ name: DIRECT, about: "no proxy: what the load and its endpoint do by themselves", role: "none" as const }]
        : []),
      ...contenders.map(({ name, about, role }) => ({ name, about, role })),
    ],
    ...joined(begun, result),
  });
  const done = begun?.workloads.map(({ name }) => name) ?? [];
  const progress = (line: string): void => console.error(`${clock(performance.now() - startedMs)} ${line}`);
  let runs = Promise.resolve();
  const result = await runLab(
    {
      folder,
      rounds: choices.rounds,
      scale: choices.scale,
      workloads: WORKLOADS.filter(({ name }) => choices.workloads.includes(name) && !done.includes(name)),
      contenders,
      direct,
      profiles: choices.profiles,
      deadlineMs: startedMs + choices.minutes * 60_000 - (choices.writeReport ? REST_OF_REPORT_MS : 0),
      progress,
      done: (soFar) => {
        if (choices.writeReport && !setting.isInterrupted()) runs = runs.then(() => saveUnfinished(runOf(soFar)));
      },
    },
    processes,
  );
  await runs;
  if (!choices.curves || setting.isInterrupted()) return runOf(result);
  const { curves, skipped, failures } = await measureCurves({ folder, processes, progress });
  const micro = choices.writeReport ? { micro: await microResults(progress) } : {};
  const all = {
    workloads: result.workloads,
    skipped: [...result.skipped, ...skipped],
    failures: [...result.failures, ...failures],
  };
  return { ...runOf(all), curves, ...micro };
}

async function microResults(progress: (line: string) => void): Promise<readonly MicroResult[]> {
  // mitata is a development dependency, which whoever only compares proxies need not have.
  const { lineOf, microFiles, runMicro } = await import("./micro/run.ts");
  const results: MicroResult[] = [];
  await runMicro(microFiles(), (result) => {
    results.push(result);
    progress(lineOf(result));
  });
  return results;
}

/** What was measured before and what is measured now, in the lab's order. */
function joined(begun: Run | undefined, { workloads, skipped, failures }: LabResult): LabResult {
  const all = [...(begun?.workloads ?? []), ...workloads];
  const names = WORKLOADS.map(({ name }) => name);
  const failed = begun?.failures ?? [];
  return {
    workloads: all.sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name)),
    skipped,
    failures: [...failed, ...failures],
  };
}

function placementText(placement: Placement | undefined): string {
  if (placement === undefined) return "left to the scheduler";
  const { contender, far, load } = placement;
  return (
    `contender on CPU ${contender}, load and endpoints on CPU ${load}; two-hop: client and first daemon on CPU ${contender}, ` +
    `second daemon and server on CPU ${far}`
  );
}

function noiseText(load: number, { others, stolen }: { readonly others: number; readonly stolen: number }): string {
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  return (
    `load average ${load.toFixed(2)} before the run; during it other programs used ${percent(others)} of all CPU time, ` +
    `and ${percent(stolen)} was stolen`
  );
}

function clock(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return `${String(Math.floor(seconds / 60)).padStart(2, "0")}:${String(seconds % 60).padStart(2, "0")}`;
}

async function readVersions(processes: Processes): Promise<Record<string, string>> {
  const versions: Record<string, string> = { bun: `Bun ${Bun.version}` };
  const asks = {
    haproxy: ["-v"],
    nginx: ["-v"],
    stunnel: ["-version"],
    hitch: ["--version"],
    socat: ["-V"],
    envoy: ["--version"],
    ghostunnel: ["--version"],
    openssl: ["version"],
    iperf3: ["--version"],
    curl: ["--version"],
    perf: ["--version"],
  };
  for (const [program, args] of Object.entries(asks)) {
    if (Bun.which(program) === null) continue;
    const said = await processes.run([program, ...args], 10).catch(() => undefined);
    const lines = `${said?.stdout ?? ""}\n${said?.stderr ?? ""}`.split("\n");
    const line = lines.find((text) => /\d+\.\d/.test(text));
    versions[program] = /^[^(\n]*?\d+\.[\d.]+\S*/.exec(line ?? "")?.[0] ?? program;
  }
  return versions;
}

async function publish(run: Run, choices: Choices): Promise<void> {
  console.log(choices.plain ? renderPlain(run) : renderRun(run));
  if (choices.json !== undefined) await Bun.write(choices.json, `${JSON.stringify(run, undefined, 2)}\n`);
  if (choices.keep) console.error(`kept as ${await keepRun(run)}`);
  if (choices.writeReport) await writeReport(run);
}

async function writeReport(run: Run): Promise<void> {
  const { workloadChart, curveChart } = await import("./charts.ts");
  rmSync(REPORT, { recursive: true, force: true });
  mkdirSync(join(REPORT, "configs"), { recursive: true });
  const setups = setupsOf(run.contenders.map(({ name }) => name));
  for (const [name, text] of setups) await Bun.write(join(REPORT, `configs/${name}.txt`), text);
  for (const workload of run.workloads) {
    if (workload.figures.every(({ compared, contenders }) => !compared || contenders.length === 0)) continue;
    await Bun.write(join(REPORT, chartName(workload.name)), await workloadChart(run, workload));
  }
  for (const curve of run.curves ?? [])
    await Bun.write(join(REPORT, chartName(`curve-${curve.name}`)), await curveChart(curve));
  await Bun.write(join(REPORT, "README.md"), renderPage(run, WORKLOADS, [...setups.keys()]));
  const left = run.skipped.filter(({ why }) => why.startsWith("no time"));
  if (left.length === 0) forgetUnfinished();
  else console.error(`no time was left for ${left.map(({ what }) => what).join(", ")}: run it again with --resume`);
  console.error(`the report is in ${REPORT}`);
}

/** The configuration of each contender that can run here, for every listener that it can serve. */
function setupsOf(names: readonly string[]): ReadonlyMap<string, string> {
  const setups = new Map<string, string>();
  const free = EVERY_LISTENER.map((_, index) => 9001 + index);
  const ports = {
    http: [8001, 8002],
    https: [8003, 8004],
    iperf: 8005,
    ping: 8006,
    redis: 8007,
    postgres: 8008,
  } as const;
  const [every = []] = layOut(EVERY_LISTENER, { ...ports, status: 8009 }, free);
  const file = (name: string): string => `CERTIFICATES/${name}.pem`;
  const certificates = {
    caFile: file("ca"),
    serverCertificateFile: file("server"),
    serverKeyFile: "CERTIFICATES/server.key",
    serverBundleFile: file("server-bundle"),
    clientCertificateFile: file("client"),
    clientKeyFile: "CERTIFICATES/client.key",
    clientBundleFile: file("client-bundle"),
  };
  for (const contender of CONTENDERS) {
    if (!names.includes(contender.name) || contender.missing() !== undefined) continue;
    const listeners = every.filter((listener) => contender.serves?.(listener) ?? true);
    setups.set(contender.name, describeSetup(contender, { listeners, certificates, connections: USUAL_CONNECTIONS }));
  }
  return setups;
}

function show({ show: what, contenders }: Choices): number {
  if (what === "list") {
    for (const { name, about, rare } of WORKLOADS)
      console.log(`${name.padEnd(20)} ${about}${rare ? " (with --all)" : ""}`);
    for (const { name, about, missing } of CONTENDERS) console.log(`${name.padEnd(20)} ${missing() ?? about}`);
    return 0;
  }
  for (const [name, text] of setupsOf(contenders)) console.log(`## ${name}\n\n${text}`);
  return 0;
}
