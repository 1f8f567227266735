// The proxies that are compared, each with the configuration that makes it do the same job: one worker, one thread,
// least-connections over the same endpoints, the same certificates, TLS 1.2 and up with no tickets and no session cache,
// and no log unless its name says so. Everything else is the program's default.
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Certificates, SERVER_NAME } from "./certificates.ts";
import type { Placement, Processes, RunningProcess } from "./processes.ts";

/**
 * What a proxy listens for: plain TCP to one of three services, terminated mTLS to the HTTP service, plain TCP that becomes
 * mTLS to the HTTP service, or one of two hops to the iperf service.
 */
export type ListenerName = "http" | "iperf" | "ping" | "mtls" | "originate" | "two-hop";

/** One listener of a contender: its own port and the endpoint ports behind it, all on 127.0.0.1. */
export interface BenchListener {
  readonly name: ListenerName;
  readonly port: number;
  readonly endpoints: readonly number[];
  /** Present: terminate TLS here and require a client certificate of the lab's CA. */
  readonly terminates?: {
    /** The only TLS 1.3 suite. Without it the program chooses, and BoringSSL always does. */
    readonly suite?: string;
  };
  /** True: speak TLS 1.3 to the endpoints, show the client certificate, and accept only `SERVER_NAME` of the lab's CA. */
  readonly originates?: boolean;
}

/** What a contender is started with. */
export interface ContenderInput {
  /** A folder of its own for configuration and logs; it exists. */
  readonly folder: string;
  readonly listeners: readonly BenchListener[];
  readonly certificates: Certificates;
}

/** A program under test. */
export interface Contender {
  readonly name: string;
  /** One line for the report: what this row is. */
  readonly about: string;
  /** Why it cannot run on this machine, or undefined when it can. */
  readonly missing: () => string | undefined;
  /** Writes the configuration and gives the command line that serves it in the foreground. */
  readonly prepare: (input: ContenderInput) => readonly string[];
  /** True: only run where asked for by the workload (see `Workload.extraContenders`). */
  readonly extra?: boolean;
}

/** The contender that every ratio refers to. */
export const REFERENCE = "haproxy";

/** More than any workload opens; few enough for HAProxy, which wants 2.5 descriptors for each when it splices. */
const MAX_CONNECTIONS = 4096;
const SOURCE_ROOT = join(import.meta.dir, "..");
const MAIN = join(SOURCE_ROOT, "src/main.ts");
/** Where Debian puts it. */
export const NGINX_STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so";

/** Every contender that is a program. "direct", which is none, is the lab's own (bench.ts). */
export const CONTENDERS: readonly Contender[] = [
  {
    name: "bunnel",
    about: "this project, `workers: 0`, no access log",
    missing: () => (existsSync(MAIN) ? undefined : "src/main.ts does not exist yet"),
    prepare: (input) => prepareBunnel(input, "off"),
  },
  {
    name: "bunnel+log",
    about: "the same with the JSON access log to a file, one line per connection",
    missing: () => (existsSync(MAIN) ? undefined : "src/main.ts does not exist yet"),
    prepare: (input) => prepareBunnel(input, join(input.folder, "access.log")),
    extra: true,
  },
  {
    name: "haproxy",
    about: "HAProxy, `nbthread 1`, TCP mode, no log: the reference of every ratio",
    missing: () => missingProgram("haproxy"),
    prepare: (input) => prepareHaproxy(input, []),
  },
  {
    name: "haproxy+splice",
    about: "the same with `option splice-auto`: bunnel splices plain TCP by itself, HAProxy when told to",
    missing: () => missingProgram("haproxy"),
    prepare: (input) => prepareHaproxy(input, ["  option splice-auto"]),
    extra: true,
  },
  {
    name: "nginx",
    about: "nginx stream, `worker_processes 1`, no access log",
    missing: () =>
      missingProgram("nginx") ??
      (existsSync(NGINX_STREAM_MODULE) ? undefined : "the nginx stream module is not installed"),
    prepare: prepareNginx,
  },
  {
    name: "bun-minimal",
    about: "bench/minimal-proxy.ts: careless lines on Bun sockets, the floor under bunnel",
    missing: () => undefined,
    prepare: prepareMinimal,
  },
];

/** Why `program` cannot be run, or undefined. */
export function missingProgram(program: string): string | undefined {
  return Bun.which(program) === null ? `${program} is not installed` : undefined;
}

/** Starts one process of a contender, whose folder is made if need be. It may not listen yet when this returns. */
export function startContender(
  contender: Contender,
  input: ContenderInput,
  { processes, place }: { readonly processes: Processes; readonly place: keyof Placement },
): RunningProcess {
  mkdirSync(input.folder, { recursive: true });
  return processes.start({ name: contender.name, command: contender.prepare(input), place });
}

function prepareBunnel(input: ContenderInput, accessLog: string): readonly string[] {
  const { certificates: files } = input;
  const terminate = (name: string): string[] => [
    "    tls:",
    `      certificates: [{ cert: ${files.serverCertificateFile}, key: ${files.serverKeyFile} }]`,
    "      client_auth: required",
    `      client_ca: [${files.caFile}]`,
    "    routes:",
    `      - { name: all, tls: terminate, policy: any, backend: to-${name} }`,
  ];
  const originate = [
    "    tls:",
    `      cert: ${files.clientCertificateFile}`,
    `      key: ${files.clientKeyFile}`,
    `      ca: [${files.caFile}]`,
    `      server_name: ${SERVER_NAME}`,
    "      alpn: []",
  ];
  const listeners = input.listeners.flatMap((listener) => [
    `  - name: ${listener.name}`,
    `    address: 127.0.0.1:${listener.port}`,
    ...(listener.terminates ? terminate(listener.name) : [`    backend: to-${listener.name}`]),
  ]);
  const backends = input.listeners.flatMap((listener) => [
    `  to-${listener.name}:`,
    "    balance: least_connections",
    `    endpoints: [${listener.endpoints.map((port) => `{ address: 127.0.0.1:${port} }`).join(", ")}]`,
    ...(listener.originates ? originate : []),
  ]);
  const lines = [
    "workers: 0",
    "admin: { address: off }",
    `access_log: { output: ${accessLog}, format: json }`,
    "listeners:",
    ...listeners,
    "backends:",
    ...backends,
  ];
  return [process.execPath, MAIN, "run", "-c", writeConfig(input.folder, "bunnel.yaml", lines)];
}

function prepareHaproxy(input: ContenderInput, defaults: readonly string[]): readonly string[] {
  const { certificates: files } = input;
  const terminate = ({ suite }: { readonly suite?: string }): string =>
    ` ssl crt ${files.serverBundleFile} ca-file ${files.caFile} verify required${suite ? ` ciphersuites ${suite}` : ""}`;
  const originate =
    ` ssl verify required ca-file ${files.caFile} crt ${files.clientBundleFile} sni str(${SERVER_NAME})` +
    " ssl-min-ver TLSv1.3 no-ssl-reuse";
  const lines = [
    "global",
    "  nbthread 1",
    `  maxconn ${MAX_CONNECTIONS}`,
    "  ssl-default-bind-options no-tls-tickets ssl-min-ver TLSv1.2",
    "defaults",
    "  mode tcp",
    "  balance leastconn",
    `  maxconn ${MAX_CONNECTIONS}`,
    "  timeout connect 5s",
    "  timeout client 1h",
    "  timeout server 1h",
    ...defaults,
    ...input.listeners.flatMap((listener) => [
      `listen ${listener.name}`,
      `  bind 127.0.0.1:${listener.port}${listener.terminates ? terminate(listener.terminates) : ""}`,
      ...listener.endpoints.map((port) => `  server e${port} 127.0.0.1:${port}${listener.originates ? originate : ""}`),
    ]),
  ];
  return ["haproxy", "-db", "-f", writeConfig(input.folder, "haproxy.cfg", lines)];
}

function prepareNginx(input: ContenderInput): readonly string[] {
  const { certificates: files } = input;
  const terminate = ({ suite }: { readonly suite?: string }): string[] => [
    `    ssl_certificate ${files.serverCertificateFile};`,
    `    ssl_certificate_key ${files.serverKeyFile};`,
    `    ssl_client_certificate ${files.caFile};`,
    "    ssl_verify_client on;",
    "    ssl_protocols TLSv1.2 TLSv1.3;",
    "    ssl_session_tickets off;",
    "    ssl_session_cache off;",
    ...(suite ? [`    ssl_conf_command Ciphersuites ${suite};`] : []),
  ];
  const originate = [
    "    proxy_ssl on;",
    `    proxy_ssl_certificate ${files.clientCertificateFile};`,
    `    proxy_ssl_certificate_key ${files.clientKeyFile};`,
    `    proxy_ssl_trusted_certificate ${files.caFile};`,
    "    proxy_ssl_verify on;",
    "    proxy_ssl_verify_depth 2;",
    "    proxy_ssl_server_name on;",
    `    proxy_ssl_name ${SERVER_NAME};`,
    "    proxy_ssl_protocols TLSv1.3;",
    "    proxy_ssl_session_reuse off;",
  ];
  const lines = [
    `load_module ${NGINX_STREAM_MODULE};`,
    ...nginxPreamble(input.folder),
    `events { worker_connections ${2 * MAX_CONNECTIONS}; }`,
    "stream {",
    "  access_log off;",
    "  proxy_timeout 1h;",
    ...input.listeners.flatMap((listener) => [
      `  upstream ${listener.name} {`,
      "    least_conn;",
      ...listener.endpoints.map((port) => `    server 127.0.0.1:${port};`),
      "  }",
      "  server {",
      `    listen 127.0.0.1:${listener.port}${listener.terminates ? " ssl" : ""};`,
      ...(listener.terminates ? terminate(listener.terminates) : []),
      ...(listener.originates ? originate : []),
      `    proxy_pass ${listener.name};`,
      "  }",
    ]),
    "}",
  ];
  return ["nginx", "-p", input.folder, "-c", writeConfig(input.folder, "nginx.conf", lines)];
}

function prepareMinimal(input: ContenderInput): readonly string[] {
  const { certificates: files } = input;
  const options = {
    listeners: input.listeners.map(({ port, endpoints, terminates, originates }) => ({
      port,
      targets: endpoints,
      tls: terminates && { cert: files.serverCertificateFile, key: files.serverKeyFile, ca: files.caFile },
      targetTls: originates && {
        cert: files.clientCertificateFile,
        key: files.clientKeyFile,
        ca: files.caFile,
        serverName: SERVER_NAME,
      },
    })),
  };
  return [process.execPath, join(import.meta.dir, "minimal-proxy.ts"), JSON.stringify(options)];
}

/** The main context of every nginx of the lab: foreground, one worker, errors to its stderr, no file outside `folder`. */
export function nginxPreamble(folder: string): string[] {
  return [
    "daemon off;",
    "worker_processes 1;",
    // As root nginx would serve as www-data, which cannot read the lab's folder.
    ...(process.getuid?.() === 0 ? ["user root;"] : []),
    "error_log stderr error;",
    `pid ${join(folder, "nginx.pid")};`,
  ];
}

function writeConfig(folder: string, name: string, lines: readonly string[]): string {
  const file = join(folder, name);
  writeFileSync(file, `${lines.join("\n")}\n`);
  return file;
}
