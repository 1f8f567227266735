import { describe, expect, test } from "bun:test";
import { missingLine, readWalkThrough } from "../../support/walk-through.ts";

const page = `# Title

\`\`\`
a drawing
\`\`\`

\`\`\`yaml host-b
a: 1
\`\`\`

\`\`\`sh host-a
one
two
\`\`\`

\`\`\`text
1
\`\`\`

\`\`\`sh host-b until
look
\`\`\`

\`\`\`crontab host-b
17 * * * * cd / && true
\`\`\`
`;

describe("readWalkThrough", () => {
  test("gives the blocks in order, with what they print", () => {
    expect(readWalkThrough(page)).toEqual([
      { kind: "config", host: "host-b", text: "a: 1\n", until: false, prints: [] },
      { kind: "type", host: "host-a", text: "one\ntwo\n", until: false, prints: ["1"] },
      { kind: "type", host: "host-b", text: "look\n", until: true, prints: [] },
      { kind: "type", host: "host-b", text: "cd / && true\n", until: false, prints: [] },
    ]);
  });

  test("refuses commands that name no host", () => {
    expect(() => readWalkThrough("```sh\nls\n```\n")).toThrow("unknown kind: sh");
    expect(() => readWalkThrough("```sh host-c\nls\n```\n")).toThrow("unknown kind");
    expect(() => readWalkThrough("```text\nls\n```\n")).toThrow("nothing prints this");
  });
});

describe("missingLine", () => {
  test("wants each line as a part of a later one", () => {
    expect(missingLine("a\nxbx\nc", ["a", "b"])).toBeNull();
    expect(missingLine("a\nb", ["b", "a"])).toBe("a");
    expect(missingLine("a", ["a", "a"])).toBe("a");
    expect(missingLine("", [])).toBeNull();
  });

  test("takes … for anything within a line, and everything else as it is", () => {
    expect(missingLine('{"a":[1],"b":2}', ['…"a":[1]…"b":2…'])).toBeNull();
    expect(missingLine("ab", ["a.b"])).toBe("a.b");
    expect(missingLine("a\nb", ["a…b"])).toBe("a…b");
  });
});
