// Do two workers do twice the work of one? Full mTLS handshakes per second with `workers: 1` and `workers: 2`, interleaved.
//
// On a machine of two CPUs the load takes as much of them as the workers, so the plain figure says nothing. Here every worker is put into a
// group of its own that may use a quarter of one CPU (cgroup v1 cpu controller, quota of 25 ms in 100): it has a small CPU of its own, and
// the load has what is left. What is compared is what two such CPUs do together with what one does; what workers have in common (the accept
// queue, the table of counts, the kernel) is all there. Needs root and /sys/fs/cgroup/cpu.
//
//   bun bench/studies/workers.ts [ROUNDS]     about 12 s for each round; 5 rounds unless given

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeCertificates } from "../certificates.ts";
import { cpuSeconds } from "../measure.ts";
import { eventually, freePorts, LabError, Processes } from "../processes.ts";

const MAIN = join(import.meta.dir, "../../src/main.ts");
const GROUPS = "/sys/fs/cgroup/cpu";
const SHARE = 0.25;
const PERIOD_US = 100_000;
const SECONDS = 4;
const CLIENTS = 6;

interface Sample {
  readonly perSecond: number;
  /** Of the workers, for each handshake. */
  readonly cpuMs: number;
}

const rounds = Number(process.argv[2] ?? 5);
const folder = mkdtempSync(join(tmpdir(), "bunnel-workers-"));
const processes = new Processes(folder);
try {
  const certificates = await makeCertificates(folder, processes);
  const [endpointPort, listenerPort] = (await freePorts(2)) as [number, number];
  using endpoint = Bun.listen({
    hostname: "127.0.0.1",
    port: endpointPort,
    socket: { data: (socket) => void socket.end("HTTP/1.0 200 OK\r\n\r\n") },
  });
  const samples: Record<number, Sample[]> = { 1: [], 2: [] };
  for (let round = 0; round < rounds; round++) {
    for (const workers of round % 2 === 0 ? [1, 2] : [2, 1]) {
      const sample = await measure(workers, { endpointPort: endpoint.port, listenerPort, certificates });
      samples[workers]?.push(sample);
      console.log(
        `round ${round + 1}, workers ${workers}: ${sample.perSecond.toFixed(0)}/s, ${sample.cpuMs.toFixed(3)} ms`,
      );
    }
  }
  const one = samples[1] as Sample[];
  const two = samples[2] as Sample[];
  const ratios = two.map(({ perSecond }, index) => perSecond / (one[index] as Sample).perSecond).sort((a, b) => a - b);
  const [least, most] = [ratios[0], ratios.at(-1)] as [number, number];
  console.log(
    `two workers do ${median(ratios).toFixed(2)} (${least.toFixed(2)}..${most.toFixed(2)}) times what one does`,
  );
} finally {
  await processes.close();
  rmSync(folder, { recursive: true, force: true });
}

interface Setting {
  readonly endpointPort: number;
  readonly listenerPort: number;
  readonly certificates: Awaited<ReturnType<typeof makeCertificates>>;
}

async function measure(workers: number, { endpointPort, listenerPort, certificates }: Setting): Promise<Sample> {
  const config = join(folder, `workers-${workers}.yaml`);
  const tls = [
    `certificates: [{ cert: ${certificates.serverCertificateFile}, key: ${certificates.serverKeyFile} }]`,
    `client_ca: [${certificates.caFile}]`,
  ];
  writeFileSync(
    config,
    `workers: ${workers}
admin: { address: off }
access_log: { output: off }
listeners:
  - name: mtls
    address: 127.0.0.1:${listenerPort}
    tls: { ${tls.join(", ")} }
    routes: [{ name: all, tls: terminate, policy: any, backend: one }]
backends:
  one: { endpoints: ["127.0.0.1:${endpointPort}"] }
`,
  );
  const daemon = processes.start({ name: `bunnel-${workers}`, command: [process.execPath, MAIN, "run", "-c", config] });
  const groups: string[] = [];
  try {
    // The port is open before the workers are there.
    await eventually("bunnel to say that it listens", async () => daemon.output().includes('"msg":"listening"'));
    const pids = childrenOf(daemon.pid);
    if (pids.length !== workers) throw new LabError(`${pids.length} workers are there, and not ${workers}`);
    for (const pid of pids) groups.push(confine(pid));
    const before = cpuSeconds(pids);
    const load = await Promise.all(Array.from({ length: CLIENTS }, () => shakeHands(listenerPort, certificates)));
    const done = load.reduce((sum, count) => sum + count, 0);
    return { perSecond: done / SECONDS, cpuMs: ((cpuSeconds(pids) - before) * 1000) / done };
  } finally {
    await daemon.stop();
    for (const group of groups) rmdirSync(group);
  }
}

async function shakeHands(
  port: number,
  { clientCertificateFile, clientKeyFile }: Setting["certificates"],
): Promise<number> {
  const options = ["-connect", `127.0.0.1:${port}`, "-new", "-time", `${SECONDS}`, "-www", "/"];
  const identity = ["-cert", clientCertificateFile, "-key", clientKeyFile];
  const { stdout } = await processes.run(["openssl", "s_time", ...options, ...identity], SECONDS + 10);
  const match = /(\d+) connections in \d+ real seconds/.exec(stdout);
  if (match === null) throw new LabError(`openssl s_time said: ${stdout}`);
  return Number(match[1]);
}

/** Gives a process a small CPU of its own. The group, to be removed when it has ended. */
function confine(pid: number): string {
  const group = join(GROUPS, `bunnel-bench-${pid}`);
  mkdirSync(group);
  writeFileSync(join(group, "cpu.cfs_period_us"), `${PERIOD_US}`);
  writeFileSync(join(group, "cpu.cfs_quota_us"), `${PERIOD_US * SHARE}`);
  writeFileSync(join(group, "cgroup.procs"), `${pid}`);
  return group;
}

function childrenOf(parent: number): number[] {
  const isChild = (pid: string): boolean => {
    try {
      return new RegExp(`^PPid:\\s+${parent}$`, "m").test(readFileSync(`/proc/${pid}/status`, "utf8"));
    } catch {
      return false;
    }
  };
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && isChild(name))
    .map(Number);
}

function median(sorted: readonly number[]): number {
  return sorted[Math.floor(sorted.length / 2)] as number;
}
