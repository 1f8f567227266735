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
    // Far more, both ways, than the kernel's buffers hold, so that a server that goes on reading is found out.
    const request = Buffer.from(`GET /${"x".repeat(300)} HTTP/1.1\r\nHost: a\r\n\r\n`);
    const count = 150_000;
    const stream = Buffer.alloc(request.length * count, request);
    let sent = 0;
    let answers = 0;
    const send = (socket: { write(bytes: Uint8Array): number }): void => {
      if (sent < stream.length) sent += Math.max(0, socket.write(stream.subarray(sent)));
    };
    const client = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        drain: send,
        data(_, bytes) {
          for (const byte of bytes) if (byte === 0x0a) answers++;
        },
      },
    });
    client.pause();
    send(client);
    let before = -1;
    for (let same = 0; same < 10 && sent < stream.length; await Bun.sleep(10)) {
      same = sent === before ? same + 1 : 0;
      before = sent;
    }
    expect(sent).toBeLessThan(stream.length);
    client.resume();
    // Five lines to an answer: status, two headers, the empty one, the name.
    for (const endMs = performance.now() + 10_000; answers < count * 5 && performance.now() < endMs; )
      await Bun.sleep(5);
    expect(answers).toBe(count * 5);
    client.terminate();
  });
});
