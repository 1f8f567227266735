// What it costs to take over a config of 10,000 endpoints: reading the text, compiling it, and seeing that nothing has changed. No file, no socket and no other
// program; publishing is not in it. Each way of writing the file is measured, since only what is plain YAML is read the quick way (src/config/plain-yaml.ts).
// Cold is the first reading in a new process, several times; warm are those that follow in one process, compiling and comparing included.
//
// Two cores, Bun 1.4.5, in ms, load of "maps in braces", five runs of each interleaved: before the quick reader cold 410 to 1263 (median 439), warm 232 to 312;
// with it cold 80 to 164 (median 82), warm 26 to 32. Compiling takes 5 to 7 and comparing 2, both linear. A file that is not plain YAML, or that has a
// warning to place, takes as long as before: about 240 warm and 460 cold.
import { loadConfig } from "../../src/config/load.ts";
import { compile } from "../../src/control/compile.ts";
import { sameData } from "../../src/control/same-data.ts";
import { runtime } from "../../src/runtime/bun/bun-runtime.ts";
import type { Micro } from "./micro.ts";

const ENDPOINTS = 10_000;
const WARM_UP = 2;
const RUNS = 7;
const COLD_RUNS = 3;
/** What this project set itself for a whole reload, in ns; publishing takes about 40 ms of it. */
const BUDGET = (250 - 40) * 1e6;
/** What needs the real parser was never to be reached in that time. */
const REAL_PARSER_BUDGET = 1.5e9;

const HEAD = `listeners: [{ name: in, address: "127.0.0.1:1", backend: web }]
backends:
  web:
    allow_plaintext: true
    endpoints:
`;
const addressOf = (index: number): string => `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}:80`;
const written = (line: (address: string) => string, tail = ""): string =>
  HEAD + Array.from({ length: ENDPOINTS }, (_, index) => `      ${line(addressOf(index))}\n`).join("") + tail;

const TEXTS: Readonly<Record<string, string>> = {
  "maps in braces": written((address) => `- { address: ${address}, weight: 2 }`),
  "just addresses": written((address) => `- ${address}`),
  "maps in blocks": written((address) => `- address: ${address}\n        weight: 2`),
  "one anchor: the real parser": written((address) => `- { address: ${address}, weight: 2 }`).replace(
    "name: in",
    "name: &name in",
  ),
  "a warning: places": written(
    (address) => `- { address: ${address}, weight: 2 }`,
    "  unused: { endpoints: [127.0.0.1:1] }\n",
  ),
};

const slots = new Map<string, number>();
let served: unknown = null;

/** Nanoseconds of reading alone, and of all. */
async function once(text: string): Promise<{ readonly load: number; readonly all: number }> {
  const begun = performance.now();
  const loaded = loadConfig(text, { file: "bench.yaml", environment: {} });
  if (!loaded.ok) throw new Error("the config is good");
  const read = performance.now();
  const result = await compile(loaded, {
    generation: 1,
    files: runtime.files,
    runtime,
    resolve: null,
    slots,
    nowMs: 0,
    served: null,
  });
  if (!result.ok) throw new Error("the config is good");
  sameData(result.snapshot, served);
  const compared = performance.now();
  served = result.snapshot;
  return { load: (read - begun) * 1e6, all: (compared - begun) * 1e6 };
}

async function cold(name: string): Promise<readonly number[]> {
  const samples: number[] = [];
  for (let run = 0; run < COLD_RUNS; run += 1) {
    const child = Bun.spawn([process.execPath, import.meta.path, name], { stdout: "pipe" });
    samples.push(Number(await new Response(child.stdout).text()));
  }
  return samples;
}

async function warm(text: string): Promise<readonly number[]> {
  const samples: number[] = [];
  for (let run = -WARM_UP; run < RUNS; run += 1) {
    const { all } = await once(text);
    if (run >= 0) samples.push(all);
  }
  return samples;
}

/** See micro.ts. */
export const MICRO: readonly Micro[] = Object.entries(TEXTS).flatMap(([name, text]) => {
  const budget = name.includes(":") ? REAL_PARSER_BUDGET : BUDGET;
  const title = `config of ${ENDPOINTS.toLocaleString("en")} endpoints, ${name}`;
  return [
    { name: `${title}; cold`, budget, samples: () => cold(name) },
    { name: `${title}; warm`, budget, samples: () => warm(text) },
  ];
});

if (import.meta.main) console.log((await once(TEXTS[Bun.argv[2] ?? ""] ?? "")).load);
