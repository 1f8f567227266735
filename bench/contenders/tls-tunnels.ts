// Programs that do nothing but put TLS around TCP, each towards one target: stunnel, hitch and ghostunnel.
import { SERVER_NAME } from "../certificates.ts";
import { type BenchListener, type Contender, missingProgram, writeConfig } from "./contender.ts";

const isTerminated = ({ terminates }: BenchListener): boolean => terminates !== undefined;
const isTls = ({ terminates, originates }: BenchListener): boolean => terminates !== undefined || originates === true;

/** stunnel: a thread for each connection. */
export const stunnel: Contender = {
  name: "stunnel",
  about: "stunnel, a thread for each connection, one target",
  role: "peer",
  missing: () => missingProgram("stunnel"),
  serves: isTls,
  prepare: ({ folder, listeners, certificates: files }) => {
    const lines = [
      "foreground = yes",
      "pid =",
      "debug = 3",
      "syslog = no",
      ...listeners.flatMap(({ name, port, endpoints, terminates, originates }) => [
        `[${name}]`,
        `accept = 127.0.0.1:${port}`,
        `connect = 127.0.0.1:${endpoints[0]}`,
        `client = ${originates ? "yes" : "no"}`,
        `cert = ${originates ? files.clientCertificateFile : files.serverCertificateFile}`,
        `key = ${originates ? files.clientKeyFile : files.serverKeyFile}`,
        `CAfile = ${files.caFile}`,
        "verifyChain = yes",
        ...(originates ? [`sni = ${SERVER_NAME}`, `checkHost = ${SERVER_NAME}`] : ["requireCert = yes"]),
        `sslVersionMin = ${originates ? "TLSv1.3" : "TLSv1.2"}`,
        ...(terminates?.suite ? [`ciphersuites = ${terminates.suite}`] : []),
        ...(terminates?.tickets ? [] : ["options = NO_TICKET", "sessionCacheSize = 1"]),
        "TIMEOUTidle = 3600",
      ]),
    ];
    return [["stunnel", writeConfig(folder, "stunnel.conf", lines)]];
  },
};

/** hitch: an event loop in one worker process. */
export const hitch: Contender = {
  name: "hitch",
  about: "hitch, `workers = 1`, one target",
  role: "peer",
  missing: () => missingProgram("hitch"),
  // Of one process all frontends lead to one backend; the lab asks for one terminating listener at a time.
  serves: isTerminated,
  prepare: ({ folder, listeners, certificates: files }) =>
    listeners.map(({ name, port, endpoints, terminates }) => {
      const lines = [
        `frontend = "[127.0.0.1]:${port}"`,
        `backend = "[127.0.0.1]:${endpoints[0]}"`,
        `pem-file = "${files.serverBundleFile}"`,
        "client-verify = required",
        `client-verify-ca = "${files.caFile}"`,
        "tls-protos = TLSv1.2 TLSv1.3",
        ...(terminates?.suite ? [`ciphersuites = "${terminates.suite}"`] : []),
        "workers = 1",
        "backlog = 4096",
        ...(process.getuid?.() === 0 ? ['user = "root"'] : []),
        "daemon = off",
        "log-level = 0",
      ];
      return ["hitch", "--config", writeConfig(folder, `hitch-${name}.conf`, lines)];
    }),
};

/** ghostunnel, when it is in PATH. */
export const ghostunnel: Contender = {
  name: "ghostunnel",
  about: "ghostunnel, GOMAXPROCS=1, one target and one process for each listener",
  role: "peer",
  missing: () => missingProgram("ghostunnel"),
  serves: isTls,
  prepare: ({ listeners, certificates: files }) =>
    listeners.map(({ port, endpoints, originates }) => [
      "env",
      "GOMAXPROCS=1",
      "ghostunnel",
      originates ? "client" : "server",
      `--listen=127.0.0.1:${port}`,
      `--target=127.0.0.1:${endpoints[0]}`,
      `--cert=${originates ? files.clientCertificateFile : files.serverCertificateFile}`,
      `--key=${originates ? files.clientKeyFile : files.serverKeyFile}`,
      `--cacert=${files.caFile}`,
      "--quiet=all",
      ...(originates ? [`--override-server-name=${SERVER_NAME}`] : ["--allow-all"]),
    ]),
};
