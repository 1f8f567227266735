// What a worker answers about its connections, on a simulated network.

import { describe, expect, test } from "bun:test";
import type { Answers, CloseFilter, ConnectionFilter, Question } from "../../../src/snapshot/inspection.ts";
import { KEPT_CLOSES } from "../../../src/telemetry/flight-recorder.ts";
import { backendSpec, endpointSpec, listenerSpec, routeSpec } from "../../support/sim-snapshot.ts";
import { Probe, SimWorker } from "../../support/sim-worker.ts";

const ALL: ConnectionFilter = { listener: "", backend: "", endpoint: "", source: "", identity: "", text: "" };
const EVERY: CloseFilter = { listener: "", backend: "", reason: "", text: "", failed: null };

async function ask<Q extends Question>(made: SimWorker, question: Q): Promise<Answers[Q["ask"]]> {
  const [answered] = (await made.plane.ask(question)).answers;
  if (answered === undefined) throw new Error("there is one process");
  return answered.answer;
}

function rows(made: SimWorker, filter: Partial<ConnectionFilter> = {}, limit = 1000): Promise<Answers["connections"]> {
  return ask(made, { ask: "connections", filter: { ...ALL, ...filter }, limit });
}

function closes(made: SimWorker, filter: Partial<CloseFilter> = {}, limit = 1000): Promise<Answers["closes"]> {
  return ask(made, { ask: "closes", after: {}, filter: { ...EVERY, ...filter }, limit });
}

/** Two listeners, each with a backend of its own. */
function twoWays(): SimWorker {
  return new SimWorker({
    snapshot: {
      listeners: [
        listenerSpec({ name: "first" }),
        listenerSpec({
          name: "second",
          address: { kind: "tcp", host: "127.0.0.1", port: 2000 },
          routes: [routeSpec({ name: "other", backend: 1 })],
        }),
      ],
      backends: [
        backendSpec({ idleTimeoutMs: 60_000 }),
        backendSpec({ name: "others", slot: 910, connectsSlot: 911, retriesSlot: 912, endpoints: [endpointSpec(7)] }),
      ],
    },
  });
}

describe("live connections", () => {
  test("are shown newest first, with how many there are beyond the limit", async () => {
    const made = new SimWorker();
    for (let index = 1; index <= 5; index++) made.connect({ ip: `10.0.0.${index}` });
    const { rows: shown, matching, total } = await rows(made, {}, 3);
    expect(shown.map(({ downstream }) => downstream)).toEqual(["10.0.0.5:5", "10.0.0.4:4", "10.0.0.3:3"]);
    expect([matching, total]).toEqual([5, 5]);
  });

  test("show what has moved, and where they are", async () => {
    const made = twoWays();
    const client = made.connect({ listener: 1 });
    client.send("four");
    made.settle();
    made.server.send("six666");
    made.settle();
    const [row] = (await rows(made)).rows;
    expect(row).toMatchObject({
      id: expect.stringMatching(/^[0-9a-f]{8}-1$/),
      worker: 0,
      phase: "relay",
      listener: "second",
      route: "other",
      backend: "others",
      endpoint: "10.2.0.8:80",
      downstream: "10.0.0.1:1",
      identity: "",
      bytes_up: 4,
      bytes_down: 6,
    });
  });

  test("are found by each field, and by all of them together", async () => {
    const made = twoWays();
    made.connect({ ip: "10.0.0.1" });
    made.connect({ ip: "10.0.0.2", listener: 1 });
    made.connect({ ip: "10.9.0.2" });
    const found = async (filter: Partial<ConnectionFilter>): Promise<number> => (await rows(made, filter)).matching;
    expect(await found({ listener: "first" })).toBe(2);
    expect(await found({ listener: "fir" })).toBe(0);
    expect(await found({ backend: "others" })).toBe(1);
    expect(await found({ endpoint: "10.2.0.1:80" })).toBe(2);
    expect(await found({ source: "10.0." })).toBe(2);
    expect(await found({ source: "10.0.0.2", listener: "first" })).toBe(0);
    expect(await found({ identity: "x" })).toBe(0);
    expect(await found({ text: "OTHER" })).toBe(1);
    expect(await found({ text: "no such text" })).toBe(0);
  });

  test("are gone through in turns, so that others have theirs", async () => {
    const made = new SimWorker();
    for (let index = 0; index < 2500; index++) made.connect();
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    const before = performance.now();
    expect((await rows(made, { text: "nowhere" })).matching).toBe(0);
    clearInterval(timer);
    expect(performance.now() - before).toBeLessThan(5000);
    expect(turns).toBeGreaterThanOrEqual(2);
  });

  test("that come while they are gone through do not make it endless", async () => {
    const made = new SimWorker();
    for (let index = 0; index < 3000; index++) made.connect();
    const answer = rows(made, {}, 10);
    const timer = setInterval(() => {
      for (let index = 0; index < 1100; index++) made.connect();
    }, 0);
    const { matching } = await answer;
    clearInterval(timer);
    expect(matching).toBe(3000);
  });
});

describe("one connection", () => {
  test("is shown with its legs and timers", async () => {
    const made = twoWays();
    made.connect();
    const [row] = (await rows(made)).rows;
    const detail = await ask(made, { ask: "connection", id: row?.id ?? "" });
    expect(detail).toMatchObject({
      id: row?.id as string,
      names: null,
      attempts: 1,
      legs: {
        downstream: { remote: "10.0.0.1:1", pending_bytes: 0, paused: false, ended: false, tcp: null },
        upstream: { remote: "10.2.0.1:80" },
      },
      timers: { max_lifetime_in_ms: null, certificate_expires_in_ms: null },
    });
    const idle = detail?.timers.idle_timeout_in_ms ?? 0;
    expect(idle).toBeGreaterThan(55_000);
    expect(idle).toBeLessThanOrEqual(60_000);
  });

  test("is closed by its id alone: reset on both sides, with a record", async () => {
    const made = new SimWorker();
    const client = made.connect();
    const other = made.connect();
    const id = (await rows(made)).rows.at(-1)?.id ?? "";
    expect(await ask(made, { ask: "close", id })).toBe(true);
    made.settle();
    expect([client.resets, other.resets, made.servers[0]?.resets]).toEqual([1, 0, 1]);
    expect(made.reasons).toEqual(["admin_closed"]);
    expect(made.records[0]).toMatchObject({ closeSide: "proxy", termination: "KD" });
    expect(await ask(made, { ask: "close", id })).toBe(false);
  });

  test.each(["", "1", "-1", "00000000-1", "x-1"])("that is not there cannot be shown or closed: %p", async (id) => {
    const made = new SimWorker();
    made.connect();
    expect(await ask(made, { ask: "connection", id })).toBeNull();
    expect(await ask(made, { ask: "close", id })).toBe(false);
    expect(made.worker.connectionCount).toBe(1);
  });
});

describe("the last closes", () => {
  test("are the records of the access log, newest first", async () => {
    const made = twoWays();
    const first = made.connect();
    made.connect({ listener: 1 }).link.farReset();
    made.settle();
    first.link.farFinish();
    made.settle();
    made.servers[0]?.link.farFinish();
    made.settle();
    const { closes: lines, last } = await closes(made);
    expect(last).toBe(2);
    expect(lines).toMatchObject([
      { seq: 2, listener: "first", close_reason: "completed", msg: "connection" },
      { seq: 1, listener: "second", close_reason: "downstream_reset", close_side: "downstream" },
    ]);
    for (const line of lines) expect(Date.parse(line.ended_at)).toBeGreaterThanOrEqual(Number(line.time));
    const seqs = async (filter: Partial<CloseFilter>): Promise<readonly number[]> =>
      (await closes(made, filter)).closes.map(({ seq }) => seq);
    expect(await seqs({ failed: true })).toEqual([1]);
    expect(await seqs({ failed: false })).toEqual([2]);
    expect(await seqs({ listener: "first" })).toEqual([2]);
    expect(await seqs({ backend: "others" })).toEqual([1]);
    expect(await seqs({ reason: "completed" })).toEqual([2]);
    expect(await seqs({ text: "RESET" })).toEqual([1]);
    expect(
      (await ask(made, { ask: "closes", after: { [made.worker.instanceId]: 1, other: 7 }, filter: EVERY, limit: 10 }))
        .closes,
    ).toHaveLength(1);
  });

  test("are kept up to a number", async () => {
    const made = new SimWorker();
    for (let index = 0; index < KEPT_CLOSES + 10; index++) {
      made.connect().link.farReset();
      made.settle();
    }
    const { closes: lines, last } = await closes(made, {}, 2 * KEPT_CLOSES);
    expect([lines.length, last]).toEqual([KEPT_CLOSES, KEPT_CLOSES + 10]);
    expect([lines[0]?.seq, lines.at(-1)?.seq]).toEqual([KEPT_CLOSES + 10, 11]);
  });
});

test("who talks to whom is added up, most first", async () => {
  const made = twoWays();
  for (let index = 0; index < 3; index++) {
    const client = made.connect({ listener: 1, client: new Probe() });
    client.send("ab");
  }
  made.connect();
  made.settle();
  const { rows: peers, matching } = await ask(made, { ask: "peers", limit: 1 });
  expect(matching).toBe(2);
  expect(peers).toEqual([
    { identity: "", listener: "second", backend: "others", connections: 3, bytes_up: 6, bytes_down: 0 },
  ]);
});
