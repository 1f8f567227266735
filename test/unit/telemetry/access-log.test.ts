import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Clock } from "../../../src/base/clock.ts";
import {
  AccessLog,
  type AccessLogOptions,
  type CloseRecord,
  formatJson,
  formatText,
} from "../../../src/telemetry/access-log.ts";
import { closeRecord } from "../../support/close-record.ts";

const FULL = closeRecord();

const EMPTY: CloseRecord = {
  ...FULL,
  route: "",
  backend: "",
  endpoint: "",
  attempts: 0,
  downstreamDirect: FULL.downstream,
  sni: "",
  alpn: "",
  identity: null,
  peerFingerprint: "",
  peerSpkiFingerprint: "",
  tlsVersion: "",
  tlsCipher: "",
  bytesUp: 0,
  bytesDown: 0,
  handshakeMs: 0,
  connectMs: 0,
  closeReason: "source_denied",
  closeSide: "proxy",
  phase: "accept",
  termination: "PR",
  detail: "not in allow_sources",
  policy: "",
  policyRule: "",
};

const FAILED: CloseRecord = {
  ...FULL,
  endpoint: "",
  connectMs: 3000.6,
  closeReason: "connect_timeout",
  closeSide: "upstream",
  phase: "connect",
  termination: "sC",
  error: "ETIMEDOUT",
  detail: "10.0.0.2:5432: ETIMEDOUT",
  tried: [
    { endpoint: "10.0.0.1:5432", result: "ECONNREFUSED", ms: 0.1234 },
    { endpoint: "10.0.0.2:5432", result: "ETIMEDOUT", ms: 3000 },
  ],
};

describe("formatJson", () => {
  test("of a whole connection", () => {
    expect(formatJson(FULL)).toBe(
      `{"level":30,"time":1700000000123,"msg":"connection","id":"9f3a21bc-7","listener":"edge","route":"db","backend":"db",` +
        `"endpoint":"10.0.0.1:5432","attempts":2,"downstream":"192.0.2.7:50000","downstream_direct":"10.0.0.9:4711",` +
        `"local":"10.0.0.2:8443","sni":"a.db.internal","alpn":"postgresql",` +
        `"identity":{"uri":["spiffe://prod/web"],"dns":["web.internal"],"cn":["web"]},"peer_fingerprint":"${"ab".repeat(32)}",` +
        `"peer_spki_fingerprint":"${"cd".repeat(32)}",` +
        `"tls_version":"TLSv1.3","tls_cipher":"TLS_AES_128_GCM_SHA256","tls_resumed":false,"handshake_ms":3.25,` +
        `"connect_ms":0.5,"bytes_up":12,"bytes_down":3456,"duration_ms":1234.568,"close_reason":"completed",` +
        `"close_side":"downstream","phase":"relay","termination":"--","policy":"db-clients","policy_rule":"allow[0]"}\n`,
    );
  });

  test("leaves out what says nothing of this connection", () => {
    expect(JSON.parse(formatJson(EMPTY))).toEqual({
      level: 40,
      time: 1_700_000_000_123,
      msg: "connection",
      id: "9f3a21bc-7",
      listener: "edge",
      downstream: "192.0.2.7:50000",
      local: "10.0.0.2:8443",
      bytes_up: 0,
      bytes_down: 0,
      duration_ms: 1234.568,
      close_reason: "source_denied",
      close_side: "proxy",
      phase: "accept",
      termination: "PR",
      detail: "not in allow_sources",
    });
  });

  test("says which endpoints were tried, with what result, and for how long", () => {
    const { error, tried } = JSON.parse(formatJson(FAILED));
    expect(error).toBe("ETIMEDOUT");
    expect(tried).toEqual([
      { endpoint: "10.0.0.1:5432", result: "ECONNREFUSED", ms: 0.123 },
      { endpoint: "10.0.0.2:5432", result: "ETIMEDOUT", ms: 3000 },
    ]);
  });

  test("is of level warn when the connection failed or another endpoint had to take it, else info", () => {
    const levels = [FULL, { ...FULL, closeReason: "idle_timeout" } as const, { ...FULL, tried: FAILED.tried }, FAILED];
    expect(levels.map((record) => JSON.parse(formatJson(record)).level)).toEqual([30, 30, 40, 40]);
  });

  test("names its fields as the specification does, all but those of later issues", () => {
    const record = { ...FAILED, endpoint: "10.0.0.2:5432", detail: "x", refusedCertificate: "subject CN=x" };
    const names = Object.keys(JSON.parse(formatJson(record)));
    for (const name of SPECIFIED) expect(names).toContain(name);
  });

  test("whatever a peer can bring into a text, a line stays one line of JSON with that text in it", () => {
    const keys = TEXT_FIELDS.map(([key]) => key);
    fc.assert(
      fc.property(fc.constantFrom(...keys), hostileText, (key, value) => {
        const line = formatJson({ ...FULL, [key]: value });
        expect(line.indexOf("\n")).toBe(line.length - 1);
        const field = TEXT_FIELDS.find(([name]) => name === key)?.[1] ?? "";
        expect(JSON.parse(line)[field]).toBe(value === "" ? undefined : value);
      }),
      { numRuns: 2000 },
    );
  });

  test("the same of an identity", () => {
    fc.assert(
      fc.property(hostileText, (value) => {
        const line = formatJson({ ...FULL, identity: { uris: [value], dnsNames: [value], commonNames: [value] } });
        expect(line.indexOf("\n")).toBe(line.length - 1);
        expect(JSON.parse(line).identity).toEqual({ uri: [value], dns: [value], cn: [value] });
      }),
    );
  });
});

describe("formatText", () => {
  test("of a whole connection", () => {
    expect(formatText(FULL)).toBe(
      "192.0.2.7:50000 [2023-11-14T22:13:20.123Z] edge db/10.0.0.1:5432 1/1235 12/3456 -- completed downstream " +
        "relay uid=9f3a21bc-7 TLSv1.3 sni=a.db.internal id=spiffe://prod/web rule=db-clients/allow[0]\n",
    );
  });

  test("of one that no endpoint took", () => {
    expect(formatText(FAILED)).toBe(
      "192.0.2.7:50000 [2023-11-14T22:13:20.123Z] edge db/<NOSRV> 3001/1235 12/3456 sC connect_timeout upstream connect " +
        "uid=9f3a21bc-7 TLSv1.3 sni=a.db.internal id=spiffe://prod/web rule=db-clients/allow[0] error=ETIMEDOUT " +
        'tried=10.0.0.1:5432:ECONNREFUSED/0,10.0.0.2:5432:ETIMEDOUT/3000 "10.0.0.2:5432: ETIMEDOUT"\n',
    );
  });

  test("of one that came nowhere", () => {
    expect(formatText(EMPTY)).toBe(
      "192.0.2.7:50000 [2023-11-14T22:13:20.123Z] edge <NOSRV>/<NOSRV> 0/1235 0/0 PR source_denied proxy accept uid=9f3a21bc-7 " +
        '"not in allow_sources"\n',
    );
  });

  test("whatever a peer can bring into a text, it stays one line of printable characters", () => {
    fc.assert(
      fc.property(hostileText, (value) => {
        const identity = { uris: [value], dnsNames: [], commonNames: [] };
        expect(formatText({ ...FULL, sni: value, identity })).toMatch(/^[ -~]+\n$/);
      }),
      { numRuns: 2000 },
    );
  });

  test("a detail of several lines stays on one", () => {
    expect(formatText({ ...FULL, detail: "a\nb\0" })).toMatch(/^[ -~]+\n$/);
  });

  test("a detail cannot close its own quotes", () => {
    const line = formatText({ ...FULL, detail: 'a" "b\\', refusedCertificate: 'subject "c"' });
    expect(line.split('"')).toHaveLength(3);
  });
});

describe("AccessLog", () => {
  test("does not let a line wait for company for longer than a fifth of a second", () => {
    const written: string[] = [];
    const clock = new Clock();
    const log = new AccessLog({ write: (lines) => written.push(lines) }, clock, { format: "json" });
    log.write(FULL);
    clock.advance(150);
    log.write(FULL);
    expect(written).toEqual([]);
    clock.advance(225);
    expect(written.join("").split("\n")).toHaveLength(3);
    expect(clock.armed).toBe(0);
  });

  test("writes all that did not go well, and of the rest as much as it is told to", () => {
    const written = (options: Partial<AccessLogOptions>): [well: number, warned: number] => {
      let text = "";
      const sink = {
        write(lines: string): void {
          text += lines;
        },
      };
      // 0, 0.1, …, 0.9, and again.
      let calls = 0;
      const random = (): number => (calls++ % 10) / 10;
      for (const format of ["json", "text"] as const) {
        const log = new AccessLog(sink, new Clock(), { format, random, ...options });
        for (let count = 0; count < 100; count++) log.write(FULL);
        for (let count = 0; count < 10; count++) log.write(FAILED);
        log.flush();
      }
      const lines = text.split("\n").slice(0, -1);
      const well = lines.filter((line) => line.includes("completed")).length;
      return [well, lines.length - well];
    };
    expect(written({})).toEqual([200, 20]);
    expect(written({ sample: 0.1 })).toEqual([20, 20]);
    expect(written({ sample: 0 })).toEqual([0, 20]);
    expect(written({ level: "warn" })).toEqual([0, 20]);
  });

  test("hands lines on in batches, whole, in order and once", () => {
    const written: string[] = [];
    const log = new AccessLog({ write: (lines) => written.push(lines) }, new Clock(), { format: "json" });
    for (let id = 0; id < 200; id++) log.write({ ...FULL, id: String(id) });
    expect(written.length).toBeGreaterThan(0);
    expect(written.length).toBeLessThan(20);
    for (const lines of written) expect(lines).toEndWith("}\n");
    log.flush();
    log.flush();
    const ids = written
      .join("")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).id);
    expect(ids).toEqual(Array.from({ length: 200 }, (_, id) => String(id)));
  });
});

/** Texts of a record, and what they are called in the line. */
const TEXT_FIELDS = [
  ["sni", "sni"],
  ["alpn", "alpn"],
  ["detail", "detail"],
  ["refusedCertificate", "refused_certificate"],
  ["listener", "listener"],
  ["endpoint", "endpoint"],
  ["policyRule", "policy_rule"],
] as const;

const hostileText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.constantFrom(
    '"',
    "\\",
    '","close_reason":"completed',
    "\n{}",
    "\r\n",
    "\0",
    "\x7f",
    "\x1b[2J",
    "\u2028",
    "\ud800",
    "é",
  ),
  fc.string({ unit: fc.constantFrom('"', "\\", "\n", "\0", "a", ",", "{", "}") }),
);

/** From SPEC.md, "Access log": the fields that need no process split. */
const SPECIFIED = (
  "time level msg id listener route backend endpoint attempts downstream downstream_direct local sni alpn identity " +
  "peer_fingerprint peer_spki_fingerprint tls_version tls_cipher tls_resumed bytes_up bytes_down duration_ms handshake_ms connect_ms close_reason phase error tried " +
  "close_side termination detail policy policy_rule"
).split(" ");
