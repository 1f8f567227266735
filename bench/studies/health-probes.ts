// What health checks cost: a daemon that does nothing but probe N endpoints in each interval, and the CPU of its supervisor, which makes the probes, from
// /proc/PID/stat. The endpoints are N loopback addresses of one listener in another process, so the kernel's work of both ends of a connection that falls to
// the dialling process (loopback delivers in the sender's turn) is counted.
//
// Beside it, at the same time and against the same endpoints, runs probe-floor.ts, which makes the system calls of a probe and nothing else: what the
// machine and its load of the day make of a figure they make of both, so it is the ratio that can be compared.
//
//   bun bench/studies/health-probes.ts [endpoints] [interval in s] [windows of 5 s] [tcp|http|tls]     default 5000 5 4 tcp

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { makeCertificates, SERVER_NAME } from "../certificates.ts";
import { Processes } from "../processes.ts";

const MAIN = join(import.meta.dir, "../../src/main.ts");
/** After the first probe of everybody: by then the code of a probe is compiled. */
const WARM_S = 25;
const WINDOW_S = 5;
/** USER_HZ of Linux. */
const TICKS_PER_S = 100;

const ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine";

if (process.argv[2] === "listen") listen();
else await measure();

/** The endpoints: whoever asks is answered, and whoever connects is answered with the end as soon as it ends. With a certificate by TLS. Tells each second how many came. */
function listen(): void {
  let accepted = 0;
  let reset = 0;
  const [certificate, key] = process.argv.slice(3);
  const server = Bun.listen<undefined>({
    ...(certificate !== undefined && key !== undefined && { tls: { cert: Bun.file(certificate), key: Bun.file(key) } }),
    hostname: "0.0.0.0",
    port: 0,
    allowHalfOpen: true,
    socket: {
      open: () => void accepted++,
      data: (socket) => void socket.write(ANSWER),
      end: (socket) => void socket.end(),
      close: (_, error) => void (error !== undefined && error !== null && reset++),
    },
  });
  console.log(JSON.stringify({ port: server.port }));
  setInterval(() => console.log(JSON.stringify({ accepted, reset })), 1000);
}

async function measure(): Promise<void> {
  const [count = 5000, intervalS = 5, windows = 4] = process.argv.slice(2, 5).map(Number);
  const type = process.argv[5] ?? "tcp";
  const directory = mkdtempSync(join(tmpdir(), "bunnel-health-probes-"));
  const files = await makeCertificates(directory, new Processes(directory));
  const tls = `tls: { ca: [${files.caFile}], server_name: ${SERVER_NAME} }\n    `;
  const identity = type === "tls" ? [files.serverCertificateFile, files.serverKeyFile] : [];
  const listener = spawn(process.execPath, [import.meta.path, "listen", ...identity], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let last: { port?: number; accepted?: number; reset?: number } = {};
  listener.stdout.on("data", (bytes: Buffer) => {
    const line = bytes.toString().trim().split("\n").at(-1);
    if (line !== undefined) last = { ...last, ...JSON.parse(line) };
  });
  await once(listener.stdout, "data");
  const addresses = Array.from({ length: count }, (_, i) => `127.${1 + (i >> 8)}.${i & 255}.1:${last.port}`);
  const config = join(directory, "bunnel.yaml");
  writeFileSync(
    config,
    `workers: 1\nadmin: { address: off }\naccess_log: { output: off }\nlisteners: [{ name: in, address: "127.0.0.1:0", backend: all }]
backends:\n  all:\n    ${type === "tls" ? tls : ""}health: { type: ${type}, interval: ${intervalS}s }\n    endpoints:\n${addresses.map((a) => `      - ${a}`).join("\n")}\n`,
  );
  const daemon = spawn(process.execPath, [MAIN, "run", "-c", config], { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  daemon.stderr.on("data", (bytes: Buffer) => {
    log += bytes.toString();
  });
  const floorArguments = ["run", join(import.meta.dir, "probe-floor.ts"), `${last.port}`, `${count / intervalS}`, type];
  const floor = type === "tls" ? null : spawn(process.execPath, floorArguments, { stdio: "inherit" });
  await Bun.sleep((intervalS + WARM_S) * 1000);
  const seen = (): number => (last.accepted ?? 0) + takenBack();
  const before = seen();
  const each: number[] = [];
  const floorEach: number[] = [];
  for (let window = 0; window < windows; window++) {
    const [ticks, floorTicks] = [ticksOf(daemon.pid), ticksOf(floor?.pid)];
    await Bun.sleep(WINDOW_S * 1000);
    const probes = (WINDOW_S * count) / intervalS;
    each.push(((ticksOf(daemon.pid) - ticks) / TICKS_PER_S / probes) * 1e6);
    floorEach.push(((ticksOf(floor?.pid) - floorTicks) / TICKS_PER_S / probes) * 1e6);
  }
  const cameInAll = seen() - before;
  const expected = (windows * WINDOW_S * count * (floor === null ? 1 : 2)) / intervalS;
  const [middle = 0] = spread(each);
  const ratios = each.map((one, window) => one / (floorEach[window] ?? 0));
  for (const line of [
    `${count} endpoints, every ${intervalS} s by ${type}; load ${loadavg()[0]?.toFixed(1)} on ${cpus().length} CPUs`,
    `${((middle * count) / intervalS / 1e4).toFixed(1)} % of a core, ${shown(each)} µs each in ${windows} windows of ${WINDOW_S} s`,
    ...(floor === null ? [] : [`the calls alone: ${shown(floorEach)} µs each; ratio ${shown(ratios, 2)}`]),
    `${cameInAll} of ${expected} connections came; ${last.reset} were reset, ${log.split("is down").length - 1} endpoints found down`,
  ])
    console.log(line);
  floor?.kill("SIGTERM");
  daemon.kill("SIGTERM");
  await once(daemon, "exit");
  listener.kill("SIGTERM");
  rmSync(directory, { recursive: true, force: true });
}

/** Median, least, greatest. */
function spread(values: readonly number[]): readonly number[] {
  const sorted = values.toSorted((a, b) => a - b);
  return [sorted[sorted.length >> 1] ?? 0, sorted[0] ?? 0, sorted.at(-1) ?? 0];
}

function shown(values: readonly number[], digits = 0): string {
  const [middle, least, greatest] = spread(values).map((value) => value.toFixed(digits));
  return `${middle} (${least} to ${greatest})`;
}

/** Connections of this host that were reset before the program that listens saw them, as probes by `tcp` are. */
function takenBack(): number {
  const [names = [], values = []] = readFileSync("/proc/net/netstat", "utf8")
    .split("\n")
    .filter((line) => line.startsWith("TcpExt:"))
    .map((line) => line.split(" "));
  return Number(values[names.indexOf("EmbryonicRsts")]);
}

function ticksOf(pid: number | undefined): number {
  if (pid === undefined) return 0;
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return Number(fields[11]) + Number(fields[12]);
}
