// 10. HTTP: who may bind what, who takes over from whom, and what is left behind.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe } from "node:test";
import type { Address } from "../../src/base/address.ts";
import type { HttpServer, ServeHttpOptions } from "../../src/runtime/http.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { test } from "./lines.ts";

const ANYWHERE: Address = { kind: "tcp", host: "127.0.0.1", port: 0 };

/** Registers the tests of `Http`. */
export function httpConformance({ http }: Runtime): void {
  describe("10. http", () => {
    let directory: string;
    const servers: HttpServer[] = [];
    const strangers: Server[] = [];
    const socketAt = (name: string): Address => ({ kind: "unix", path: join(directory, name) });

    before(() => {
      directory = mkdtempSync(join(tmpdir(), "conformance-http-"));
    });
    afterEach(async () => {
      for (const server of servers.splice(0)) await server.close(0);
      for (const stranger of strangers.splice(0)) await new Promise((resolve) => stranger.close(resolve));
    });
    after(() => rmSync(directory, { recursive: true }));

    const serve = (address: Address, name: string, more: Partial<ServeHttpOptions> = {}): HttpServer => {
      const handle = async (request: Request): Promise<Response> =>
        new Response(`${name} ${request.method} ${new URL(request.url).pathname} ${(await request.text()).length}`);
      const server = http.serve({ address, maxBodyBytes: 1000, handle, ...more });
      servers.push(server);
      return server;
    };
    const ask = async (address: Address, method: "GET" | "POST" = "GET"): Promise<string> =>
      (await http.fetch({ address, method, path: "/path", timeoutMs: 2000 })).body;
    const stranger = (where: { readonly port: number; readonly host: string } | string): Promise<Server> => {
      const server = createServer((socket) => socket.destroy());
      strangers.push(server);
      return new Promise((resolve) => server.listen(where, () => resolve(server)));
    };
    const refused =
      (code: string, message: RegExp) => (thrown: { readonly code?: unknown; readonly message: string }) => {
        assert.equal(thrown.code, code);
        assert.match(thrown.message, message);
        return true;
      };

    test("requests are answered on TCP, at the true port, over IPv4 and IPv6", async () => {
      for (const host of ["127.0.0.1", "::1"]) {
        const { address } = serve({ kind: "tcp", host, port: 0 }, host);
        assert.ok(address.kind === "tcp" && address.port > 0);
        assert.equal(await ask(address), `${host} GET /path 0`);
        assert.equal(await ask(address, "POST"), `${host} POST /path 0`);
      }
    });

    test("requests are answered on a unix socket that only its user may open", async () => {
      const address = socketAt("mode.sock");
      serve(address, "unix");
      assert.equal(await ask(address), "unix GET /path 0");
      assert.equal(lstatSync(join(directory, "mode.sock")).mode & 0o777, 0o600);
    });

    test("a status and a content type arrive as they were given", async () => {
      const handle = (): Response =>
        new Response("{}", { status: 409, headers: { "Content-Type": "application/json" } });
      const { address } = serve(ANYWHERE, "", { handle });
      const answer = await http.fetch({ address, method: "GET", path: "/", timeoutMs: 2000 });
      assert.deepEqual(answer, { status: 409, contentType: "application/json", body: "{}" });
    });

    test("a handler that throws is answered with 500, and nothing of the defect", async () => {
      for (const handle of [
        () => {
          throw new Error("secret");
        },
        () => Promise.reject(new Error("secret")),
      ]) {
        const { address } = serve(ANYWHERE, "", { handle });
        const { status, body } = await http.fetch({ address, method: "GET", path: "/", timeoutMs: 2000 });
        assert.deepEqual([status, body], [500, ""]);
      }
    });

    test("a body beyond the limit never reaches the handler", async () => {
      const { address } = serve(ANYWHERE, "");
      assert.ok(address.kind === "tcp");
      const at = `http://127.0.0.1:${address.port}/path`;
      assert.equal((await fetch(at, { method: "POST", body: "x".repeat(1000) })).status, 200);
      assert.equal((await fetch(at, { method: "POST", body: "x".repeat(1001) })).status, 413);
    });

    test("whoever was answered and asks nothing more is cut, and whoever does not read; who waits for an answer or follows is not", {
      timeout: 30_000,
    }, async () => {
      const ticking = (): ReadableStream<Uint8Array> => {
        let timer: ReturnType<typeof setInterval>;
        return new ReadableStream({
          start(stream) {
            timer = setInterval(() => stream.enqueue(new Uint8Array(1)), 500);
          },
          cancel: () => clearInterval(timer),
        });
      };
      const late = Promise.withResolvers<Response>();
      const cut = Promise.withResolvers<void>();
      const answers: Readonly<Record<string, () => Response | Promise<Response>>> = {
        "/idle": () => new Response("ok"),
        "/unread": () => new Response("x".repeat(16_000_000)),
        "/ticking": () => new Response(ticking()),
        "/late": () => late.promise,
      };
      const handle = (request: Request): Response | Promise<Response> => {
        const { pathname } = new URL(request.url);
        if (pathname === "/unread") request.signal.addEventListener("abort", () => cut.resolve());
        return answers[pathname]?.() ?? new Response(null, { status: 404 });
      };
      const { address } = serve(ANYWHERE, "", { handle, idleTimeoutSeconds: 5 });
      assert.ok(address.kind === "tcp");
      const { host, port } = address;
      const clients = new Map<string, Socket>();
      for (const path of Object.keys(answers)) {
        const client = createConnection({ host, port });
        client.on("error", () => {});
        if (path === "/unread") client.pause();
        else client.resume();
        client.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
        clients.set(path, client);
      }
      await Promise.all([once(clients.get("/idle") as Socket, "close"), cut.promise]);
      const isOpen = (path: string): boolean => clients.get(path)?.readyState === "open";
      assert.deepEqual(["/ticking", "/late"].map(isOpen), [true, true]);
      late.resolve(new Response("late"));
      const [answer] = (await once(clients.get("/late") as Socket, "data")) as [Buffer];
      assert.match(String(answer), /late$/);
      for (const client of clients.values()) client.destroy();
    });

    test("a stranger's port is EADDRINUSE, with and without takeOver", async () => {
      const server = await stranger({ host: "127.0.0.1", port: 0 });
      const { port } = server.address() as { port: number };
      for (const takeOver of [false, true])
        assert.throws(
          () => serve({ kind: "tcp", host: "127.0.0.1", port }, "", { takeOver }),
          refused("EADDRINUSE", new RegExp(`cannot listen on 127.0.0.1:${port}: EADDRINUSE: another program`)),
        );
    });

    test("a port that is served is EADDRINUSE, but for a successor, who has it alone in the end", async () => {
      const first = serve(ANYWHERE, "first");
      const { address } = first;
      assert.throws(() => serve(address, ""), refused("EADDRINUSE", /another program/));
      const second = serve(address, "second", { takeOver: true });
      assert.deepEqual(second.address, address);
      await first.close(1000);
      for (let i = 0; i < 20; i++) assert.equal(await ask(address), "second GET /path 0");
    });

    test("a socket file that is answered is EADDRINUSE, but for a successor, whose file stays when the first closes", async () => {
      const address = socketAt("over.sock");
      const first = serve(address, "first");
      assert.throws(() => serve(address, ""), refused("EADDRINUSE", /cannot listen on unix:.*over.sock: EADDRINUSE/));
      assert.equal(await ask(address), "first GET /path 0");
      const second = serve(address, "second", { takeOver: true });
      assert.equal(await ask(address), "second GET /path 0");
      await first.close(1000);
      assert.equal(await ask(address), "second GET /path 0");
      assert.equal(lstatSync(join(directory, "over.sock")).mode & 0o777, 0o600);
      await second.close(1000);
      assert.equal(existsSync(join(directory, "over.sock")), false);
    });

    test("a socket file that a dead program left is replaced; one of a stranger and a file that is no socket are not", async () => {
      // Bound, and moved from where its owner would remove it.
      const dead = await stranger(join(directory, "dead"));
      renameSync(join(directory, "dead"), join(directory, "stale.sock"));
      await new Promise((resolve) => dead.close(resolve));
      strangers.splice(0);
      assert.ok(lstatSync(join(directory, "stale.sock")).isSocket());
      serve(socketAt("stale.sock"), "new");
      assert.equal(await ask(socketAt("stale.sock")), "new GET /path 0");

      await stranger(join(directory, "strange.sock"));
      assert.throws(() => serve(socketAt("strange.sock"), ""), refused("EADDRINUSE", /strange.sock/));

      writeFileSync(join(directory, "precious"), "precious");
      for (const takeOver of [false, true])
        assert.throws(() => serve(socketAt("precious"), "", { takeOver }), refused("EADDRINUSE", /precious/));
      assert.ok(lstatSync(join(directory, "precious")).isFile());
    });

    test("a path as long as the kernel takes can be served, and nothing is left beside it", async () => {
      mkdirSync(join(directory, "long"));
      const name = "s".repeat(107 - Buffer.byteLength(join(directory, "long/")));
      const server = serve(socketAt(`long/${name}`), "long");
      assert.equal(await ask(socketAt(`long/${name}`)), "long GET /path 0");
      assert.deepEqual(readdirSync(join(directory, "long")), [name]);
      await server.close(0);
      assert.deepEqual(readdirSync(join(directory, "long")), []);
    });

    test("what cannot be bound is told by its errno", () => {
      assert.throws(
        () => serve({ kind: "unix", path: "/no/such.sock" }, ""),
        refused("ENOENT", /directory .* not exist/),
      );
      assert.throws(() => serve({ kind: "unix", path: "@abstract" }, ""), refused("EINVAL", /unix:@abstract: .*path/));
      const nowhere: Address = { kind: "tcp", host: "192.0.2.1", port: 0 };
      for (const takeOver of [false, true])
        assert.throws(() => serve(nowhere, "", { takeOver }), refused("EADDRNOTAVAIL", /192.0.2.1:0: EADDRNOTAVAIL/));
    });

    test("close lets an answer that is under way be finished, and cuts it when patience is over", {
      timeout: 5000,
    }, async () => {
      for (const [patienceMs, isAnswered] of [
        [3000, true],
        [20, false],
      ] as const) {
        const asked = Promise.withResolvers<void>();
        const answer = Promise.withResolvers<Response>();
        const handle = (): Promise<Response> => {
          asked.resolve();
          return answer.promise;
        };
        const server = serve(ANYWHERE, "", { handle });
        const result = ask(server.address).catch((thrown: unknown) => thrown);
        await asked.promise;
        const closed = server.close(patienceMs);
        if (isAnswered) answer.resolve(new Response("late"));
        if (isAnswered) assert.equal(await result, "late");
        else assert.ok((await result) instanceof Error);
        await closed;
      }
    });

    test("a fetch that nobody answers fails by its code, and names the address", async () => {
      const { address } = serve(ANYWHERE, "");
      await servers.splice(0)[0]?.close(0);
      await assert.rejects(ask(address), refused("ECONNREFUSED", /127.0.0.1:\d+ does not answer: ECONNREFUSED/));
      await assert.rejects(ask(socketAt("none.sock")), refused("ENOENT", /none.sock does not answer: ENOENT/));
      const silent = createServer((socket) => socket.resume());
      strangers.push(silent);
      await new Promise<void>((resolve) => silent.listen(join(directory, "silent.sock"), resolve));
      const path = { address: socketAt("silent.sock"), method: "GET", path: "/", timeoutMs: 30 } as const;
      await assert.rejects(http.fetch(path), refused("ETIMEDOUT", /nothing came for 0.03 s/));
      await stranger(join(directory, "rude.sock"));
      await assert.rejects(ask(socketAt("rude.sock")), /rude.sock does not answer: (ECONNRESET|EPIPE)/);
    });

    test("a fetch does not go through the proxy of the environment", async () => {
      const { address } = serve(ANYWHERE, "straight");
      const environment = { http_proxy: process.env.http_proxy, HTTP_PROXY: process.env.HTTP_PROXY };
      Object.assign(process.env, { http_proxy: "http://127.0.0.1:1", HTTP_PROXY: "http://127.0.0.1:1" });
      try {
        assert.equal(await ask(address), "straight GET /path 0");
      } finally {
        for (const [name, value] of Object.entries(environment))
          if (value === undefined) delete process.env[name];
          else process.env[name] = value;
      }
    });
  });
}
