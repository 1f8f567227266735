// The pictures of `bunnel top`, for fixed readings and sizes of the screen.

import { expect, test } from "bun:test";
import { columnsOf } from "../../../src/cli/printable.ts";
import { afterKey, type Choice, firstChoice, keysOf } from "../../../src/cli/top/keys.ts";
import { type Scene, topScreen } from "../../../src/cli/top/screen.ts";
import type { ViewName } from "../../../src/cli/top/views.ts";
import type { Status } from "../../../src/snapshot/status.ts";
import { sampleStatus } from "../../support/status-sample.ts";
import { sampleClose, sampleConnection, sampleReadings } from "../../support/top-sample.ts";

interface Asked {
  readonly view?: ViewName;
  readonly columns?: number;
  readonly rows?: number;
  /** Pressed before the picture is made. */
  readonly keys?: string;
  readonly changes?: Partial<Status>;
  readonly scene?: Partial<Scene>;
}

function lines({ view = "listeners", columns = 80, rows = 16, keys = "", changes = {}, scene = {} }: Asked) {
  const readings = { ...sampleReadings(changes), ...scene };
  let choice: Choice = firstChoice(view);
  const picture = () =>
    topScreen({ address: "127.0.0.1:9901", trouble: "", size: { columns, rows }, ...readings, choice });
  for (const key of keysOf(keys)) choice = afterKey(choice, key, picture().extent) ?? choice;
  return picture().lines;
}

function screen(asked: Asked): string {
  return lines(asked)
    .map(({ text }) => text.trimEnd())
    .join("\n");
}

const ALL_SIZES: readonly [ViewName, number][] = [
  ["listeners", 40],
  ["listeners", 80],
  ["listeners", 140],
  ["connections", 40],
  ["connections", 80],
  ["connections", 140],
  ["failures", 40],
  ["failures", 80],
  ["failures", 140],
  ["endpoints", 40],
  ["endpoints", 80],
  ["backends", 80],
  ["workers", 80],
];

test.each(ALL_SIZES)("%s, %i columns", (view, columns) => {
  expect(`\n${screen({ view, columns, rows: columns === 40 ? 16 : 13 })}\n`).toBe(PICTURES[`${view} ${columns}`] ?? "");
});

const PICTURES: Readonly<Record<string, string>> = {
  "listeners 40": `
bunnel 0.1.0  serving  gen 3  up 1d 1h
2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s
up 1.2 MB/s  down 46 MB/s

[listeners]  2
LISTENER   CONNS▼  NEW/s  FAIL/s  DOWN/s
edge           40     12       3   46 MB
metrics-…       2      0       0     0 B

BACKEND     CONNS  NEW/s  FAIL/s  DOWN/s
db             20     12       4   46 MB
node-expo…      2      0       2     0 B


q quit  ? help  tab  s sort  / filter
`,
  "listeners 80": `
bunnel 0.1.0  serving  gen 3  up 1d 1h  2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s  up 1.2 MB/s  down 46 MB/s

[listeners]  backends  endpoints  connections  failures  workers  2
LISTENER         ADDRESS           CONNS▼  NEW/s  FAIL/s    UP/s  DOWN/s  FAILED
edge             0.0.0.0:8443          40     12       3  1.2 MB   46 MB     515
metrics-of-all…  [2001:db8::1:2:…       2      0       0     0 B     0 B       0

BACKEND    IN ORDER  CONNS  NEW/s  FAIL/s    UP/s  DOWN/s  NO ENDPOINT  OVERLOAD
db         1 of 2       20     12       4  1.2 MB   46 MB            0         0
node-exp…  1 of 1        2      0       2     0 B     0 B            1         3

q quit  tab views  s sort  r reverse  / filter  p pause  ? help
`,
  "listeners 140": `
bunnel 0.1.0  serving  gen 3  up 1d 1h  2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s  up 1.2 MB/s  down 46 MB/s

[listeners]  backends  endpoints  connections  failures  workers  2
LISTENER                  ADDRESS                 CONNS▼  NEW/s  FAIL/s    UP/s  DOWN/s      TOTAL  FAILED
edge                      0.0.0.0:8443                40     12       3  1.2 MB   46 MB  1,234,579     515
metrics-of-all-the-hosts  [2001:db8::1:2:3]:9100       2      0       0     0 B     0 B         99       0

BACKEND        IN ORDER  CONNS  NEW/s  FAIL/s    UP/s  DOWN/s  NO ENDPOINT  OVERLOAD
db             1 of 2       20     12       4  1.2 MB   46 MB            0         0
node-exporter  1 of 1        2      0       2     0 B     0 B            1         3

q quit  tab views  s sort  r reverse  / filter  p pause  ? help
`,
  "connections 40": `
bunnel 0.1.0  serving  gen 3  up 1d 1h
2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s
up 1.2 MB/s  down 46 MB/s

[connections]  2
CLIENT           AGE▲    UP/s  DOWN/s
10.1.2.4:40000     0s     0 B     0 B
10.1.2.3:51514  5m 3s  1.0 kB   45 MB






q quit  ? help  tab  s sort  / filter
`,
  "connections 80": `
bunnel 0.1.0  serving  gen 3  up 1d 1h  2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s  up 1.2 MB/s  down 46 MB/s

listeners  backends  endpoints  [connections]  failures  workers  2
CLIENT           AGE▲  IDLE  BACKEND    UP/s  DOWN/s  IDENTITY
10.1.2.4:40000     0s    2s  db          0 B     0 B
10.1.2.3:51514  5m 3s    2s  db       1.0 kB   45 MB  …ffe://prod/billing/worker





q quit  tab views  s sort  r reverse  / filter  p pause  ? help
`,
  "connections 140": `
bunnel 0.1.0  serving  gen 3  up 1d 1h  2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s  up 1.2 MB/s  down 46 MB/s

listeners  backends  endpoints  [connections]  failures  workers  2
CLIENT           AGE▲  IDLE  LISTENER  BACKEND  ENDPOINT         UP/s  DOWN/s     UP    DOWN  IDENTITY         SNI               ID
10.1.2.4:40000     0s    2s  edge      db                         0 B     0 B    0 B     0 B                   orders.db.inter…  9f3a21bc-18
10.1.2.3:51514  5m 3s    2s  edge      db       10.0.0.1:5432  1.0 kB   45 MB  13 kB  113 MB  …billing/worker  orders.db.inter…  9f3a21bc-17





q quit  tab views  s sort  r reverse  / filter  p pause  ? help
`,
  "failures 40": `
bunnel 0.1.0  serving  gen 3  up 1d 1h
2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s
up 1.2 MB/s  down 46 MB/s

[failures]  2
TIME▼     CLIENT          REASON
00:59:58  10.1.2.9:40022  policy_denied
00:58:00  10.1.2.9:40022  connect_refus…






q quit  ? help  tab  s sort  / filter
`,
  "failures 80": `
bunnel 0.1.0  serving  gen 3  up 1d 1h  2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s  up 1.2 MB/s  down 46 MB/s

listeners  backends  endpoints  connections  [failures]  workers  2
TIME▼     CLIENT          REASON           WHERE              WHY
00:59:58  10.1.2.9:40022  policy_denied    edge               policy db-clients…
00:58:00  10.1.2.9:40022  connect_refused  edge → db/10.0.0…  every attempt fai…





q quit  tab views  s sort  r reverse  / filter  p pause  ? help
`,
  "failures 140": `
bunnel 0.1.0  serving  gen 3  up 1d 1h  2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s  up 1.2 MB/s  down 46 MB/s

listeners  backends  endpoints  connections  [failures]  workers  2
TIME▼     CLIENT          REASON           WHERE                    IDENTITY                     WHY
00:59:58  10.1.2.9:40022  policy_denied    edge                     spiffe://prod/intern/laptop  policy db-clients: no rule matches
00:58:00  10.1.2.9:40022  connect_refused  edge → db/10.0.0.2:5432  spiffe://prod/intern/laptop  every attempt failed (ECONNREFUSED)





q quit  tab views  s sort  r reverse  / filter  p pause  ? help
`,
  "endpoints 40": `
bunnel 0.1.0  serving  gen 3  up 1d 1h
2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s
up 1.2 MB/s  down 46 MB/s

[endpoints]  3
ENDPOINT        CONNS▼  NEW/s  HEALTH
10.0.0.1:5432       20      6  up
127.0.0.1:9100       2      0  -
10.0.0.2:5432        0      6  DOWN for…





q quit  ? help  tab  s sort  / filter
`,
  "endpoints 80": `
bunnel 0.1.0  serving  gen 3  up 1d 1h  2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s  up 1.2 MB/s  down 46 MB/s

listeners  backends  [endpoints]  connections  failures  workers  3
ENDPOINT        BACKEND      CONNS▼  NEW/s  FAIL/s    TOTAL  FAILED  HEALTH
10.0.0.1:5432   db               20      6       2  617,006       2  up
127.0.0.1:9100  node-expor…       2      0       2       99       2  -
10.0.0.2:5432   db                0      6       2  617,006       2  DOWN for 4…




q quit  tab views  s sort  r reverse  / filter  p pause  ? help
`,
  "backends 80": `
bunnel 0.1.0  serving  gen 3  up 1d 1h  2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s  up 1.2 MB/s  down 46 MB/s

listeners  [backends]  endpoints  connections  failures  workers  2
BACKEND   IN ORDER  CONNS▼  NEW/s  FAIL/s    UP/s  DOWN/s  NO ENDPOINT  OVERLOAD
db        1 of 2        20     12       4  1.2 MB   46 MB            0         0
node-ex…  1 of 1         2      0       2     0 B     0 B            1         3





q quit  tab views  s sort  r reverse  / filter  p pause  ? help
`,
  "workers 80": `
bunnel 0.1.0  serving  gen 3  up 1d 1h  2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s  up 1.2 MB/s  down 46 MB/s

listeners  backends  endpoints  connections  failures  [workers]  2
WORKER▲  PID  STATE    CONNS     LAG  GEN     UP  RESTARTS
      1  101  serving     20  0.5 ms    3  1d 1h         0
      2  102  serving     20  0.5 ms    3  1d 1h         0





q quit  tab views  s sort  r reverse  / filter  p pause  ? help
`,
};

test("no line is wider than the screen, and there are as many as it has rows, however small it is", () => {
  const views: ViewName[] = ["listeners", "backends", "endpoints", "connections", "failures", "workers"];
  for (const view of views)
    for (const columns of [1, 7, 20, 39, 63, 64, 79, 200])
      for (const rows of [1, 2, 5, 9, 24, 60])
        for (const keys of ["", "?", "/x"]) {
          const picture = lines({ view, columns, rows, keys, scene: { trouble: "NO ANSWER, retrying: x" } });
          expect(picture.length).toBe(rows);
          for (const { text } of picture) expect(columnsOf(text)).toBeLessThanOrEqual(columns);
        }
});

test("what is wrong stands above the table, in capitals, and is cut short", () => {
  const { config, workers } = sampleStatus();
  const [first, second] = workers as [Status["workers"][number], Status["workers"][number]];
  const changes: Partial<Status> = {
    config: {
      ...config,
      last_reload_at: "2026-11-21T00:50:00.000Z",
      last_reload_ok: false,
      last_reload_problems: ["edge.yaml:3:14: listeners[0].address: no port: write host:port or unix:/path", "two"],
    },
    workers: [first, { ...second, state: "waiting to restart" }],
    certificates: [
      {
        used_by: "listener edge",
        role: "certificate",
        file: "edge.pem",
        subject: "",
        names: [],
        not_before: "2026-09-01T00:00:00.000Z",
        not_after: "",
        days_left: 2.2,
        renewal: "due",
      },
    ],
  };
  expect(
    screen({ changes, rows: 7 }),
  ).toBe(`bunnel 0.1.0  serving  gen 3  up 1d 1h  2 workers  lag 0.5 ms  127.0.0.1:9901
40 connections  12 new/s  3 failed/s  up 1.2 MB/s  down 46 MB/s
RELOAD REFUSED 10m ago: edge.yaml:3:14: listeners[0].address: no port: write
  host:port or unix:/path (and 1 more)
WORKER 2 IS WAITING TO RESTART
edge.pem (listener edge) EXPIRES IN 2 days
q quit  tab views  s sort  r reverse  / filter  p pause  ? help`);
  const trouble = "NO ANSWER, retrying: 127.0.0.1:9901 does not answer: ECONNREFUSED";
  const gone = lines({ changes, scene: { trouble } });
  expect(gone[2]).toEqual({ text: trouble, style: "bad" });
  expect(gone.map(({ text }) => text)).toContain("… and 1 problem more: bunnel status");
});

test("rates are known from the second reading on, and not across a new start of the daemon", () => {
  expect(screen({ scene: { before: null } })).toContain("40 connections  - new/s  - failed/s  up -  down -\n");
  const { before } = sampleReadings();
  const earlier = { ...before, status: { ...before.status, started_at: "2026-11-19T00:00:00.000Z" } };
  expect(screen({ scene: { before: earlier } })).toContain("- new/s");
  // Half the time, twice the rate.
  expect(screen({ scene: { before: { ...before, atMs: 10_500 } } })).toContain("24 new/s  6 failed/s  up 2.5 MB/s");
});

function firstCells(asked: Asked, head: string): readonly string[] {
  const all = screen(asked).split("\n");
  const start = all.findIndex((line) => line.startsWith(head));
  return all.slice(start + 1, all.indexOf("", start)).map((line) => line.split(" ")[0] ?? "");
}

test("keys choose the column that is sorted by, and turn it round; what is not known is last", () => {
  const view = "endpoints";
  expect(firstCells({ view }, "ENDPOINT")).toEqual(["10.0.0.1:5432", "127.0.0.1:9100", "10.0.0.2:5432"]);
  expect(firstCells({ view, keys: "r" }, "ENDPOINT")).toEqual(["10.0.0.2:5432", "127.0.0.1:9100", "10.0.0.1:5432"]);
  expect(screen({ view, keys: "r" })).toContain("CONNS▲");
  // Two to the left: the endpoint itself, from a to z.
  expect(firstCells({ view, keys: "\x1b[D\x1b[D" }, "ENDPOINT▲")[2]).toBe("127.0.0.1:9100");
  expect(screen({ view, keys: "s" })).toContain("NEW/s▼");
  const { before } = sampleReadings();
  const known = { ...before, status: { ...before.status, backends: before.status.backends.slice(1) } };
  expect(firstCells({ view, keys: "s", scene: { before: known } }, "ENDPOINT")[0]).toBe("127.0.0.1:9100");
  expect(firstCells({ view, keys: "sr", scene: { before: known } }, "ENDPOINT")[0]).toBe("127.0.0.1:9100");
});

test("views by their letters and by tab, which goes round", () => {
  for (const [key, view] of [
    ["l", "listeners"],
    ["b", "backends"],
    ["e", "endpoints"],
    ["c", "connections"],
    ["f", "failures"],
    ["w", "workers"],
  ])
    expect(screen({ keys: key ?? "" })).toContain(`[${view}]`);
  expect(screen({ keys: "\t\t" })).toContain("[endpoints]");
  expect(screen({ keys: "\x1b[Z" })).toContain("[workers]");
  expect(screen({ keys: "?" })).toContain("sort by another column");
  expect(screen({ keys: "?l" })).toContain("[listeners]");
});

test("a filter shows what contains it; esc ends it", () => {
  const view = "endpoints";
  expect(firstCells({ view, keys: "/9100" }, "ENDPOINT")).toEqual(["127.0.0.1:9100"]);
  expect(screen({ view, keys: "/9100" })).toContain("/9100_  enter keeps, esc drops");
  // While it is written letters are letters.
  expect(screen({ view, keys: "/qq\x7f\x7fdb\r" })).toContain(
    '[endpoints]  connections  failures  workers  2  with "db"',
  );
  expect(firstCells({ view, keys: "/zzz\r" }, "(nothing")).toEqual([]);
  expect(firstCells({ view, keys: "/zzz\r\x1b" }, "ENDPOINT").length).toBe(3);
  // Of lists the daemon has filtered already, by more than what is shown.
  expect(screen({ view: "connections", keys: "/no-such" })).toContain("10.1.2.3:51514");
});

test("scrolling stops at both ends", () => {
  const connections = Array.from({ length: 40 }, (_, i) =>
    sampleConnection({
      id: `x-${i}`,
      downstream: `10.0.0.${i}:1`,
      started_at: new Date(1e12 - i * 1000).toISOString(),
    }),
  );
  const now = { ...sampleReadings().now, connections, matching: 1234 };
  const asked = { view: "connections", scene: { now }, rows: 12 } as const;
  // Two lines of summary, one empty, tabs, head, and the foot.
  const page = 6;
  const shown = (keys: string): string | undefined => firstClient(screen({ ...asked, keys }));
  expect(screen(asked)).toContain("newest 40 of 1,234");
  expect(shown("")).toBe("10.0.0.0");
  expect(shown("\x1b[B\x1b[Bj")).toBe("10.0.0.3");
  expect(shown("\x1b[B\x1b[A\x1b[A")).toBe("10.0.0.0");
  expect(shown("\x1b[6~")).toBe(`10.0.0.${page}`);
  expect(shown("\x1b[F\x1b[B")).toBe(`10.0.0.${40 - page}`);
  expect(shown("\x1b[F\x1b[A")).toBe(`10.0.0.${39 - page}`);
});

function firstClient(picture: string): string | undefined {
  return picture
    .split("\n")
    .find((line) => /^10\./.test(line))
    ?.split(":")[0];
}

test("what strangers have written is text, and takes the columns that it takes", () => {
  const evil = "a\x1b[2J\x9b31m\u202egpj.exe\u2028";
  const now = {
    ...sampleReadings().now,
    connections: [
      sampleConnection({ sni: evil, identity: evil }),
      sampleConnection({ id: "x", identity: "spiffe://企業/名前" }),
    ],
    closes: [sampleClose({ sni: evil, detail: evil, identity: { uri: [evil] } })],
  };
  for (const view of ["connections", "failures"] as const) {
    const picture = lines({ view, columns: 140, scene: { now }, keys: `/${"é".repeat(3)}\r` });
    const text = picture.map((line) => line.text).join("");
    expect(text).not.toMatch(/[\p{C}\p{Zl}]/u);
    expect(text).toContain("a\\u{1b}[2J");
  }
  const wide = screen({ view: "connections", columns: 200, scene: { now } }).split("\n");
  const places = wide.slice(4, 7).map((line) => columnsOf(line.replace(/(ID|x|9f3a21bc-17)$/, "")));
  expect(places).toEqual([places[0] ?? 0, places[0] ?? 0, places[0] ?? 0]);
});
