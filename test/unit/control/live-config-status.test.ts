// What a reload answers, what is said of one that has little to do, and what `bunnel status` shows of the config and its files.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { ProxyError } from "../../../src/base/errors.ts";
import { RETRY_LOOKS } from "../../../src/control/live-config.ts";
import { testPki } from "../../support/certificates.ts";
import { LiveConfigFixture } from "./live-config-fixture.ts";

const CONFIG = `listeners: [{ name: in, address: "127.0.0.1:1", backend: b }]
backends: { b: { allow_plaintext: true, endpoints: ["app.internal:80"] } }
`;
const WITH_TLS = `listeners:
  - name: in
    address: 127.0.0.1:1
    tls: { certificates: [{ cert: edge.pem, key: edge.key }], client_auth: none }
    routes: [{ name: r, tls: terminate, backend: b }]
backends: { b: { endpoints: ["127.0.0.1:80"] } }
`;
const RELOAD_REFUSED = "error: reload refused: the old config is still served";
const DRAINING = "the daemon is draining: it takes no new config any more";

let fixture: LiveConfigFixture;

beforeEach(() => {
  fixture = new LiveConfigFixture();
  fixture.names.set("app.internal", "192.0.2.1");
  fixture.write(CONFIG);
});

afterEach(() => fixture.live.stop());

describe("a reload answers", () => {
  test("nothing when it is done, also when there was nothing to do", async () => {
    const live = await fixture.start();
    fixture.write(CONFIG.replace("name: in", "name: other"));
    expect([await live.reload(), await live.reload()]).toEqual([[], []]);
    expect(fixture.said).toEqual(["info: config reloaded", "info: config reloaded: nothing has changed"]);
  });

  test("every problem of a config that does not fit, as it is logged", async () => {
    const live = await fixture.start();
    fixture.write(CONFIG.replace("backend: b", "backend: c, max_connections: -1"));
    const problems = await live.reload();
    expect(problems).toEqual([
      'f.yaml:1:58: listeners[0].backend: there is no backend "c"; known: b',
      "f.yaml:1:78: listeners[0].max_connections: -1 is out of range; allowed: 0 (no limit of its own) to 10000000",
    ]);
    expect(fixture.lines.map(({ problem }) => problem)).toEqual([...problems]);
    expect(new Set(fixture.said)).toEqual(new Set([RELOAD_REFUSED]));
  });

  test("why it cannot be compiled, published or even read", async () => {
    const live = await fixture.start();
    fixture.names.clear();
    expect(await live.reload()).toEqual([expect.stringContaining('"app.internal" cannot be resolved')]);
    fixture.names.set("app.internal", "192.0.2.2");
    fixture.publishFails = new ProxyError("EADDRINUSE", "cannot listen on 127.0.0.1:1");
    expect(await live.reload()).toEqual(["cannot listen on 127.0.0.1:1"]);
    fixture.publishFails = new TypeError("x is not a function");
    expect(await live.reload()).toEqual(["a defect in bunnel; please report it: x is not a function"]);
    fixture.files.remove("f.yaml");
    expect(await live.reload()).toEqual(["f.yaml: cannot be read: no such file or directory"]);
    fixture.publishFails = null;
    fixture.write(CONFIG);
    expect(await live.reload()).toEqual([]);
  });

  test("that the daemon is draining, and the log says so too; those under way hear the same", async () => {
    const live = await fixture.start();
    const slow = Promise.withResolvers<string>();
    fixture.names.set("app.internal", slow.promise);
    const underWay = live.reload();
    await fixture.looks(1);
    live.drain();
    const late = live.reload();
    slow.resolve("192.0.2.3");
    expect([await underWay, await late]).toEqual([[DRAINING], [DRAINING]]);
    const line = { level: "warn", message: "reload refused: the old config is still served", problem: DRAINING };
    expect(fixture.lines).toEqual([line, line]);
    expect(live.status).toMatchObject({ last_reload_ok: false, last_reload_problems: [DRAINING] });
  });

  test("that the embedded default has no file", async () => {
    const live = await fixture.start({ load: null });
    expect(await live.reload()).toEqual(["the embedded default has no config file to reload"]);
  });
});

describe("a reload that changes what takes a restart", () => {
  test("and nothing else says so in one line, for as long as it differs from what was started with", async () => {
    const live = await fixture.start();
    fixture.write(`log: { level: debug }\naccess_log: { output: off }\n${CONFIG}`);
    await live.reload();
    expect(live.status.last_reload_warnings).toEqual(["`log` and `access_log` changed: that takes a restart"]);
    fixture.write(`pid_file: x.pid\nuser: nobody\nworkers: 0\nadmin: { address: off }\n${CONFIG}`);
    await live.reload();
    fixture.write(CONFIG);
    await live.reload();
    expect(live.status.last_reload_warnings).toEqual([]);
    expect(fixture.said).toEqual([
      "warn: config reloaded: nothing has changed but `log` and `access_log`, and that takes a restart",
      "warn: config reloaded: nothing has changed but `workers` and `admin` and `user` and `pid_file`, and that takes a restart",
      "info: config reloaded: nothing has changed",
    ]);
    expect(fixture.published).toEqual([]);
  });

  test("and something else says that the rest is taken over", async () => {
    const live = await fixture.start();
    fixture.write(`log: { level: debug }\n${CONFIG.replace("name: in", "name: other")}`);
    expect(await live.reload()).toEqual([]);
    expect(fixture.said).toEqual([
      "warn: `log` changed: that takes a restart, and the rest is taken over",
      "info: config reloaded",
    ]);
  });

  test("is not said of one that is refused", async () => {
    const live = await fixture.start();
    fixture.write(`log: { level: debug }\n${CONFIG.replace("backend: b", "backend: c")}`);
    await live.reload();
    expect(fixture.said).toEqual([RELOAD_REFUSED]);
  });
});

test("a reload of another number of workers, or of watch_config, has changed something", async () => {
  const adopted: unknown[] = [];
  const live = await fixture.start({ adopted: ({ workers }) => adopted.push(workers) });
  fixture.write(`workers: 3\n${CONFIG}`);
  await live.reload();
  fixture.write(`workers: 3\nwatch_config: true\n${CONFIG}`);
  await live.reload();
  await live.reload();
  expect(fixture.said).toEqual([
    "info: config reloaded",
    "info: config reloaded",
    "info: config reloaded: nothing has changed",
  ]);
  expect(adopted).toEqual(["auto", 3, 3, 3]);
  expect(fixture.published).toEqual([]);
});

describe("status", () => {
  const fresh = {
    file: "f.yaml",
    last_reload_at: null,
    last_reload_ok: true,
    last_reload_problems: [],
    last_reload_warnings: [],
    certificate_problems: [],
    certificate_sets_refused: 0,
    names_used: expect.closeTo(0, 2),
  };

  test("before anything has happened; the embedded default has no file", async () => {
    expect((await fixture.start()).status).toEqual(fresh);
    expect((await fixture.start({ load: null })).status).toEqual({ ...fresh, file: null });
  });

  test("shows the last reload, with its problems until one goes through", async () => {
    const live = await fixture.start();
    const before = new Date().toISOString();
    fixture.write(CONFIG.replace("backend: b", "backend: c"));
    const problems = await live.reload();
    expect(live.status).toEqual({
      ...fresh,
      last_reload_at: expect.any(String),
      last_reload_ok: false,
      last_reload_problems: problems,
    });
    expect(problems).toHaveLength(1);
    const { last_reload_at } = live.status;
    expect(last_reload_at !== null && last_reload_at >= before && last_reload_at <= new Date().toISOString()).toBe(
      true,
    );
    fixture.write(CONFIG);
    await live.reload();
    expect(live.status).toMatchObject({ last_reload_ok: true, last_reload_problems: [] });
  });

  test("shows why certificates on the disk are not served, and counts each set that was refused", async () => {
    const pki = await testPki();
    const install = ({ certificatePem, keyPem }: { certificatePem: string; keyPem: string }): void => {
      fixture.files.write("edge.pem", certificatePem);
      fixture.files.write("edge.key", keyPem);
    };
    install(pki.server);
    fixture.write(WITH_TLS);
    const live = await fixture.start();
    fixture.files.write("edge.key", "");
    // The same set is tried again, and is still one.
    await fixture.looks(2 + 2 * RETRY_LOOKS);
    expect(live.status).toMatchObject({
      certificate_problems: [
        expect.stringContaining('edge.key: expected a PEM block "PRIVATE KEY", found no PEM block'),
      ],
      certificate_sets_refused: 1,
      last_reload_at: null,
    });
    install(pki.expired);
    await fixture.looks(2);
    expect(live.status).toMatchObject({
      certificate_problems: [expect.stringMatching(/edge\.pem: .*: expired on /)],
      certificate_sets_refused: 2,
    });
    install(pki.databaseServer);
    await fixture.looks(2);
    expect(live.status).toMatchObject({ certificate_problems: [], certificate_sets_refused: 2 });
    expect(fixture.published).toHaveLength(1);
  });
});
