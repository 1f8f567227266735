// The quick reader gives what the real parser gives, or gives up. Held to it on every example and golden config, on each of them with random
// damage, and on random texts of the characters that mean something in YAML.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: what is substituted is spelt like a template.

import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { readPlainYaml } from "../../../src/config/plain-yaml.ts";
import { readAnyYaml } from "../../../src/config/yaml.ts";
import { exampleConfigs } from "../../support/example-configs.ts";

const root = join(import.meta.dir, "../../..");
const environment = { EDGE_PORT: "8443", LIMIT: "500", CERTIFICATES: "certs", PLAIN: "yes: [a", E: "", T: "true" };
const limits = { values: 500_000, depth: 32 };
const golden = readdirSync(join(root, "test/golden/config")).filter((name) => name.endsWith(".yaml"));
const texts = Object.entries({ config: exampleConfigs(), "test/golden/config": golden }).flatMap(([directory, names]) =>
  names.map((name) => [name, readFileSync(join(root, directory, name), "utf8")] as const),
);

const plain = (text: string) => readPlainYaml(text, environment, limits);

/** Whether it was read; throws when it was and the real parser reads it otherwise, or finds something wrong. */
function agrees(text: string): boolean {
  const value = plain(text);
  if (value === null) return false;
  const real = readAnyYaml(text, "f.yaml", environment);
  expect({ text, value, problems: [] }).toEqual({ text, value: real.value, problems: [...real.problems] } as never);
  expect(JSON.stringify(value)).toBe(JSON.stringify(real.value));
  return true;
}

describe("what is plain is read as the real parser reads it", () => {
  test("every example, and most golden configs", () => {
    const read = texts.filter(([, text]) => agrees(text)).map(([name]) => name);
    expect(exampleConfigs().filter((name) => !read.includes(name))).toEqual([]);
    expect(read.length).toBeGreaterThan(texts.length / 2);
  });

  const forms: Readonly<Record<string, string>> = {
    "comments and empty lines": "# a\n\na: 1 # b\n  # c\nb:   # d\n\n# e\n  c: d#e\n",
    "a list as far out as its key": "a:\n- b\n- c: 1\n  d: 2\n-\n  e: 3\nf: 1\n",
    "empty values": "a:\nb:\n  -\n  - c\nd:",
    braces: "a: { b: [1, \"2\", '3'], c: {}, d: [], e: 10.0.0.1:80 } # f\nb: [{ c: d }, [x]]\n",
    "a comma after the last": "a: [1, { b: c, }, ]\n",
    "numbers and words": "a: [0, 7, 123456789012345, true, false, 10.0.0.1, 1a, a.b/c, unix:/x]\nb: true\n",
    "texts with blanks": "a: b c  d\nb: it's {not} [a] map, is it\nc: a:b # d\n",
    variables: 'a: ${LIMIT}\nb: "${LIMIT}"\nc: x-${E}-${CERTIFICATES}\nd: $${LIMIT}\ne: ${PLAIN}\nf: ${T}\ng: $5\n',
    "a text without a last line end": "a: { b: c }",
  };
  for (const [what, text] of Object.entries(forms)) test(what, () => expect(agrees(text)).toBe(true));
});

describe("what is not plain is left to the real parser", () => {
  const forms: Readonly<Record<string, string>> = {
    "an anchor": "a: &x 1\nb: *x\n",
    "a tag": "a: !!str 1\n",
    "an escape": 'a: "\\n"\n',
    "a quote in quotes": "a: 'it''s'\n",
    "text over several lines": "a: b\n  c\n",
    "braces over several lines": "a: [\n  1 ]\n",
    "a block scalar": "a: |\n  b\n",
    "a tab": "a:\tb\n",
    "a carriage return": "a: b\r\n",
    "letters beyond ASCII": "a: ä\n",
    "a repeated key": "a: 1\na: 2\n",
    "a key in quotes": '"a": 1\n',
    "a merge key": "<<: 1\n",
    __proto__: "__proto__: 1\n",
    "other numbers": "a: 1.5\n",
    "octal and hexadecimal numbers": "a: 0x1f\n",
    "leading zeros": "a: 007\n",
    "null by name": "a: null\n",
    "a second document": "a: 1\n---\nb: 2\n",
    "a document's end": "a: 1\n...\n",
    "an unset variable": "a: ${NOPE}\n",
    "a colon in a text": "a: b: c\n",
    "what is no map and no list": "a\n",
    "a line too far in": "a: 1\n  b: 2\n",
    "a line too far in, below an entry": "a:\n  - b\n    c\n",
    "lines that are out of line": "a:\n  b: 1\n c: 2\n",
    "an entry among keys": "a: 1\n- b\n",
    nothing: "",
  };
  for (const [what, text] of Object.entries(forms)) test(what, () => expect(plain(text)).toBeNull());

  test("more values or levels than the limits", () => {
    expect(readPlainYaml("a: [1, 2]\n", {}, { values: 4, depth: 2 })).toEqual({ a: [1, 2] });
    expect(readPlainYaml("a: [1, 2]\n", {}, { values: 3, depth: 2 })).toBeNull();
    expect(readPlainYaml("a: [1, 2]\n", {}, { values: 4, depth: 1 })).toBeNull();
    expect(plain(`a: ${"[".repeat(100_000)}`)).toBeNull();
    expect(plain(`${"- ".repeat(100_000)}\n`)).toBeNull();
  });
});

describe("whatever the text", () => {
  const meaning = fc.constantFrom(
    ..."ab01:-,.[]{}&*!|>'\"#\n  $%@?~",
    "\n  ",
    "\n- ",
    ": ",
    "a: ",
    "- ",
    " #",
    "\n    ",
    "b:",
  );
  test("made of characters that mean something, it agrees or gives up", () => {
    let read = 0;
    fc.assert(
      fc.property(fc.string({ unit: meaning, maxLength: 24 }), (text) => {
        if (agrees(text)) read++;
      }),
      { numRuns: 5000 },
    );
    expect(read).toBeGreaterThan(50);
  });

  test("every config with some characters taken out, put in or doubled, it agrees or gives up", () => {
    let read = 0;
    const short = texts.filter(([, text]) => text.length < 3000);
    fc.assert(
      fc.property(
        fc.constantFrom(...short),
        fc.nat(),
        fc.nat(12),
        fc.string({ unit: meaning, maxLength: 3 }),
        (from, at, out, put) => {
          const text = from[1];
          const place = at % (text.length + 1);
          if (agrees(text.slice(0, place) + put + text.slice(place + out))) read++;
        },
      ),
      { numRuns: 1500 },
    );
    expect(read).toBeGreaterThan(100);
  });
});
