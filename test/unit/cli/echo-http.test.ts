import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { EchoHttp, MAX_HEAD_BYTES } from "../../../src/cli/echo-http.ts";

const OK = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\necho-1\n";
const GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

function bytes(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

function ask(text: string): { http: EchoHttp; output: string } {
  const http = new EchoHttp("echo-1");
  return { http, output: http.receive(bytes(text)) };
}

function statusOf(text: string): number {
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(ask(text).output)?.[1]);
}

describe("echo", () => {
  test("answers its name and keeps the connection", () => {
    const { http, output } = ask(GET);
    expect(output).toBe(OK);
    expect(http.ended).toBe(false);
    expect(http.receive(bytes(GET))).toBe(OK);
  });

  test("answers HEAD with the same length and no body", () => {
    expect(ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").output).toBe(OK.replace("echo-1\n", ""));
  });

  test("ends after Connection: close, among other tokens and in any case", () => {
    const { http, output } = ask(`GET / HTTP/1.1\r\nHost: a\r\nConnection: x , Close\r\n\r\n${GET}`);
    expect(http.ended).toBe(true);
    expect(output).toContain("Connection: close\r\n");
    expect(output.match(/HTTP\/1\.1 /g)?.length).toBe(1);
    expect(http.receive(bytes(GET))).toBe("");
  });

  test("ends after HTTP/1.0, unless asked to keep alive", () => {
    expect(ask("GET / HTTP/1.0\r\n\r\n").http.ended).toBe(true);
    const kept = ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    expect(kept.http.ended).toBe(false);
    expect(kept.output).toContain("Connection: keep-alive\r\n");
  });

  test("skips bodies by their length, whatever is in them", () => {
    const post = `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${GET.length}\r\n\r\n${GET}`;
    expect(ask(post + GET).output).toBe(OK + OK);
    const { http, output } = ask("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    expect(output).toBe("HTTP/1.1 100 Continue\r\n\r\n");
    expect(http.receive(bytes("ab"))).toBe("");
    expect(http.receive(bytes("c"))).toBe(OK);
  });

  test("takes bare line feeds, which people type into nc", () => {
    expect(ask("GET / HTTP/1.1\nHost: a\n\n").output).toBe(OK);
  });

  test("refuses what is no request, and ends", () => {
    const bad = [
      "GET /\r\n\r\n",
      "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
      "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999\r\n\r\n",
      "\x16\x03\x01\x02\x00\n\n",
    ];
    for (const text of bad) {
      expect([text, statusOf(text)]).toEqual([text, 400]);
      expect(ask(text).http.ended).toBe(true);
    }
    expect(statusOf("GET / HTTP/2.0\r\n\r\n")).toBe(505);
    expect(statusOf("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")).toBe(501);
  });

  test("refuses a head above the limit as soon as it is, in one line or in many", () => {
    expect(statusOf("x".repeat(MAX_HEAD_BYTES))).toBe(Number.NaN);
    expect(statusOf("x".repeat(MAX_HEAD_BYTES + 1))).toBe(431);
    expect(statusOf(`GET / HTTP/1.1\r\n${"a: b\r\n".repeat(MAX_HEAD_BYTES / 6)}`)).toBe(431);
    const http = new EchoHttp("echo-1");
    let output = "";
    for (let sent = 0; sent <= MAX_HEAD_BYTES && output === ""; sent += 100)
      output = http.receive(bytes("y".repeat(100)));
    expect(output).toStartWith("HTTP/1.1 431");
  });

  test("answers the same however the bytes are split", () => {
    const stream = `${GET}\r\nPOST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\ncd${GET}HEAD / HTTP/1.0\n\n`;
    const whole = ask(stream).output;
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 20 })), (sizes) => {
        const http = new EchoHttp("echo-1");
        let output = "";
        let at = 0;
        for (const size of [...sizes, stream.length]) {
          output += http.receive(bytes(stream.slice(at, at + size)));
          at += size;
        }
        expect(output).toBe(whole);
        expect(http.ended).toBe(true);
      }),
    );
  });

  test("survives garbage", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 })), (chunks) => {
        const http = new EchoHttp("echo-1");
        for (const chunk of chunks) http.receive(chunk);
      }),
    );
  });

  test("takes time in proportion to what it is sent", () => {
    const http = new EchoHttp("echo-1");
    const count = 20_000;
    const startedMs = performance.now();
    expect(http.receive(bytes(GET.repeat(count))).length).toBe(count * OK.length);
    expect(performance.now() - startedMs).toBeLessThan(2000);
  });
});
