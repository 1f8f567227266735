// Real servers from the distribution's packages, each on a loopback port and a directory of its own, as endpoints (nginx, redis, PostgreSQL,
// openssl) or in front of bunnel (HAProxy). All are to be declared with `await using`.

import { chownSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CertificateFiles } from "./certificates.ts";
import { Child, run } from "./child.ts";
import { findProgram, type ProgramName } from "./programs.ts";

/** A server that accepts connections. */
export interface RealServer extends AsyncDisposable {
  readonly port: number;
  /** `127.0.0.1:PORT`. */
  readonly address: string;
  readonly child: Child;
  /** Removed in the end. */
  readonly directory: string;
}

/** A loopback port that nothing listens on now, for programs that cannot be given port 0. */
export async function unusedPort(host = "127.0.0.1"): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The path of a program that the test has checked to be there. */
export function program(name: ProgramName): string {
  const path = findProgram(name);
  if (path === null) throw new Error(`${name} is not installed: the test should have been skipped`);
  return path;
}

/** nginx, with `servers` as the inside of its `http` block; PORT in it stands for the port. */
export function startNginx(servers: string): Promise<RealServer> {
  return startNginxWith((directory) => {
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
      .map((name) => `${name}_temp_path ${directory}/${name};`)
      .join(" ");
    return `http { access_log off; ${temporary} ${servers} }`;
  });
}

/** nginx, with `servers` as the inside of its `stream` block. Needs the program "nginx-stream" too, which is a module of it. */
export function startNginxStream(servers: string): Promise<RealServer> {
  return startNginxWith(() => `stream { ${servers} }`, `load_module ${program("nginx-stream")};`);
}

function startNginxWith(block: (directory: string) => string, first = ""): Promise<RealServer> {
  return startServer("nginx", ({ directory, port }) => {
    writeFileSync(
      join(directory, "nginx.conf"),
      `${first} daemon off; master_process off; pid ${directory}/pid; error_log stderr; worker_rlimit_nofile 1024;
events { worker_connections 512; }
${block(directory).replaceAll("PORT", String(port))}\n`,
    );
    return [program("nginx"), "-p", directory, "-c", join(directory, "nginx.conf"), "-e", "stderr"];
  });
}

/** redis without TLS or persistence. */
export function startRedis(): Promise<RealServer> {
  return startServer("redis", ({ directory, port }) => [
    program("redis-server"),
    ...["--bind", "127.0.0.1", "--port", String(port), "--dir", directory, "--save", "", "--appendonly", "no"],
  ]);
}

/** HAProxy in TCP mode; PORT in the config stands for the port that it is to listen on. */
export function startHaproxy(config: string): Promise<RealServer> {
  return startServer("haproxy", ({ directory, port }) => {
    const text = `global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n${config}\n`;
    writeFileSync(join(directory, "haproxy.cfg"), text.replaceAll("PORT", String(port)));
    return [program("haproxy"), "-db", "-q", "-f", join(directory, "haproxy.cfg")];
  });
}

/** PostgreSQL with TLS of its own and a role `client`, that lets in only whoever has a certificate of the CA with that common name. */
export async function startPostgres(server: CertificateFiles, clientCaPath: string): Promise<RealServer> {
  const postgres = program("postgres");
  const owner = await postgresOwner();
  const as = process.getuid?.() === 0 ? ["setpriv", `--reuid=${owner}`, `--regid=${owner}`, "--clear-groups"] : [];
  return await startServer(
    "postgres",
    async ({ directory, port }) => {
      const data = join(directory, "data");
      mkdirSync(data, { mode: 0o700 });
      if (as.length > 0) for (const path of [directory, data]) chownSync(path, owner, owner);
      const initdb = join(postgres, "../initdb");
      const made = await run([...as, initdb, "-D", data, "-U", "client", "-A", "trust", "-N", "--locale=C"], {
        cwd: directory,
      });
      if (made.exitCode !== 0) throw new Error(`initdb failed: ${made.stderr}`);
      const files = { "server.crt": server.certificatePath, "server.key": server.keyPath, "ca.crt": clientCaPath };
      for (const [name, from] of Object.entries(files)) {
        copyFileSync(from, join(data, name));
        if (as.length > 0) chownSync(join(data, name), owner, owner);
      }
      writeFileSync(join(data, "pg_hba.conf"), "hostssl all all 127.0.0.1/32 cert\n");
      const settings = { port, listen_addresses: "127.0.0.1", unix_socket_directories: "", fsync: "off", ssl: "on" };
      const options = Object.entries({ ...settings, ssl_ca_file: "ca.crt" }).flatMap(([k, v]) => ["-c", `${k}=${v}`]);
      return [...as, postgres, "-D", data, ...options];
    },
    // Immediate shutdown: SIGKILL would leave its workers and shared memory behind.
    "SIGQUIT",
  );
}

async function postgresOwner(): Promise<number> {
  const { stdout } = await run(["id", "-u", "postgres"]);
  return Number(stdout);
}

interface Place {
  readonly directory: string;
  readonly port: number;
}

async function startServer(
  name: string,
  prepare: (place: Place) => readonly string[] | Promise<readonly string[]>,
  stopSignal: NodeJS.Signals = "SIGKILL",
): Promise<RealServer> {
  const directory = mkdtempSync(join(tmpdir(), `bunnel-${name}-`));
  const port = await unusedPort();
  const child = new Child(await prepare({ directory, port }), { cwd: directory });
  const server: RealServer = {
    port,
    address: `127.0.0.1:${port}`,
    child,
    directory,
    async [Symbol.asyncDispose]() {
      child.signal(stopSignal);
      await child.exited;
      rmSync(directory, { recursive: true, force: true });
    },
  };
  try {
    await child.comesTo("it accepted connections", () => accepts(port));
    return server;
  } catch (thrown) {
    await server[Symbol.asyncDispose]();
    throw thrown;
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host: "127.0.0.1" });
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
