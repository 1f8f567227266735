// The shape of the house, checked: who imports whom (src/ARCHITECTURE.md), where platform APIs may stand, and what every file must have.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { CATALOGUE, PREFIX } from "../src/admin/metrics-catalogue.ts";
import { LIMITS } from "../src/runtime/deno/limits.ts";
import { CLOSE_REASONS } from "../src/telemetry/close-reason.ts";

const ROOT = join(import.meta.dir, "..");
const SRC = join(ROOT, "src");
/** Lines; past it a file has a second noun in it. */
const LONGEST_FILE = 400;

/** The folders of ours that each folder may import. `main` stands for src/main.ts. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [],
  protocol: ["base"],
  snapshot: ["base"],
  telemetry: ["base"],
  runtime: ["base", "protocol"],
  config: ["base", "protocol"],
  "tls-tools": ["base", "protocol"],
  proxy: ["base", "protocol", "snapshot", "runtime", "telemetry"],
  control: ["base", "protocol", "config", "snapshot", "runtime", "telemetry", "tls-tools"],
  admin: ["base", "snapshot", "control", "runtime", "telemetry"],
  cli: [
    "base",
    "protocol",
    "snapshot",
    "telemetry",
    "runtime",
    "config",
    "tls-tools",
    "proxy",
    "control",
    "admin",
    "cli",
  ],
};

interface SourceFile {
  /** Relative to src/. */
  readonly path: string;
  readonly folder: string;
  readonly text: string;
  readonly imports: readonly string[];
}

const files: readonly SourceFile[] = [...new Bun.Glob("**/*.ts").scanSync(SRC)].sort().map((path) => {
  const text = readFileSync(join(SRC, path), "utf8");
  return { path, folder: path.includes("/") ? (path.split("/")[0] as string) : "main", text, imports: importsOf(text) };
});

function importsOf(text: string): string[] {
  const found = text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g);
  return [...found].map((match) => match[1] as string);
}

/** Source without comments and strings, so that words in them do not count. */
function code(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, "")
    .replace(/^\s*\/\/.*$/gm, "")
    .replace(/`(?:\\.|[^`\\])*`|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'/g, '""');
}

function offenders(isWrong: (file: SourceFile) => boolean): string[] {
  return files.filter(isWrong).map((file) => file.path);
}

/** What stands in the README between two comments. */
function tableOf(name: string): string | undefined {
  const readme = readFileSync(join(ROOT, "README.md"), "utf8");
  return new RegExp(`<!-- ${name} -->\\n([\\s\\S]*?)\\n<!-- /${name} -->`).exec(readme)?.[1];
}

describe("imports", () => {
  test("every folder is in the table, and imports only what the table allows", () => {
    const wrong: string[] = [];
    for (const { path, folder, imports } of files) {
      if (folder === "main") continue;
      const allowed = MAY_IMPORT[folder];
      for (const specifier of imports) {
        if (!specifier.startsWith(".")) continue;
        const target = relative(SRC, join(SRC, dirname(path), specifier)).split("/")[0] as string;
        if (allowed === undefined || (target !== folder && !allowed.includes(target)))
          wrong.push(`${path} → ${specifier}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test("platform modules are imported only under runtime/<name>/", () => {
    const isPlatform = (specifier: string): boolean => /^(bun$|bun:|node:)/.test(specifier);
    expect(offenders(({ path, imports }) => !/^runtime\/\w+\//.test(path) && imports.some(isPlatform))).toEqual([]);
  });

  test("the globals of a platform are used only under runtime/<name>/, and process only in main.ts", () => {
    const wrong = offenders(({ path, text }) => {
      if (/^runtime\/\w+\//.test(path)) return false;
      const source = code(text);
      return /\b(Bun|Deno|Buffer)\./.test(source) || (path !== "main.ts" && /\bprocess\./.test(source));
    });
    expect(wrong).toEqual([]);
  });

  test("nobody asks a TLS socket for its secrets (keylog)", () => {
    expect(offenders(({ text }) => /\bkeylog\b/i.test(code(text)))).toEqual([]);
  });

  test("nothing but main.ts names an implementation of the runtime", () => {
    const names = (specifier: string): boolean => /runtime\/\w+\//.test(specifier) || specifier === "#runtime";
    expect(
      offenders(({ path, imports }) => path !== "main.ts" && !path.startsWith("runtime/") && imports.some(names)),
    ).toEqual([]);
  });
});

describe("files", () => {
  test("open with a comment that says what they are for", () => {
    expect(offenders(({ text }) => !text.replace(/^#!.*\n+/, "").startsWith("// "))).toEqual([]);
  });

  test(`have at most ${LONGEST_FILE} lines`, () => {
    expect(offenders(({ text }) => text.split("\n").length > LONGEST_FILE)).toEqual([]);
  });

  test("are in no folder for leftovers", () => {
    expect(offenders(({ path }) => /(^|\/)(utils|common|helpers|types|misc|lib)(\/|\.ts$)/.test(path))).toEqual([]);
  });

  test("have a doc comment on every function, class and constant that they export", () => {
    const wrong: string[] = [];
    for (const { path, text } of files) {
      const lines = text.split("\n");
      for (const [index, line] of lines.entries()) {
        if (!/^export (async )?(function|class|const) /.test(line)) continue;
        const before = lines[index - 1] ?? "";
        if (!before.trimEnd().endsWith("*/")) wrong.push(`${path}:${index + 1}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test("export no function, class or constant that only the file itself uses", () => {
    const everywhere = ["src", "test", "bench"].flatMap((folder) =>
      [...new Bun.Glob(`${folder}/**/*.{ts,js}`).scanSync(ROOT)].map((path) => ({
        path,
        text: readFileSync(join(ROOT, path), "utf8"),
      })),
    );
    const words = everywhere.map(({ path, text }) => ({ path, words: new Set(text.match(/\w+/g)) }));
    const wrong = everywhere.flatMap(({ path, text }) =>
      [...text.matchAll(/^export (?:async )?(?:function|class|const) (\w+)/gm)]
        .map(([, name]) => name as string)
        .filter((name) => !words.some((other) => other.path !== path && other.words.has(name)))
        .map((name) => `${path}: ${name}`),
    );
    expect(wrong).toEqual([]);
  });

  test("do not silence the type checker", () => {
    expect(
      offenders(({ text }) => /@ts-(ignore|nocheck|expect-error)/.test(text) || /\bas any\b/.test(code(text))),
    ).toEqual([]);
  });
});

describe("the relay's hot path", () => {
  test("does not await, log, catch or make closures", () => {
    const relay = code(readFileSync(join(SRC, "proxy/relay.ts"), "utf8"));
    expect(relay).not.toMatch(/\b(await|async|Promise|try|console)\b|=>/);
  });
});

test("OpenTelemetry is loaded by who exports only: one file imports it, and that is imported when it is asked for", () => {
  expect(offenders(({ imports }) => imports.some((name) => name.startsWith("@opentelemetry/")))).toEqual([
    "telemetry/otlp.ts",
  ]);
  expect(offenders(({ text }) => /from "[^"]*\/otlp\.ts"/.test(text))).toEqual([]);
});

describe("documents", () => {
  test("README.md lists every close reason as the table has it", () => {
    const rows = Object.entries(CLOSE_REASONS).map(
      ([name, { side, termination, level, meaning }]) =>
        `| \`${name}\` | ${termination} | ${side} | ${level} | ${meaning} |`,
    );
    const table = ["| reason | | side | level | meaning |", "|---|---|---|---|---|", ...rows].join("\n");
    expect(tableOf("close reasons")).toBe(table);
  });

  test("its table of metrics is the catalogue", () => {
    const rows = CATALOGUE.map(({ name, type, labels, help }) => {
      const which = labels.map((label) => `\`${label}\``).join(", ");
      return `| \`${PREFIX}${name}\` | ${type} | ${which} | ${help} |`;
    });
    expect(tableOf("metrics")).toBe(["| metric | type | labels | |", "|---|---|---|---|", ...rows].join("\n"));
  });

  test("README.md lists what Deno cannot do as the runtime has it", () => {
    const table = ["| | on Deno |", "|---|---|", ...LIMITS.map(({ what, instead }) => `| ${what} | ${instead} |`)].join(
      "\n",
    );
    expect(tableOf("limits of deno")).toBe(table);
  });
});
