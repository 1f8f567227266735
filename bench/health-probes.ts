// What health checks cost: a daemon that does nothing but probe N endpoints in each interval, and the CPU of its supervisor, which makes the probes, from
// /proc/PID/stat. The endpoints are N loopback addresses of one listener in another process, so the kernel's work of both ends of a connection that falls to
// the dialling process (loopback delivers in the sender's turn) is counted.
//
//   bun bench/health-probes.ts [endpoints] [interval in s] [seconds] [tcp|http|tls]     default 5000 5 20 tcp

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeCertificates, SERVER_NAME } from "./certificates.ts";
import { Processes } from "./processes.ts";

const MAIN = join(import.meta.dir, "../src/main.ts");
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
  const [count = 5000, intervalS = 5, seconds = 20] = process.argv.slice(2, 5).map(Number);
  const type = process.argv[5] ?? "tcp";
  const directory = mkdtempSync(join(tmpdir(), "bunnel-health-probes-"));
  const files = await makeCertificates(directory, new Processes(directory));
  const tls = `tls: { ca: [${files.caFile}], server_name: ${SERVER_NAME} }\n    `;
  const shown = type === "tls" ? [files.serverCertificateFile, files.serverKeyFile] : [];
  const listener = spawn(process.execPath, [import.meta.path, "listen", ...shown], {
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
  // One whole interval, so that everybody has been probed and the code is warm.
  await Bun.sleep((intervalS + 3) * 1000);
  const before = { ticks: ticksOf(daemon.pid as number), accepted: last.accepted ?? 0 };
  await Bun.sleep(seconds * 1000);
  const ticks = ticksOf(daemon.pid as number) - before.ticks;
  const probes = (last.accepted ?? 0) - before.accepted;
  const share = ticks / TICKS_PER_S / seconds;
  const each = (share * seconds * 1e6) / Math.max(1, probes);
  console.log(
    `${count} endpoints, every ${intervalS} s by ${type}: ${probes} probes in ${seconds} s, ${(share * 100).toFixed(1)} % of a core, ${each.toFixed(0)} µs each; ${last.reset} were reset, ${log.split("is down").length - 1} found down`,
  );
  daemon.kill("SIGTERM");
  await once(daemon, "exit");
  listener.kill("SIGTERM");
  rmSync(directory, { recursive: true, force: true });
}

function ticksOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return Number(fields[11]) + Number(fields[12]);
}
