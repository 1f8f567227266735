// A machine with a real systemd as its process 1, beside the host's: namespaces for processes, mounts, network and control groups, with the
// programs of the host and this checkout installed as an operator installs it. boot-systemd.sh makes it; nothing of it touches the host's systemd, and it leaves
// nothing behind. Needs root, systemd, and a kernel that lets root have all of that.

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Child, type Outcome, run } from "./child.ts";
import { eventually } from "./eventually.ts";
import { findProgram, missingPrograms } from "./programs.ts";
import { childrenOf, endNow, isAlive } from "./worker-processes.ts";

const BOOT = join(import.meta.dir, "boot-systemd.sh");
const CHECKOUT = join(import.meta.dir, "../..");
const BOOT_MS = 15_000;
const END_MS = 5000;
/** For one command of an operator, on a busy machine. */
const COMMAND_MS = 20_000;
const LOOK_MS = 50;
const GROUP_PREFIX = "bunnel-test-";
const NAMESPACES = ["--pid", "--fork", "--mount", "--net", "--uts", "--ipc", "--kill-child"];

/** To be declared with `await using`. */
export class SystemdMachine implements AsyncDisposable {
  /** Of its systemd, as the host knows it. */
  readonly pid: number;
  readonly #child: Child;
  readonly #directory: string;
  readonly #group: string;

  constructor(pid: number, { child, directory, group }: Booting) {
    this.pid = pid;
    this.#child = child;
    this.#directory = directory;
    this.#group = group;
  }

  /** Boots one, or says why there can be none here, for a test's title. */
  static async boot(): Promise<SystemdMachine | string> {
    if (process.getuid?.() !== 0) return "root, for namespaces";
    const missing = missingPrograms("systemctl", "ip");
    if (missing !== "") return missing;
    if (!existsSync("/lib/systemd/systemd")) return "/lib/systemd/systemd (package systemd)";
    const parent = ownGroup();
    if (parent === null) return "control groups of version 2";
    removeAbandoned(parent);
    const group = join(parent, `${GROUP_PREFIX}${process.pid}`);
    try {
      mkdirSync(group);
    } catch (thrown) {
      return `a control group of its own (${String(thrown)})`;
    }
    const directory = mkdtempSync(join(tmpdir(), "bunnel-machine-"));
    // A test process that is killed takes the machine with it.
    const under = ["setpriv", "--pdeathsig", "KILL", "unshare", ...NAMESPACES];
    const child = new Child([...under, "sh", BOOT, directory, group, process.execPath, CHECKOUT], {
      env: { PATH: `${process.env.PATH}:${dirname(findProgram("ip") ?? "")}` },
    });
    const booting = { child, directory, group };
    try {
      // Before it is systemd, it is a shell that has some of its namespaces yet to enter.
      const isSystemd = (each: number): boolean => readFileSync(`/proc/${each}/comm`, "utf8") === "systemd\n";
      const pid = await child.comesTo("it became systemd", () => childrenOf(child.pid).find(isSystemd), BOOT_MS);
      const machine = new SystemdMachine(pid, booting);
      await eventually(
        () => `systemd was up: ${child.story}`,
        async () => (await machine.run("systemctl", "is-system-running")).stdout === "running\n",
        BOOT_MS,
      );
      return machine;
    } catch {
      await endMachine(booting);
      return `systemd in namespaces (${child.stderr.trim().split("\n").at(-1)})`;
    }
  }

  /** Where a file of the machine is for the host, unix sockets included. */
  path(path: string): string {
    return `/proc/${this.pid}/root${path}`;
  }

  write(path: string, text: string, mode = 0o644): void {
    mkdirSync(dirname(this.path(path)), { recursive: true });
    writeFileSync(this.path(path), text, { mode });
  }

  /** What a command is put behind to be run in the machine, as root and under none of its services. */
  get under(): readonly string[] {
    const join = 'mkdir -p /sys/fs/cgroup/operator && echo 0 >/sys/fs/cgroup/operator/cgroup.procs && exec "$@"';
    return [
      ...["nsenter", "-t", String(this.pid), "-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w"],
      "sh",
      "-c",
      join,
      "sh",
    ];
  }

  /** Runs a command of an operator to its end. */
  run(...command: readonly string[]): Promise<Outcome> {
    const env = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", SYSTEMD_PAGER: "", LANG: "C" };
    return run([...this.under, ...command], { env, patienceMs: COMMAND_MS });
  }

  /** The same, of systemctl. Throws when it fails. */
  async systemctl(...parameters: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.run("systemctl", ...parameters);
    if (exitCode !== 0) throw new Error(`systemctl ${parameters.join(" ")}: ${stderr}\n${await this.journal()}`);
    return stdout;
  }

  /** A property of the service, or several of them, each on a line. */
  async property(name: string): Promise<string> {
    return (await this.systemctl("show", "bunnel.service", "--value", "-p", name)).trim();
  }

  /** The same, once it is as the pattern says. */
  async becomes(name: string, pattern: RegExp): Promise<string> {
    return await eventually(
      `${name} of the service was ${pattern}`,
      async () => {
        const value = await this.property(name);
        if (pattern.test(value)) return value;
        // Each look is a program, and what it looks for needs the processor, too.
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        return null;
      },
      COMMAND_MS,
    );
  }

  /** What the service and systemd have written, for the message of a failure. */
  async journal(): Promise<string> {
    return (await this.run("journalctl", "--no-pager", "-n", "50", "-o", "cat")).stdout;
  }

  /** What of it is left on the host; "" when nothing is. */
  get remains(): string {
    const remains = [
      isAlive(this.pid) ? "its systemd" : "",
      existsSync(this.#group) ? this.#group : "",
      existsSync(this.#directory) ? this.#directory : "",
      readFileSync("/proc/self/mounts", "utf8").includes(this.#directory) ? "mounts" : "",
    ];
    return remains.filter(Boolean).join(", ");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await endMachine({ child: this.#child, directory: this.#directory, group: this.#group });
  }
}

interface Booting {
  readonly child: Child;
  /** Where it was put together: for the host it stays empty. */
  readonly directory: string;
  readonly group: string;
}

/** The kernel ends everything in the machine with its process 1, and every mount with the last of its processes. */
async function endMachine({ child, directory, group }: Booting): Promise<void> {
  const first = childrenOf(child.pid);
  await child[Symbol.asyncDispose]();
  for (const pid of first) endNow(pid);
  await eventually("all of its processes had ended", () => !first.some(isAlive), END_MS);
  await eventually("its control group could be removed", () => removeGroup(group), END_MS);
  rmSync(directory, { recursive: true, force: true });
}

/** The directory of the control group that this process is in; null where there are none of version 2. */
function ownGroup(): string | null {
  // … mount point … - cgroup2 …
  const at = /^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 /m.exec(readFileSync("/proc/self/mountinfo", "utf8"))?.[1];
  const own = /^0::(.*)$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))?.[1];
  return at === undefined || own === undefined ? null : join(at, own);
}

/** Removes a group without processes, with those in it. Whether it could. */
function removeGroup(group: string): boolean {
  if (!existsSync(group)) return true;
  try {
    for (const { name, parentPath } of readdirSync(group, { withFileTypes: true }).filter((each) => each.isDirectory()))
      removeGroup(join(parentPath, name));
    rmdirSync(group);
    return true;
  } catch {
    return false;
  }
}

/** What test processes that were killed have left: groups whose machines have ended with them. */
function removeAbandoned(parent: string): void {
  for (const name of readdirSync(parent).filter((each) => each.startsWith(GROUP_PREFIX)))
    if (!existsSync(`/proc/${name.slice(GROUP_PREFIX.length)}`)) removeGroup(join(parent, name));
}
