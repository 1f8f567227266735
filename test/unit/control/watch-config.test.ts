// `watch_config: true`: the config file is read again by itself, once it has changed and stood still. One that is wrong is told of once.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { ProxyError } from "../../../src/base/errors.ts";
import { RETRY_LOOKS } from "../../../src/control/live-config.ts";
import { testPki } from "../../support/certificates.ts";
import { CONFIG_FILE, LiveConfigFixture } from "./live-config-fixture.ts";

const QUIET = `listeners: [{ name: in, address: "127.0.0.1:1", backend: b }]
backends: { b: { allow_plaintext: true, endpoints: ["app.internal:80"] } }
`;
const WATCHED = `watch_config: true\n${QUIET}`;
const RENAMED = WATCHED.replace("name: in", "name: other");
const BROKEN = WATCHED.replace("backend: b", "backend: c");
const WITH_TLS = `watch_config: true
listeners:
  - name: in
    address: 127.0.0.1:1
    tls: { certificates: [{ cert: edge.pem, key: edge.key }], client_auth: none }
    routes: [{ name: r, tls: terminate, backend: b }]
backends: { b: { endpoints: ["127.0.0.1:80"] } }
`;
const RELOADED = "info: config reloaded";
const RELOAD_REFUSED = "error: reload refused: the old config is still served";

let fixture: LiveConfigFixture;
const servedName = (): string | undefined => fixture.published.at(-1)?.listeners[0]?.name;

beforeEach(() => {
  fixture = new LiveConfigFixture();
  fixture.names.set("app.internal", "192.0.2.1");
  fixture.write(WATCHED);
});

afterEach(() => fixture.live.stop());

describe("a config file that is watched", () => {
  test("and stays as it is: nothing happens", async () => {
    await fixture.start();
    await fixture.looks(3 + RETRY_LOOKS);
    expect([fixture.published, fixture.said]).toEqual([[], []]);
  });

  test("is served once it has changed and stood still from one look to the next, once", async () => {
    await fixture.start();
    fixture.write(BROKEN);
    await fixture.looks(1);
    fixture.write(RENAMED);
    await fixture.looks(1);
    expect([fixture.published, fixture.said]).toEqual([[], []]);
    await fixture.looks(1);
    expect(servedName()).toBe("other");
    await fixture.looks(3 + RETRY_LOOKS);
    expect(fixture.said).toEqual([RELOADED]);
    expect(fixture.published).toHaveLength(1);
  });

  test("and was changed between its reading and the first look is not missed", async () => {
    const reading = fixture.start();
    fixture.write(RENAMED);
    await reading;
    await fixture.looks(2);
    expect(servedName()).toBe("other");
  });

  test("that is broken, or gone, is told of once, the old one stays, and mended it is served", async () => {
    await fixture.start();
    fixture.write(BROKEN);
    await fixture.looks(3 + 2 * RETRY_LOOKS);
    expect(fixture.said).toEqual([RELOAD_REFUSED]);
    expect(fixture.lines[0]?.problem).toStartWith("f.yaml:2:58: listeners[0].backend: there is no backend");
    expect(fixture.live.status).toMatchObject({ last_reload_ok: false });
    fixture.files.remove(CONFIG_FILE);
    await fixture.looks(3 + 2 * RETRY_LOOKS);
    expect(fixture.said).toEqual([RELOAD_REFUSED, RELOAD_REFUSED]);
    expect(fixture.lines[1]?.problem).toBe("f.yaml: cannot be read: no such file or directory");
    expect(fixture.published).toEqual([]);
    fixture.write(RENAMED);
    await fixture.looks(2);
    expect(servedName()).toBe("other");
    expect(fixture.said.at(-1)).toBe(RELOADED);
  });

  test("that SIGHUP has had read is not read again, whether it was served or refused", async () => {
    const live = await fixture.start();
    fixture.write(RENAMED);
    await live.reload();
    await fixture.looks(3);
    fixture.write(BROKEN);
    await live.reload();
    await fixture.looks(3);
    expect(fixture.said).toEqual([RELOADED, RELOAD_REFUSED]);
  });

  test("and was put back before anybody read it: nothing happens", async () => {
    await fixture.start();
    const stamp = fixture.files.stamp;
    fixture.files.stamp = (path) => (path === CONFIG_FILE ? "other" : stamp.call(fixture.files, path));
    await fixture.looks(1);
    fixture.files.stamp = stamp;
    await fixture.looks(3);
    expect(fixture.said).toEqual([]);
  });

  test("and changes while a reload waits for a name is read after it, once", async () => {
    const live = await fixture.start();
    const slow = Promise.withResolvers<string>();
    fixture.names.set("app.internal", slow.promise);
    const first = live.reload();
    await fixture.looks(1);
    fixture.write(BROKEN);
    await fixture.looks(1);
    fixture.write(RENAMED);
    await fixture.looks(5);
    expect(fixture.said).toEqual([]);
    slow.resolve("192.0.2.2");
    expect(await first).toEqual([]);
    await fixture.looks(4);
    expect(fixture.said).toEqual([RELOADED, RELOADED]);
    expect(servedName()).toBe("other");
  });
});

describe("one that is sound and could not be served", () => {
  test("for a name that cannot be resolved is tried again every 30 s, and told of again only for other reasons", async () => {
    await fixture.start();
    fixture.names.clear();
    fixture.write(RENAMED);
    await fixture.looks(2 + 3 * RETRY_LOOKS);
    expect(fixture.said).toEqual([RELOAD_REFUSED]);
    fixture.names.set("app.internal", "nonsense");
    await fixture.looks(RETRY_LOOKS);
    expect(fixture.said).toEqual([RELOAD_REFUSED, RELOAD_REFUSED]);
    expect(fixture.lines[1]?.problem).toContain("which is no IP address");
    fixture.names.set("app.internal", "192.0.2.2");
    await fixture.looks(RETRY_LOOKS);
    expect(servedName()).toBe("other");
  });

  test("for a certificate that is not there yet is served as soon as that is, as when two volumes are written in turn", async () => {
    const pki = await testPki();
    await fixture.start();
    fixture.write(WITH_TLS);
    await fixture.looks(3);
    expect(new Set(fixture.said)).toEqual(new Set([RELOAD_REFUSED]));
    const told = fixture.said.length;
    fixture.files.write("edge.pem", pki.server.certificatePem);
    fixture.files.write("edge.key", pki.server.keyPem);
    await fixture.looks(2);
    expect(fixture.said.slice(told)).toEqual([RELOADED]);
    expect(fixture.published[0]?.listeners[0]?.routes[0]?.termination?.certificates[0]?.chainPem).toBe(
      pki.server.certificatePem,
    );
  });
});

describe("a retry", () => {
  test("is also made of a file that could not be read and then can, though no stamp shows it", async () => {
    await fixture.start();
    const { readText } = fixture.files;
    fixture.files.readText = () => {
      throw new ProxyError("EMFILE", "cannot read f.yaml: too many open files");
    };
    fixture.write(RENAMED);
    await fixture.looks(2);
    expect(fixture.said).toEqual([RELOAD_REFUSED]);
    fixture.files.readText = readText;
    await fixture.looks(RETRY_LOOKS);
    expect(servedName()).toBe("other");
  });

  test("is not made of one that SIGHUP has made go through meanwhile", async () => {
    const live = await fixture.start();
    fixture.names.clear();
    fixture.write(RENAMED);
    await fixture.looks(2);
    fixture.names.set("app.internal", "192.0.2.2");
    expect(await live.reload()).toEqual([]);
    await fixture.looks(2 * RETRY_LOOKS);
    expect(fixture.said).toEqual([RELOAD_REFUSED, RELOADED]);
  });
});

describe("switching it", () => {
  test("on by a reload: what was changed before is not missed, nor read twice", async () => {
    fixture.write(QUIET);
    const live = await fixture.start();
    fixture.write(RENAMED);
    await fixture.looks(4);
    expect(fixture.said).toEqual([]);
    await live.reload();
    await fixture.looks(3);
    expect(fixture.said).toEqual([RELOADED]);
    fixture.write(WATCHED);
    await fixture.looks(2);
    expect(servedName()).toBe("in");
  });

  test("off by the file itself: later changes wait for SIGHUP", async () => {
    const live = await fixture.start();
    fixture.write(QUIET);
    await fixture.looks(2);
    expect(fixture.said).toEqual([RELOADED]);
    fixture.write(RENAMED);
    await fixture.looks(3 + RETRY_LOOKS);
    expect(fixture.said).toEqual([RELOADED]);
    expect(await live.reload()).toEqual([]);
    expect(servedName()).toBe("other");
  });

  test("off while one that was refused waits for its retry: it is not tried again", async () => {
    const live = await fixture.start();
    fixture.write(QUIET);
    await live.reload();
    fixture.names.clear();
    fixture.write(RENAMED);
    await live.reload();
    await fixture.looks(3 + RETRY_LOOKS);
    expect(fixture.said).toEqual([RELOADED, RELOAD_REFUSED]);
  });
});

test("a drain ends it: changes are not looked at, and nothing is said", async () => {
  const live = await fixture.start();
  live.drain();
  fixture.write(RENAMED);
  await fixture.looks(3);
  expect([fixture.published, fixture.said]).toEqual([[], []]);
});

test("the embedded default has no file to watch", async () => {
  await fixture.start({ load: null });
  fixture.write(RENAMED);
  await fixture.looks(3);
  expect(fixture.said).toEqual([]);
});
