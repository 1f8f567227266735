// Runs workloads against contenders: who is started when, in which order the rounds go, and what is kept of each. Within a
// round the contenders follow each other at once, and the order rotates from round to round, so that neither a slow
// minute of the machine nor a favoured place in the order decides a ratio. A round begins and ends with the same stream without a
// proxy, which tells whether the machine was the same all the while.
import { join } from "node:path";
import { type BackendPorts, startHttpBackend, withIperfServer } from "./backends.ts";
import { makeCertificates } from "./certificates.ts";
import {
  type BenchListener,
  type Contender,
  missingProgram,
  startContender,
  USUAL_CONNECTIONS,
} from "./contenders/contender.ts";
import { layOut, PORTS_AT_MOST } from "./hops.ts";
import { cpuSeconds, processTree, residentBytes } from "./measure.ts";
import { isBusyRound, type Noise, noiseMark, noiseSince } from "./noise.ts";
import { accepts, eventually, freePorts, LabError, type Processes, type RunningProcess, tail } from "./processes.ts";
import { type Profile, profile, profilingMissing } from "./profile.ts";
import {
  bestPeer,
  type Failure,
  type FigureResult,
  gatherFigure,
  type Skipped,
  type WorkloadResult,
} from "./results.ts";
import { parseIperf } from "./workloads/bulk.ts";
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
  /**
   * When it should be over, as `performance.now()` counts: rounds are left out so that all workloads fit, but none below
   * ROUNDS_AT_LEAST, and then whole workloads. Default: never.
   */
  readonly deadlineMs?: number;
  /** True: one more load of bunnel, of the floors and of the best peer, under perf. */
  readonly profiles: boolean;
  /** Told of each workload once it is done. */
  readonly done?: (result: LabResult) => void;
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

interface RoundOptions {
  readonly round: number;
  readonly entrants: readonly Entrant[];
  readonly samples: ReadonlyMap<string, Map<number, Figures>>;
}

/** Below it there is no spread to speak of. */
const ROUNDS_AT_LEAST = 3;
const WARM_UP_SCALE = 0.25;
const YARDSTICK_BYTES = 1024 ** 3;
const YARDSTICK_LIMIT_SECONDS = 30;
const TREE_LOOK_MS = 200;
const TREE_LOOKS_MAX = 25;

/** Runs everything in `options`. Rejects only when the lab itself cannot work (no certificates, no backend). */
export async function runLab(options: LabOptions, processes: Processes): Promise<LabResult> {
  const lab = new Lab(options, processes);
  await lab.setUp();
  const results: WorkloadResult[] = [];
  const soFar = (): LabResult => ({ workloads: results, skipped: lab.skipped, failures: lab.failures });
  const deadlineMs = options.deadlineMs ?? Number.POSITIVE_INFINITY;
  for (const [index, workload] of options.workloads.entries()) {
    const missing = workload.programs.map(missingProgram).find((why) => why !== undefined);
    const leftMs = deadlineMs - performance.now();
    if (missing !== undefined) lab.skipped.push({ what: workload.name, why: missing });
    else if (leftMs <= 0) lab.skipped.push({ what: workload.name, why: "no time was left for it" });
    else {
      const share = leftMs / (options.workloads.length - index);
      results.push(await lab.runWorkload(workload, performance.now() + share));
      options.done?.(soFar());
    }
  }
  return soFar();
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
    const [plain1 = 0, plain2 = 0, tls1 = 0, tls2 = 0, ...others] = await freePorts(9);
    const [iperf = 0, ping = 0, redis = 0, postgres = 0, status = 0] = others;
    const ports: BackendPorts = { http: [plain1, plain2], https: [tls1, tls2], iperf, ping, redis, postgres, status };
    const http = join(folder, "http");
    await startHttpBackend({ folder: http, ports, certificates }, this.processes);
    this.bench = { processes: this.processes, ports, certificates, folder, largeFile: join(http, "large"), scale };
    for (const contender of this.options.contenders) {
      const why = contender.missing();
      if (why !== undefined) this.skipped.push({ what: contender.name, why });
    }
    const noPerf = this.options.profiles ? profilingMissing() : undefined;
    if (noPerf !== undefined) this.skipped.push({ what: "profiles", why: noPerf });
  }

  /** Runs the rounds of one workload, as many as there is time for until `untilMs`. */
  async runWorkload(workload: Workload, untilMs: number): Promise<WorkloadResult> {
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
    const noise: Noise[] = [];
    for (let round = 0; round < this.options.rounds; round += 1) {
      const startedAt = performance.now();
      noise.push(await this.round(workload, { round, entrants, samples }));
      const endsAt = performance.now() + (performance.now() - startedAt);
      if (noise.length >= ROUNDS_AT_LEAST && endsAt > untilMs) break;
    }
    const figures = (): FigureResult[] => workload.figures.map((figure) => gatherFigure(figure, samples));
    const profiles = workload.fresh === true ? [] : await this.profile(workload, entrants, figures());
    for (const entrant of entrants) {
      await this.dismiss(entrant);
      // A contender that failed once has no value here: what is left of its rounds may be its good luck.
      if (entrant.failed) samples.delete(entrant.name);
    }
    const result = { name: workload.name, about: workload.about, figures: figures(), noise };
    return profiles.length === 0 ? result : { ...result, profiles };
  }

  /** Of those whose difference has to be explained. */
  private async profile(
    workload: Workload,
    entrants: readonly Entrant[],
    figures: readonly FigureResult[],
  ): Promise<Profile[]> {
    if (!this.options.profiles || profilingMissing() !== undefined) return [];
    const compared = figures.find((figure) => figure.compared);
    const best = compared === undefined ? undefined : bestPeer({ contenders: this.options.contenders }, compared);
    const profiles: Profile[] = [];
    for (const entrant of entrants) {
      const role = entrant.contender?.role;
      if (entrant.failed || entrant.contender?.extra === true) continue;
      if (role !== "ours" && role !== "floor" && entrant.name !== best) continue;
      this.options.progress(`  profile of ${entrant.name}`);
      const subject = { contender: entrant.name, subject: entrant.processes, folder: this.options.folder };
      try {
        profiles.push(await profile(subject, this.processes, () => this.load(workload, entrant)));
      } catch (error) {
        // What was measured stays: it has nothing to do with this.
        const why = error instanceof Error ? error.message : String(error);
        this.skipped.push({ what: `the profile of ${entrant.name} in ${workload.name}`, why });
      }
    }
    return profiles;
  }

  private async round(workload: Workload, { round, entrants, samples }: RoundOptions): Promise<Noise> {
    const mark = noiseMark();
    const first = await this.yardstick();
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
    const last = await this.yardstick();
    const noise = noiseSince(mark, first === undefined || last === undefined ? undefined : { first, last });
    if (isBusyRound(noise)) {
      const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
      const drift = noise.drift === undefined ? "" : `, the yardstick moved by ${percent(noise.drift)}`;
      this.options.progress(
        `  round ${round + 1} was BUSY: other programs used ${percent(noise.others)} of all CPU time, ${percent(noise.stolen)} was stolen${drift}`,
      );
    }
    return noise;
  }

  /** Seconds that a stream without a proxy takes, from the contender's CPU to the load's; undefined where that cannot be measured. */
  private async yardstick(): Promise<number | undefined> {
    if (this.bench === undefined || missingProgram("iperf3") !== undefined) return undefined;
    const { ports } = this.bench;
    try {
      return await withIperfServer({ port: ports.iperf }, this.processes, async () => {
        const command = [
          "iperf3",
          "-c",
          "127.0.0.1",
          "-p",
          String(ports.iperf),
          "-n",
          String(YARDSTICK_BYTES),
          "--json",
        ];
        const { stdout } = await this.processes.run(command, YARDSTICK_LIMIT_SECONDS, { place: "contender" });
        const report = parseIperf(stdout);
        return report === undefined ? undefined : report.receivedBytes / report.bytesPerSecond;
      });
    } catch {
      return undefined; // It only tells of noise: what it disturbs fails by itself.
    }
  }

  private async load(workload: Workload, entrant: Entrant): Promise<void> {
    if (this.bench === undefined) throw new LabError("the lab was not set up");
    await measure(workload, entrant, this.bench);
  }

  private entrantsOf(workload: Workload): Entrant[] {
    const entrants: Entrant[] = [];
    const enter = (name: string, contender: Contender | undefined): void => {
      entrants.push({ name, contender, subject: undefined, processes: [], failed: false });
    };
    if (this.options.direct && workload.direct) enter(DIRECT, undefined);
    const free = Array.from({ length: PORTS_AT_MOST }, (_, index) => index + 1);
    const listeners = layOut(workload.listeners, this.ports(), free).flat();
    for (const contender of this.options.contenders) {
      const isWanted = contender.extra !== true || workload.extraContenders?.includes(contender.name);
      const can = listeners.every((listener) => contender.serves?.(listener) ?? true);
      if (!isWanted || !can || contender.missing() !== undefined) continue;
      const why = workload.without?.[contender.name];
      if (why === undefined) enter(contender.name, contender);
      else this.skipped.push({ what: `${contender.name} in ${workload.name}`, why });
    }
    return entrants;
  }

  private ports(): BackendPorts {
    if (this.bench === undefined) throw new LabError("the lab was not set up");
    return this.bench.ports;
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
    const hops = layOut(workload.listeners, ports, await freePorts(PORTS_AT_MOST));
    // The hop next to the endpoint comes first, or the one before it would find nobody.
    for (const listeners of [...hops].reverse()) {
      this.started += 1;
      const folder = join(this.options.folder, `${this.started}-${entrant.name}`);
      const place = listeners === hops[0] ? "contender" : "far";
      const connections = workload.connections ?? USUAL_CONNECTIONS;
      const input = { folder, listeners, certificates, connections };
      const started = startContender(entrant.contender, input, { processes: this.processes, place });
      entrant.processes = [...started, ...entrant.processes];
      for (const { name, port } of listeners) {
        const owner = started.find((process) => process.exitCode() !== null) ?? started[0];
        await eventually(`${entrant.name} listens for ${name}`, () => accepts(port), owner ? { owner } : {});
      }
    }
    for (const process of entrant.processes) await settle(process);
    entrant.subject = proxySubject(entrant.contender, entrant.processes, hops[0] ?? []);
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
  { name, forks }: Contender,
  processes: readonly RunningProcess[],
  listeners: readonly BenchListener[],
): Subject {
  const roots = processes.map(({ pid }) => pid);
  const livingPids = (): readonly number[] => roots.flatMap(processTree);
  const pids = livingPids();
  const samePids = (): readonly number[] => {
    // A worker that dies may be replaced by one that has to warm up again, and takes its memory with it.
    const now = livingPids();
    if (forks !== true && now.join() !== pids.join())
      throw new LabError(`the processes of ${name} changed: ${pids} became ${now}`);
    return now;
  };
  return {
    name,
    port: (wanted) => {
      const port = listeners.find((listener) => listener.name === wanted)?.port;
      if (port === undefined) throw new LabError(`${name} has no listener ${wanted}`);
      return port;
    },
    cpuSeconds: () => {
      samePids();
      return cpuSeconds(roots);
    },
    residentBytes: () => residentBytes(samePids()),
  };
}

function directSubject(ports: BackendPorts): Subject {
  return {
    name: DIRECT,
    port: (wanted) => {
      if (wanted === "http") return ports.http[0];
      if (wanted === "iperf" || wanted === "ping" || wanted === "redis" || wanted === "postgres") return ports[wanted];
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
