// Processes of one daemon on Bun: starting them, talking to them, and passing them listening sockets and memory.
//
// A channel is a pair of unix sockets. One carries messages, a JSON value a line, as any stream of Bun's. The other carries descriptors (SCM_RIGHTS,
// unix(7)) and is read by recvmsg when a message says that there are some: Bun's own sockets drop what comes beside the bytes. The sender puts
// the descriptors in first, so they are there when the message is.

import { fstatSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import type { Socket } from "bun";
import { assert } from "../../base/assert.ts";
import { ProxyError } from "../../base/errors.ts";
import { DescriptorFile } from "../node/log-sink.ts";
import type {
  BoundSocket,
  Channel,
  ChannelHandlers,
  ChildProcess,
  Passable,
  Processes,
  SharedMemory,
} from "../runtime.ts";
import { BunBoundSocket } from "./bound.ts";
import { reportDefect } from "./events.ts";
import { closeDescriptor } from "./libc.ts";
import { openMemory, openSocketPair, receiveDescriptors, sendDescriptors } from "./libc-passing.ts";

/** Where a child finds its end of the channel, after standard input, output and error. */
const MESSAGES_FD = 3;
const DESCRIPTORS_FD = 4;
const NEWLINE = 10;
/** Set for a child to the id of the process that started it: the descriptors above are then what they are taken for. */
const PARENT_VARIABLE = "BUNNEL_PARENT";
/** The same for an orphan, whose parent is another one: the inode of the first of these. */
const CHANNEL_VARIABLE = "BUNNEL_CHANNEL";
/** How often to check whether a process is still there that is not our child. */
const LOOK_MS = 50;
/** Starts a program in the background, says its process id and ends. Its standard output is then the shell's descriptor 5. */
const LEAVE = '"$@" >&5 5>&- & echo $!';

type Environment = Readonly<Record<string, string | undefined>>;

/** See `Runtime.processes`. */
export const processes: Processes = {
  pid: process.pid,
  processors: availableParallelism(),
  isChild: Number(process.env[PARENT_VARIABLE]) === process.ppid || hasChannel(),
  start,
  startOrphan,
  parent: () => new BunChannel(MESSAGES_FD, DESCRIPTORS_FD),
  shareMemory(bytes) {
    const descriptor = openMemory(bytes);
    assert(typeof descriptor === "number", `memory can be shared: ${descriptor}`);
    return new BunSharedMemory(descriptor);
  },
  isAlive,
  signal,
};

function hasChannel(): boolean {
  try {
    const stat = fstatSync(MESSAGES_FD);
    return stat.isSocket() && String(stat.ino) === process.env[CHANNEL_VARIABLE];
  } catch {
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    // The state follows the name, which stands in parentheses and may have some itself.
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3) !== "Z";
  } catch {
    return false;
  }
}

function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

function start(args: readonly string[], more: Environment = {}): ChildProcess {
  return withChannel((messages, descriptors, environment) => {
    const child = Bun.spawn(commandOf(args), {
      stdio: ["ignore", "inherit", "inherit", messages, descriptors],
      env: { ...environment, ...more },
    });
    return {
      pid: child.pid,
      exited: child.exited.then(() => {
        const { exitCode, signalCode } = child;
        return { code: exitCode, signal: signalCode === null ? null : String(signalCode) };
      }),
      kill: (name) => child.kill(name),
    };
  });
}

function startOrphan(args: readonly string[], more: Environment): ChildProcess {
  return withChannel((messages, descriptors, environment) => {
    const { stdout } = Bun.spawnSync(["/bin/sh", "-c", LEAVE, "sh", ...commandOf(args)], {
      stdio: ["ignore", "pipe", "inherit", messages, descriptors, 1],
      env: { ...environment, ...more },
    });
    const pid = Number(stdout.toString());
    if (!(pid > 0)) throw new ProxyError("EUPGRADE", "the shell that was to start it did not");
    let hasEnded = false;
    const exited = new Promise<Awaited<ChildProcess["exited"]>>((resolve) => {
      const timer = setInterval(() => {
        if (isAlive(pid)) return;
        hasEnded = true;
        clearInterval(timer);
        resolve({ code: null, signal: null });
      }, LOOK_MS);
      timer.unref();
    });
    return { pid, exited, kill: (name) => void (hasEnded || signal(pid, name)) };
  });
}

/** Starts a process with `run`, which is given its ends of a channel and the environment that tells of them. */
function withChannel(
  run: (messages: number, descriptors: number, environment: Environment) => Omit<ChildProcess, "channel">,
): ChildProcess {
  const [ourMessages, theirMessages] = openSocketPair("stream");
  const [ourDescriptors, theirDescriptors] = openSocketPair("packets");
  try {
    const environment = {
      // Without it Bun hands on the environment that this process was started with.
      ...process.env,
      [PARENT_VARIABLE]: String(process.pid),
      [CHANNEL_VARIABLE]: String(fstatSync(theirMessages).ino),
    };
    const child = run(theirMessages, theirDescriptors, environment);
    const channel = new BunChannel(ourMessages, ourDescriptors);
    // What it has said is heard before its end is.
    return { ...child, channel, exited: Promise.all([child.exited, channel.ended]).then(([how]) => how) };
  } catch (thrown) {
    closeDescriptor(ourMessages);
    closeDescriptor(ourDescriptors);
    throw thrown;
  } finally {
    closeDescriptor(theirMessages);
    closeDescriptor(theirDescriptors);
  }
}

function commandOf(args: readonly string[]): string[] {
  const [program = ""] = process.argv.slice(1);
  // Of a compiled program the first argument is inside of it, and its own arguments follow.
  return program.startsWith("/$bunfs/") ? [process.execPath, ...args] : [process.execPath, program, ...args];
}

/** Memory by its descriptor. */
export class BunSharedMemory implements SharedMemory {
  readonly descriptor: number;
  readonly bytes: number;

  constructor(descriptor: number) {
    this.descriptor = descriptor;
    this.bytes = fstatSync(descriptor).size;
  }

  map(offset: number, bytes: number): ArrayBufferLike {
    const options = { shared: true, offset, size: bytes };
    return Bun.mmap(`/proc/self/fd/${this.descriptor}`, options as Parameters<typeof Bun.mmap>[1]).buffer;
  }
}

class BunChannel implements Channel {
  readonly #descriptors: number;
  #handlers: ChannelHandlers | null = null;
  #socket: Socket<undefined> | null = null;
  /** What the kernel has not taken. */
  readonly #unsent: Uint8Array[] = [];
  /** The beginning of a line whose end has not come. */
  #partial: Uint8Array[] = [];
  #ended = false;

  readonly #end = Promise.withResolvers<void>();

  /** Takes over both descriptors. */
  constructor(messages: number, descriptors: number) {
    this.#descriptors = descriptors;
    // `fd` is real but not in Bun's types (RUNTIME-FACTS: Descriptors); `open` is called within.
    const options = {
      fd: messages,
      socket: {
        binaryType: "uint8array",
        open: (socket: Socket<undefined>) => {
          this.#socket = socket;
          // Until somebody listens, nothing may be lost.
          socket.pause();
        },
        data: (_: unknown, bytes: Uint8Array) => this.#receive(bytes),
        drain: () => this.#flush(),
        end: () => this.close(),
        close: () => this.#finish(),
        error: (_: unknown, thrown: unknown) => reportDefect(thrown),
      },
    };
    void Bun.connect(options as unknown as Parameters<typeof Bun.connect<undefined>>[0]).catch(reportDefect);
  }

  send(message: object, passes: readonly Passable[] = []): void {
    if (this.#ended) return;
    const descriptors = passes.map((each) => (each as BunBoundSocket | BunSharedMemory | DescriptorFile).descriptor);
    const failure = sendDescriptors(this.#descriptors, descriptors);
    if (failure !== "") {
      // When the other process is gone, the channel's end will be told; else a message is lost, and that cannot be made up for.
      if (failure !== "EPIPE" && failure !== "ECONNRESET") this.close();
      return;
    }
    this.#unsent.push(new TextEncoder().encode(`${JSON.stringify({ message, passed: passes.length })}\n`));
    this.#flush();
  }

  listen(handlers: ChannelHandlers): void {
    this.#handlers = handlers;
    this.#socket?.resume();
  }

  close(): void {
    this.#socket?.terminate();
    this.#finish();
  }

  /** Resolves once there is no more to be received. */
  get ended(): Promise<void> {
    return this.#end.promise;
  }

  #flush(): void {
    while (this.#unsent.length > 0 && this.#socket !== null) {
      const [bytes] = this.#unsent as [Uint8Array];
      const taken = this.#socket.write(bytes);
      if (taken < 0) return;
      if (taken < bytes.length) {
        this.#unsent[0] = bytes.subarray(taken);
        return;
      }
      this.#unsent.shift();
    }
  }

  #receive(bytes: Uint8Array): void {
    let from = 0;
    for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, from)) {
      const line = Buffer.concat([...this.#partial, bytes.subarray(from, at)]).toString();
      this.#partial = [];
      from = at + 1;
      const { message, passed } = JSON.parse(line) as { message: unknown; passed: number };
      const descriptors = passed > 0 ? receiveDescriptors(this.#descriptors, passed) : [];
      this.#handlers?.message(message, {
        socket: (index, address): BoundSocket => new BunBoundSocket(descriptors[index] as number, address),
        memory: (index) => new BunSharedMemory(descriptors[index] as number),
        logFile: (index) => new DescriptorFile(descriptors[index] as number),
      });
      if (this.#ended) return;
    }
    if (from < bytes.length) this.#partial.push(bytes.subarray(from));
  }

  #finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    closeDescriptor(this.#descriptors);
    this.#handlers?.end();
    this.#end.resolve();
  }
}
