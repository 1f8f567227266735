// What relays plain TCP and nothing else: socat as people use it, and the floors, which nobody would run: an epoll loop in C, and
// careless lines on Bun sockets.
import { spawnSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { SERVER_NAME } from "../certificates.ts";
import { type Contender, isPlain, missingProgram } from "./contender.ts";

/** What bunnel moves at a time (SPLICE_BYTES in src/runtime/bun/transfer.ts). */
const BUFFER_BYTES = 256 * 1024;

/** socat: a process for each connection. */
export const socat: Contender = {
  name: "socat",
  about: "socat, a process for each connection, one target",
  role: "peer",
  missing: () => missingProgram("socat"),
  serves: isPlain,
  forks: true,
  prepare: ({ listeners, connections }) =>
    listeners.map(({ port, endpoints }) => [
      "socat",
      `TCP-LISTEN:${port},bind=127.0.0.1,fork,reuseaddr,backlog=4096,max-children=${connections},nodelay`,
      `TCP:127.0.0.1:${endpoints[0]},nodelay`,
    ]),
};

/** The least that copying through user space costs: read and write with bunnel's buffer. */
export const minimalC: Contender = {
  name: "c-minimal",
  about: `bench/contenders/minimal-relay.c: an epoll loop with one buffer of ${BUFFER_BYTES / 1024} KiB, which is what bunnel moves at a time`,
  role: "floor",
  missing: () => missingProgram("cc"),
  serves: isPlain,
  extra: true,
  prepare: ({ folder, listeners }) => {
    const source = join(folder, "minimal-relay.c");
    const program = join(folder, "minimal-relay");
    copyFileSync(join(import.meta.dir, "minimal-relay.c"), source);
    const { status, stderr } = spawnSync("cc", ["-O2", "-Wall", "-o", program, source], { encoding: "utf8" });
    if (status !== 0) throw new Error(`cc could not compile minimal-relay.c: ${stderr}`);
    return [
      [program, String(BUFFER_BYTES), ...listeners.map(({ port, endpoints }) => `${port}:${endpoints.join(":")}`)],
    ];
  },
};

/** The least that Bun's sockets cost. */
export const minimalBun: Contender = {
  name: "bun-minimal",
  about: "bench/contenders/minimal-proxy.ts: careless lines on Bun sockets, the floor under bunnel",
  role: "floor",
  missing: () => undefined,
  serves: ({ sni }) => sni === undefined,
  prepare: ({ listeners, certificates: files }) => {
    const options = {
      listeners: listeners.map(({ port, endpoints, terminates, originates }) => ({
        port,
        targets: endpoints,
        tls: terminates && {
          cert: files.serverCertificateFile,
          key: files.serverKeyFile,
          ca: files.caFile,
          tickets: terminates.tickets === true,
        },
        targetTls: originates && {
          cert: files.clientCertificateFile,
          key: files.clientKeyFile,
          ca: files.caFile,
          serverName: SERVER_NAME,
        },
      })),
    };
    return [[process.execPath, join(import.meta.dir, "minimal-proxy.ts"), JSON.stringify(options)]];
  },
};
