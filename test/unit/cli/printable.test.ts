import { expect, test } from "bun:test";
import { clipped, columnsOf, folded, printable, printableJson } from "../../../src/cli/printable.ts";
import { table } from "../../../src/cli/table.ts";

test.each([
  ["plain text, with ü, 名 and \\x1b as letters", "plain text, with ü, 名 and \\x1b as letters"],
  ["\x1b[31mred\x1b[0m", "\\u{1b}[31mred\\u{1b}[0m"],
  ["a\r\nb\tc\0\x7f", "a\\u{d}\\u{a}b\\u{9}c\\u{0}\\u{7f}"],
  // An 8-bit CSI, an override of direction, a joiner that is not seen, half a surrogate pair.
  ["\x9b2J\u202eexe\u200d\ud800", "\\u{9b}2J\\u{202e}exe\\u{200d}\\u{d800}"],
])("printable: %j", (text, shown) => {
  expect(printable(text)).toBe(shown);
  expect(printable(shown)).toBe(shown);
});

test("JSON that no terminal obeys, and that is the same when it is read", () => {
  const value = { "a\x1b\x9b": ["\x7f\u202e\u{e0001}\n", "名"], n: 1 };
  for (const indent of [0, 2]) {
    const text = printableJson(value, indent);
    expect(text.replaceAll("\n", "")).not.toMatch(/\p{C}/u);
    expect(JSON.parse(text)).toEqual(value);
  }
  expect(printableJson({ a: 1 }, 2)).toBe('{\n  "a": 1\n}');
});

test("columns, and texts that are clipped to them", () => {
  expect(["abc", "名前", "é", "e\u0301", ""].map(columnsOf)).toEqual([3, 4, 1, 1, 0]);
  expect(clipped("abcdef", 6)).toBe("abcdef");
  expect(clipped("abcdef", 4)).toBe("abc…");
  expect(clipped("abcdef", 4, "end")).toBe("…def");
  expect(clipped("名前名前", 4)).toBe("名…");
  expect(clipped("abc", 1)).toBe("…");
  expect(clipped("abc", 0)).toBe("");
});

test("folding breaks between words, keeps what fits and cuts no word", () => {
  expect(folded("one  two three", 20)).toEqual(["one  two three"]);
  expect(folded("one  two three", 10)).toEqual(["one  two", "    three"]);
  expect(folded("averylongword two", 5)).toEqual(["averylongword", "    two"]);
});

test("a table clips the widest first, then leaves out the least important, and those with nothing in them before", () => {
  const columns = [
    { head: "NAME", least: 4 },
    { head: "N", right: true },
    { head: "LONG", least: 6, keep: "end", spare: 1 },
    { head: "EMPTY", spare: 1 },
    { head: "LAST", spare: 2 },
  ] as const;
  const rows = [
    ["a", "1", "spiffe://prod/a", "", "x"],
    ["listener", "1234", "b", "", "y"],
  ];
  const at = (width?: number): string => `\n${table(columns, rows, width).join("\n")}\n`;
  expect(at()).toBe(`
NAME         N  LONG             EMPTY  LAST
a            1  spiffe://prod/a         x
listener  1234  b                       y
`);
  expect(at(34)).toBe(`
NAME       N  LONG     EMPTY  LAST
a          1  …prod/a         x
liste…  1234  b               y
`);
  expect(at(30)).toBe(`
NAME         N  LONG      LAST
a            1  …/prod/a  x
listener  1234  b         y
`);
  expect(at(20)).toBe(`
NAME       N  LONG
a          1  …rod/a
liste…  1234  b
`);
  // What has to stay stays.
  expect(at(3)).toBe(`
NAME     N
a        1
lis…  1234
`);
});
