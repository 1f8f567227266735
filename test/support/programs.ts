// The real programs that scenarios drive: where each comes from, whether it is here, and how to get it. A scenario whose program is
// missing is skipped by name, and says which package would bring it.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

interface Program {
  /** Debian's package. */
  readonly package: string;
  /** Where it is looked for beside PATH. */
  readonly paths?: readonly string[];
}

const PROGRAMS = {
  chromium: { package: "chromium" },
  curl: { package: "curl" },
  haproxy: { package: "haproxy", paths: ["/usr/sbin/haproxy"] },
  ip: { package: "iproute2", paths: ["/usr/sbin/ip", "/sbin/ip"] },
  logrotate: { package: "logrotate", paths: ["/usr/sbin/logrotate"] },
  nft: { package: "nftables", paths: ["/usr/sbin/nft"] },
  nginx: { package: "nginx", paths: ["/usr/sbin/nginx"] },
  "nginx-stream": { package: "libnginx-mod-stream", paths: ["/usr/lib/nginx/modules/ngx_stream_module.so"] },
  openssl: { package: "openssl" },
  postgres: { package: "postgresql" },
  psql: { package: "postgresql-client" },
  promtool: { package: "prometheus" },
  "redis-server": { package: "redis-server" },
  "redis-cli": { package: "redis-tools" },
  systemctl: { package: "systemd" },
  tcpdump: { package: "tcpdump", paths: ["/usr/sbin/tcpdump", "/usr/bin/tcpdump"] },
  // Debian leaves the ".sh" of its name away.
  testssl: { package: "testssl.sh" },
  tshark: { package: "tshark" },
} as const satisfies Readonly<Record<string, Program>>;

export type ProgramName = keyof typeof PROGRAMS;

/** The path of a program, or null when it is not installed. */
export function findProgram(name: ProgramName): string | null {
  const found = Bun.which(name);
  if (found !== null) return found;
  // Debian keeps the server's programs of each version in a folder of their own.
  if (name === "postgres") {
    const versions = [
      ...new Bun.Glob("*/bin/postgres").scanSync({
        cwd: "/usr/lib/postgresql",
        onlyFiles: false,
        throwErrorOnBrokenSymlink: false,
      }),
    ];
    const newest = versions.sort((a, b) => Number.parseInt(b, 10) - Number.parseInt(a, 10))[0];
    return newest === undefined ? null : `/usr/lib/postgresql/${newest}`;
  }
  const program: Program = PROGRAMS[name];
  return program.paths?.find((path) => existsSync(path)) ?? null;
}

/** The names of those that are missing, for a test's title; "" when all are here. */
export function missingPrograms(...names: readonly ProgramName[]): string {
  const missing = names.filter((name) => findProgram(name) === null);
  return missing.map((name) => `${name} (package ${PROGRAMS[name].package})`).join(", ");
}

/** Installs what is missing with apt-get, where we are root and it exists; says what it does, and what it could not do. */
export function installPrograms(): void {
  const names = Object.keys(PROGRAMS) as ProgramName[];
  const missing = names.filter((name) => findProgram(name) === null);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((name) => PROGRAMS[name].package))];
  console.log(`\n== programs for the scenarios: missing ${missing.join(", ")}`);
  if (process.getuid?.() !== 0 || Bun.which("apt-get") === null) {
    console.log(`   not root, or no apt-get: their tests are skipped. To run them install: ${packages.join(" ")}`);
    return;
  }
  const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  // The packages' services must not be started: tests start the programs themselves, on ports of their own.
  const run = (...command: [string, ...string[]]): boolean =>
    spawnSync(command[0], command.slice(1), {
      env: { ...environment, RUNLEVEL: "1" },
      stdio: "ignore",
      timeout: 300_000,
    }).status === 0;
  run("apt-get", "update", "-qq");
  if (!run("apt-get", "install", "-y", "-qq", "--no-install-recommends", ...packages)) {
    console.log(`   apt-get could not install ${packages.join(" ")}: the tests that need them are skipped`);
  }
}
