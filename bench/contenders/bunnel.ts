// bunnel as a contender, with one worker in the process itself, and the same with its access log.
import { join } from "node:path";
import { SERVER_NAME } from "../certificates.ts";
import { type BenchListener, type CommandLine, type Contender, type ContenderInput, writeConfig } from "./contender.ts";

const MAIN = join(import.meta.dir, "../../src/main.ts");

/** This project. */
export const bunnel: Contender = {
  name: "bunnel",
  about: "this project, `workers: 0`, no access log",
  role: "ours",
  missing: () => undefined,
  prepare: (input) => prepare(input, "off"),
};

/** This project with a line per connection. */
export const bunnelWithLog: Contender = {
  ...bunnel,
  name: "bunnel+log",
  about: "the same with the JSON access log to a file, one line per connection",
  prepare: (input) => prepare(input, join(input.folder, "access.log")),
  extra: true,
};

function prepare(input: ContenderInput, accessLog: string): readonly CommandLine[] {
  const lines = [
    "workers: 0",
    "admin: { address: off }",
    `access_log: { output: ${accessLog}, format: json }`,
    "listeners:",
    ...input.listeners.flatMap((listener) => [
      `  - name: ${listener.name}`,
      `    address: 127.0.0.1:${listener.port}`,
      ...routes(listener, input),
    ]),
    "backends:",
    ...input.listeners.flatMap((listener) => [
      `  to-${listener.name}:`,
      "    balance: least_connections",
      `    endpoints: [${listener.endpoints.map((port) => `{ address: 127.0.0.1:${port} }`).join(", ")}]`,
      ...(listener.originates ? originate(input) : []),
    ]),
  ];
  return [[process.execPath, MAIN, "run", "-c", writeConfig(input.folder, "bunnel.yaml", lines)]];
}

function routes({ name, terminates, sni }: BenchListener, { certificates: files }: ContenderInput): string[] {
  if (sni !== undefined) {
    return ["    routes:", `      - { name: all, match: { sni: [${sni}] }, tls: passthrough, backend: to-${name} }`];
  }
  if (terminates === undefined) return [`    backend: to-${name}`];
  return [
    "    tls:",
    `      certificates: [{ cert: ${files.serverCertificateFile}, key: ${files.serverKeyFile} }]`,
    "      client_auth: required",
    `      client_ca: [${files.caFile}]`,
    ...(terminates.tickets ? ["      session_tickets: true"] : []),
    "    routes:",
    `      - { name: all, tls: terminate, policy: any, backend: to-${name} }`,
  ];
}

function originate({ certificates: files }: ContenderInput): string[] {
  return [
    "    tls:",
    `      cert: ${files.clientCertificateFile}`,
    `      key: ${files.clientKeyFile}`,
    `      ca: [${files.caFile}]`,
    `      server_name: ${SERVER_NAME}`,
    "      alpn: []",
  ];
}
