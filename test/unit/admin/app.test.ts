// The admin API over real HTTP, with a control plane that is made up.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { type Admin, startAdmin } from "../../../src/admin/admin.ts";
import { adminApp } from "../../../src/admin/app.ts";
import { EventStreams } from "../../../src/admin/events.ts";
import { gateFor } from "../../../src/admin/gate.ts";
import type { Address } from "../../../src/base/address.ts";
import { type AdminAccess, OPEN_ACCESS } from "../../../src/control/admin-access.ts";
import { runtime } from "../../../src/runtime/bun/bun-runtime.ts";
import type { Answered, Question } from "../../../src/snapshot/inspection.ts";
import { eventually } from "../../support/eventually.ts";
import { SimControl } from "../../support/sim-control.ts";
import { sampleStatus } from "../../support/status-sample.ts";
import { temporaryDirectory } from "../../support/temporary.ts";

let admin: Admin;
let control: SimControl;
let defects: unknown[];

beforeEach(async () => {
  control = new SimControl();
  defects = [];
  await start({ kind: "tcp", host: "127.0.0.1", port: 0 });
});
afterEach(() => admin.close());

async function start(address: Address, access: AdminAccess = OPEN_ACCESS): Promise<void> {
  admin = await startAdmin({ address, access, control, runtime, onDefect: (thrown) => defects.push(thrown) });
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks at fields that may not be there.
  readonly json: any;
}

function ask(method: string, path: string, headers: Record<string, string> = {}, body = ""): Promise<Answer> {
  const { address } = admin;
  const where = address.kind === "tcp" ? { host: address.host, port: address.port } : { socketPath: address.path };
  return new Promise((resolve, reject) => {
    const asked = request({ ...where, method, path, headers, agent: false }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      answer.on("end", () => {
        const isJson = String(answer.headers["content-type"]).includes("json") && text !== "";
        const json = isJson ? JSON.parse(text) : null;
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text, json });
      });
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

/** What comes first for these bytes. */
function askRaw(bytes: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const { port } = admin.address as { port: number };
  const socket = connect(port, "127.0.0.1", () => socket.write(bytes));
  socket.on("error", reject);
  socket.on("data", (chunk) => {
    resolve(chunk.toString());
    socket.destroy();
  });
  return promise;
}

describe("what it answers", () => {
  test("/healthz is 200 whatever the state", async () => {
    control.now = sampleStatus({ state: "starting", workers: [] });
    expect(await ask("GET", "/healthz")).toMatchObject({ status: 200, json: { ok: true } });
  });

  test("/readyz is 200 while everybody serves the generation of now, and says who runs which", async () => {
    const answer = await ask("GET", "/readyz");
    expect(answer.status).toBe(200);
    expect(answer.json).toEqual({
      ready: true,
      state: "serving",
      generation: 3,
      workers: [
        { worker: 1, state: "serving", generation: 3 },
        { worker: 2, state: "serving", generation: 3 },
      ],
      reasons: [],
    });
  });

  test("/readyz is 503 with its reasons otherwise", async () => {
    control.now = sampleStatus({ state: "draining" });
    expect(await ask("GET", "/readyz")).toMatchObject({ status: 503, json: { ready: false } });
    expect((await ask("HEAD", "/readyz")).status).toBe(503);
  });

  test("/api/v1/status is the status", async () => {
    expect((await ask("GET", "/api/v1/status")).json).toEqual(control.now);
  });

  test("/metrics is in the text format 0.0.4", async () => {
    const { status: code, headers, text } = await ask("GET", "/metrics");
    expect([code, headers["content-type"]]).toEqual([200, "text/plain; version=0.0.4; charset=utf-8"]);
    expect(text).toContain('\nbunnel_connections_active{listener="edge"} 40\n');
  });

  test("a reload that is taken over gives the generation", async () => {
    expect(await ask("POST", "/api/v1/reload")).toMatchObject({
      status: 200,
      json: { ok: true, generation: 3, warnings: [] },
    });
    expect(control.calls).toEqual(["reload"]);
  });

  test("a reload that is refused is 409 with every problem", async () => {
    control.problems = ["a.yaml:1:1: x: wrong", "a.yaml:2:1: y: wrong"];
    expect(await ask("POST", "/api/v1/reload")).toMatchObject({
      status: 409,
      json: { title: "Conflict", problems: control.problems },
    });
  });

  test("a drain is begun once", async () => {
    expect((await ask("POST", "/api/v1/drain")).status).toBe(202);
    control.now = sampleStatus({ state: "draining" });
    expect(await ask("POST", "/api/v1/drain")).toMatchObject({ status: 202, json: { ok: true, state: "draining" } });
    expect(control.calls).toEqual(["drain"]);
  });

  test("HEAD has no body", async () => {
    expect(await ask("HEAD", "/api/v1/status")).toMatchObject({ status: 200, text: "" });
  });

  test("a defect is 500, told to the log and not to the client", async () => {
    const broken = new Error("secret");
    Object.defineProperty(control.now, "generation", {
      get() {
        throw broken;
      },
    });
    for (const path of ["/api/v1/status", "/metrics", "/readyz"]) {
      const answer = await ask("GET", path);
      expect(answer).toMatchObject({ status: 500, json: { detail: "a defect in bunnel; its log says more" } });
      expect(answer.headers["x-content-type-options"]).toBe("nosniff");
    }
    expect(defects).toEqual([broken, broken, broken]);
  });
});

describe("what it refuses", () => {
  test("an unknown path, with the paths that there are", async () => {
    for (const path of ["/index.html", "/assets", "/assets/", "/api/v1", "/healthz/", "/constructor", "//healthz"]) {
      const { status: code, json } = await ask("GET", path);
      expect([path, code, json.detail]).toEqual([path, 404, "there is no such path"]);
      expect(json.paths).toContain("/api/v1/status");
    }
  });

  test("another method, with those that there are", async () => {
    for (const [method, path, allow] of [
      ["POST", "/api/v1/status", "GET, HEAD"],
      ["GET", "/api/v1/reload", "POST"],
      ["HEAD", "/api/v1/drain", "POST"],
      ["OPTIONS", "/api/v1/drain", "POST"],
      ["DELETE", "/metrics", "GET, HEAD"],
      ["PUT", "/api/v1/reload", "POST"],
      ["TRACE", "/healthz", "GET, HEAD"],
    ] as const) {
      const answer = await ask(method, path);
      expect([method, answer.status, answer.headers.allow]).toEqual([method, 405, allow]);
    }
    expect(control.calls).toEqual([]);
  });

  test("a body beyond the limit, announced or not, before anything is done", async () => {
    const body = "x".repeat(16 * 1024 + 1);
    for (const headers of [{}, { "Transfer-Encoding": "chunked" }]) {
      const answer = await ask("POST", "/api/v1/reload", headers, body);
      expect([answer.status, answer.json?.detail]).toEqual([413, "the body is longer than 16384 bytes"]);
    }
    expect((await ask("POST", "/api/v1/reload", {}, "x".repeat(100_000))).status).toBe(413);
    expect(control.calls).toEqual([]);
    expect((await ask("POST", "/api/v1/reload", {}, `${" ".repeat(16 * 1024 - 2)}{}`)).status).toBe(200);
  });

  const foreignHosts = [
    "evil.example",
    "evil.example:9901",
    "0.0.0.0:9901",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
  ];
  const oddHosts = ["127.0.0.1@evil.example", "10.0.0.1", "[::2]", "[::1].evil.example", "2130706433", "a localhost"];
  test.each([...foreignHosts, ...oddHosts])("a Host that is not this host's: %p", async (host) => {
    for (const [method, path] of [
      ["GET", "/api/v1/status"],
      ["GET", "/healthz"],
      ["POST", "/api/v1/drain"],
      ["GET", "/nowhere"],
    ] as const) {
      const answer = await ask(method, path, { Host: host });
      expect([answer.status, answer.json.detail]).toEqual([421, expect.stringContaining(`"${host}"`)]);
    }
    expect(control.calls).toEqual([]);
  });

  test.each(["127.0.0.1", "127.0.0.1:1", "127.8.8.8:80", "localhost", "LocalHost:9901", "[::1]:9901"])(
    "not the Host %p",
    async (host) => {
      expect((await ask("GET", "/healthz", { Host: host })).status).toBe(200);
    },
  );

  // Clients that are libraries do not send such; Bun or we refuse it.
  test.each([
    ["no Host", "GET /api/v1/status HTTP/1.1\r\n\r\n"],
    ["no Host, HTTP/1.0", "GET /api/v1/status HTTP/1.0\r\n\r\n"],
    ["an empty Host", "GET /api/v1/status HTTP/1.1\r\nHost:\r\n\r\n"],
    ["two Hosts", "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"],
    ["two Hosts, the other way round", "GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n"],
    ["a Host in the request line", "GET http://evil.example/api/v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n"],
  ])("%s", async (_, bytes) => {
    expect(await askRaw(bytes)).toMatch(/^HTTP\/1.1 (421|400) /);
  });

  test.each([
    { Origin: "http://evil.example" },
    { Origin: "null" },
    { Origin: "http://localhost:3000" },
    { Origin: "https://127.0.0.1:9901" },
    { Origin: "" },
    { "Sec-Fetch-Site": "cross-site" },
    { "Sec-Fetch-Site": "same-site" },
    { Origin: "http://127.0.0.1:9901", "Sec-Fetch-Site": "cross-site" },
  ])("a change that a page of another origin asks for: %p", async (headers) => {
    for (const path of ["/api/v1/reload", "/api/v1/drain"]) {
      const given = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined));
      const answer = await ask("POST", path, { Host: "127.0.0.1:9901", ...given });
      expect([answer.status, answer.json?.detail]).toEqual([
        403,
        "a page of another origin may neither change nor follow anything here",
      ]);
    }
    expect(control.calls).toEqual([]);
  });

  test("not a change that a page of ours asks for", async () => {
    const headers = { Host: "127.0.0.1:9901", Origin: "http://127.0.0.1:9901", "Sec-Fetch-Site": "same-origin" };
    expect((await ask("POST", "/api/v1/reload", headers)).status).toBe(200);
  });
});

describe("what every answer has", () => {
  test("headers that keep pages of other origins out, and none that lets them in", async () => {
    for (const [method, path, headers] of [
      ["GET", "/api/v1/status", {}],
      ["GET", "/metrics", {}],
      ["GET", "/nowhere", {}],
      ["GET", "/api/v1/drain", {}],
      ["GET", "/healthz", { Host: "evil.example" }],
      ["OPTIONS", "/api/v1/drain", { Origin: "http://evil.example", "Access-Control-Request-Method": "POST" }],
      ["POST", "/api/v1/drain", { Origin: "http://evil.example" }],
      ["GET", "/api/v1/status", { Origin: "http://evil.example" }],
    ] as const) {
      const answer = await ask(method, path, headers);
      expect(answer.headers).toMatchObject({
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
      });
      expect(Object.keys(answer.headers).filter((name) => name.startsWith("access-control-"))).toEqual([]);
      if (answer.status >= 400) {
        expect(answer.headers["content-type"]).toBe("application/problem+json");
        expect(answer.json).toMatchObject({ type: "about:blank", status: answer.status, title: expect.any(String) });
        expect(typeof answer.json.detail).toBe("string");
      }
    }
  });
});

test("on a unix socket any Host will do", async () => {
  await admin.close();
  await start({ kind: "unix", path: join(temporaryDirectory("bunnel-admin-"), "admin.sock") });
  expect((await ask("GET", "/healthz", { Host: "bunnel" })).status).toBe(200);
  expect((await ask("POST", "/api/v1/reload", { Host: "bunnel" })).status).toBe(200);
  expect((await ask("POST", "/api/v1/reload", { Host: "bunnel", Origin: "http://evil.example" })).status).toBe(403);
});

test("a drain that ends the daemon at once is still answered", async () => {
  const closing = Promise.withResolvers<void>();
  control.onDrain = () => closing.resolve(ending.close());
  const ending = await startAdmin({
    address: { kind: "tcp", host: "127.0.0.1", port: 0 },
    access: OPEN_ACCESS,
    control,
    runtime,
    onDefect: () => {},
  });
  const asked = { address: ending.address, method: "POST", path: "/api/v1/drain", timeoutMs: 2000 } as const;
  expect((await runtime.http.fetch(asked)).status).toBe(202);
  await closing.promise;
});

test("the API describes each of its paths and methods, and no others", async () => {
  const streams = new EventStreams(control, () => {});
  const app = adminApp({
    control,
    runtime,
    gate: gateFor({ kind: "unix", path: "/s" }, OPEN_ACCESS, runtime),
    streams,
    onDefect: () => {},
  });
  const served = app.routes.filter(({ method, path }) => method !== "ALL" && path !== "/*");
  const described = (await (await app.request("/api/v1/openapi.json")).json()) as {
    readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly operationId: string }>>>>;
  };
  const operations = Object.entries(described.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId }]) => ({
      at: `${method.toUpperCase()} ${path}`,
      operationId,
    })),
  );
  const isOfApi = ({ path }: { readonly path: string }): boolean => path !== "/" && !path.startsWith("/assets/");
  expect(operations.map(({ at }) => at).sort()).toEqual(
    served
      .filter(isOfApi)
      .map(({ method, path }) => `${method} ${path.replace(":id", "{id}")}`)
      .sort(),
  );
  expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
});

test("at most 16 questions wait for their answers at once", async () => {
  const answered = Promise.withResolvers<readonly []>();
  control.answers = () => answered.promise;
  const waiting = Array.from({ length: 16 }, () => ask("GET", "/api/v1/peers"));
  await eventually("they wait", () => control.asked.length === 16);
  const refused = await ask("GET", "/api/v1/connections");
  expect([refused.status, refused.headers["retry-after"]]).toEqual([503, "1"]);
  answered.resolve([]);
  for (const { status } of await Promise.all(waiting)) expect(status).toBe(200);
  expect((await ask("GET", "/api/v1/connections")).json).toEqual({
    connections: [],
    matching: 0,
    total: 0,
    elsewhere: 0,
    silent_workers: [],
  });
});

test("workers that do not answer are named, and nobody says then that there is no such connection", async () => {
  control.silent = [2];
  for (const path of ["connections", "closes", "peers"])
    expect((await ask("GET", `/api/v1/${path}`)).json.silent_workers).toEqual([2]);
  for (const method of ["GET", "DELETE"]) {
    const { status, json } = await ask(method, "/api/v1/connections/9f3a21bc-1");
    expect([status, json.detail]).toEqual([
      503,
      'worker 2 did not answer, and none of the others has the connection "9f3a21bc-1": ask again',
    ]);
  }
});

test("answers of several processes are put together: newest first, peers of the same names added up", async () => {
  const row = (started_at: string) => ({ started_at });
  const peer = { identity: "a", listener: "l", backend: "b", connections: 2, bytes_up: 1, bytes_down: 3 };
  control.answers = async ({ ask }) =>
    (ask === "connections"
      ? [
          { worker: 1, answer: { rows: [row("2026-01-03"), row("2026-01-01")], matching: 2, total: 5 } },
          { worker: 2, answer: { rows: [row("2026-01-02")], matching: 1, total: 1 } },
        ]
      : [
          { worker: 1, answer: { rows: [peer], matching: 1 } },
          { worker: 2, answer: { rows: [{ ...peer, identity: "z", connections: 3 }, peer], matching: 2 } },
        ]) as unknown as readonly Answered<Question>[];
  expect((await ask("GET", "/api/v1/connections?limit=2")).json).toEqual({
    connections: [row("2026-01-03"), row("2026-01-02")],
    matching: 3,
    total: 6,
    elsewhere: 0,
    silent_workers: [],
  });
  expect((await ask("GET", "/api/v1/peers")).json).toEqual({
    peers: [
      { ...peer, connections: 4, bytes_up: 2, bytes_down: 6 },
      { ...peer, identity: "z", connections: 3 },
    ],
    matching: 2,
    silent_workers: [],
  });
});

test("HEAD of the events opens no stream", async () => {
  const { status, headers, text } = await ask("HEAD", "/api/v1/events");
  expect([status, headers["content-type"], text]).toEqual([200, "text/event-stream", ""]);
  expect(control.streams.open).toBe(0);
});

describe("served anew", () => {
  const access = { token: "a-token-of-16-or-more", tls: null };

  test("it goes by the new token at the same address, however often that is asked for at once", async () => {
    const { address } = admin;
    await Promise.all([admin.reopen(OPEN_ACCESS), admin.reopen(access), admin.reopen(access)]);
    expect(admin.address).toEqual(address);
    for (let round = 0; round < 20; round++) expect((await ask("GET", "/healthz")).status).toBe(401);
    const headers = { Authorization: `Bearer ${access.token}` };
    expect((await ask("GET", "/healthz", headers)).status).toBe(200);
  });

  test("not once it was closed: the address may be somebody else's", async () => {
    const reopened = admin.reopen(access);
    await admin.close();
    await reopened;
    await admin.reopen(access);
    await expect(ask("GET", "/healthz")).rejects.toThrow();
  });
});
