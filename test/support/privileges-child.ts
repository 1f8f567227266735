// A process that opens a listener and starts threads, becomes the user that its argument names, and prints as JSON what it then is and can do. It
// greets whoever connects, until it is killed. test/conformance/privileges.test.ts looks at it.

import { readdirSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { ProxyError } from "../../src/base/errors.ts";
import { runtime } from "../../src/runtime/bun/bun-runtime.ts";

const [user = "", secret = ""] = process.argv.slice(2);
const bound = runtime.bind({ kind: "tcp", host: "127.0.0.1", port: 0 });
// Reading files asynchronously makes the runtime start its pool of threads.
await Promise.all(Array.from({ length: 20 }, () => readFile("/proc/self/status")));

let refused: { readonly code: string; readonly message: string } | null = null;
try {
  runtime.dropPrivileges(user);
} catch (thrown) {
  if (!(thrown instanceof ProxyError)) throw thrown;
  refused = { code: thrown.code, message: thrown.message };
}

const listener = runtime.listen<null>({
  socket: bound,
  handlers: { data() {}, drain() {}, end() {}, close() {} },
  accept(socket) {
    socket.data = null;
    socket.write(new TextEncoder().encode("hello"));
    runtime.endOrderly(socket);
    socket.shutdown();
  },
});
listener.resume();

console.log(
  JSON.stringify({
    refused,
    port: listener.address.kind === "tcp" ? listener.address.port : 0,
    process: readFileSync("/proc/self/status", "utf8"),
    threads: readdirSync("/proc/self/task").map((thread) => readFileSync(`/proc/self/task/${thread}/status`, "utf8")),
    secret: readable(secret),
    // A set-user-id program would give root back to a process that may gain privileges.
    status: Bun.spawnSync(["grep", "NoNewPrivs", "/proc/self/status"]).stdout.toString(),
  }),
);

function readable(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (thrown) {
    return (thrown as { code: string }).code;
  }
}
