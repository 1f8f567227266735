import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { concat, hex, isAscii, latin1, Reader } from "../../../src/base/bytes.ts";

describe("Reader", () => {
  test("reads big-endian integers in order", () => {
    const reader = new Reader(Uint8Array.of(0xff, 0x01, 0x02, 0xff, 0x00, 0x01, 0xfe, 0xdc, 0xba, 0x98));
    expect(reader.u8()).toBe(0xff);
    expect(reader.u16()).toBe(0x0102);
    expect(reader.u24()).toBe(0xff0001);
    expect(reader.u32()).toBe(0xfedcba98);
    expect(reader.left).toBe(0);
    expect(reader.short).toBe(false);
  });

  test("what is not there reads as zero or empty, stays short, and leaves nothing", () => {
    const reader = new Reader(Uint8Array.of(1, 2, 3));
    reader.u8();
    expect(reader.u32()).toBe(0);
    expect(reader.short).toBe(true);
    expect(reader.left).toBe(0);
    expect(reader.u8()).toBe(0);
    expect(reader.view(1).length).toBe(0);
    expect(reader.text(1)).toBe("");
    expect(reader.sub(0).short).toBe(true);
  });

  test("a loop over what is left ends on a short tail", () => {
    const reader = new Reader(Uint8Array.of(1, 2, 3));
    let rounds = 0;
    while (reader.left > 0 && rounds < 10) {
      reader.u16();
      rounds++;
    }
    expect(rounds).toBe(2);
    expect(reader.short).toBe(true);
  });

  test("the cursor only moves forward", () => {
    for (const length of [-1, Number.NaN]) {
      const reader = new Reader(Uint8Array.of(1, 2, 3), 2);
      reader.skip(length);
      expect(reader.short).toBe(true);
    }
  });

  test("a sub-reader cannot read past its range, and its parent goes on after it", () => {
    const reader = new Reader(Uint8Array.of(1, 2, 3, 4));
    const sub = reader.sub(2);
    expect(sub.u16()).toBe(0x0102);
    expect(sub.u8()).toBe(0);
    expect(sub.short).toBe(true);
    expect(reader.u16()).toBe(0x0304);
    expect(reader.short).toBe(false);
  });

  test("a view shares memory with the source", () => {
    const bytes = Uint8Array.of(1, 2, 3);
    new Reader(bytes).view(2)[0] = 9;
    expect(bytes[0]).toBe(9);
  });

  test("refuses a range that does not lie within the bytes", () => {
    expect(() => new Reader(new Uint8Array(3), 0, 4)).toThrow();
    expect(() => new Reader(new Uint8Array(3), 2, 1)).toThrow();
  });
});

test("latin1 gives each byte the character of its number, also where windows-1252 differs", () => {
  const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  expect([...latin1(all)].map((character) => character.charCodeAt(0))).toEqual([...all]);
  fc.assert(fc.property(fc.uint8Array({ max: 0x7f }), (bytes) => latin1(bytes) === String.fromCharCode(...bytes)));
});

test("isAscii", () => {
  expect(isAscii(Uint8Array.of())).toBe(true);
  expect(isAscii(Uint8Array.of(0, 0x7f))).toBe(true);
  expect(isAscii(Uint8Array.of(0, 0x80))).toBe(false);
});

test("concat and hex", () => {
  const first = Uint8Array.of(1, 2);
  expect(hex(concat(first, Uint8Array.of(0xab)))).toBe("0102ab");
  expect(concat(first, new Uint8Array(0))).toBe(first);
  expect(concat(new Uint8Array(0), first)).toBe(first);
  expect(hex(new Uint8Array(0))).toBe("");
});
