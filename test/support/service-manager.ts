// A stand-in for systemd as the service manager: it receives notices as the real one does, and passes sockets to what it starts. Both are Python, for
// neither Bun nor Node has datagrams on unix sockets or an exec.

import { Child } from "./child.ts";

const RECEIVER = `
import json, socket, sys
path = sys.argv[1]
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind("\\0" + path[1:] if path.startswith("@") else path)
print("bound", flush=True)
while True:
    print(json.dumps(receiver.recv(65536).decode()), flush=True)
`;

const LAUNCHER = `
import json, os, socket, sys
passed, command = json.loads(sys.argv[1]), sys.argv[2:]
held = []
for each in passed:
    kind = each["kind"]
    if kind == "file":
        held.append(os.open("/dev/null", os.O_RDONLY)); continue
    if kind == "pair":
        held.append(socket.socketpair()[0].detach()); continue
    family = socket.AF_UNIX if "path" in each else socket.AF_INET6 if ":" in each.get("host", "") else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM)
    made.bind(each["path"].replace("@", "\\0", 1) if "path" in each else (each["host"], 0))
    if kind == "stream": made.listen(100)
    name = made.getsockname()
    print("passed", each["path"] if "path" in each else name[1], file=sys.stderr, flush=True)
    held.append(made.detach())
# First out of the way of where they go.
held = [os.dup2(each, 100 + index) for index, each in enumerate(held)]
for index, each in enumerate(held):
    os.dup2(each, 3 + index, inheritable=True); os.close(each)
names = [each["name"] for each in passed if "name" in each]
if names: os.environ["LISTEN_FDNAMES"] = ":".join(names)
os.environ["LISTEN_FDS"] = str(len(held))
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execvp(command[0], command)
`;

/** A socket, or something else, that is passed to a program. */
export interface Passed {
  readonly kind: "stream" | "unlistened" | "datagram" | "pair" | "file";
  readonly name?: string;
  readonly host?: string;
  readonly path?: string;
}

/** The command line that starts another one with these sockets passed to it. Each is told on standard error: `passed PORT`. */
export function passing(sockets: readonly Passed[], command: readonly string[]): string[] {
  return ["python3", "-c", LAUNCHER, JSON.stringify(sockets), ...command];
}

/** Receives notices at `path` (or `@abstract`). To be declared with `await using`. */
export class NoticeReceiver implements AsyncDisposable {
  readonly path: string;
  readonly #child: Child;

  constructor(path: string) {
    this.path = path;
    this.#child = new Child(["python3", "-c", RECEIVER, path]);
  }

  /** Resolves once it can be told something. */
  async bound(): Promise<this> {
    await this.#child.says("bound");
    return this;
  }

  /** The datagrams that have come, in order. */
  get notices(): readonly string[] {
    const lines = this.#child.stdout.split("\n").slice(1, -1);
    return lines.map((line) => JSON.parse(line) as string);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }
}
