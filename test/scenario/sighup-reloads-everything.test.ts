// SIGHUP takes over a changed config whole: listeners, routes, policies, limits and endpoints added, changed and removed under load, with no connection
// refused on a listener that stays and none cut. A bad config changes nothing, and every problem in it is named.

import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { quiet } from "../conformance/peers.ts";
import { type Daemon, startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { connected, LiveClient } from "../support/live-clients.ts";
import { unusedPort } from "../support/servers.ts";
import { startEndpoint } from "../support/tcp.ts";

const RELOADED = "config reloaded";
const NOTHING_NEW = "config reloaded: nothing has changed";
const REFUSED = "reload refused: the old config is still served";

function write(daemon: Daemon, text: string, first = "access_log: { output: ./access.log }"): void {
  // What startDaemon puts before every config; without it, another number of processes would be asked for.
  const defaults = "workers: 0\nadmin: { address: off }";
  writeFileSync(join(daemon.directory, "bunnel.yaml"), `${defaults}\n${first}\n${text}`);
}

function told(daemon: Daemon, message: string): readonly Record<string, unknown>[] {
  return daemon.log.filter(({ msg }) => msg === message);
}

/** Waits until it was told so often, and gives those lines. */
async function untilTold(daemon: Daemon, message: string, times = 1): Promise<readonly Record<string, unknown>[]> {
  await eventually(
    () => `"${message}" was told ${times} times: ${daemon.child.story}`,
    () => told(daemon, message).length >= times,
  );
  return told(daemon, message);
}

async function reload(daemon: Daemon, text: string): Promise<void> {
  const before = told(daemon, RELOADED).length;
  write(daemon, text);
  daemon.child.signal("SIGHUP");
  await untilTold(daemon, RELOADED, before + 1);
}

/** Waits until nobody listens there. */
async function isShut(to: string): Promise<void> {
  await eventually(`nobody listened on ${to}`, async () => {
    const client = new LiveClient({ to });
    await eventually("it was answered", () => client.socket.readyState === "open" || !client.isOpen);
    client.close();
    return client.ending === "ECONNREFUSED";
  });
}

describe("a changed config", () => {
  test("under load: nobody on a listener that stays is refused or cut, through 20 reloads", async () => {
    await using first = await startEndpoint();
    await using second = await startEndpoint();
    const [kept, extra] = [await unusedPort(), await unusedPort("127.0.0.2")];
    const variants = [
      { endpoints: [first.address], extra: false, policy: "any", limit: 0 },
      { endpoints: [first.address, second.address], extra: true, policy: "all", limit: 1000 },
      { endpoints: [second.address], extra: true, policy: "any", limit: 500 },
      { endpoints: [second.address, first.address], extra: false, policy: "all", limit: 0 },
    ];
    const text = (index: number): string => {
      const { endpoints, extra: more, policy, limit } = variants[index % variants.length] as (typeof variants)[number];
      return `
listeners:
  - name: kept-${index}
    address: 127.0.0.1:${kept}
    max_connections: ${limit}
    routes:
      - { name: never, match: { source: [192.0.2.0/24] }, tls: none, backend: echo }
      - { name: all, tls: none, policy: ${policy}, backend: echo }
${more ? `  - { name: extra, address: "127.0.0.2:${extra}", backend: other }` : ""}
policies: { all: { rules: [{ action: allow, source: [127.0.0.0/8] }] } }
backends:
  echo: { endpoints: [${endpoints.map((address) => `"${address}"`).join(", ")}] }
${more ? `  other: { endpoints: ["${first.address}"] }` : ""}
`;
    };
    await using daemon = await startDaemon(text(0));
    const to = `127.0.0.1:${kept}`;
    const old = await Promise.all(Array.from({ length: 10 }, () => connected({ to })));
    let turning = true;
    let served = 0;
    const load = Promise.all(
      Array.from({ length: 4 }, async () => {
        while (turning) {
          (await connected({ to })).close();
          served++;
        }
      }),
    );
    for (let index = 1; index <= 20; index++) {
      const before = served;
      await reload(daemon, text(index));
      for (const client of old) await client.echo();
      await eventually("newcomers are served", () => served > before + 5);
    }
    turning = false;
    await load;
    for (const client of old) (await client.echo()).close();
    const reasons = new Set((await daemon.recorded(served)).map(({ close_reason }) => close_reason));
    expect([...reasons].filter((reason) => !["completed", "downstream_reset"].includes(reason))).toEqual([]);
    expect(told(daemon, REFUSED)).toEqual([]);
  }, 30_000);

  test("adds and removes listeners; connections of one that went end by drain_timeout", async () => {
    await using endpoint = await startEndpoint();
    const [one, two, three] = [await unusedPort(), await unusedPort("127.0.0.2"), await unusedPort("127.0.0.3")];
    const text = (names: readonly string[]): string => `
drain_timeout: 1s
listeners:
${names.includes("one") ? `  - { name: one, address: "127.0.0.1:${one}", backend: echo }` : ""}
${names.includes("two") ? `  - { name: two, address: "127.0.0.2:${two}", backend: echo }` : ""}
${names.includes("three") ? `  - { name: three, address: "127.0.0.3:${three}", backend: echo }` : ""}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
    await using daemon = await startDaemon(text(["one", "two"]));
    const stays = await connected({ to: `127.0.0.1:${one}` });
    const goes = await connected({ to: `127.0.0.2:${two}` });
    await reload(daemon, text(["one", "three"]));
    await goes.echo();
    await connected({ to: `127.0.0.3:${three}` }).then((client) => client.close());
    await isShut(`127.0.0.2:${two}`);
    await eventually("its connection was ended", () => !goes.isOpen);
    expect(await daemon.record(({ listener }) => listener === "two")).toMatchObject({
      ...{ close_reason: "drain_timeout", detail: "the listener was removed" },
    });
    await stays.echo();
    // Back at once, although connections to the port are remembered by the kernel.
    await reload(daemon, text(["one", "two"]));
    (await connected({ to: `127.0.0.2:${two}` })).close();
    stays.close();
  });

  test("sends newcomers to the new endpoint by the new route, and leaves the old connections where they are", async () => {
    await using first = await startEndpoint();
    await using second = await startEndpoint();
    const port = await unusedPort();
    const text = (route: string, backend: string): string => `
listeners: [{ name: in, address: "127.0.0.1:${port}", routes: [{ name: ${route}, tls: none, backend: ${backend} }] }]
backends: { ${backend}: { endpoints: ["${backend === "a" ? first.address : second.address}"] } }
`;
    await using daemon = await startDaemon(text("one", "a"));
    const old = await connected({ to: `127.0.0.1:${port}` });
    await reload(daemon, text("two", "b"));
    const young = await connected({ to: `127.0.0.1:${port}` });
    await old.echo();
    expect([first.peers.length, second.peers.length]).toEqual([1, 1]);
    for (const client of [old, young]) client.close();
    const records = await daemon.recorded(2);
    expect(new Set(records.map(({ route, backend }) => `${route} ${backend}`))).toEqual(new Set(["two b", "one a"]));
  });

  test("lets in those who wait when a limit is raised", async () => {
    await using endpoint = await startEndpoint();
    const port = await unusedPort();
    const text = (limit: number): string => `
listeners: [{ name: in, address: "127.0.0.1:${port}", max_connections: ${limit}, backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
    await using daemon = await startDaemon(text(1));
    const to = `127.0.0.1:${port}`;
    const first = await connected({ to });
    const waiting = new LiveClient({ to });
    waiting.socket.write("waited");
    await reload(daemon, text(2));
    await eventually("the one that waited was served", () => waiting.received === "waited");
    for (const client of [first, waiting]) client.close();
  });

  test("of nothing but what takes a restart says so, in one line", async () => {
    await using endpoint = await startEndpoint();
    const port = await unusedPort();
    const text = `
listeners: [{ name: in, address: "127.0.0.1:${port}", backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
    await using daemon = await startDaemon(text);
    write(daemon, `log: { level: debug }\n${text}`, 'access_log: { output: "off" }');
    daemon.child.signal("SIGHUP");
    await untilTold(
      daemon,
      "config reloaded: nothing has changed but `log` and `access_log`, and that takes a restart",
    );
    (await connected({ to: `127.0.0.1:${port}` })).close();
    await daemon.recorded(1);
  });
});

describe("a bad config", () => {
  test("is refused as a whole, with every problem and its place; the old one is served", async () => {
    await using endpoint = await startEndpoint();
    const [port, other] = [await unusedPort(), await unusedPort("127.0.0.2")];
    const good = `
listeners: [{ name: in, address: "127.0.0.1:${port}", backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
    await using daemon = await startDaemon(good);
    const to = `127.0.0.1:${port}`;
    const old = await connected({ to });
    write(
      daemon,
      `
listeners:
  - { name: in, address: "127.0.0.1:${port}", backend: ecko }
  - { name: added, address: "127.0.0.2:${other}", backend: echo, max_conections: 3 }
backends: { echo: { endpoints: ["${endpoint.address}"], connect_timeout: soon } }
`,
    );
    daemon.child.signal("SIGHUP");
    const lines = await untilTold(daemon, REFUSED, 3);
    const problems = lines.map(({ problem }) => String(problem)).join("\n");
    for (const line of [6, 7, 8]) expect(problems).toContain(`bunnel.yaml:${line}:`);
    for (const word of ["ecko", "max_conections", "soon"]) expect(problems).toContain(word);
    await old.echo();
    (await connected({ to })).close();
    await isShut(`127.0.0.2:${other}`);
    write(daemon, good);
    daemon.child.signal("SIGHUP");
    await untilTold(daemon, NOTHING_NEW);
    (await old.echo()).close();
    expect(told(daemon, REFUSED)).toHaveLength(3);
  });

  test("of an address that is taken, or a file that is gone: refused, and nothing is opened or changed", async () => {
    await using endpoint = await startEndpoint();
    await using squatter = await startEndpoint();
    const [port, other] = [await unusedPort(), await unusedPort("127.0.0.2")];
    const text = (more: string): string => `
listeners:
  - { name: in, address: "127.0.0.1:${port}", backend: echo }
${more}
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
    await using daemon = await startDaemon(text(""));
    const old = await connected({ to: `127.0.0.1:${port}` });
    write(
      daemon,
      text(`  - { name: added, address: "127.0.0.2:${other}", backend: echo }
  - { name: taken, address: "${squatter.address}", backend: echo }`),
    );
    daemon.child.signal("SIGHUP");
    const [line] = await untilTold(daemon, REFUSED);
    expect(line?.problem).toContain(squatter.address);
    await isShut(`127.0.0.2:${other}`);
    await old.echo();
    write(
      daemon,
      text(`  - name: added
    address: 127.0.0.2:${other}
    tls: { certificates: [{ cert: nowhere.pem, key: nowhere.key }], client_auth: none }
    routes: [{ name: all, tls: terminate, backend: echo }]`),
    );
    daemon.child.signal("SIGHUP");
    const problems = (await untilTold(daemon, REFUSED, 3)).slice(1).map(({ problem }) => String(problem));
    expect(problems.map((problem) => /nowhere\.(pem|key): no such file/.exec(problem)?.[1])).toEqual(["pem", "key"]);
    // What was refused is not looked at again.
    await quiet(1100);
    expect(told(daemon, REFUSED)).toHaveLength(3);
    (await old.echo()).close();
  });
});

describe("signals", () => {
  test("two SIGHUPs in a row are two reloads at the most, and the last config is served", async () => {
    await using first = await startEndpoint();
    await using second = await startEndpoint();
    const port = await unusedPort();
    const text = (address: string): string => `
listeners: [{ name: in, address: "127.0.0.1:${port}", backend: echo }]
backends: { echo: { endpoints: ["${address}"] } }
`;
    await using daemon = await startDaemon(text(first.address));
    write(daemon, text(first.address));
    daemon.child.signal("SIGHUP");
    write(daemon, text(second.address));
    daemon.child.signal("SIGHUP");
    await untilTold(daemon, RELOADED);
    const client = await eventually("the last config is served", async () => {
      const client = await connected({ to: `127.0.0.1:${port}` });
      if (second.peers.length > 0) return client;
      client.close();
      return null;
    });
    client.close();
    expect(told(daemon, RELOADED).length).toBeLessThanOrEqual(2);
  });

  test("SIGHUP and then SIGTERM: it drains and ends as if there had been no reload", async () => {
    await using endpoint = await startEndpoint();
    const port = await unusedPort();
    const text = `
listeners: [{ name: in, address: "127.0.0.1:${port}", backend: echo }]
backends: { echo: { endpoints: ["${endpoint.address}"] } }
`;
    await using daemon = await startDaemon(text);
    const client = await connected({ to: `127.0.0.1:${port}` });
    daemon.child.signal("SIGHUP");
    daemon.child.signal("SIGTERM");
    await untilTold(daemon, "draining");
    daemon.child.signal("SIGHUP");
    await client.echo();
    client.socket.end();
    expect(await daemon.exitCode()).toBe(0);
    expect(daemon.log.filter(({ level }) => Number(level) >= 50)).toEqual([]);
  });
});
