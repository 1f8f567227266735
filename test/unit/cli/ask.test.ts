// Whom commands ask, and what they say of whoever does not answer as bunnel does.

import { expect, test } from "bun:test";
import { formatAddress } from "../../../src/base/address.ts";
import { ProxyError } from "../../../src/base/errors.ts";
import { ask } from "../../../src/cli/ask.ts";
import { reload } from "../../../src/cli/reload.ts";
import { status } from "../../../src/cli/status.ts";
import type { FetchHttpOptions, HttpAnswer } from "../../../src/runtime/http.ts";
import { sampleStatus } from "../../support/status-sample.ts";

const QUESTION = { method: "GET", path: "/api/v1/status", timeoutMs: 1000 } as const;

function made(answer: Partial<HttpAnswer> | ProxyError, config = "") {
  const [out, err, asked]: [string[], string[], string[]] = [[], [], []];
  return {
    printed: { out, err },
    asked,
    out: (line: string) => void out.push(line),
    err: (line: string) => void err.push(line),
    files: { readText: () => config },
    environment: { SOCKET: "/run/x.sock" },
    runtime: {
      http: {
        serve: () => {
          throw new Error("a command serves nothing");
        },
        async fetch({ address, method, path }: FetchHttpOptions) {
          asked.push(`${method} ${formatAddress(address)} ${path}`);
          if (answer instanceof ProxyError) throw answer;
          return { status: 200, contentType: "application/json", body: "{}", ...answer };
        },
      },
    },
  };
}

test.each([
  ["no config", undefined, "", "127.0.0.1:9901"],
  ["a config without admin", "c", "listeners: []", "127.0.0.1:9901"],
  ["a config with it", "c", "admin: { address: '[::1]:77' }", "[::1]:77"],
  ["a variable in it", "c", `admin: { address: 'unix:\${SOCKET}' }`, "unix:/run/x.sock"],
  ["all else is wrong", "c", `nonsense: \${UNSET}\nlisteners: 7\nadmin: { address: 127.0.0.1:5 }`, "127.0.0.1:5"],
] as const)("the address: %s", async (_, config, text, address) => {
  const io = made({}, text);
  await ask(io, config === undefined ? {} : { config }, QUESTION);
  expect(io.asked).toEqual([`GET ${address} /api/v1/status`]);
});

test("--admin wins, whatever is wrong with the config", async () => {
  const io = made({}, "admin: 7");
  await ask(io, { config: "c", admin: "unix:/run/y.sock" }, QUESTION);
  expect(io.asked).toEqual(["GET unix:/run/y.sock /api/v1/status"]);
});

test.each([
  ["admin: { address: off }", 1, /^c: admin.address is off: .*SIGHUP/],
  ["admin: { address: 127.0.0.1:0 }", 1, /any free port/],
  [`admin: { address: 'unix:\${UNSET}' }`, 78, /^c:1:.*UNSET/],
  ["admin: {{{", 78, /^c:1:/],
] as const)("no address: %s", async (text, code, message) => {
  const io = made({}, text);
  expect(await ask(io, { config: "c" }, QUESTION)).toBe(code);
  expect(io.printed.err.join("\n")).toMatch(message);
  expect(io.asked).toEqual([]);
});

test.each([
  ["a page", { contentType: "text/html", body: "<html>" }, /127.0.0.1:9901 is not bunnel \(status 200/],
  ["no JSON", { status: 404, body: "not json" }, /is not bunnel \(status 404/],
  [
    "a refusal",
    { status: 421, body: '{"detail":"the Host header is odd"}' },
    /127.0.0.1:9901 refuses: the Host header is odd/,
  ],
  [
    "nobody",
    new ProxyError("ECONNREFUSED", "X does not answer: ECONNREFUSED"),
    /^X does not .*no daemon runs there.*-c FILE$/,
  ],
  ["not permitted", new ProxyError("EACCES", "X does not answer: EACCES"), /as the user that the daemon runs as/],
  [
    "silence",
    new ProxyError("ETIMEDOUT", "X does not answer: nothing"),
    /^X does not answer: nothing; is the daemon stopped/,
  ],
] as const)("no answer: %s", async (_, answer, message) => {
  const io = made(answer);
  expect(await status(io, {})).toBe(1);
  expect(io.printed.err.join("\n")).toMatch(message);
  expect(io.printed.out).toEqual([]);
});

test("status --json prints all that was said, and without it one that cannot be read is told", async () => {
  const body = JSON.stringify(sampleStatus());
  const io = made({ body });
  expect(await status(io, { json: true })).toBe(0);
  expect(JSON.parse(io.printed.out.join("\n"))).toEqual(sampleStatus());
  const odd = made({ body: '{"version":"9"}' });
  expect(await status(odd, {})).toBe(1);
  expect(odd.printed.err.join("\n")).toMatch(/cannot read; try --json/);
});

test("a reload that is refused prints each problem on standard error", async () => {
  const io = made({ status: 409, body: '{"ok":false,"problems":["a:1:1: x","a:2:1: y"]}' });
  expect(await reload(io, {})).toBe(1);
  expect(io.printed).toEqual({
    out: [],
    err: ["a:1:1: x", "a:2:1: y", "the reload was refused, and nothing has changed"],
  });
});

const TOKEN_CONFIG = "admin: { token_file: t, address: '127.0.0.1:5'";

test("the token of the config is sent, and never in plaintext to another host", async () => {
  const sent: (Readonly<Record<string, string>> | undefined)[] = [];
  const io = made({}, `${TOKEN_CONFIG} }`);
  const files = { readText: (path: string) => (path === "d/t" ? "the-token-of-the-file\n" : io.files.readText()) };
  const fetch = (options: FetchHttpOptions): Promise<HttpAnswer> => {
    sent.push(options.headers);
    return io.runtime.http.fetch(options);
  };
  const asking = { ...io, files, runtime: { http: { ...io.runtime.http, fetch } } };
  await ask(asking, { config: "d/c" }, QUESTION);
  expect(sent).toEqual([{ Authorization: "Bearer the-token-of-the-file" }]);
  expect(await ask(asking, { config: "d/c", admin: "192.0.2.7:9901" }, QUESTION)).toBe(78);
  expect(io.printed.err).toEqual(["the token is not sent to 192.0.2.7:9901 in plaintext: give the config admin.tls"]);
  expect(sent).toHaveLength(1);
});

test("what listens on all addresses is asked on loopback", async () => {
  for (const [written, asked] of [
    ["0.0.0.0:9", "127.0.0.1:9"],
    ["[::]:9", "[::1]:9"],
  ] as const) {
    const io = made({}, `admin: { address: '${written}' }`);
    await ask(io, { config: "c" }, QUESTION);
    expect(io.asked).toEqual([`GET ${asked} /api/v1/status`]);
  }
});
