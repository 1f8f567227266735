// Probes on a simulated network in virtual time.

import { describe, expect, test } from "bun:test";
import { Timer } from "../../../src/base/clock.ts";
import { HealthChecks } from "../../../src/control/health/health-checks.ts";
import type { ReachOptions } from "../../../src/runtime/reach.ts";
import type { Runtime } from "../../../src/runtime/runtime.ts";
import { CountTable, privateMemory } from "../../../src/snapshot/counts.ts";
import type { BackendSpec, HealthSpec, Snapshot } from "../../../src/snapshot/snapshot.ts";
import type { Log } from "../../../src/telemetry/log.ts";
import { type DialPlan, SimRuntime } from "../../support/sim-runtime.ts";
import { Schedule } from "../../support/sim-schedule.ts";
import { backendSpec, endpointSpec, snapshotSpec } from "../../support/sim-snapshot.ts";
import { ORDERLY, Probe as Server } from "../../support/sim-worker.ts";

const HEALTH: HealthSpec = {
  type: "tcp",
  intervalMs: 1000,
  jitter: 0,
  timeoutMs: 500,
  rise: 2,
  fall: 3,
  initial: "up",
  port: 0,
  http: null,
  send: "",
  expect: "",
};

interface Dialled {
  readonly atMs: number;
  readonly port: number;
  readonly server: Server;
}

/** A server that answers its FIN with its own. */
class Orderly extends Server {
  override fin(): void {
    super.fin();
    this.link.farFinish();
  }
}

class Bench {
  readonly schedule = new Schedule(7);
  readonly lines: string[] = [];
  readonly dials: Dialled[] = [];
  readonly states = new CountTable(privateMemory(CountTable.bytes(SIZE)), SIZE).states;
  readonly health: HealthChecks;
  readonly runtime: SimRuntime;
  /** What becomes of a dial. */
  plan: (server: Server, port: number) => DialPlan = (server) => ({ kind: "connects", afterMs: 1, program: server });

  constructor(before: readonly number[] = [], descriptorLimit = 65_536, reach: Runtime["reach"] = null) {
    this.runtime = new SimRuntime({
      reach,
      schedule: this.schedule,
      quirks: ORDERLY,
      descriptorLimit,
      dialled: (address) => {
        const server = new Orderly();
        const port = address.kind === "tcp" ? address.port : 0;
        this.dials.push({ atMs: this.schedule.nowMs, port, server });
        return this.plan(server, port);
      },
    });
    this.health = this.another(before);
  }

  another(before: readonly number[]): HealthChecks {
    const note =
      (level: string) =>
      (fields: { endpoint?: string; reason?: string; problem?: string }, message: string): void => {
        this.lines.push([level, message, fields.endpoint, fields.reason ?? fields.problem].filter(Boolean).join(" | "));
      };
    const log = { warn: note("warn"), info: note("info"), error: note("error") } as unknown as Log;
    const { runtime, states, schedule } = this;
    return new HealthChecks({ runtime, states, log, before, random: schedule.random });
  }

  serve(snapshot: Snapshot, health = this.health): void {
    health.prepare(snapshot);
    health.adopt(snapshot);
  }

  fail(code = "ECONNREFUSED"): void {
    this.plan = () => ({ kind: "fails", afterMs: 1, code });
  }

  work(): void {
    this.plan = (server) => ({ kind: "connects", afterMs: 1, program: server });
  }
}

const SIZE = { rows: 4, columns: 6000 };

function snapshot(health: Partial<HealthSpec> | null, count = 1, backend: Partial<BackendSpec> = {}): Snapshot {
  const endpoints = Array.from({ length: count }, (_, slot) =>
    endpointSpec(slot, { name: `e${slot}`, address: { kind: "tcp", host: "10.0.0.1", port: 1000 + slot } }),
  );
  const spec = health === null ? null : { ...HEALTH, ...health };
  return snapshotSpec({ backends: [backendSpec({ name: "all", endpoints, health: spec, ...backend })] });
}

describe("states", () => {
  test("down after `fall` failures, up after `rise` successes, each told once with its reason", () => {
    const bench = new Bench();
    bench.serve(snapshot({}));
    bench.health.start();
    expect(bench.states.health(0)).toBe("unknown");
    bench.schedule.run(1100);
    expect(bench.states.health(0)).toBe("up");
    bench.fail();
    bench.schedule.run(2000);
    expect(bench.states.health(0)).toBe("up");
    expect(bench.health.status(0)).toMatchObject({ health: "up", reason: "connect: ECONNREFUSED" });
    bench.schedule.run(1000);
    expect(bench.states.health(0)).toBe("down");
    bench.schedule.run(5000);
    expect(bench.health.status(0)).toMatchObject({
      health: "down",
      reason: "connect: ECONNREFUSED",
      health_changes_total: 1,
    });
    expect(Date.parse(bench.health.status(0).health_since ?? "")).toBeGreaterThan(Date.now() - 5000);
    expect(bench.states.backSinceS(0)).toBe(0);
    bench.work();
    bench.schedule.run(1000);
    expect(bench.states.health(0)).toBe("down");
    bench.schedule.run(1000);
    expect(bench.states.health(0)).toBe("up");
    expect(bench.states.backSinceS(0)).toBeGreaterThan(Date.now() / 1000 - 5);
    expect(bench.health.status(0)).toMatchObject({ reason: "", health_changes_total: 2 });
    expect(bench.lines).toEqual([
      "warn | an endpoint is down | e0 | connect: ECONNREFUSED",
      "info | an endpoint is up | e0",
    ]);
    expect(bench.schedule.violations).toEqual([]);
  });

  test("how a new endpoint begins", () => {
    const up = new Bench();
    up.fail();
    up.serve(snapshot({ initial: "up" }));
    up.health.start();
    expect(up.states.health(0)).toBe("unknown");
    up.schedule.run(1100);
    expect(up.states.health(0)).toBe("down");

    const check = new Bench();
    check.serve(snapshot({ initial: "check", intervalMs: 60_000 }));
    expect(check.states.health(0)).toBe("down");
    check.health.start();
    check.schedule.run(1100);
    expect(check.health.status(0)).toMatchObject({ health: "up", health_changes_total: 0 });

    const down = new Bench();
    down.serve(snapshot({ initial: "down" }));
    down.health.start();
    down.schedule.run(1100);
    expect(down.states.health(0)).toBe("down");
    down.schedule.run(1000);
    expect(down.states.health(0)).toBe("up");
  });

  test("want of descriptors says nothing of an endpoint, and is told once", () => {
    const bench = new Bench();
    bench.serve(snapshot({ initial: "check" }, 5));
    bench.health.start();
    bench.schedule.run(2000);
    bench.fail("EMFILE");
    bench.schedule.run(20_000);
    expect([0, 1, 2, 3, 4].map((slot) => bench.states.health(slot))).toEqual(["up", "up", "up", "up", "up"]);
    expect(bench.lines.filter((line) => line.startsWith("error"))).toHaveLength(1);
  });
});

describe("a platform that reaches an address without a connection", () => {
  /** A bench on it, whose attempts give `code`, or nothing before their time-out when that is null. */
  function benchThatReaches(): { bench: Bench; asked: ReachOptions[]; answer: { code: string | null } } {
    const asked: ReachOptions[] = [];
    const answer: { code: string | null } = { code: "" };
    const bench: Bench = new Bench([], 80, (options) => {
      asked.push(options);
      const attempt = new Timer(() => options.reached(answer.code ?? "ETIMEDOUT"));
      bench.runtime.clock.arm(attempt, answer.code === null ? options.timeoutMs : 25);
      return { cancel: () => bench.runtime.clock.disarm(attempt) };
    });
    return { bench, asked, answer };
  }

  test("does so where nothing is said, with the same verdicts", () => {
    const { bench, asked, answer } = benchThatReaches();
    bench.serve(snapshot({ initial: "check" }, 40));
    bench.health.start();
    bench.schedule.run(3000);
    expect(bench.states.health(39)).toBe("up");
    // Ten at once, of 40: all of them had their turns.
    expect(asked.length).toBeGreaterThan(100);
    expect(asked[0]).toMatchObject({ timeoutMs: 500, address: { kind: "tcp", host: "10.0.0.1" } });
    answer.code = "EMFILE";
    bench.schedule.run(5000);
    expect(bench.states.health(0)).toBe("up");
    answer.code = "ECONNREFUSED";
    bench.schedule.run(4000);
    expect(bench.health.status(0)).toMatchObject({ health: "down", reason: "connect: ECONNREFUSED" });
    expect(bench.dials).toEqual([]);
  });

  test("gives up what is under way when they stop, and begins nothing for whoever has gone", () => {
    const { bench, asked, answer } = benchThatReaches();
    answer.code = null;
    bench.serve(snapshot({ initial: "check" }, 40));
    bench.health.start();
    bench.schedule.run(450);
    // There is room for no more, and the others wait.
    expect(asked.length).toBe(10);
    bench.serve(snapshot({}, 1));
    bench.schedule.run(100);
    expect(asked.slice(10).filter(({ address }) => address.kind === "tcp" && address.port !== 1000)).toEqual([]);
    answer.code = "";
    bench.schedule.run(3000);
    expect(bench.states.health(0)).toBe("up");
    bench.health.stop();
    bench.schedule.run();
    expect(bench.runtime.clock.armed).toBe(0);
  });

  test("dials where something is said or heard", () => {
    for (const health of [{ expect: "x" }, { http: { method: "GET", path: "/", host: "", statuses: [] } }] as const) {
      const { bench, asked } = benchThatReaches();
      bench.serve(snapshot({ ...health }));
      bench.health.start();
      bench.schedule.run(1100);
      expect([asked.length, bench.dials.length]).toEqual([0, 1]);
    }
    const { bench, asked } = benchThatReaches();
    bench.serve(snapshot({}, 1, { sendProxyProtocol: "v1" }));
    bench.health.start();
    bench.schedule.run(1100);
    expect([asked.length, bench.dials.length]).toEqual([0, 1]);
  });
});

describe("across snapshots and processes", () => {
  test("who stays keeps its state, its count and its turns; who has no probes any more is unknown", () => {
    const bench = new Bench();
    bench.serve(snapshot({}, 2));
    bench.health.start();
    bench.schedule.run(1100);
    bench.fail();
    bench.schedule.run(2000);
    bench.serve(snapshot({}, 3));
    bench.schedule.run(1000);
    // Two failures before the reload and one after it.
    expect(bench.states.health(0)).toBe("down");
    const turns = bench.dials.filter(({ port }) => port === 1000).map(({ atMs }) => atMs);
    for (const [index, atMs] of turns.slice(1).entries()) expect(atMs - (turns[index] ?? 0)).toBeCloseTo(1000, -2);
    bench.serve(snapshot({ fall: 5 }, 3));
    expect(bench.states.health(0)).toBe("down");
    bench.serve(snapshot(null, 3));
    expect([0, 1, 2].map((slot) => bench.states.health(slot))).toEqual(["unknown", "unknown", "unknown"]);
    const dialled = bench.dials.length;
    bench.schedule.run(5000);
    expect(bench.dials.length).toBe(dialled);
  });

  test("a snapshot that is refused changes nothing, and an endpoint that is served is not taken out by a reload", () => {
    const bench = new Bench();
    bench.serve(snapshot(null, 1));
    bench.health.start();
    bench.health.prepare(snapshot({ initial: "check" }, 2));
    expect([bench.states.health(0), bench.states.health(1)]).toEqual(["unknown", "down"]);
    bench.schedule.run(3000);
    expect(bench.dials.length).toBe(0);
    bench.serve(snapshot({ initial: "check" }, 2));
    expect([bench.states.health(0), bench.states.health(1)]).toEqual(["unknown", "down"]);
    bench.schedule.run(1100);
    expect([bench.states.health(0), bench.states.health(1)]).toEqual(["up", "up"]);
  });

  test("a successor begins with the states that it finds", () => {
    const bench = new Bench();
    bench.fail();
    bench.serve(snapshot({ initial: "check" }, 2));
    bench.health.start();
    bench.schedule.run(1100);
    bench.states.setHealth(1, "up");
    bench.health.stop();
    const dialled = bench.dials.length;
    const heir = bench.another([0, 1]);
    bench.serve(snapshot({ initial: "check" }, 2), heir);
    expect([bench.states.health(0), bench.states.health(1)]).toEqual(["down", "up"]);
    expect(heir.status(0).reason).not.toBe("");
    heir.start();
    bench.schedule.run(1100);
    // One failure is no fall.
    expect([bench.states.health(0), bench.states.health(1)]).toEqual(["down", "up"]);
    expect(bench.dials.length).toBeGreaterThan(dialled);
  });
});

describe("turns", () => {
  test("each endpoint once in an interval, spread over it", () => {
    const bench = new Bench();
    bench.serve(snapshot({ jitter: 0.1 }, 1000));
    bench.health.start();
    bench.schedule.run(1000);
    expect(bench.dials.length).toBeGreaterThan(900);
    bench.dials.length = 0;
    bench.schedule.run(10_000);
    const counts = new Map<number, number>();
    const busy = new Map<number, number>();
    for (const { port, atMs } of bench.dials) {
      counts.set(port, (counts.get(port) ?? 0) + 1);
      const tenth = Math.floor(atMs / 100);
      busy.set(tenth, (busy.get(tenth) ?? 0) + 1);
    }
    expect(Math.min(...counts.values())).toBeGreaterThanOrEqual(9);
    expect(Math.max(...counts.values())).toBeLessThanOrEqual(11);
    expect(Math.max(...busy.values())).toBeLessThan(170);
    expect(bench.schedule.violations).toEqual([]);
  });

  test("one probe at a time for each endpoint, and no more at once than there is room for", () => {
    // An eighth of these descriptors.
    const bench = new Bench([], 80);
    let open = 0;
    let most = 0;
    bench.plan = () => {
      open++;
      most = Math.max(most, open);
      bench.schedule.after(499, () => open--);
      return { kind: "silence" };
    };
    bench.serve(snapshot({ intervalMs: 500, timeoutMs: 500 }, 40));
    bench.health.start();
    bench.schedule.run(10_000);
    expect(most).toBe(10);
    const lastOf = new Map<number, number>();
    for (const { port, atMs } of bench.dials) {
      expect(atMs - (lastOf.get(port) ?? -1000)).toBeGreaterThanOrEqual(500);
      lastOf.set(port, atMs);
    }
    // Nobody starves.
    expect(lastOf.size).toBe(40);
    for (let slot = 0; slot < 40; slot++) expect(bench.health.status(slot).reason).toBe("connect: ETIMEDOUT");
  });

  test("nothing is left when they stop", () => {
    const bench = new Bench();
    bench.plan = (server) => ({ kind: "connects", afterMs: 100, program: server });
    bench.serve(snapshot({ expect: "never" }, 20));
    bench.health.start();
    bench.schedule.run(400);
    bench.health.stop();
    bench.schedule.run();
    expect(bench.runtime.clock.armed).toBe(0);
    expect(bench.runtime.links.every(({ gone }) => gone)).toBe(true);
    expect(bench.lines).toEqual([]);
  });
});

describe("a probe", () => {
  /** One probe against what `act` makes of the server; the reason. */
  function probe(health: Partial<HealthSpec>, act: (server: Server) => void, backend: Partial<BackendSpec> = {}) {
    const bench = new Bench();
    bench.plan = (server) => {
      const connected = server.connected.bind(server);
      server.connected = (link) => {
        connected(link);
        act(server);
      };
      return { kind: "connects", afterMs: 1, program: server };
    };
    bench.serve(snapshot({ intervalMs: 60_000, timeoutMs: 2000, initial: "check", ...health }, 1, backend));
    bench.health.start();
    bench.schedule.run(10_000);
    expect(bench.schedule.violations).toEqual([]);
    expect(bench.dials.length).toBe(1);
    expect(bench.runtime.links.every(({ gone }) => gone)).toBe(true);
    const server = bench.dials[0]?.server as Server;
    return { reason: bench.health.status(0).reason, health: bench.states.health(0), server };
  }

  test("that asks nothing leaves in order", () => {
    const { health, server } = probe({}, () => {});
    expect(health).toBe("up");
    expect([server.text, server.fins, server.resets]).toEqual(["", 1, 0]);
    // A server may speak first, and may end first.
    expect(probe({}, (it) => it.send("220 hello\r\n")).server.resets).toBe(0);
    expect(probe({}, (it) => it.link.farFinish()).health).toBe("up");
  });

  test("sends what it is told to, and judges the answer", () => {
    const asked = (answer: string) => probe({ send: "PING\r\n", expect: "+PONG" }, (server) => server.send(answer));
    const { server, health } = asked("+PONG\r\n");
    expect([health, server.text, server.fins, server.resets]).toEqual(["up", "PING\r\n", 1, 0]);
    expect(asked("-ERR\r\n").reason).toBe("no answer, or none that ended, within 2s");
    const ended = probe({ send: "PING\r\n", expect: "+PONG" }, (it) => {
      it.send("-ERR\r\n");
      it.link.farFinish();
    });
    expect(ended.reason).toBe('"+PONG" was expected, and it said "-ERR\\r\\n"');
    expect(probe({ expect: "x" }, (it) => it.link.farReset()).reason).toBe("it reset the connection");
  });

  test("leaves an endpoint that goes on and on after its answer", () => {
    let sent = 0;
    const { health } = probe({ send: "PING\r\n", expect: "+PONG" }, (it) => {
      // It does not answer our end with its own.
      it.fin = () => {};
      it.send("+PONG\r\n");
      const goOn = (): void => {
        if (it.link.gone) return;
        it.send("x".repeat(4096));
        sent++;
        it.link.schedule.after(10, goOn);
      };
      goOn();
    });
    expect(health).toBe("up");
    // It is left after 64 KiB, and not when the probe's time is up, after 200 of these.
    expect(sent).toBeLessThan(40);
  });

  test("begins with a PROXY header where one is sent, but not on a port of its own", () => {
    expect(probe({}, () => {}, { sendProxyProtocol: "v1" }).server.text).toBe("PROXY UNKNOWN\r\n");
    expect(probe({ port: 99 }, () => {}, { sendProxyProtocol: "v1" }).server.text).toBe("");
    expect(probe({}, () => {}, { sendProxyProtocol: "v2" }).server.text.length).toBe(16);
  });
});
