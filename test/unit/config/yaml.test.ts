// biome-ignore-all lint/suspicious/noTemplateCurlyInString: what is substituted is spelt like a template.

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { formatProblem } from "../../../src/config/problems.ts";
import { substitute } from "../../../src/config/substitute.ts";
import { readYaml } from "../../../src/config/yaml.ts";

const read = (text: string, environment = {}) => readYaml(text, "f.yaml", environment);
const placeOf = (text: string, path: (string | number)[], atKey = false): string => {
  const { line, column } = read(text).places.place({ path, message: "", atKey });
  return `${line}:${column}`;
};

describe("places", () => {
  const text = "a:\n  - name: x\n    list: [1, 2]\nb: &anchor { k: v }\nc: *anchor\nempty:\n";
  test("a value is where it begins", () => {
    expect(placeOf(text, ["a", 0, "name"])).toBe("2:11");
    expect(placeOf(text, ["a", 0, "list", 1])).toBe("3:15");
    expect(placeOf(text, ["b", "k"])).toBe("4:17");
  });
  test("a key is pointed at where the key is at fault, and where its value spans lines or is empty", () => {
    expect(placeOf(text, ["a", 0, "name"], true)).toBe("2:5");
    expect(placeOf(text, ["a"])).toBe("1:1");
    expect(placeOf(text, ["empty"])).toBe("6:1");
  });
  test("what was not written is where it would belong", () => {
    expect(placeOf(text, ["a", 0, "missing", "deeper"])).toBe("2:5");
    expect(placeOf(text, ["a", 7])).toBe("1:1");
  });
  test("behind an alias it is what the anchor holds", () => {
    expect(placeOf(text, ["c", "k"])).toBe("4:17");
  });
});

describe("substitution", () => {
  const environment = { NAME: "value", EMPTY: "", NUMBER: "12", YES: "true", TEXT: "[a, b]", NESTED: "$" + "{NAME}" };
  test("a variable, several, none, and the escape", () => {
    expect(substitute("a-${NAME}-${EMPTY}-$NAME-$${NAME}", environment)).toEqual({
      text: "a-value--$NAME-${NAME}",
      problem: null,
    });
  });
  test("a value is not looked at again", () => {
    expect(substitute("${NESTED}", environment).text).toBe("${NAME}");
  });
  test("unset and malformed references are problems", () => {
    expect(substitute("${NOPE}", environment).problem).toContain("NOPE is not set");
    expect(substitute("${", environment).problem).toContain("comes the name");
    expect(substitute("${1a}", environment).problem).toContain("comes the name");
  });
  test("without quotes a number is a number and never structure; in quotes it is text", () => {
    const { value } = read('a: ${NUMBER}\nb: "${NUMBER}"\nc: ${YES}\nd: ${TEXT}\n', environment);
    expect(value).toEqual({ a: 12, b: "12", c: true, d: "[a, b]" });
  });
  test("a key is not substituted", () => {
    expect(read("${NAME}: 1\n", environment).value).toEqual({ "${NAME}": 1 });
  });
});

describe("limits", () => {
  const problemsOf = (text: string): string => read(text).problems.map(formatProblem).join("\n");
  test("an alias bomb, a cycle and a deep file are refused", () => {
    let bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
    for (let level = 1; level < 12; level++) bomb += `a${level}: &a${level} [${`*a${level - 1}, `.repeat(10)}]\n`;
    expect(problemsOf(bomb)).toContain("expands to more than");
    expect(problemsOf("a: &a [*a]\n")).toContain("deep");
    expect(problemsOf(`a: ${"[".repeat(200)}${"]".repeat(200)}`)).toContain("deep");
  });
  test("a hundred thousand brackets are a problem and no exception", () => {
    expect(problemsOf("[".repeat(100_000))).not.toBe("");
  });
  test("a key named __proto__ is refused, not lost", () => {
    expect(problemsOf("a: { __proto__: 1 }\n")).toBe('f.yaml:1:6: a: nothing can be called "__proto__"');
  });
});

describe("what is no YAML", () => {
  const problemsOf = (text: string): string[] => read(text).problems.map(formatProblem);
  test("only the first error is told, with what is mostly behind it: the others follow from it", () => {
    expect(problemsOf("a:\n  - x: 1\n    y\n  - z: 2\nb: c: d\n")).toEqual([
      "f.yaml:3:5: implicit map keys need to be followed by map values; is there no colon and blank after this key?",
    ]);
  });
  test("a name pattern without quotes is told as one", () => {
    expect(problemsOf("sni: [*.db.internal]\n")).toEqual([
      'f.yaml:1:7: sni[0]: *.db.internal is an alias in YAML, and no anchor &.db.internal is before it; for a text that begins with * write "*.db.internal"',
    ]);
  });
  test("another encoding is told as one, where it begins", () => {
    expect(problemsOf("a: 1\nb: Gr\ufffd\ufffde\n")).toEqual([
      "f.yaml:2:6: this is not UTF-8, which a config has to be written in",
    ]);
  });
  test("a long token is not quoted as a whole", () => {
    expect(problemsOf(`a: b\n]${"x".repeat(5000)}\n`).join("").length).toBeLessThan(300);
  });
});

test("a key that is written twice is named; what refers into either map is not wrong as well", () => {
  const { value, problems } = read("a: { x: 1 }\nb: 2\na: { y: 3 }\n");
  expect(problems.map(formatProblem)).toEqual(["f.yaml:3:1: a: is written a second time in the same map"]);
  expect(value).toEqual({ a: { x: 1, y: 3 }, b: 2 });
});

test("no text makes the reader throw", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(..."ab:-[]{}&*!|>'\"#\n\t $%@`,?<") }), (text) => void read(text)),
  );
});
