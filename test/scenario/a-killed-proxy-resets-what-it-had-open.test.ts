// A proxy that is killed can say nothing any more, but its kernel speaks for it: connections that were open are reset, on both sides, so that no
// client takes half an answer for a whole one. A direction that had ended in order stays ended in order.

import { expect, test } from "bun:test";
import net from "node:net";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";

/** What one end of a connection has seen. */
class End {
  readonly socket: net.Socket;
  text = "";
  hasEnded = false;
  error = "";

  constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on("data", (bytes) => {
      this.text += bytes;
    });
    socket.on("end", () => {
      this.hasEnded = true;
    });
    socket.on("error", (error: NodeJS.ErrnoException) => {
      this.error = error.code ?? error.message;
    });
  }
}

for (const workers of [0, 2]) {
  test(`workers: ${workers}: idle connections, and those in the middle of an answer`, async () => {
    const servers: End[] = [];
    const endpoint = net.createServer({ allowHalfOpen: true }, (socket) => servers.push(new End(socket)));
    await new Promise<void>((resolve) => endpoint.listen(0, "127.0.0.1", resolve));
    const { port } = endpoint.address() as net.AddressInfo;
    await using daemon = await startDaemon(`
workers: ${workers}
listeners: [{ name: a, address: "127.0.0.1:0", backend: b }]
backends: { b: { endpoints: ["127.0.0.1:${port}"] } }
`);
    const proxyPort = await daemon.port("a");
    const connect = async (first: string): Promise<{ client: End; server: End }> => {
      const client = new End(net.connect({ port: proxyPort, allowHalfOpen: true }));
      client.socket.write(first);
      const server = await eventually(
        () => `the endpoint heard ${first}`,
        () => servers.find(({ text }) => text === first),
      );
      return { client, server };
    };
    const idle = await connect("idle");
    const answered = await connect("answered");
    answered.server.socket.write("half of it");
    const asked = await connect("asked");
    asked.client.socket.end();
    await eventually(
      () => "the answer came, and the end of the question",
      () => answered.client.text === "half of it" && asked.server.hasEnded,
    );
    const tree = daemon.child.pid;
    const pids = [tree, ...childrenOf(tree)];
    for (const pid of pids) process.kill(pid, "SIGKILL");
    for (const [name, end] of Object.entries({
      "idle client": idle.client,
      "idle endpoint": idle.server,
      "answered client": answered.client,
      "answered endpoint": answered.server,
      "client that asked": asked.client,
    })) {
      await eventually(
        () => `${name} was told: ${JSON.stringify({ error: end.error, hasEnded: end.hasEnded })}`,
        () => end.error !== "" || end.hasEnded,
      );
      expect({ name, error: end.error, hasEnded: end.hasEnded }).toEqual({
        name,
        error: "ECONNRESET",
        hasEnded: false,
      });
    }
    for (const { socket } of servers) socket.destroy();
    endpoint.close();
  });
}

function childrenOf(pid: number): number[] {
  const { stdout } = Bun.spawnSync(["pgrep", "-P", String(pid)]);
  return stdout.toString().split("\n").filter(Boolean).map(Number);
}
