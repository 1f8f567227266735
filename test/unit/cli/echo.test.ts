// The echo endpoints on real sockets, asked by curl and by a raw client.

import { afterAll, describe, expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { startEcho } from "../../../src/cli/echo.ts";
import { runtime } from "../../../src/runtime/bun/bun-runtime.ts";

const endpoint = startEcho(runtime, "echo-1");
const port = endpoint.address.kind === "tcp" ? endpoint.address.port : 0;
afterAll(() => endpoint.close());

const GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/** Sends a text and gives all that comes back until the other side ends. */
function exchange(send: (socket: Socket) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    let received = "";
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
    });
    socket.on("end", () => {
      socket.end();
      resolve(received);
    });
    socket.on("error", reject);
    send(socket);
  });
}

/** Resolves once the other side has stopped taking what we send, or has taken all of it. */
async function stalled(socket: Socket): Promise<void> {
  for (let before = -1; before !== socket.writableLength; await Bun.sleep(20)) before = socket.writableLength;
}

describe("an echo endpoint", () => {
  test("listens on loopback, on a port of its own", () => {
    expect(endpoint.address).toMatchObject({ kind: "tcp", host: "127.0.0.1" });
    expect(port).toBeGreaterThan(0);
  });

  test("satisfies curl, over one kept connection", async () => {
    const url = `http://127.0.0.1:${port}/`;
    const curl = Bun.spawn(["curl", "-sS", "-w", "%{http_code} %{num_connects}\n", url, url, "-d", "x=1"], {
      stdout: "pipe",
    });
    expect(await new Response(curl.stdout).text()).toBe("echo-1\n200 1\necho-1\n200 0\n");
  });

  test("closes with a FIN after Connection: close, even when more is sent", async () => {
    const last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    const received = await exchange((socket) => socket.write(GET + last + GET.repeat(50)));
    expect(received.match(/echo-1\n/g)?.length).toBe(2);
  });

  test("answers what was asked before the client ended its side, then ends", async () => {
    expect(await exchange((socket) => socket.end(GET + GET))).toMatch(/echo-1\n.*echo-1\n$/s);
  });

  test("holds back a client that does not read, and loses nothing", async () => {
    const count = 100_000;
    const received = await exchange((socket) => {
      socket.pause();
      socket.end(GET.repeat(count));
      void stalled(socket).then(() => socket.resume());
    });
    expect(received.match(/echo-1\n/g)?.length).toBe(count);
  });
});
