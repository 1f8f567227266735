// What stands behind the proxies: one nginx that serves HTTP on two ports (so that least-connections has a choice to make),
// and over mTLS on two more, for the whole run, and an iperf3 or sockperf server that lives as long as one measurement.
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Certificates } from "./certificates.ts";
import { nginxPreamble } from "./contenders/nginx.ts";
import { accepts, eventually, LabError, type Placement, type Processes, type RunningProcess } from "./processes.ts";

/** Ports of the services, on 127.0.0.1. */
export interface BackendPorts {
  readonly http: readonly [number, number];
  /** The same service over TLS 1.3, for clients with a certificate of the lab's CA. */
  readonly https: readonly [number, number];
  readonly iperf: number;
  readonly ping: number;
  readonly redis: number;
  readonly postgres: number;
  /** Where nginx tells its own counts; no proxy leads here. */
  readonly status: number;
}

/** What the HTTP backend serves. */
export const SMALL_PATH = "/small";
/** A body of `LARGE_BYTES` zeros. */
export const LARGE_PATH = "/large";
/** Takes a PUT of any size and throws the body away. */
export const SINK_PATH = "/sink";
export const LARGE_BYTES = 256 * 1024 * 1024;
/** Bytes of the body at SMALL_PATH. */
export const SMALL_BODY = "0123456789abcdef".repeat(4);

/** One suite for all: an OpenSSL client's own first choice, which BoringSSL alone would replace by a cheaper one. */
export const TLS13_SUITE = "TLS_AES_256_GCM_SHA384";

const BACKEND_CONNECTIONS = 16384;

/** What the HTTP backend is started with. */
export interface HttpBackendOptions {
  /** A folder of its own; it need not exist. */
  readonly folder: string;
  readonly ports: BackendPorts;
  readonly certificates: Certificates;
}

/** Starts the HTTP backend and waits until it accepts. Also writes `large`, a sparse file, into its folder. */
export async function startHttpBackend(
  { folder, ports, certificates }: HttpBackendOptions,
  processes: Processes,
): Promise<RunningProcess> {
  mkdirSync(folder, { recursive: true });
  const large = join(folder, "large");
  writeFileSync(large, "");
  truncateSync(large, LARGE_BYTES);
  const lines = [
    ...nginxPreamble(folder),
    `events { worker_connections ${BACKEND_CONNECTIONS}; }`,
    "http {",
    "  access_log off;",
    "  sendfile on;",
    "  tcp_nopush on;",
    "  keepalive_requests 1000000000;",
    // Idle connections of the memory workload must outlast it, before and after their first request.
    "  keepalive_timeout 1h;",
    "  client_header_timeout 1h;",
    "  client_max_body_size 0;",
    `  client_body_temp_path ${join(folder, "body")};`,
    "  server {",
    `    listen 127.0.0.1:${ports.http[0]} backlog=4096;`,
    `    listen 127.0.0.1:${ports.http[1]} backlog=4096;`,
    ...ports.https.map((port) => `    listen 127.0.0.1:${port} ssl backlog=4096;`),
    ...mutualTls(certificates),
    `    root ${folder};`,
    `    location = ${SMALL_PATH} { default_type text/plain; return 200 "${SMALL_BODY}"; }`,
    `    location = ${LARGE_PATH} { }`,
    `    location = ${SINK_PATH} { return 200 "taken"; }`,
    "  }",
    `  server { listen 127.0.0.1:${ports.status}; location / { stub_status; } }`,
    "}",
  ];
  const config = join(folder, "nginx.conf");
  writeFileSync(config, `${lines.join("\n")}\n`);
  const backend = processes.start({ name: "backend-nginx", command: ["nginx", "-p", folder, "-c", config] });
  await eventually("the HTTP backend listens", () => accepts(ports.status), { owner: backend });
  return backend;
}

/** Neither tickets nor a cache: every connection is a full handshake, whatever the client would like to resume. */
function mutualTls(files: Certificates): string[] {
  return [
    `    ssl_certificate ${files.serverCertificateFile};`,
    `    ssl_certificate_key ${files.serverKeyFile};`,
    `    ssl_client_certificate ${files.caFile};`,
    "    ssl_verify_client on;",
    "    ssl_protocols TLSv1.3;",
    `    ssl_conf_command Ciphersuites ${TLS13_SUITE};`,
    "    ssl_session_tickets off;",
    "    ssl_session_cache off;",
  ];
}

/** nginx's own count of connections. */
export interface HttpBackendStatus {
  /** Connections accepted since it started, this look included. */
  readonly accepted: number;
  readonly active: number;
}

/** Asks the HTTP backend for its counts. */
export async function httpBackendStatus(ports: BackendPorts): Promise<HttpBackendStatus> {
  const response = await fetch(`http://127.0.0.1:${ports.status}/`, { keepalive: false });
  const status = parseStubStatus(await response.text());
  if (status === undefined) throw new LabError("the HTTP backend gave no status");
  return status;
}

/** Parses nginx's stub_status page. */
export function parseStubStatus(text: string): HttpBackendStatus | undefined {
  const active = /^Active connections: (\d+)/m.exec(text)?.[1];
  const accepted = /^ (\d+) \d+ \d+ /m.exec(text)?.[1];
  return active === undefined || accepted === undefined
    ? undefined
    : { accepted: Number(accepted), active: Number(active) };
}

/** Runs `body` with a fresh iperf3 server: one that a failed test has left busy would fail every later one. */
export async function withIperfServer<T>(
  { port, place = "load" }: { readonly port: number; readonly place?: keyof Placement },
  processes: Processes,
  body: () => Promise<T>,
): Promise<T> {
  const command = ["iperf3", "-s", "-B", "127.0.0.1", "-p", String(port), "--forceflush"];
  return withServer({ name: "iperf3-server", command, place, ready: "Server listening" }, processes, body);
}

/** Runs `body` with a fresh sockperf server. */
export async function withPingServer<T>(port: number, processes: Processes, body: () => Promise<T>): Promise<T> {
  const command = ["sockperf", "server", "--tcp", "-i", "127.0.0.1", "-p", String(port)];
  return withServer({ name: "sockperf-server", command, place: "load", ready: "to block on socket" }, processes, body);
}

/** Runs `body` with a fresh Redis that keeps nothing on disk. */
export async function withRedis<T>(port: number, processes: Processes, body: () => Promise<T>): Promise<T> {
  const quiet = ["--save", "", "--appendonly", "no", "--maxclients", "5000"];
  const command = ["redis-server", "--bind", "127.0.0.1", "--port", String(port), ...quiet];
  return withServer(
    { name: "redis-server", command, place: "load", ready: "eady to accept connections" },
    processes,
    body,
  );
}

/** Runs `body` with a fresh server. */
export async function withServer<T>(options: ServerOptions, processes: Processes, body: () => Promise<T>): Promise<T> {
  const server = processes.start({ name: options.name, command: options.command, place: options.place });
  try {
    await eventually(`${options.name} listens`, () => server.output().includes(options.ready), { owner: server });
    return await body();
  } finally {
    await server.stop();
  }
}

interface ServerOptions {
  readonly name: string;
  readonly command: readonly string[];
  readonly place: keyof Placement;
  /** What it prints once it listens: trying a connection would count as a test. */
  readonly ready: string;
}
