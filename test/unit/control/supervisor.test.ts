import { describe, expect, jest, test } from "bun:test";
import { formatAddress } from "../../../src/base/address.ts";
import { ProxyError } from "../../../src/base/errors.ts";
import { ListeningSockets } from "../../../src/control/listening-sockets.ts";
import { sweepRows } from "../../../src/control/row-sweep.ts";
import { Supervisor } from "../../../src/control/supervisor.ts";
import type { BoundSocket } from "../../../src/runtime/runtime.ts";
import { CountTable, DAEMON_SLOT, MAX_SLOTS, privateMemory } from "../../../src/snapshot/counts.ts";
import type { Snapshot } from "../../../src/snapshot/snapshot.ts";
import type { Log } from "../../../src/telemetry/log.ts";
import { eventually } from "../../support/eventually.ts";
import { FakeProcesses, type FakeWorker } from "../../support/fake-processes.ts";
import { listenerSpec, snapshotSpec } from "../../support/sim-snapshot.ts";

const TABLE = { rows: 20, columns: MAX_SLOTS };

interface World {
  readonly processes: FakeProcesses;
  readonly supervisor: Supervisor;
  readonly counts: CountTable;
  readonly sockets: ListeningSockets;
  /** What was logged: `error: a worker has ended`. */
  readonly said: string[];
  /** Binds that are to fail from now on. */
  readonly taken: Set<string>;
  /** What was done to queues, beside opening them. */
  readonly done: string[];
}

function world({ workers = 2, shared = false, silentPings = 1000 } = {}): World {
  const processes = new FakeProcesses();
  const memory = privateMemory(CountTable.bytes(TABLE));
  const counts = new CountTable(memory, TABLE);
  const [said, done]: [string[], string[]] = [[], []];
  const taken = new Set<string>();
  const say =
    (level: string) =>
    (...args: readonly unknown[]): void =>
      void said.push(
        `${level}: ${args.map((each) => (typeof each === "string" ? each : JSON.stringify(each))).join(" ")}`,
      );
  const log = { debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error") } as unknown as Log;
  const sockets = new ListeningSockets({
    bind(address): BoundSocket {
      const name = formatAddress(address);
      if (taken.has(name)) throw new ProxyError("EADDRINUSE", `cannot listen on ${name}`);
      return {
        address: { kind: "tcp", host: "127.0.0.1", port: 1 },
        share: () => {
          throw new Error("the supervisor passes what it holds");
        },
        turnAway: () => void done.push(`turn away from ${name}`),
        close: () => void done.push(`close ${name}`),
      };
    },
  });
  const supervisor = new Supervisor({
    processes,
    log,
    sockets,
    memory,
    counts,
    settings: {
      version: "1",
      log: { level: "info", format: "json" },
      accessLog: { output: "off", format: "json", level: "info", sample: 1 },

      user: null,
    },
    workers,
    snapshot: snapshotSpec(),
    shared,
    patience: { pingMs: 10, silentPings, answerMs: 50, questionMs: 50 },
  });
  return { processes, supervisor, counts, sockets, said, taken, done };
}

async function started(options: Parameters<typeof world>[0] = {}): Promise<World> {
  const made = world(options);
  await made.supervisor.start();
  return made;
}

const NEXT: Snapshot = snapshotSpec({
  generation: 2,
  listeners: [listenerSpec(), listenerSpec({ name: "new", address: { kind: "tcp", host: "127.0.0.1", port: 2000 } })],
});

function worker({ processes }: World, index: number): FakeWorker {
  const found = processes.workers[index];
  if (found === undefined) throw new Error(`${processes.workers.length} workers were started`);
  return found;
}

function states({ supervisor }: World): readonly string[] {
  return supervisor.workers.map(({ pid, state, generation }) => `${pid} ${state} ${generation}`);
}

describe("the start", () => {
  test("ends when every worker accepts, each with a row of its own", async () => {
    const made = await started();
    expect(states(made)).toEqual(["100 serving 1", "101 serving 1"]);
    expect(made.counts.owners().map(({ owner }) => owner)).toEqual([100, 101]);
  });

  test("fails when one worker refuses: the reason is told, the others are ended, and what was opened is closed", async () => {
    const made = world();
    made.processes.ignores = ["start"];
    const start = made.supervisor.start();
    worker(made, 1).say({ kind: "refused", problem: "the log cannot be opened" });
    worker(made, 1).exit(1);
    await expect(start).rejects.toThrow("a worker does not start: the log cannot be opened");
    expect(worker(made, 0).ended).toEqual({ code: null, signal: "SIGKILL" });
    expect(made.done).toEqual(["turn away from 127.0.0.1:1000", "close 127.0.0.1:1000"]);
    // One message is enough, and nobody is started in their places.
    expect(made.said).toEqual([]);
    await eventually("their rows were taken back", () => made.counts.owners().length === 0);
    expect(made.processes.workers).toHaveLength(2);
  });

  test("that fails in a successor does nothing to the queues of its predecessor", async () => {
    const made = world({ shared: true });
    const theirs: BoundSocket = {
      address: { kind: "tcp", host: "127.0.0.1", port: 1000 },
      share: () => theirs,
      turnAway: () => void made.done.push("turn away"),
      close: () => void made.done.push("close"),
    };
    made.sockets.adopt("127.0.0.1:1000", theirs);
    made.processes.ignores = ["start"];
    const start = made.supervisor.start();
    expect(worker(made, 0).told[0]).toMatchObject({ kind: "start", shared: true });
    worker(made, 0).exit(1);
    await expect(start).rejects.toThrow("exit code 1");
    expect(made.done).toEqual([]);
  });
});

describe("publishing", () => {
  test("is done when every worker has prepared; the new queue goes to each", async () => {
    const made = await started();
    await made.supervisor.publish(NEXT);
    for (const index of [0, 1]) {
      expect(worker(made, index).kinds).toEqual(["start", "prepare", "commit"]);
      expect(worker(made, index).passed[1]).toHaveLength(1);
    }
    await eventually("both went by it", () => states(made).every((text) => text.endsWith("serving 2")));
    expect(made.supervisor.snapshot.generation).toBe(2);
  });

  test("that one of two refuses changes nothing in the other", async () => {
    const made = await started();
    worker(made, 1).ignores.add("prepare");
    const published = made.supervisor.publish(NEXT);
    await eventually("it was asked", () => worker(made, 1).kinds.includes("prepare"));
    worker(made, 1).say({ kind: "refused", problem: "no such cipher" });
    await expect(published).rejects.toThrow("no such cipher");
    expect(worker(made, 0).kinds).toEqual(["start", "prepare", "abandon"]);
    expect(states(made)).toEqual(["100 serving 1", "101 serving 1"]);
    expect(made.supervisor.snapshot.generation).toBe(1);
    expect([...made.sockets.held.keys()]).toEqual(["127.0.0.1:1000"]);
    // The next one is served.
    worker(made, 1).ignores.delete("prepare");
    await made.supervisor.publish(NEXT);
    expect(made.supervisor.snapshot.generation).toBe(2);
  });

  test("that cannot open a listener asks nobody", async () => {
    const made = await started();
    made.taken.add("127.0.0.1:2000");
    await expect(made.supervisor.publish(NEXT)).rejects.toThrow("cannot listen on 127.0.0.1:2000");
    expect(worker(made, 0).kinds).toEqual(["start"]);
  });

  test("goes on without a worker that ends meanwhile, and the one in its place is brought up to date with the new queue", async () => {
    const made = await started();
    worker(made, 0).ignores.add("prepare");
    worker(made, 1).ignores.add("prepare");
    const published = made.supervisor.publish(NEXT);
    await eventually("it was asked", () => worker(made, 1).kinds.includes("prepare"));
    worker(made, 0).exit(null, "SIGKILL");
    await eventually("another one was started, by the snapshot of before", () => made.processes.workers.length === 3);
    expect(worker(made, 2).told[0]).toMatchObject({ kind: "start", snapshot: { generation: 1 } });
    worker(made, 1).say({ kind: "prepared" });
    await published;
    expect(worker(made, 2).kinds).toEqual(["start", "prepare", "commit"]);
    expect(worker(made, 2).passed[1]).toHaveLength(1);
    await eventually("it went by the new one", () => states(made)[0] === "102 serving 2");
  });

  test("a worker that dies between its answer and the commit takes nothing with it", async () => {
    const made = await started();
    worker(made, 1).ignores.add("prepare");
    const published = made.supervisor.publish(NEXT);
    await eventually("it was asked", () => worker(made, 1).kinds.includes("prepare"));
    // The other one has answered.
    worker(made, 0).exit(null, "SIGSEGV");
    worker(made, 1).say({ kind: "prepared" });
    await published;
    await eventually(
      () => `all went by it: ${states(made)}`,
      () => states(made).join() === "102 serving 2,101 serving 2",
    );
  });

  test("is refused when every worker has ended over it", async () => {
    const made = await started();
    for (const index of [0, 1]) worker(made, index).ignores.add("prepare");
    const published = made.supervisor.publish(NEXT);
    await eventually("they were asked", () => worker(made, 1).kinds.includes("prepare"));
    for (const index of [0, 1]) worker(made, index).exit(null, "SIGSEGV");
    await expect(published).rejects.toThrow("every worker has ended instead of going over to it");
    await eventually("they were replaced", () => states(made).join() === "102 serving 1,103 serving 1");
  });

  test("does not wait for a worker that hangs: it is ended and replaced, and the others serve the new one", async () => {
    const made = await started();
    worker(made, 0).ignores.add("prepare");
    await made.supervisor.publish(NEXT);
    expect(worker(made, 0).ended?.signal).toBe("SIGKILL");
    await eventually(
      () => `both went by it: ${states(made)}`,
      () => states(made).join() === "102 serving 2,101 serving 2",
    );
    expect(made.said.join("\n")).toContain("killed by SIGKILL: it did not answer to a snapshot");
  });

  test("is not refused by a worker that cannot start", async () => {
    const made = await started();
    made.processes.ignores = ["start", "prepare"];
    worker(made, 0).exit(null, "SIGKILL");
    await eventually("another one was started", () => made.processes.workers.length === 3);
    const published = made.supervisor.publish(NEXT);
    await eventually("it was asked too", () => worker(made, 2).kinds.includes("prepare"));
    worker(made, 2).say({ kind: "refused", problem: "the disk is gone" });
    worker(made, 2).exit(1);
    await published;
    expect(made.supervisor.snapshot.generation).toBe(2);
    expect(made.said.join("\n")).toContain("exit code 1: the disk is gone");
  });
});

describe("a worker that ends", () => {
  test("gives back its row, whatever it held", async () => {
    const made = await started();
    const row = made.counts.row(made.counts.owners()[0]?.row ?? 0);
    for (const slot of [0, DAEMON_SLOT]) row.add(slot);
    worker(made, 0).exit(null, "SIGKILL");
    await eventually("it was given back", () => made.counts.total(DAEMON_SLOT) === 0 && made.counts.total(0) === 0);
    expect(made.said.join("\n")).toContain(`"how":"killed by SIGKILL","connections":1} a worker has ended`);
    await eventually("there were two again", () => states(made).join() === "102 serving 1,101 serving 1");
    expect(made.supervisor.restarts).toBe(1);
  });

  test("again and again is waited for longer and longer, and said so; it serves again when it can", async () => {
    const made = await started();
    jest.useFakeTimers();
    try {
      const waits: number[] = [];
      made.processes.ignores = ["start", "ping"];
      for (let round = 0; round < 7; round++) {
        (made.processes.workers.at(-1 - (round === 0 ? 1 : 0)) as FakeWorker).exit(null, "SIGKILL");
        for (let turn = 0; turn < 10; turn++) await Promise.resolve();
        expect(made.supervisor.workers[0]?.state).toBe("waiting to restart");
        const before = made.processes.workers.length;
        let waitMs = 0;
        while (made.processes.workers.length === before && waitMs < 60_000) {
          jest.advanceTimersByTime(10);
          waitMs += 10;
        }
        waits.push(waitMs);
        expect(made.supervisor.workers[1]?.state).toBe("serving");
      }
      expect(waits).toEqual([10, 100, 200, 400, 800, 1600, 3200]);
      const loops = made.said.filter((line) => line.includes("a worker ends again and again"));
      expect(loops).toEqual([
        'error: {"worker":1,"failures":6,"wait_ms":1600} a worker ends again and again',
        'error: {"worker":1,"failures":7,"wait_ms":3200} a worker ends again and again',
      ]);
      (made.processes.workers.at(-1) as FakeWorker).say({ kind: "serving", generation: 1 });
      expect(made.supervisor.workers[0]?.state).toBe("serving");
    } finally {
      jest.useRealTimers();
    }
  });

  test("and cannot be started anew at once is started as soon as that is possible, and no row is lost by it", async () => {
    const made = await started();
    made.processes.failures = [new Error("EMFILE"), new Error("EMFILE")];
    worker(made, 0).exit(null, "SIGKILL");
    await eventually("there were two again", () => states(made).join() === "102 serving 1,101 serving 1");
    expect(made.said.filter((line) => line.includes("a worker cannot be started"))).toHaveLength(2);
    expect(made.counts.owners().map(({ owner }) => owner)).toEqual([102, 101]);
  });

  test("that says nothing any more is ended", async () => {
    const made = await started({ silentPings: 5 });
    worker(made, 1).ignores.add("ping");
    await eventually("it was replaced", () => states(made).join() === "100 serving 1,102 serving 1");
    expect(made.said.join("\n")).toContain("it did not answer any more");
  });

  test("that says nothing for a while is shown not to answer, and to serve once it has spoken", async () => {
    const made = await started();
    const { kinds } = worker(made, 1);
    worker(made, 1).ignores.add("ping");
    await eventually("that showed", () => states(made).join() === "100 serving 1,101 not answering 1");
    worker(made, 1).say({ kind: "pong" });
    expect(states(made)).toEqual(["100 serving 1", "101 serving 1"]);
    expect(worker(made, 1).kinds).toEqual(kinds);
  });

  test("because it was told to is replaced before it has, and knows who accepts in its stead", async () => {
    const made = await started();
    worker(made, 0).ignores.add("drain");
    worker(made, 0).say({ kind: "leaving" });
    expect(worker(made, 0).told.at(-1)).toEqual({ kind: "drain", others: ["127.0.0.1:1000"] });
    await eventually(
      () => `it was replaced: ${states(made)}`,
      () => states(made).join() === "102 serving 1,101 serving 1,100 draining 1",
    );
    expect(made.supervisor.restarts).toBe(0);
  });
});

describe("another number of workers", () => {
  test("more are started, and those that are too many finish", async () => {
    const made = await started();
    made.supervisor.resize(3);
    await eventually("there were three", () => states(made).join() === "100 serving 1,101 serving 1,102 serving 1");
    made.supervisor.resize(1);
    await eventually("there was one", () => states(made).join() === "100 serving 1");
    expect(made.said.filter((line) => line.startsWith("error"))).toEqual([]);
  });

  test("none is none: that takes another program", async () => {
    const made = await started();
    made.supervisor.resize(0);
    expect(states(made)).toEqual(["100 serving 1", "101 serving 1"]);
  });

  test("not while it ends", async () => {
    const made = await started();
    const drained = made.supervisor.drain([]);
    made.supervisor.resize(5);
    expect(await drained).toBe(0);
    expect(made.processes.workers).toHaveLength(2);
  });
});

describe("the end", () => {
  test("nobody accepts any more once every worker has said so, or has ended", async () => {
    const made = await started();
    for (const index of [0, 1]) worker(made, index).ignores.add("drain");
    const drained = made.supervisor.drain(["127.0.0.1:1000"]);
    let hasStopped = false;
    const stopped = made.supervisor.stopped().then(() => {
      hasStopped = true;
    });
    worker(made, 0).say({ kind: "draining" });
    await new Promise((resolve) => setImmediate(resolve));
    expect(hasStopped).toBe(false);
    worker(made, 1).exit(null, "SIGKILL");
    await stopped;
    worker(made, 0).exit(0);
    await drained;
  });

  test("counts the connections of a worker that was killed in it", async () => {
    const made = await started();
    made.counts.row(made.counts.owners()[0]?.row ?? 0).add(DAEMON_SLOT);
    for (const index of [0, 1]) worker(made, index).ignores.add("drain");
    const drained = made.supervisor.drain([]);
    worker(made, 0).exit(null, "SIGKILL");
    worker(made, 1).say({ kind: "drained", aborted: 2 });
    worker(made, 1).exit(0);
    expect(await drained).toBe(3);
    expect(made.processes.workers).toHaveLength(2);
  });

  test("a worker that was told to end by somebody else is not replaced", async () => {
    const made = await started();
    for (const index of [0, 1]) worker(made, index).ignores.add("drain");
    const drained = made.supervisor.drain([]);
    worker(made, 0).say({ kind: "leaving" });
    expect(worker(made, 0).kinds).toEqual(["start", "drain"]);
    for (const index of [0, 1]) worker(made, index).exit(0);
    expect(await drained).toBe(0);
    expect(made.processes.workers).toHaveLength(2);
  });

  test("leaves the queues that somebody else has, and turns away from the others", async () => {
    const made = await started();
    await made.supervisor.publish(NEXT);
    expect(await made.supervisor.drain(["127.0.0.1:1000"])).toBe(0);
    expect(made.done).toEqual(["close 127.0.0.1:1000", "turn away from 127.0.0.1:2000", "close 127.0.0.1:2000"]);
    expect(worker(made, 0).told.at(-1)).toEqual({ kind: "drain", others: ["127.0.0.1:1000"] });
  });

  test("a listener that is opened while it begins is closed again", async () => {
    const made = await started();
    for (const index of [0, 1]) worker(made, index).ignores.add("prepare").add("drain");
    const published = made.supervisor.publish(NEXT);
    await eventually("they were asked", () => worker(made, 1).kinds.includes("prepare"));
    const drained = made.supervisor.drain([]);
    for (const index of [0, 1]) worker(made, index).say({ kind: "prepared" });
    await published;
    expect(made.sockets.held.size).toBe(0);
    for (const index of [0, 1]) worker(made, index).exit(0);
    await drained;
  });
});

test("what the dead of another daemon have left is taken back once, and the sweep ends", async () => {
  const made = await started();
  const stranger = made.counts.claim(4711);
  const draining = made.counts.claim(4712);
  for (const row of [stranger, draining]) row?.add(DAEMON_SLOT);
  const alive = new Set([4712]);
  const stop = sweepRows({
    counts: made.counts,
    processes: Object.assign(new FakeProcesses(), { isAlive: (pid: number) => alive.has(pid) }),
    plane: made.supervisor,
  });
  try {
    await eventually("it was taken back", () => made.counts.total(DAEMON_SLOT) === 1);
    alive.clear();
    await eventually("and the other one", () => made.counts.total(DAEMON_SLOT) === 0);
    expect(made.counts.owners().map(({ owner }) => owner)).toEqual([100, 101]);
  } finally {
    stop();
  }
});

describe("a question", () => {
  const question = { ask: "close", id: "x" } as const;

  /** Answers what it was asked last, as often as that was. */
  function answer(asked: FakeWorker, said: unknown): void {
    for (const message of asked.told)
      if (message.kind === "ask") asked.say({ kind: "answer", number: message.number, answer: said });
  }

  test("is answered by every worker", async () => {
    const made = await started();
    const answers = made.supervisor.ask(question);
    answer(worker(made, 1), true);
    answer(worker(made, 0), false);
    const { answers: heard, silent } = await answers;
    expect(heard).toContainEqual({ worker: 1, answer: false });
    expect(heard).toContainEqual({ worker: 2, answer: true });
    expect([heard.length, silent]).toEqual([2, []]);
  });

  test("is answered without those that end meanwhile; those that do not answer in time are named", async () => {
    const made = await started({ workers: 3 });
    const answers = made.supervisor.ask(question);
    worker(made, 0).exit(null, "SIGKILL");
    answer(worker(made, 2), true);
    expect(await answers).toEqual({ answers: [{ worker: 3, answer: true }], silent: [2] });
    // Too late, and heard by nobody.
    answer(worker(made, 1), true);
    const again = made.supervisor.ask(question);
    answer(worker(made, 1), false);
    expect((await again).answers).toContainEqual({ worker: 2, answer: false });
  });

  test("is not put to workers that do not serve yet", async () => {
    const made = world();
    made.processes.ignores = ["start"];
    void made.supervisor.start().catch(() => {});
    expect(await made.supervisor.ask(question)).toEqual({ answers: [], silent: [] });
  });
});
