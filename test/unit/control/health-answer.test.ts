import { describe, expect, test } from "bun:test";
import { type Answer, ExpectedBytes, HttpAnswer, httpRequest } from "../../../src/control/health/answer.ts";
import { Tally } from "../../../src/control/health/tally.ts";
import { nextTurnMs, placeInInterval } from "../../../src/control/health/turns.ts";
import type { HttpProbeSpec } from "../../../src/snapshot/snapshot.ts";

const SPEC: HttpProbeSpec = { method: "GET", path: "/", host: "", statuses: [{ first: 200, last: 299 }] };

/** The verdict on a whole answer, which must be the same however it is cut; the end of the stream comes after it. */
function verdict(text: string, make: () => Answer = () => new HttpAnswer(SPEC)): string {
  const outcome = (size: number): string => {
    const answer = make();
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
    for (let at = 0; at < bytes.length; at += size) {
      const said = answer.feed(bytes.subarray(at, at + size));
      if (said !== null) return said;
    }
    return `at its end: ${answer.end()}`;
  };
  const whole = outcome(Math.max(1, text.length));
  if (text.length < 500)
    expect([outcome(1), outcome(3)].map(withoutEnd)).toEqual([withoutEnd(whole), withoutEnd(whole)]);
  return whole;
}

/** A reason may show as much of the answer as had come. */
function withoutEnd(reason: string): string {
  return reason.split('"', 1)[0] ?? "";
}

describe("an answer by HTTP", () => {
  test("is good at its end, whatever tells the end", () => {
    expect(verdict("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")).toBe("");
    expect(verdict("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")).toBe("");
    expect(verdict("HTTP/1.0 200\n\nok")).toBe("at its end: ");
    expect(verdict("HTTP/1.1 204 No Content\r\n\r\n")).toBe("");
    expect(verdict("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).toBe("");
    const head = (): Answer => new HttpAnswer({ ...SPEC, method: "HEAD" });
    expect(verdict("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", head)).toBe("");
    expect(verdict("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n")).toBe("at its end: ");
  });

  test("has the status that was expected", () => {
    expect(verdict("HTTP/1.1 503 Service Unavailable\r\n")).toBe("status 503");
    expect(verdict("HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n")).toBe("status 301");
    const statuses = [
      { first: 204, last: 204 },
      { first: 300, last: 399 },
    ];
    const other = (): Answer => new HttpAnswer({ ...SPEC, statuses });
    expect(verdict("HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n", other)).toBe("");
    expect(verdict("HTTP/1.1 200 OK\r\n\r\n", other)).toBe("status 200");
  });

  test("is told from what is none", () => {
    expect(verdict("SSH-2.0-OpenSSH\r\n")).toStartWith('the answer is no HTTP: "S');
    expect(verdict("HTTP/2.0 200 OK\r\n")).toStartWith("the answer is no HTTP");
    expect(verdict("HTTP/1.1 2000 OK\r\n")).toStartWith("the answer is no HTTP");
    expect(verdict("\x15\x03\x03\x00\x02\x02\x32")).toBe("it speaks TLS, and no HTTP without it");
    expect(verdict("")).toBe("at its end: it ended without an answer");
    expect(verdict("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")).toBe("at its end: the answer was cut off");
    expect(verdict("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok")).toBe(
      "at its end: the answer was cut off",
    );
    expect(verdict("HTTP/1.1 200 OK\r\nCont")).toStartWith("at its end: it ended after");
  });

  test("has limits", () => {
    const long = "x".repeat(9000);
    expect(verdict(`HTTP/1.1 200 ${long}`)).toBe("the head of the answer is longer than 8 KiB");
    expect(verdict(`HTTP/1.1 200 OK\r\nA: ${long}\r\n\r\n`)).toBe("the head of the answer is longer than 8 KiB");
    const answer = new HttpAnswer(SPEC);
    const chunk = new Uint8Array(64 * 1024).fill(97);
    let said = answer.feed(new TextEncoder().encode("HTTP/1.1 200 OK\r\n\r\n"));
    let chunks = 0;
    while (said === null && chunks < 100) {
      said = answer.feed(chunk);
      chunks++;
    }
    expect(said).toBe("the answer is longer than 1 MiB");
    expect(chunks).toBe(16);
  });

  test("a request asks for the end of the connection", () => {
    expect(httpRequest({ ...SPEC, method: "HEAD", path: "/up" }, "web:80")).toBe(
      "HEAD /up HTTP/1.1\r\nHost: web:80\r\nUser-Agent: bunnel-health\r\nAccept: */*\r\nConnection: close\r\n\r\n",
    );
  });
});

test("expected bytes are found wherever they stand, and looked for up to a limit", () => {
  const pong = (): Answer => new ExpectedBytes("+PONG");
  expect(verdict("+PONG\r\n", pong)).toBe("");
  expect(verdict("hello\r\n+PONG\r\n", pong)).toBe("");
  expect(verdict("-NOAUTH no\r\n", pong)).toBe('at its end: "+PONG" was expected, and it said "-NOAUTH no\\r\\n"');
  expect(verdict("", pong)).toBe("at its end: it ended without an answer");
  expect(verdict("x".repeat(9000), pong)).toStartWith('"+PONG" was expected, and it said "xxx');
  expect(verdict("\x00\xff", () => new ExpectedBytes("\xff"))).toBe("");
});

describe("a tally", () => {
  const states = (tally: Tally, probes: string): string =>
    [...probes].map((probe) => (tally.count(probe === "+") ? (tally.isUp ? "U" : "D") : ".")).join("");

  test("needs so many in a row", () => {
    expect(states(new Tally({ rise: 2, fall: 3 }, true), "--+--+---")).toBe("........D");
    expect(states(new Tally({ rise: 2, fall: 3 }, false), "-+-+-++---")).toBe("......U..D");
    expect(states(new Tally({ rise: 1, fall: 1 }, true), "-+-")).toBe("DUD");
  });

  test("the first probe decides where nothing is known, or where it is told to", () => {
    expect(states(new Tally({ rise: 2, fall: 3 }, null), "-+")).toBe("D.");
    expect(states(new Tally({ rise: 2, fall: 3 }, null), "+--")).toBe("U..");
    expect(states(new Tally({ rise: 2, fall: 3 }, false, true), "+")).toBe("U");
    expect(states(new Tally({ rise: 2, fall: 3 }, false, true), "-+")).toBe("..");
  });
});

describe("turns", () => {
  test("places of 5,000 endpoints fill every fiftieth of the interval about alike", () => {
    const shares = new Array<number>(50).fill(0);
    for (let i = 0; i < 5000; i++) {
      const share = Math.floor(placeInInterval(`web 10.0.${i >> 8}.${i & 255}:80`) * 50);
      shares[share] = (shares[share] ?? 0) + 1;
    }
    expect(Math.min(...shares)).toBeGreaterThan(60);
    expect(Math.max(...shares)).toBeLessThan(145);
  });

  test("the next turn is the first one after a moment", () => {
    const at = { place: 0.25, intervalMs: 1000 };
    expect(nextTurnMs(0, at)).toBe(250);
    expect(nextTurnMs(249, at)).toBe(250);
    expect(nextTurnMs(250, at)).toBe(1250);
    expect(nextTurnMs(12_300, at)).toBe(13_250);
  });
});
