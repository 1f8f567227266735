import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { CLIENT_HELLO_LIMIT_BYTES, type ClientHello, parseClientHello } from "../../../src/protocol/client-hello.ts";

const FIXTURES = new URL("./fixtures/", import.meta.url);
const CAPTURED = new Map(
  readdirSync(FIXTURES)
    .filter((file) => file.endsWith(".hex"))
    .map((file) => [file.slice(0, -4), fromHex(readFileSync(new URL(file, FIXTURES), "utf8"))] as const),
);

describe("captured hellos", () => {
  test.each([
    ["openssl-tls13", "db.internal", ["h2", "http/1.1"]],
    ["openssl-tls12", "db.internal", []],
    ["openssl-no-sni", "", []],
    ["openssl-address", "", []],
    ["curl", "db.internal", ["h2", "http/1.1"]],
    ["curl-mixed-case", "db.internal", ["http/1.1"]],
    ["curl-address", "", ["h2", "http/1.1"]],
    ["node", "db.internal", ["h2"]],
    ["python", "db.internal", []],
    ["bun-fetch", "", ["http/1.1"]],
    ["bun-connect", "db.internal", ["h2", "http/1.1"]],
  ])("%s asks for %p, %p", (name, sni, alpn) => {
    expect(parseClientHello(captured(name))).toEqual({ kind: "hello", sni, alpn });
  });

  test("an address in server_name, which RFC 6066 forbids and Bun sends, is no name", () => {
    expect(parseClientHello(captured("bun-connect-no-name"))).toMatchObject({ kind: "hello", sni: "" });
  });

  test("Bun's hello holds a post-quantum key share", () => {
    expect(captured("bun-connect").length).toBeGreaterThan(1184);
  });

  test.each([...CAPTURED.keys()])("every prefix of %s is incomplete, and what follows it is not looked at", (name) => {
    const bytes = captured(name);
    for (let length = 0; length < bytes.length; length++) {
      const answer = parseClientHello(bytes.subarray(0, length));
      if (answer.kind !== "incomplete") throw new Error(`${length} bytes: ${JSON.stringify(answer)}`);
      expect(answer.atLeastBytes).toBeGreaterThan(length);
      expect(answer.atLeastBytes).toBeLessThanOrEqual(bytes.length);
    }
    const followed = new Uint8Array(CLIENT_HELLO_LIMIT_BYTES * 2).fill(0xee);
    followed.set(bytes);
    expect(parseClientHello(followed)).toEqual(parseClientHello(bytes));
  });

  test.each([...CAPTURED.keys()])("every split of %s into two records gives the same answer", (name) => {
    const bytes = captured(name);
    const expected = parseClientHello(bytes);
    const message = bytes.subarray(5);
    for (let cut = 1; cut < message.length; cut++) expect(parseClientHello(records(message, [cut]))).toEqual(expected);
  });
});

describe("records", () => {
  const split = fc.tuple(fc.constantFrom(...CAPTURED.keys()), fc.array(fc.nat(1500), { maxLength: 40 }));

  test("any split into records gives the same answer, and so do its prefixes", () => {
    fc.assert(
      fc.property(split, fc.nat(), ([name, cuts], at) => {
        const bytes = captured(name);
        const cut = records(bytes.subarray(5), cuts);
        expect(parseClientHello(cut)).toEqual(parseClientHello(bytes));
        expect(parseClientHello(cut.subarray(0, at % cut.length)).kind).toBe("incomplete");
      }),
    );
  });

  test("records of one byte each", () => {
    const bytes = captured("bun-connect");
    const message = bytes.subarray(5);
    const cut = records(
      message,
      Array.from({ length: message.length - 1 }, (_, index) => index + 1),
    );
    expect(cut.length).toBe(message.length * 6);
    expect(parseClientHello(cut)).toEqual(parseClientHello(bytes));
  });

  test("another record type, an empty record, too long a record or another version between the pieces is malformed", () => {
    const message = captured("curl").subarray(5);
    const good = records(message, [100, 200]);
    const second = 5 + 100;
    const third = second + 5 + 100;
    for (const [offset, ...bytes] of [
      [second, 20],
      [second, 21],
      [second, 23],
      [third, 0x47],
      [second + 1, 2],
      [third + 1, 0xfe],
      [second + 3, 0, 0],
      [second + 3, 0x40, 1],
      [second + 3, 0xff, 0xff],
      [3, 0, 0],
      [3, 0x40, 1],
    ] as const) {
      const bad = good.slice();
      bad.set(bytes, offset);
      expect(parseClientHello(bad).kind).toBe("malformed");
      expect(parseClientHello(bad.subarray(0, offset)).kind).toBe("incomplete");
      expect(parseClientHello(bad.subarray(0, offset + bytes.length)).kind).toBe("malformed");
    }
  });

  test("the record's minor version does not matter", () => {
    const bytes = captured("curl").slice();
    for (const minor of [0, 1, 2, 3, 4, 0xff]) {
      bytes[2] = minor;
      expect(parseClientHello(bytes).kind).toBe("hello");
    }
  });

  test("further messages in the record of the hello are not looked at", () => {
    const message = captured("curl").subarray(5);
    const longer = new Uint8Array(message.length + 100).fill(0xee);
    longer.set(message);
    expect(parseClientHello(records(longer, []))).toEqual(parseClientHello(captured("curl")));
    expect(parseClientHello(records(longer, [300]))).toEqual(parseClientHello(captured("curl")));
  });
});

describe("the limit", () => {
  test("a hello of exactly the limit is read, one byte more is refused as soon as its length is known", () => {
    const room = CLIENT_HELLO_LIMIT_BYTES - hello({ extensions: [serverName("a.b"), [21, []]] }).length;
    const largest = hello({ extensions: [serverName("a.b"), [21, new Array<number>(room).fill(0)]] });
    expect(largest.length).toBe(CLIENT_HELLO_LIMIT_BYTES);
    expect(parseClientHello(largest)).toEqual({ kind: "hello", sni: "a.b", alpn: [] });
    expect(parseClientHello(largest.subarray(0, -1))).toEqual({ kind: "incomplete", atLeastBytes: largest.length });
    const tooLarge = hello({ extensions: [serverName("a.b"), [21, new Array<number>(room + 1).fill(0)]] });
    expect(parseClientHello(tooLarge).kind).toBe("malformed");
    expect(parseClientHello(tooLarge.subarray(0, 8)).kind).toBe("incomplete");
    expect(parseClientHello(tooLarge.subarray(0, 9)).kind).toBe("malformed");
    // The headers of more records count too.
    expect(parseClientHello(records(largest.subarray(5), [1])).kind).toBe("malformed");
  });

  test("a hello that never ends is refused at the limit", () => {
    // Records of one byte, of a message that says it is 3,000 bytes long.
    const message = new Uint8Array(3004);
    message.set([1, 0, 0x0b, 0xb8]);
    const endless = records(
      message,
      Array.from({ length: 3003 }, (_, index) => index + 1),
    );
    expect(parseClientHello(endless.subarray(0, CLIENT_HELLO_LIMIT_BYTES)).kind).toBe("malformed");
    expect(parseClientHello(endless).kind).toBe("malformed");
  });

  test("a hello that comes byte by byte is asked about a few times only", () => {
    const message = captured("bun-connect").subarray(5);
    for (const [cuts, mostCalls] of [
      [[], 12],
      [Array.from({ length: message.length - 1 }, (_, index) => index + 1), 80],
    ] as const) {
      const bytes = records(message, cuts);
      let calls = 0;
      for (let length = 0; calls < 1000; ) {
        const answer = parseClientHello(bytes.subarray(0, length));
        calls++;
        if (answer.kind !== "incomplete") {
          expect(answer.kind).toBe("hello");
          break;
        }
        length = answer.atLeastBytes;
      }
      expect(calls).toBeLessThanOrEqual(mostCalls);
    }
  });
});

describe("what is not TLS", () => {
  test.each([
    ["GET / HTTP/1.1\r\n"],
    ["SSH-2.0-OpenSSH_9.2\r\n"],
    ["PROXY TCP4 "],
    ["\x80\x2e\x01\x03\x01"], // SSLv2
    ["\x16\xfe\xfd\x00"], // DTLS
    ["\x15\x03\x01\x00\x02\x02\x28"], // an alert
    ["\x17\x03\x03"],
    ["\0"],
  ])("%p", (text) => {
    expect(parseClientHello(ascii(text))).toEqual({ kind: "not_tls" });
    const prefix = parseClientHello(ascii(text.slice(0, text.startsWith("\x16") ? 2 : 1)));
    expect(prefix).toEqual({ kind: "not_tls" });
  });

  test("nothing yet, or the first byte of TLS, is incomplete", () => {
    expect(parseClientHello(new Uint8Array(0))).toEqual({ kind: "incomplete", atLeastBytes: 1 });
    expect(parseClientHello(Uint8Array.of(22))).toEqual({ kind: "incomplete", atLeastBytes: 2 });
  });

  test("another handshake message is malformed, known from its first byte", () => {
    expect(parseClientHello(Uint8Array.of(22, 3, 1, 0, 10, 2)).kind).toBe("malformed");
  });
});

describe("server_name", () => {
  test.each([
    ["db.internal", "db.internal"],
    ["DB.Internal", "db.internal"],
    ["db.internal.", "db.internal"],
    ["localhost", "localhost"],
    ["_srv.db_1.internal", "_srv.db_1.internal"],
    ["xn--bcher-kva.example", "xn--bcher-kva.example"],
    ["1.example", "1.example"],
    ["1.2.3.4a", "1.2.3.4a"],
    [`${"a".repeat(63)}.b`, `${"a".repeat(63)}.b`],
    [longName(253), longName(253)],
  ])("%p is the name %p", (text, sni) => {
    expect(parseClientHello(hello({ extensions: [serverName(text)] }))).toEqual({ kind: "hello", sni, alpn: [] });
  });

  test.each([
    ...[
      "",
      ".",
      "..",
      ".a",
      "a..b",
      "a..",
      "-a.b",
      "a-.b",
      "a.-",
      "a b",
      "a\0.b",
      "a\n.b",
      "*.a.b",
      "a/b",
      "a:1",
      "ä.b",
    ],
    ...["1.2.3", "127.1", "12345", "[::1]", "a,b", "a@b", `${"a".repeat(64)}.b`, longName(254)],
  ])("%p is malformed", (text) => {
    expect(parseClientHello(hello({ extensions: [serverName(text)] })).kind).toBe("malformed");
  });

  test.each(["1.2.3.4", "::1", "2001:db8::1"])("%p, an address, is no name", (text) => {
    expect(parseClientHello(hello({ extensions: [serverName(text)] }))).toMatchObject({ kind: "hello", sni: "" });
  });

  test("the reason repeats nothing that the client wrote", () => {
    for (const text of ["evil\nname", "evil name", "1.2.3"]) {
      const answer = parseClientHello(hello({ extensions: [serverName(text)] }));
      if (answer.kind !== "malformed") throw new Error("expected malformed");
      expect(answer.reason).toMatch(/^[ -~]+$/);
      expect(answer.reason).not.toContain(text);
      expect(answer.reason).not.toContain("evil");
    }
  });

  test.each([
    ["no list", []],
    ["an empty list", [0, 0]],
    ["a list longer than the extension", [0, 9, 0, 0, 1, 0x61]],
    ["a list shorter than the extension", [0, 4, 0, 0, 1, 0x61, 0]],
    ["a name longer than the list", [0, 4, 0, 0, 2, 0x61]],
    ["another type of name", [0, 4, 1, 0, 1, 0x61]],
    ["two names", [0, 8, 0, 0, 1, 0x61, 0, 0, 1, 0x62]],
    ["a name and one of another type", [0, 8, 0, 0, 1, 0x61, 1, 0, 1, 0x62]],
    ["a name and a byte", [0, 5, 0, 0, 1, 0x61, 0]],
  ])("%s is malformed", (_, data) => {
    expect(parseClientHello(hello({ extensions: [[0, data]] })).kind).toBe("malformed");
  });
});

describe("alpn", () => {
  test("keeps opaque bytes and GREASE as they are", () => {
    const alpn = [16, [0, 9, 2, 0x0a, 0x0a, 2, 0x68, 0x32, 2, 0x00, 0xff]] as const;
    const answer = parseClientHello(hello({ extensions: [alpn] }));
    expect(answer).toEqual({ kind: "hello", sni: "", alpn: ["\x0a\x0a", "h2", "\x00\xff"] });
  });

  test.each([
    ["no list", []],
    ["an empty list", [0, 0]],
    ["an empty protocol", [0, 1, 0]],
    ["an empty protocol after another", [0, 4, 2, 0x68, 0x32, 0]],
    ["a protocol longer than the list", [0, 3, 3, 0x68, 0x32]],
    ["a list shorter than the extension", [0, 3, 2, 0x68, 0x32, 0]],
  ])("%s is malformed", (_, data) => {
    expect(parseClientHello(hello({ extensions: [[16, data]] })).kind).toBe("malformed");
  });
});

describe("the message", () => {
  test("GREASE suites and extensions are passed over", () => {
    const extensions: Extension[] = [[0x0a0a, []], serverName("a.b"), [0xfafa, [0]], [0x002b, [3, 0x7a, 0x7a, 3]]];
    expect(parseClientHello(hello({ suites: [0x3a3a, 0x1301], extensions }))).toEqual({
      kind: "hello",
      sni: "a.b",
      alpn: [],
    });
  });

  test("no extensions at all is a hello without names (TLS 1.2)", () => {
    expect(parseClientHello(hello({ extensions: null }))).toEqual({ kind: "hello", sni: "", alpn: [] });
    expect(parseClientHello(hello({ extensions: [] }))).toEqual({ kind: "hello", sni: "", alpn: [] });
  });

  test("an extension that appears twice is malformed, whichever it is", () => {
    for (const twice of [serverName("a.b"), [16, [0, 3, 2, 0x68, 0x32]], [51, []], [0x0a0a, []]] as Extension[])
      expect(parseClientHello(hello({ extensions: [twice, [1, []], twice] })).kind).toBe("malformed");
  });

  test.each([
    ["another version", { version: 0xfefd }],
    ["SSL 2", { version: 0x0200 }],
    ["a session id of 33 bytes", { sessionIdLength: 33 }],
    ["no suites", { suites: [] }],
    ["an odd list of suites", { trimSuites: 1 }],
    ["no compression methods", { compressions: [] }],
    ["bytes after the extensions", { tail: [0] }],
    ["extensions longer than the message", { trim: 1 }],
    ["a message that ends within the random", { keep: 20 }],
    ["a message of no bytes", { keep: 0 }],
  ] as const)("%s is malformed", (_, options) => {
    expect(parseClientHello(hello({ extensions: [serverName("a.b")], ...options })).kind).toBe("malformed");
  });
});

describe("fuzz", () => {
  test("mutated hellos never throw and never name what is no host name", () => {
    const mutation = fc.record({ at: fc.nat(1600), bytes: fc.uint8Array({ minLength: 1, maxLength: 4 }) });
    const input = fc.tuple(fc.constantFrom(...CAPTURED.keys()), fc.array(mutation, { minLength: 1, maxLength: 6 }));
    fc.assert(
      fc.property(input, fc.nat(2000), ([name, mutations], length) => {
        const bytes = captured(name).slice();
        for (const { at, bytes: change } of mutations) bytes.set(change, at % (bytes.length - 4));
        judge(parseClientHello(bytes));
        judge(parseClientHello(bytes.subarray(0, length)));
      }),
      { numRuns: 5000 },
    );
  });

  test("mutations within server_name", () => {
    const bytes = captured("openssl-tls13");
    const at = Buffer.from(bytes).indexOf("db.internal");
    fc.assert(
      fc.property(
        fc.integer({ min: -9, max: 12 }),
        fc.uint8Array({ minLength: 1, maxLength: 12 }),
        (offset, change) => {
          const mutated = bytes.slice();
          mutated.set(change, at + offset);
          judge(parseClientHello(mutated));
        },
      ),
      { numRuns: 5000 },
    );
  });

  test("arbitrary bytes after a TLS record header never throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (tail) => {
        judge(parseClientHello(tail));
        judge(parseClientHello(Uint8Array.of(22, 3, 1, 0, 200, 1, 0, 0, 190, 3, 3, ...tail)));
      }),
      { numRuns: 2000 },
    );
  });
});

/** Whatever was asked, this much holds of the answer. */
function judge(answer: ClientHello): void {
  if (answer.kind === "incomplete") expect(answer.atLeastBytes).toBeLessThanOrEqual(CLIENT_HELLO_LIMIT_BYTES);
  if (answer.kind !== "hello") return;
  expect(answer.sni).toMatch(
    /^$|^(?=.{1,253}$)(?!.*(^|\.)\d+$)(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*$/,
  );
  for (const protocol of answer.alpn) expect(protocol).not.toBe("");
}

function captured(name: string): Uint8Array {
  const bytes = CAPTURED.get(name);
  if (bytes === undefined) throw new Error(`no fixture ${name}`);
  return bytes;
}

/** The message in records that end at the given offsets (in any order, wrapped to its length) and at its end. */
function records(message: Uint8Array, cuts: readonly number[]): Uint8Array {
  const ends = [...new Set([...cuts.map((cut) => cut % message.length), message.length])].sort((a, b) => a - b);
  const out: number[] = [];
  let start = 0;
  for (const end of ends.filter((end) => end > 0)) {
    out.push(22, 3, 1, ...u16(end - start), ...message.subarray(start, end));
    start = end;
  }
  return Uint8Array.from(out);
}

type Extension = readonly [type: number, data: readonly number[]];

interface HelloOptions {
  readonly version?: number;
  readonly sessionIdLength?: number;
  readonly suites?: readonly number[];
  readonly compressions?: readonly number[];
  readonly extensions: readonly Extension[] | null;
  readonly trimSuites?: number;
  readonly tail?: readonly number[];
  /** Bytes to cut off the end, the outer lengths telling the truth. */
  readonly trim?: number;
  readonly keep?: number;
}

/** A hello in one record, well formed but for what the options ask. */
function hello(options: HelloOptions): Uint8Array {
  const suites = (options.suites ?? [0x1301]).flatMap(u16).slice(options.trimSuites ?? 0);
  const sessionId = new Array<number>(options.sessionIdLength ?? 32).fill(7);
  const compressions = options.compressions ?? [0];
  const extensions = options.extensions?.flatMap(([type, data]) => [...u16(type), ...u16(data.length), ...data]);
  let body = [
    ...u16(options.version ?? 0x0303),
    ...new Array<number>(32).fill(9),
    ...[sessionId.length, ...sessionId],
    ...[...u16(suites.length), ...suites],
    ...[compressions.length, ...compressions],
    ...(extensions === undefined ? [] : [...u16(extensions.length), ...extensions]),
    ...(options.tail ?? []),
  ];
  body = body.slice(0, options.keep ?? body.length - (options.trim ?? 0));
  return records(Uint8Array.of(1, 0, ...u16(body.length), ...body), []);
}

function serverName(text: string): Extension {
  const name = [...Buffer.from(text, "latin1")];
  return [0, [...u16(name.length + 3), 0, ...u16(name.length), ...name]];
}

function longName(length: number): string {
  return `${"a".repeat(60)}.${"b".repeat(60)}.${"c".repeat(60)}.${"d".repeat(60)}.${"e".repeat(length - 244)}`;
}

function u16(value: number): number[] {
  return [value >> 8, value & 0xff];
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, "latin1"));
}

function fromHex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replace(/\s/g, ""), "hex"));
}
