// HAProxy as a contender, and the same when it is told to splice.
import { SERVER_NAME } from "../certificates.ts";
import {
  type BenchListener,
  type CommandLine,
  type Contender,
  type ContenderInput,
  missingProgram,
  writeConfig,
} from "./contender.ts";

/** HAProxy, whose rows stand beside bunnel's in most tables. */
export const haproxy: Contender = {
  name: "haproxy",
  about: "HAProxy, `nbthread 1`, TCP mode, no log",
  role: "peer",
  missing: () => missingProgram("haproxy"),
  prepare: (input) => prepare(input, []),
};

/** HAProxy, moving bytes inside the kernel. */
export const haproxyWithSplice: Contender = {
  ...haproxy,
  name: "haproxy+splice",
  about: "the same with `option splice-auto`: bunnel splices plain TCP by itself, HAProxy when told to",
  prepare: (input) => prepare(input, ["  option splice-auto"]),
  extra: true,
};

function prepare(input: ContenderInput, defaults: readonly string[]): readonly CommandLine[] {
  const { connections, listeners } = input;
  const tickets = listeners.some(({ terminates }) => terminates?.tickets);
  const lines = [
    "global",
    "  nbthread 1",
    `  maxconn ${connections}`,
    `  ssl-default-bind-options ssl-min-ver TLSv1.2${tickets ? "" : " no-tls-tickets"}`,
    "defaults",
    "  mode tcp",
    "  balance leastconn",
    `  maxconn ${connections}`,
    "  timeout connect 5s",
    "  timeout client 1h",
    "  timeout server 1h",
    ...defaults,
    ...listeners.flatMap((listener) => listen(listener, input)),
  ];
  return [["haproxy", "-db", "-f", writeConfig(input.folder, "haproxy.cfg", lines)]];
}

function listen(
  { name, port, endpoints, terminates, originates, sni }: BenchListener,
  { certificates: files }: ContenderInput,
): string[] {
  const bind =
    terminates === undefined
      ? ""
      : ` ssl crt ${files.serverBundleFile} ca-file ${files.caFile} verify required` +
        `${terminates.suite ? ` ciphersuites ${terminates.suite}` : ""}${terminates.tickets ? "" : " no-tls-tickets"}`;
  const server = originates
    ? ` ssl verify required ca-file ${files.caFile} crt ${files.clientBundleFile} sni str(${SERVER_NAME})` +
      " ssl-min-ver TLSv1.3 no-ssl-reuse"
    : "";
  return [
    `listen ${name}`,
    `  bind 127.0.0.1:${port}${bind}`,
    ...(sni === undefined
      ? []
      : [
          "  tcp-request inspect-delay 5s",
          `  tcp-request content accept if { req.ssl_sni -i ${sni} }`,
          "  tcp-request content reject if { req.ssl_hello_type 1 }",
        ]),
    ...endpoints.map((endpoint) => `  server e${endpoint} 127.0.0.1:${endpoint}${server}`),
  ];
}
