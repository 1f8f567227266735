// Between two hosts (network namespaces, joined by cables): an endpoint whose packets a firewall swallows costs no client anything, is ejected, and comes back. Over a long cable that
// loses one packet in twenty, streams arrive whole, no endpoint is taken for down, and who is near is preferred. A server that hangs is found by whoever asks it something.

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { missingPrograms } from "../support/programs.ts";
import { startNginx } from "../support/servers.ts";
import { SteadyLoad } from "../support/steady-load.ts";
import { type Host, missingForTwoHosts, TwoHosts } from "../support/two-hosts.ts";

const missing = [missingForTwoHosts(), missingPrograms("nft")].filter(Boolean).join(", ");
const noTun = existsSync("/dev/net/tun") ? "" : "/dev/net/tun";
const missingNginx = missingPrograms("nginx");
const PORT = 7000;
/** Sends everything back, at all addresses of its host. */
const ECHO = `require("net").createServer({ allowHalfOpen: true }, (s) => s.on("error", () => {}).pipe(s)).listen(${PORT}, "0.0.0.0")`;
/** Of a cable that loses one packet in twenty, in each direction. */
const LOSES = `table inet cable { chain in { type filter hook input priority 0
  iifname "slow" numgen random mod 100 < 5 counter drop
  }
}`;
const NEAR = `10.77.0.2:${PORT}`;
const FAR_ADDRESS = "10.78.0.2";
const FAR = `${FAR_ADDRESS}:${PORT}`;
/** Each way. */
const DELAY_MS = 15;
const PROBED = 40;

function dropped(host: Host): number {
  return Number(/packets (\d+)/.exec(host.nft("list table inet cable"))?.[1]);
}

test.skipIf(missing !== "")(
  `an endpoint in a black hole: no client sees an error, it is ejected, and it is back ${missing}`,
  async () => {
    await using hosts = new TwoHosts();
    const { a, b } = hosts;
    const addresses = ["10.77.0.2", "10.77.0.3", "10.77.0.4"];
    for (const address of addresses.slice(1)) b.ip("address", "add", `${address}/24`, "dev", "eth0");
    await using echo = b.start([process.execPath, "-e", ECHO]);
    await b.accepts(PORT);
    await using daemon = await startDaemon(
      `
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: all }]
backends:
  all:
    allow_plaintext: true
    connect_timeout: 300ms
    outliers: { failures: 3, ejection: 1s }
    endpoints: [${addresses.map((address) => `"${address}:${PORT}"`).join(", ")}]
`,
      { under: a.under },
    );
    const target = { address: await daemon.address("tcp") };
    const limits = { seconds: 40, maxPayloadBytes: 2000, timeoutMs: 20_000, streamPatienceMs: 20_000 };
    await using load = new SteadyLoad({ targets: [target], perSecond: 100, streams: 3, ...limits }, a.under);
    await load.ready();
    await eventually("the load was under way", () => daemon.records.length > 100);
    const hole = `10.77.0.3:${PORT}`;
    const said = (message: string): number =>
      daemon.log.filter(({ msg, endpoint }) => String(msg).includes(message) && endpoint === hole).length;

    b.nft("table inet hole { chain in { type filter hook input priority 0; ip daddr 10.77.0.3 drop; }; }");
    const inHoleFrom = Date.now();
    await eventually("it was ejected, tried again, and ejected for longer", () => said("is ejected") === 2, 10_000);
    const retried = daemon.records.filter(({ attempts = 1 }) => attempts > 1);
    // Those that were under way at once, and then one for each trial; 100 came in each second.
    expect(retried.length).toBeGreaterThanOrEqual(3);
    expect(retried.length).toBeLessThanOrEqual(50);

    b.nft("delete table inet hole");
    await eventually("it was back", () => said("is back") === 1, 15_000);
    const before = daemon.records.length;
    const served = (): number => daemon.records.slice(before).filter(({ endpoint }) => endpoint === hole).length;
    await eventually("it had its share", () => served() > 20, 10_000);
    const summary = await load.stop();
    // What it had in hand was late, for as long as the hole was there, and came whole.
    expect(load.failures).toEqual([]);
    expect(summary.streamsOk).toBe(3);
    expect(summary.longestStreamGapMs).toBeGreaterThan(500);
    expect(daemon.records.filter(({ close_reason }) => close_reason !== "completed")).toEqual([]);
    expect(Date.now() - inHoleFrom).toBeGreaterThan(1000);
    expect(echo.hasExited).toBe(false);
  },
  60_000,
);

test.skipIf(missing + noTun !== "")(
  `a long cable that loses packets: nothing is cut, nobody flaps, the near one is preferred ${missing}${noTun}`,
  async () => {
    await using hosts = new TwoHosts();
    const { a, b } = hosts;
    await using _cable = await hosts.slowCable({ a: "10.78.0.1", b: FAR_ADDRESS }, DELAY_MS);
    // All of a network is at the far end.
    a.ip("route", "add", "10.78.1.0/24", "dev", "slow");
    b.ip("route", "add", "local", "10.78.1.0/24", "dev", "lo");
    await using _echo = b.start([process.execPath, "-e", ECHO]);
    await b.accepts(PORT);
    for (const host of [a, b]) host.nft(LOSES);
    const probed = Array.from({ length: PROBED }, (_, index) => `"10.78.1.${index + 1}:${PORT}"`);
    await using daemon = await startDaemon(
      `
listeners:
  - { name: far, address: 127.0.0.1:0, backend: far }
  - { name: nearest, address: 127.0.0.1:0, backend: nearest }
backends:
  far: { allow_plaintext: true, connect_timeout: 10s, endpoints: ["${FAR}"] }
  nearest: { allow_plaintext: true, balance: least_latency, endpoints: ["${FAR}", "${NEAR}"] }
  probed: { allow_plaintext: true, endpoints: [${probed.join(", ")}], health: { interval: 2s, timeout: 2s, initial: check } }
`,
      { under: a.under },
    );
    const target = { address: await daemon.address("far") };
    const limits = { seconds: 30, maxPayloadBytes: 100_000, timeoutMs: 25_000, streamPatienceMs: 25_000 };
    await using load = new SteadyLoad({ targets: [target], perSecond: 8, streams: 4, ...limits }, a.under);
    await load.ready();

    const client = `const net = require("net"); const port = ${await daemon.port("nearest")};
const next = (left) => left > 0 && net.connect(port, "127.0.0.1").on("close", () => next(left - 1)).resume().end("hello"); next(30)`;
    expect((await a.run([process.execPath, "-e", client], { patienceMs: 25_000 })).exitCode).toBe(0);
    const records = await eventually("all had their records", () => {
      const those = daemon.records.filter(({ backend }) => backend === "nearest");
      return those.length === 30 ? those : null;
    });
    const chosen = records.map(({ endpoint }) => endpoint);
    expect(chosen.filter((endpoint) => endpoint === FAR)).toHaveLength(1);

    // Each endpoint has been probed three times by then, over a cable that has lost something of every second probe.
    await Bun.sleep(6_000);
    const summary = await load.stop();
    // Whoever sends and whoever receives compares SHA-256s.
    expect(load.failures).toEqual([]);
    expect(summary.streamsOk).toBe(4);
    expect(summary.exchangedBytes).toBeGreaterThan(100_000);
    expect(dropped(a)).toBeGreaterThan(50);
    expect(dropped(b)).toBeGreaterThan(50);
    expect(daemon.log.filter(({ msg }) => String(msg).includes("is down"))).toEqual([]);
  },
  60_000,
);

test.skipIf(missingNginx !== "")(
  `a server that hangs: its kernel goes on taking connections, so only who asks it something finds it down ${missingNginx}`,
  async () => {
    await using nginx = await startNginx(`server { listen 127.0.0.1:PORT; location / { return 200 "fine"; } }`);
    const each = "interval: 300ms, timeout: 200ms, fall: 2, rise: 1";
    await using daemon = await startDaemon(`
listeners: [{ name: tcp, address: 127.0.0.1:0, backend: takes }]
backends:
  takes: { endpoints: ["${nginx.address}"], health: { ${each} } }
  answers: { endpoints: ["${nginx.address}"], health: { type: http, ${each} } }
`);
    const told = (message: string): unknown[] =>
      daemon.log.filter(({ msg }) => msg === message).map(({ backend }) => backend);
    nginx.child.signal("SIGSTOP");
    await eventually("it was found down", () => told("an endpoint is down").length > 0);
    // As many probes again, so that the other kind would have found it too.
    await Bun.sleep(1_000);
    expect(told("an endpoint is down")).toEqual(["answers"]);
    nginx.child.signal("SIGCONT");
    await eventually("it was up again", () => told("an endpoint is up").length > 0);
    expect(told("an endpoint is up")).toEqual(["answers"]);
  },
  20_000,
);
