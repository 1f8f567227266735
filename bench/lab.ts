// Runs workloads against contenders: who is started when, in which order the rounds go, and what is kept of each. Within a
// round the contenders follow each other at once, and the order rotates from round to round, so that neither a slow
// minute of the machine nor a favoured place in the order decides a ratio.
import { join } from "node:path";
import { type BackendPorts, startHttpBackend } from "./backends.ts";
import { makeCertificates } from "./certificates.ts";
import { type BenchListener, type Contender, missingProgram, startContender } from "./contenders.ts";
import { layOut, PORTS_AT_MOST } from "./hops.ts";
import { cpuSeconds, processTree, residentBytes } from "./measure.ts";
import { accepts, eventually, freePorts, LabError, type Processes, type RunningProcess, tail } from "./processes.ts";
import { type Failure, gatherFigure, type Skipped, type WorkloadResult } from "./report.ts";
import type { Bench, Figures, Subject, Workload } from "./workloads/workload.ts";

/** The contender that is no program: load goes to the endpoint itself. */
export const DIRECT = "direct";

/** What is to be run. */
export interface LabOptions {
  /** A temporary folder for everything that is written. */
  readonly folder: string;
  readonly rounds: number;
  /** Amounts and durations are multiplied by this; 1 is a real run. */
  readonly scale: number;
  readonly workloads: readonly Workload[];
  readonly contenders: readonly Contender[];
  /** True: the workloads that can be are also run without a proxy. */
  readonly direct: boolean;
  readonly reference: string;
  /** Says what is being done, a line at a time. */
  readonly progress: (line: string) => void;
}

/** What a run gave. */
export interface LabResult {
  readonly workloads: readonly WorkloadResult[];
  readonly skipped: readonly Skipped[];
  readonly failures: readonly Failure[];
}

/** A contender with what it takes to measure it within one workload. */
interface Entrant {
  readonly name: string;
  /** Undefined for "direct". */
  readonly contender: Contender | undefined;
  subject: Subject | undefined;
  /** What it is made of: one process, or one for each hop. */
  processes: readonly RunningProcess[];
  failed: boolean;
}

const WARM_UP_SCALE = 0.25;
const TREE_LOOK_MS = 200;
const TREE_LOOKS_MAX = 25;

/** Runs everything in `options`. Rejects only when the lab itself cannot work (no certificates, no backend). */
export async function runLab(options: LabOptions, processes: Processes): Promise<LabResult> {
  const lab = new Lab(options, processes);
  await lab.setUp();
  const results: WorkloadResult[] = [];
  for (const workload of options.workloads) {
    const missing = workload.programs.map(missingProgram).find((why) => why !== undefined);
    if (missing === undefined) results.push(await lab.runWorkload(workload));
    else lab.skipped.push({ what: workload.name, why: missing });
  }
  return { workloads: results, skipped: lab.skipped, failures: lab.failures };
}

class Lab {
  readonly skipped: Skipped[];
  readonly failures: Failure[];
  private readonly options: LabOptions;
  private readonly processes: Processes;
  private bench: Bench | undefined;
  private started: number;

  constructor(options: LabOptions, processes: Processes) {
    this.skipped = [];
    this.failures = [];
    this.options = options;
    this.processes = processes;
    this.bench = undefined;
    this.started = 0;
  }

  async setUp(): Promise<void> {
    const { folder, scale } = this.options;
    const certificates = await makeCertificates(folder, this.processes);
    const [plain1 = 0, plain2 = 0, tls1 = 0, tls2 = 0, iperf = 0, ping = 0, status = 0] = await freePorts(7);
    const ports: BackendPorts = { http: [plain1, plain2], https: [tls1, tls2], iperf, ping, status };
    const http = join(folder, "http");
    await startHttpBackend({ folder: http, ports, certificates }, this.processes);
    this.bench = { processes: this.processes, ports, certificates, largeFile: join(http, "large"), scale };
    for (const contender of this.options.contenders) {
      const why = contender.missing();
      if (why !== undefined) this.skipped.push({ what: contender.name, why });
    }
  }

  async runWorkload(workload: Workload): Promise<WorkloadResult> {
    this.options.progress(`${workload.name}: ${workload.about}`);
    const entrants = this.entrantsOf(workload);
    const samples = new Map<string, Map<number, Figures>>(entrants.map((entrant) => [entrant.name, new Map()]));
    if (!workload.fresh) {
      // One process for all rounds, as a daemon lives; its first load only makes it compile and allocate.
      for (const entrant of entrants) {
        await this.attempt(workload, entrant, -1, async (bench) => {
          await this.bring(workload, entrant);
          await measure(workload, entrant, { ...bench, scale: bench.scale * WARM_UP_SCALE });
        });
      }
    }
    for (let round = 0; round < this.options.rounds; round += 1) {
      for (const entrant of rotated(entrants, round)) {
        if (entrant.failed) continue;
        await this.attempt(workload, entrant, round, async (bench) => {
          if (workload.fresh) await this.bring(workload, entrant);
          const figures = await measure(workload, entrant, bench);
          samples.get(entrant.name)?.set(round, figures);
          this.options.progress(`  round ${round + 1} ${entrant.name}: ${describe(workload, figures)}`);
        });
        if (workload.fresh) await this.dismiss(entrant);
      }
    }
    for (const entrant of entrants) {
      await this.dismiss(entrant);
      // A contender that failed once has no value here: what is left of its rounds may be its good luck.
      if (entrant.failed) samples.delete(entrant.name);
    }
    const figures = workload.figures.map((figure) => gatherFigure(figure, samples, this.options.reference));
    return { name: workload.name, about: workload.about, figures };
  }

  private entrantsOf(workload: Workload): Entrant[] {
    const entrants: Entrant[] = [];
    const enter = (name: string, contender: Contender | undefined): void => {
      entrants.push({ name, contender, subject: undefined, processes: [], failed: false });
    };
    if (this.options.direct && workload.direct) enter(DIRECT, undefined);
    for (const contender of this.options.contenders) {
      const wanted = contender.extra !== true || workload.extraContenders.includes(contender.name);
      if (wanted && contender.missing() === undefined) enter(contender.name, contender);
    }
    return entrants;
  }

  /** Runs one step for one entrant; a failure is recorded with both log tails and takes the entrant out of the workload. */
  private async attempt(
    workload: Workload,
    entrant: Entrant,
    round: number,
    step: (bench: Bench) => Promise<void>,
  ): Promise<void> {
    try {
      if (this.bench === undefined) throw new LabError("the lab was not set up");
      await step(this.bench);
    } catch (error) {
      entrant.failed = true;
      const message = error instanceof Error ? error.message : String(error);
      const toolLog = error instanceof LabError ? error.logTail : "";
      const ownLog = entrant.processes.map((process) => tail(process.output())).join("\n");
      const logTail = [toolLog, ownLog !== toolLog && ownLog && `--- ${entrant.name} said:\n${ownLog}`]
        .filter(Boolean)
        .join("\n");
      this.failures.push({ workload: workload.name, contender: entrant.name, round: round + 1, message, logTail });
      this.options.progress(`  FAILED ${workload.name}, ${entrant.name}: ${message}\n${logTail}`);
    }
  }

  /** Starts the entrant on fresh ports and waits until it accepts on each. */
  private async bring(workload: Workload, entrant: Entrant): Promise<void> {
    if (this.bench === undefined) throw new LabError("the lab was not set up");
    const { ports, certificates } = this.bench;
    if (entrant.contender === undefined) {
      entrant.subject = directSubject(ports);
      return;
    }
    const hops = layOut(workload.topology, ports, await freePorts(PORTS_AT_MOST));
    // The hop next to the endpoint comes first, or the one before it would find nobody.
    for (const listeners of [...hops].reverse()) {
      this.started += 1;
      const folder = join(this.options.folder, `${this.started}-${entrant.name}`);
      const place = listeners === hops[0] ? "contender" : "far";
      const input = { folder, listeners, certificates };
      const process = startContender(entrant.contender, input, { processes: this.processes, place });
      entrant.processes = [process, ...entrant.processes];
      for (const { name, port } of listeners) {
        await eventually(`${entrant.name} listens for ${name}`, () => accepts(port), { owner: process });
      }
    }
    for (const process of entrant.processes) await settle(process);
    entrant.subject = proxySubject(entrant.name, entrant.processes, hops[0] ?? []);
  }

  private async dismiss(entrant: Entrant): Promise<void> {
    for (const process of entrant.processes) await process.stop();
    entrant.processes = [];
    entrant.subject = undefined;
  }
}

/** `items` with the first `count` moved to the end. */
export function rotated<T>(items: readonly T[], count: number): T[] {
  const shift = items.length === 0 ? 0 : count % items.length;
  return [...items.slice(shift), ...items.slice(0, shift)];
}

async function measure(workload: Workload, entrant: Entrant, bench: Bench): Promise<Figures> {
  if (entrant.subject === undefined) throw new LabError(`${entrant.name} is not running`);
  return workload.measure(entrant.subject, bench);
}

/** Waits until the process tree has stopped growing: nginx opens its listeners before it forks its worker. */
async function settle(process: RunningProcess): Promise<void> {
  let pids = processTree(process.pid);
  for (let look = 0; look < TREE_LOOKS_MAX; look += 1) {
    await Bun.sleep(TREE_LOOK_MS);
    const now = processTree(process.pid);
    if (now.join() === pids.join()) return;
    pids = now;
  }
  throw new LabError(`${process.name} goes on starting processes`, tail(process.output()));
}

function proxySubject(
  name: string,
  processes: readonly RunningProcess[],
  listeners: readonly BenchListener[],
): Subject {
  const livingPids = (): readonly number[] => processes.flatMap(({ pid }) => processTree(pid));
  const pids = livingPids();
  const samePids = (): readonly number[] => {
    // A worker that dies takes its CPU time with it, and a cost measured without it would look like a gain.
    const now = livingPids();
    if (now.join() !== pids.join()) throw new LabError(`the processes of ${name} changed: ${pids} became ${now}`);
    return pids;
  };
  return {
    name,
    port: (wanted) => {
      const port = listeners.find((listener) => listener.name === wanted)?.port;
      if (port === undefined) throw new LabError(`${name} has no listener ${wanted}`);
      return port;
    },
    cpuSeconds: () => cpuSeconds(samePids()),
    residentBytes: () => residentBytes(samePids()),
  };
}

function directSubject(ports: BackendPorts): Subject {
  return {
    name: DIRECT,
    port: (wanted) => {
      if (wanted === "http") return ports.http[0];
      if (wanted === "iperf" || wanted === "ping") return ports[wanted];
      throw new LabError(`${wanted} is nothing without a proxy`);
    },
    cpuSeconds: () => undefined,
    residentBytes: () => undefined,
  };
}

function describe(workload: Workload, figures: Figures): string {
  const said: string[] = [];
  for (const { key, label, digits } of workload.figures) {
    const value = figures[key];
    if (value !== undefined) said.push(`${value.toFixed(digits)} ${label}`);
  }
  return said.join(" · ");
}
