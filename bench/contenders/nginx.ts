// nginx stream as a contender, and what every nginx of the lab has in common.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { SERVER_NAME } from "../certificates.ts";
import {
  type BenchListener,
  type CommandLine,
  type Contender,
  type ContenderInput,
  missingProgram,
  writeConfig,
} from "./contender.ts";

/** Where Debian puts it. */
export const NGINX_STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so";

/** nginx's proxy for TCP. */
export const nginx: Contender = {
  name: "nginx",
  about: "nginx stream, `worker_processes 1`, no access log",
  role: "peer",
  missing: () =>
    missingProgram("nginx") ??
    (existsSync(NGINX_STREAM_MODULE) ? undefined : "the nginx stream module is not installed"),
  prepare,
};

function prepare(input: ContenderInput): readonly CommandLine[] {
  const lines = [
    `load_module ${NGINX_STREAM_MODULE};`,
    ...nginxPreamble(input.folder),
    `events { worker_connections ${2 * input.connections}; }`,
    "stream {",
    "  access_log off;",
    "  proxy_timeout 1h;",
    ...input.listeners.flatMap((listener) => server(listener, input)),
    "}",
  ];
  return [["nginx", "-p", input.folder, "-c", writeConfig(input.folder, "nginx.conf", lines)]];
}

function server(listener: BenchListener, input: ContenderInput): string[] {
  const { name, port, endpoints, terminates, originates, sni } = listener;
  const variable = `$sni_${name.replaceAll("-", "_")}`;
  return [
    `  upstream ${name} {`,
    "    least_conn;",
    ...endpoints.map((endpoint) => `    server 127.0.0.1:${endpoint};`),
    "  }",
    ...(sni === undefined ? [] : [`  map $ssl_preread_server_name ${variable} { ${sni} ${name}; }`]),
    "  server {",
    `    listen 127.0.0.1:${port}${terminates ? " ssl" : ""};`,
    ...(terminates ? terminate(terminates, input) : []),
    ...(originates ? originate(input) : []),
    ...(sni === undefined ? [] : ["    ssl_preread on;"]),
    `    proxy_pass ${sni === undefined ? name : variable};`,
    "  }",
  ];
}

function terminate(
  { suite, tickets }: NonNullable<BenchListener["terminates"]>,
  { certificates: files }: ContenderInput,
): string[] {
  return [
    `    ssl_certificate ${files.serverCertificateFile};`,
    `    ssl_certificate_key ${files.serverKeyFile};`,
    `    ssl_client_certificate ${files.caFile};`,
    "    ssl_verify_client on;",
    "    ssl_protocols TLSv1.2 TLSv1.3;",
    `    ssl_session_tickets ${tickets ? "on" : "off"};`,
    "    ssl_session_cache off;",
    ...(suite ? [`    ssl_conf_command Ciphersuites ${suite};`] : []),
  ];
}

function originate({ certificates: files }: ContenderInput): string[] {
  return [
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
