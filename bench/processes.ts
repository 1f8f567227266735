// Child processes of the lab. Whatever is started here is bounded in time, writes its output to a file whose tail is
// shown when it fails, and is ended by pid, with its descendants, before the lab exits.
import { closeSync, openSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { processTree } from "./measure.ts";

/** A failure of the thing under test or of a tool, with the end of its log. */
export class LabError extends Error {
  override readonly name = "LabError";
  /** The last lines of the failed program's output. */
  readonly logTail: string;

  constructor(message: string, log = "") {
    super(message);
    this.logTail = tail(log);
  }
}

/** A program that runs until it is stopped. */
export interface RunningProcess {
  readonly name: string;
  readonly pid: number;
  /** What it has written to stdout and stderr so far. */
  output(): string;
  /** The exit code, or null while it runs. */
  exitCode(): number | null;
  /** Asks it to end, then kills it and its descendants by pid. Resolves when it is gone. */
  stop(): Promise<void>;
}

/** What a finished tool left: stdout and stderr apart, and the wall time it took. */
export interface ToolResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly wallSeconds: number;
}

/** Options of `Processes.start`. */
export interface StartOptions {
  /** Names the log file in the lab's folder; need not be unique. */
  readonly name: string;
  readonly command: readonly string[];
  /** Where it may run; see `Placement`. Default: with the load. */
  readonly place?: keyof Placement;
  /** "pipe": the caller writes commands to the child's stdin by `writeLine`. Default: no stdin. */
  readonly stdin?: "pipe" | "ignore";
}

/** A running process that reads commands on stdin. */
export interface CommandedProcess extends RunningProcess {
  writeLine(line: string): void;
}

/** CPUs, as taskset(1) lists them. */
export interface Placement {
  /** The contender's own, and of two daemons in a row the first one's, which shares it with its client. */
  readonly contender: string;
  /** Of two daemons in a row the second one's, which shares it with its endpoint. */
  readonly far: string;
  /** Where everything else is. */
  readonly load: string;
}

const STOP_GRACE_MS = 2000;
const LOG_TAIL_LINES = 15;

/** The registry of every child of one lab run. */
export class Processes {
  private readonly folder: string;
  private readonly placement: Placement | undefined;
  private readonly running: Set<RunningProcess>;
  private started: number;
  private closed: boolean;

  /** Logs go to `folder`. Without a placement the scheduler puts every process where it likes. */
  constructor(folder: string, placement?: Placement) {
    this.folder = folder;
    this.placement = placement;
    this.running = new Set();
    this.started = 0;
    this.closed = false;
  }

  /** Starts a long-running program; the caller waits for it to be ready. */
  start(options: StartOptions): CommandedProcess {
    this.refuseWhenClosed();
    this.started += 1;
    const logFile = join(this.folder, `${this.started}-${options.name}.log`);
    const log = openSync(logFile, "w");
    const child = Bun.spawn(this.placed(options.command, options.place ?? "load"), {
      stdin: options.stdin ?? "ignore",
      stdout: log,
      stderr: log,
      env: toolEnvironment(),
    });
    closeSync(log);
    const process: CommandedProcess = {
      name: options.name,
      pid: child.pid,
      output: () => readFileSync(logFile, "utf8"),
      exitCode: () => child.exitCode ?? (child.signalCode === null ? null : -1),
      writeLine: (line) => {
        if (typeof child.stdin !== "object") throw new LabError(`${options.name} was started without stdin`);
        child.stdin.write(`${line}\n`);
        child.stdin.flush();
      },
      stop: async () => {
        await stopTree(child);
        this.running.delete(process);
      },
    };
    this.running.add(process);
    return process;
  }

  /** Runs a tool to its end, with the load unless told. Fails with its log tail when it exits other than 0 or outlives `limitSeconds`. */
  async run(
    command: readonly string[],
    limitSeconds: number,
    { place = "load" }: Pick<StartOptions, "place"> = {},
  ): Promise<ToolResult> {
    this.refuseWhenClosed();
    const startedAt = performance.now();
    const child = Bun.spawn(this.placed(command, place), {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: toolEnvironment(),
    });
    const name = command[0] ?? "";
    const entry: RunningProcess = {
      name,
      pid: child.pid,
      output: () => "",
      exitCode: () => child.exitCode,
      stop: () => stopTree(child),
    };
    this.running.add(entry);
    let outlived = false;
    const limit = setTimeout(() => {
      outlived = true;
      void stopTree(child);
    }, limitSeconds * 1000);
    const [stdout, stderr, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    clearTimeout(limit);
    this.running.delete(entry);
    if (outlived) throw new LabError(`${name} did not end within ${limitSeconds} s`, stdout + stderr);
    if (code !== 0) throw new LabError(`${name} exited with ${code}`, stdout + stderr);
    return { stdout, stderr, wallSeconds: (performance.now() - startedAt) / 1000 };
  }

  /** taskset replaces itself by the command, so the pid is the command's own. */
  private placed(command: readonly string[], place: keyof Placement): string[] {
    return this.placement === undefined ? [...command] : ["taskset", "-c", this.placement[place], ...command];
  }

  /** Ends everything and starts nothing more: an interrupted lab would otherwise go on with its next contender. */
  async close(): Promise<void> {
    this.closed = true;
    await this.stopAll();
  }

  private refuseWhenClosed(): void {
    if (this.closed) throw new LabError("the lab is closing");
  }

  /** Ends everything that still runs, the youngest first. */
  async stopAll(): Promise<void> {
    for (const process of [...this.running].reverse()) await process.stop();
  }
}

/** Polls until `condition` holds; fails, naming `what`, after `limitMs`, or when `owner` has ended. */
export async function eventually(
  what: string,
  condition: () => boolean | Promise<boolean>,
  options: { readonly limitMs?: number; readonly owner?: RunningProcess } = {},
): Promise<void> {
  const deadline = performance.now() + (options.limitMs ?? 10_000);
  for (;;) {
    if (await condition()) return;
    const code = options.owner?.exitCode() ?? null;
    if (code !== null)
      throw new LabError(
        `${options.owner?.name} exited with ${code} before this held: ${what}`,
        tail(options.owner?.output()),
      );
    if (performance.now() > deadline)
      throw new LabError(`waited in vain for this: ${what}`, tail(options.owner?.output()));
    await Bun.sleep(10);
  }
}

/** True when something accepts TCP connections on 127.0.0.1:`port`. */
export async function accepts(port: number): Promise<boolean> {
  try {
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } });
    socket.end();
    return true;
  } catch {
    return false;
  }
}

/** `count` distinct loopback ports that were free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = [];
  const ports: number[] = [];
  // All are held open until the last is known, so that no two are the same.
  for (let index = 0; index < count; index += 1) {
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, "127.0.0.1", resolve);
    });
    const address = server.address();
    if (address === null || typeof address === "string") throw new LabError("a listening socket has no port");
    ports.push(address.port);
    servers.push(server);
  }
  for (const server of servers) await new Promise((resolve) => server.close(resolve));
  return ports;
}

/** The last lines of a log. */
export function tail(text = "", lines = LOG_TAIL_LINES): string {
  return text.trimEnd().split("\n").slice(-lines).join("\n");
}

async function stopTree(child: Bun.Subprocess): Promise<void> {
  if (hasEnded(child)) return;
  // The tree is read before its root dies: afterwards its orphans belong to init and cannot be found.
  const pids = processTree(child.pid);
  child.kill("SIGTERM");
  await Promise.race([child.exited, Bun.sleep(STOP_GRACE_MS)]);
  for (const pid of pids) {
    if (pid !== child.pid || !hasEnded(child)) kill(pid);
  }
  await child.exited;
}

function hasEnded(child: Bun.Subprocess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended by itself meanwhile.
  }
}

function toolEnvironment(): Record<string, string | undefined> {
  // Tools print numbers in the operator's locale; the lab parses the C one.
  return { ...process.env, LC_ALL: "C" };
}
