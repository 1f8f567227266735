// The framing that tells a cut TLS stream from a finished one: its answer must not depend on how the bytes were cut into chunks.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { TlsRecords } from "../../../src/runtime/node/tls-records.ts";

const HANDSHAKE = 22;
const ALERT = 21;
const APPLICATION_DATA = 23;

function record(type: number, length: number): Buffer {
  return Buffer.concat([Uint8Array.of(type, 3, 3, length >> 8, length & 0xff), Buffer.alloc(length, type)]);
}

function endsInAlert(...chunks: Uint8Array[]): boolean {
  const records = new TlsRecords();
  for (const chunk of chunks) records.feed(chunk);
  return records.endsInAlert;
}

describe("endsInAlert", () => {
  test("is false before anything has come", () => {
    expect(endsInAlert()).toBe(false);
    expect(endsInAlert(new Uint8Array(0))).toBe(false);
  });

  test("is true after a TLS 1.2 alert, plain or encrypted", () => {
    expect(endsInAlert(record(HANDSHAKE, 200), record(ALERT, 2))).toBe(true);
    expect(endsInAlert(record(APPLICATION_DATA, 4000), record(ALERT, 26))).toBe(true);
  });

  test("is true after a TLS 1.3 alert, whose length gives it away", () => {
    expect(endsInAlert(record(APPLICATION_DATA, 4000), record(APPLICATION_DATA, 19))).toBe(true);
  });

  test("is false after application data of any other length", () => {
    for (const length of [0, 17, 18, 20, 256 + 19, 16_640]) {
      expect(endsInAlert(record(ALERT, 2), record(APPLICATION_DATA, length))).toBe(false);
    }
  });

  test("is false after a handshake record of an alert's length", () => {
    expect(endsInAlert(record(HANDSHAKE, 19))).toBe(false);
  });

  test("is false in the middle of the alert, and of what follows it", () => {
    const alert = record(ALERT, 26);
    for (let cut = 0; cut < alert.length; cut++) expect(endsInAlert(alert.subarray(0, cut))).toBe(false);
    for (let cut = 1; cut < 5; cut++)
      expect(endsInAlert(alert, record(APPLICATION_DATA, 100).subarray(0, cut))).toBe(false);
  });

  test("is true again when one alert follows another", () => {
    expect(endsInAlert(record(ALERT, 2), record(ALERT, 2))).toBe(true);
  });

  test("an empty record is a whole one", () => {
    expect(endsInAlert(record(APPLICATION_DATA, 0), record(ALERT, 2))).toBe(true);
    expect(endsInAlert(record(ALERT, 2), record(APPLICATION_DATA, 0))).toBe(false);
  });

  test("the answer does not depend on how the stream is cut into chunks", () => {
    const types = fc.constantFrom(HANDSHAKE, ALERT, APPLICATION_DATA);
    const lengths = fc.oneof(fc.nat(40), fc.constant(19), fc.nat(2_000));
    const streams = fc.array(fc.tuple(types, lengths), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(streams, fc.array(fc.nat(50), { maxLength: 40 }), (specification, sizes) => {
        const stream = Buffer.concat(specification.map(([type, length]) => record(type, length)));
        const [type, length] = specification.at(-1) ?? [0, 0];
        const expected = type === ALERT || (type === APPLICATION_DATA && length === 19);
        const chunks: Uint8Array[] = [];
        let at = 0;
        for (const size of sizes) {
          chunks.push(stream.subarray(at, at + size));
          at = Math.min(stream.length, at + size);
        }
        chunks.push(stream.subarray(at));
        expect(endsInAlert(...chunks)).toBe(expected);
        expect(endsInAlert(...Array.from(stream, (byte) => Uint8Array.of(byte)))).toBe(expected);
      }),
    );
  });

  test("any bytes at all are followed without an error", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }), (chunks) => {
        expect(endsInAlert(...chunks)).toBe(endsInAlert(Buffer.concat(chunks)));
      }),
    );
  });
});
