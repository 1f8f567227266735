// The stream of events, over real HTTP, with a control plane that is made up.

import { afterEach, describe, expect, test } from "bun:test";
import net from "node:net";
import { join } from "node:path";
import { EventStreams } from "../../../src/admin/events.ts";
import { Problem } from "../../../src/admin/problem.ts";
import type { Address } from "../../../src/base/address.ts";
import { runtime } from "../../../src/runtime/bun/bun-runtime.ts";
import type { HttpServer } from "../../../src/runtime/http.ts";
import type { Status } from "../../../src/snapshot/status.ts";
import { eventually } from "../../support/eventually.ts";
import { SimControl } from "../../support/sim-control.ts";
import { sampleStatus } from "../../support/status-sample.ts";
import { temporaryDirectory } from "../../support/temporary.ts";

const TICK_MS = 20;
const ANYWHERE: Address = { kind: "tcp", host: "127.0.0.1", port: 0 };

let control: SimControl;
let streams: EventStreams;
let server: HttpServer;
const defects: unknown[] = [];
const readers: Reader[] = [];

function start(address: Address = ANYWHERE): void {
  control = new SimControl();
  streams = new EventStreams(control, (thrown) => defects.push(thrown), TICK_MS);
  server = runtime.http.serve({
    address,
    maxBodyBytes: 0,
    handle() {
      try {
        return streams.open();
      } catch (thrown) {
        return thrown instanceof Problem ? thrown.response() : new Response(null, { status: 500 });
      }
    },
  });
}

afterEach(async () => {
  for (const reader of readers.splice(0)) reader.socket.destroy();
  streams.close();
  await server.close(0);
  expect(defects.splice(0)).toEqual([]);
});

/** What the tests look at; which fields there are depends on the event. */
interface EventData {
  readonly backends: readonly unknown[];
  readonly closes: readonly { readonly seq: number }[];
  readonly [field: string]: unknown;
}

/** One who watches, byte by byte. */
class Reader {
  readonly socket: net.Socket;
  text = "";
  ending = "";

  constructor() {
    const { address } = server;
    this.socket = address.kind === "tcp" ? net.connect(address.port, address.host) : net.connect(address.path);
    this.socket.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    this.socket.on("data", (bytes) => {
      this.text += bytes.toString();
    });
    this.socket.on("error", (error: Error & { code?: string }) => {
      this.ending = error.code ?? "error";
    });
    this.socket.on("end", () => {
      this.ending ||= "end";
    });
    readers.push(this);
  }

  /** The data of each event of that name. */
  events(name: string): EventData[] {
    const found = this.text.matchAll(new RegExp(`event: ${name}\ndata: (.*)\n\n`, "g"));
    return [...found].map((match) => JSON.parse(match[1] as string) as EventData);
  }

  /** So many events of that name, once they are there. */
  has(name: string, count = 1): ReturnType<typeof eventually<unknown[]>> {
    return eventually(
      () => `${count} ${name}: ${this.text}`,
      () => (this.events(name).length >= count ? this.events(name) : null),
    );
  }
}

test("begins with how soon to come back and the whole status, and goes on with ticks", async () => {
  start();
  const reader = new Reader();
  await reader.has("tick", 2);
  expect(reader.text).toMatch(/^HTTP\/1.1 200 OK\r\n/);
  expect(reader.text).toMatch(/content-type: text\/event-stream/i);
  expect(reader.text).toContain("retry: 2000\n\nevent: status\ndata: {");
  expect<unknown>(reader.events("status")).toEqual([control.now]);
  const [tick] = reader.events("tick");
  expect<unknown>(tick).toEqual({
    time: expect.stringMatching(/^\d{4}-.*Z$/),
    uptime_s: 90_000,
    connections: 40,
    connections_elsewhere: 0,
    access_log: { dropped_lines_total: 0 },
    telemetry: { dropped_spans_total: 0 },
    workers: control.now.workers,
    listeners: [],
    backends: [],
    policies: [],
  });
});

test("a tick has the rows that changed, and of a backend the endpoints that changed", async () => {
  start();
  const reader = new Reader();
  await reader.has("tick");
  const { backends } = control.now;
  const [backend] = backends as [Status["backends"][number]];
  const [first, second] = backend.endpoints as [(typeof backend.endpoints)[number], (typeof backend.endpoints)[number]];
  control.now = sampleStatus({ backends: [{ ...backend, endpoints: [first, { ...second, connections: 21 }] }] });
  const changed = await eventually("a tick has it", () =>
    reader.events("tick").find((each) => each.backends.length > 0),
  );
  expect(changed.backends).toEqual([{ ...backend, endpoints: [{ ...second, connections: 21 }] }]);
  expect(changed.listeners).toEqual([]);
  await reader.has("tick", reader.events("tick").length + 1);
  expect(reader.events("tick").at(-1)?.backends).toEqual([]);
});

test.each([
  ["the generation", { generation: 4 }],
  ["the state", { state: "draining" }],
  ["the set of workers", { workers: [] }],
] as const)("%s changes: the whole status is told again", async (_, change) => {
  start();
  const reader = new Reader();
  await reader.has("tick");
  control.now = sampleStatus(change as Partial<Status>);
  expect((await reader.has("status", 2))[1]).toEqual(control.now);
});

test("closes that failed are told once each, of whichever process, newest first and the last 50", async () => {
  start();
  const lines = new Map<string, { seq: number; ended_at: string }[]>([
    ["first", []],
    ["other", []],
  ]);
  const add = (process: string, second: number): void => {
    const of = lines.get(process) ?? [];
    of.push({ seq: of.length + 1, ended_at: new Date(second * 1000).toISOString() });
  };
  control.answers = async (question) => {
    if (question.ask !== "closes") return [];
    return [...lines].map(([process, all], index) => {
      const after = question.after[process] ?? 0;
      const closes = all
        .filter(({ seq }) => seq > after)
        .reverse()
        .slice(0, question.limit);
      return { worker: index + 1, answer: { process, closes, last: all.length } };
    });
  };
  // Before anybody watches.
  add("first", 1);
  const reader = new Reader();
  await reader.has("tick");
  add("first", 2);
  add("other", 3);
  expect(await reader.has("closes")).toMatchObject([{ closes: [{ seq: 1 }, { seq: 2 }] }]);
  for (let second = 10; second < 80; second++) add("other", second);
  await reader.has("closes", 2);
  const seqs = reader.events("closes")[1]?.closes.map(({ seq }) => seq);
  expect(seqs).toEqual(Array.from({ length: 50 }, (_, index) => 71 - index));
  await reader.has("tick", reader.events("tick").length + 3);
  expect(reader.events("closes")).toHaveLength(2);
  expect(control.asked.every((question) => question.ask === "closes" && question.filter.failed === true)).toBe(true);
});

test("a comment comes now and then", async () => {
  start();
  const reader = new Reader();
  await eventually("it came", () => reader.text.includes("\n\n:\n\n") || reader.text.includes("\r\n:\n\n"));
});

test("nobody watches: nothing is done", async () => {
  start();
  const reader = new Reader();
  await reader.has("tick");
  expect(control.streams.open).toBe(1);
  reader.socket.destroy();
  await eventually("it was noticed", () => control.streams.open === 0);
  const asked = control.asked.length;
  await new Promise((resolve) => setTimeout(resolve, 5 * TICK_MS));
  expect(control.asked.length).toBe(asked);
  await new Reader().has("tick");
  expect(control.streams).toEqual({ open: 1, dropped: 0 });
});

test("the 65th stream is refused, and has its place when another one leaves", async () => {
  start();
  const all = Array.from({ length: 64 }, () => new Reader());
  await eventually("all are served", () => control.streams.open === 64);
  const late = new Reader();
  await eventually("it was answered", () => late.text !== "");
  expect(late.text).toMatch(/^HTTP\/1.1 503 /);
  expect(late.text).toContain("64 event streams are open already");
  all[0]?.socket.destroy();
  await eventually("it has left", () => control.streams.open === 63);
  await new Reader().has("status");
});

describe("a reader that is too slow", () => {
  test.each(["tcp", "unix"])("is let go and counted, and others are not kept waiting, over %s", async (kind) => {
    const path = join(temporaryDirectory("bunnel-events-"), "s.sock");
    start(kind === "tcp" ? ANYWHERE : { kind: "unix", path });
    const [slow, quick] = [new Reader(), new Reader()];
    await Promise.all([slow.has("tick"), quick.has("tick")]);
    slow.socket.pause();
    let number = 0;
    const change = setInterval(() => {
      const text = "x".repeat(300_000);
      number++;
      control.now = sampleStatus({
        policies: [{ policy: text, mode: "enforce", allowed_total: number, denied_total: 0, shadow_denied_total: 0 }],
      });
    }, TICK_MS / 2);
    await eventually("it was let go", () => control.streams.dropped === 1);
    clearInterval(change);
    expect(control.streams).toEqual({ open: 1, dropped: 1 });
    await quick.has("tick", quick.events("tick").length + 2);
    slow.socket.resume();
    await eventually("it sees its end", () => slow.ending !== "");
  });
});

test("the end of the API ends every stream in order, and at once", async () => {
  start();
  const reader = new Reader();
  await reader.has("tick");
  streams.close();
  const before = performance.now();
  await server.close(5000);
  expect(performance.now() - before).toBeLessThan(1000);
  await eventually("it has ended", () => reader.ending !== "");
  expect([reader.ending, control.streams.open]).toEqual(["end", 0]);
});
