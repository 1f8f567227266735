// Two hosts on one machine: two network namespaces with a loopback of their own, joined by a cable (a veth pair) that can be pulled.
// Each has a home directory, in which `bunnel` is this checkout and `scp` copies to the other's. Needs root and iproute2. Everything
// that runs in the namespaces is ended with them, by pid.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Child, type ChildOptions, type Outcome, run } from "./child.ts";
import { bunnel } from "./daemon.ts";
import { eventually } from "./eventually.ts";
import { findProgram } from "./programs.ts";

const LINK = "eth0";
/** For a block of commands, each of them a program to be started, on a busy machine. */
const SHELL_PATIENCE_MS = 30_000;
const NAME_PREFIX = "bunnel-test";

let made = 0;

/** Why there can be no two hosts here, for a test's title; "" when there can. Makes a namespace and removes it to know. */
export function missingForTwoHosts(): string {
  const program = findProgram("ip");
  if (program === null) return "ip (package iproute2)";
  if (process.getuid?.() !== 0) return "root, for network namespaces";
  removeAbandoned();
  const name = `${NAME_PREFIX}-${process.pid}-probe`;
  const { status, stderr } = spawnSync(program, ["netns", "add", name], { encoding: "utf8" });
  if (status !== 0) return `network namespaces (${stderr.trim()})`;
  spawnSync(program, ["netns", "del", name]);
  return "";
}

/** One of the two. */
export class Host {
  /** Its address on the cable. */
  readonly address: string;
  /** Its home, where its programs start. */
  readonly directory: string;
  readonly #namespace: string;
  readonly #environment: Readonly<Record<string, string>>;

  constructor(address: string, place: { namespace: string; root: string }) {
    this.address = address;
    this.directory = join(place.root, address);
    this.#namespace = place.namespace;
    const path = `${join(place.root, "bin")}:${process.env.PATH ?? ""}`;
    this.#environment = { HOME: this.directory, PATH: path };
  }

  /** What a command is put behind to run on this host. */
  get under(): readonly string[] {
    return this.#inside([]);
  }

  /** Its firewall: runs nft with these rules (nft(8)). */
  nft(rules: string): string {
    const [program, ...parameters] = this.#inside([findProgram("nft") ?? "nft", "-f", "-"]) as [string, ...string[]];
    const { status, stdout, stderr } = spawnSync(program, parameters, { input: `${rules}\n`, encoding: "utf8" });
    if (status !== 0) throw new Error(`nft: ${stderr}`);
    return stdout;
  }

  /** Starts a program on this host. To be declared with `await using`. */
  start(command: readonly string[], options: ChildOptions = {}): Child {
    return new Child(this.#inside(command), this.#at(options));
  }

  /** Runs a program on this host to its end. */
  run(command: readonly string[], options: Parameters<typeof run>[1] = {}): Promise<Outcome> {
    return run(this.#inside(command), this.#at(options));
  }

  /** Waits until something accepts connections at `port` of this host's loopback, or of `address`. */
  async accepts(port: number, address = "127.0.0.1"): Promise<void> {
    const probe = ["bash", "-c", `exec 3<>/dev/tcp/${address}/${port}`];
    await eventually(
      () => `something accepted connections at ${address}:${port} of ${this.address}`,
      async () => (await this.run(probe)).exitCode === 0,
    );
  }

  /** A shell on this host, that stops at the first command that fails. To be declared with `using`. */
  shell(): Shell {
    return new Shell(this.start(["sh", "-e"]));
  }

  /** `ip` about this host: its links, its processes. */
  ip(...parameters: readonly string[]): string {
    return ip("-n", this.#namespace, ...parameters);
  }

  /** Ends everything that runs here. */
  killAll(): void {
    killAllIn(this.#namespace);
  }

  #inside(command: readonly string[]): string[] {
    return [findProgram("ip") ?? "ip", "netns", "exec", this.#namespace, ...command];
  }

  #at(options: ChildOptions): ChildOptions {
    return { cwd: this.directory, ...options, env: { ...this.#environment, ...options.env } };
  }
}

/** What somebody types into a terminal of a host, and what they see. */
class Shell implements Disposable {
  readonly #child: Child;
  #typed = 0;

  constructor(child: Child) {
    this.#child = child;
    child.write("exec 2>&1\n");
  }

  /** Types commands and gives what they print, standard error too. Throws with everything so far when one fails. */
  async type(commands: string): Promise<string> {
    const before = this.#child.stdout.length;
    const mark = `@@ ${++this.#typed} @@\n`;
    this.#child.write(`${commands}\necho '${mark.trimEnd()}'\n`);
    await eventually(
      () => `this was done: ${commands}\n${this.#child.story}`,
      () => {
        if (this.#child.stdout.endsWith(mark)) return true;
        if (this.#child.hasExited) throw new Error(`a command failed: ${commands}\n${this.#child.story}`);
        return false;
      },
      SHELL_PATIENCE_MS,
    );
    return this.#child.stdout.slice(before, -mark.length);
  }

  /** Does not wait for its end: what was started from it in the background may still hold its output open. It ends with its host. */
  [Symbol.dispose](): void {
    this.#child.signal("SIGKILL");
  }
}

/** Both of them. To be declared with `await using`. */
export class TwoHosts implements AsyncDisposable {
  readonly a: Host;
  readonly b: Host;
  readonly #namespaces: readonly string[];
  readonly #root: string;

  constructor() {
    const name = `${NAME_PREFIX}-${process.pid}-${++made}`;
    this.#root = mkdtempSync(join(tmpdir(), "bunnel-two-hosts-"));
    this.#namespaces = [`${name}-a`, `${name}-b`];
    this.a = new Host("10.77.0.1", { namespace: `${name}-a`, root: this.#root });
    this.b = new Host("10.77.0.2", { namespace: `${name}-b`, root: this.#root });
    this.#install();
    for (const namespace of this.#namespaces) ip("netns", "add", namespace);
    this.a.ip("link", "add", LINK, "type", "veth", "peer", "name", LINK, "netns", `${name}-b`);
    for (const host of [this.a, this.b]) {
      host.ip("address", "add", `${host.address}/24`, "dev", LINK);
      for (const link of ["lo", LINK]) host.ip("link", "set", link, "up");
    }
  }

  /** A second cable, on which packets take `delayMs` from one end to the other: to this address of host B. To be declared with `await using`. */
  async slowCable(addresses: { readonly a: string; readonly b: string }, delayMs: number): Promise<Child> {
    const [a = "", b = ""] = this.#namespaces;
    const program = join(import.meta.dir, "slow-cable.ts");
    const cable = new Child([process.execPath, program, a, b, addresses.a, addresses.b, String(delayMs)]);
    await cable.says("ready");
    return cable;
  }

  /** Pulls the cable: packets are lost from now on, and neither side is told. */
  pull(): void {
    this.a.ip("link", "set", LINK, "down");
  }

  /** Puts it back. */
  plug(): void {
    this.a.ip("link", "set", LINK, "up");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of [this.a, this.b]) host.killAll();
    for (const namespace of this.#namespaces) ip("netns", "del", namespace);
    rmSync(this.#root, { recursive: true, force: true });
  }

  /** The homes, named by address so that a stand-in for scp finds them, and the commands that are not the machine's own. */
  #install(): void {
    const bin = join(this.#root, "bin");
    for (const directory of [bin, this.a.directory, this.b.directory]) mkdirSync(directory);
    const quoted = bunnel()
      .map((word) => `'${word}'`)
      .join(" ");
    script(join(bin, "bunnel"), `exec ${quoted} "$@"`);
    // Like scp it writes into a file that is there, and keeps the mode of one that is not.
    script(
      join(bin, "scp"),
      `for last in "$@"; do :; done
place="${this.#root}/\${last%%:*}/\${last#*:}"
while [ $# -gt 1 ]; do cp "$1" "$place"; shift; done`,
    );
  }
}

/** What crosses the cable, or the loopback, of a host from now on. */
export class Capture implements AsyncDisposable {
  readonly path: string;
  readonly #child: Child;

  constructor(host: Host, link = LINK) {
    this.path = join(host.directory, `${link}.pcap`);
    const program = findProgram("tcpdump") ?? "tcpdump";
    // As root, since the home is root's; each packet at once, whole, in a buffer that a burst does not overrun.
    this.#child = host.start([program, "-Z", "root", "-U", "-s", "0", "-B", "65536", "-i", link, "-w", this.path]);
  }

  async started(): Promise<this> {
    await this.#child.says("listening on");
    return this;
  }

  /** Ends it. Throws when packets were lost, for then it is no proof of anything. */
  async stop(): Promise<void> {
    this.#child.signal("SIGINT");
    await this.#child.exited;
    if (!/^0 packets dropped by kernel/m.test(this.#child.stderr)) throw new Error(this.#child.story);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }
}

function script(path: string, text: string): void {
  writeFileSync(path, `#!/bin/sh\nset -e\n${text}\n`, { mode: 0o755 });
}

function ip(...parameters: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(findProgram("ip") ?? "ip", [...parameters], { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${parameters.join(" ")}: ${stderr}`);
  return stdout;
}

function killAllIn(namespace: string): void {
  for (const pid of ip("netns", "pids", namespace).split("\n").filter(Boolean)) {
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // It ended by itself in the meantime.
    }
  }
}

/** What test processes that were killed before they could clean up have left: the process in the name of a namespace is no more. */
function removeAbandoned(): void {
  for (const [name, pid] of ip("netns", "list").matchAll(new RegExp(`^${NAME_PREFIX}-(\\d+)-\\w+(?:-[ab])?`, "gm"))) {
    if (existsSync(`/proc/${pid}`)) continue;
    try {
      killAllIn(name);
      ip("netns", "del", name);
    } catch {
      // Another test process was faster.
    }
  }
}
