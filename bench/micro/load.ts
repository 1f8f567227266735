// What it costs to take over a config of 10,000 endpoints: reading the text, compiling it, and seeing that nothing has changed. No file, no socket and no other
// program; publishing is not in it. Each way of writing the file is measured, since only what is plain YAML is read the quick way (src/config/plain-yaml.ts).
//   bun bench/micro/load.ts
// Cold is the first reading in a new process, the median of several; warm is the median and the range of those that follow in one process.
//
// Two cores, Bun 1.4.5, in ms, load of "maps in braces", five runs of each interleaved: before the quick reader cold 410 to 1263 (median 439), warm 232 to 312;
// with it cold 80 to 164 (median 82), warm 26 to 32. Compiling takes 5 to 7 and comparing 2, both linear. A file that is not plain YAML, or that has a
// warning to place, takes as long as before: about 240 warm and 460 cold.
import { loadConfig } from "../../src/config/load.ts";
import { compile } from "../../src/control/compile.ts";
import { sameData } from "../../src/control/same-data.ts";
import { runtime } from "../../src/runtime/bun/bun-runtime.ts";
import { summarise } from "../results.ts";

const ENDPOINTS = 10_000;
const WARM_UP = 5;
const RUNS = 15;
const COLD_RUNS = 7;
/** What this project set itself for a whole reload, in ms; publishing takes about 40 of it. */
const TO_REACH_MS = 250 - 40;

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
  "maps in braces, and one anchor: the real parser": written(
    (address) => `- { address: ${address}, weight: 2 }`,
  ).replace("name: in", "name: &name in"),
  "maps in braces, and a warning: places are needed": written(
    (address) => `- { address: ${address}, weight: 2 }`,
    "  unused: { endpoints: [127.0.0.1:1] }\n",
  ),
};

interface Costs {
  readonly load: number;
  readonly compile: number;
  readonly compare: number;
}

const slots = new Map<string, number>();
let served: unknown = null;

async function once(text: string): Promise<Costs> {
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
  const compiled = performance.now();
  sameData(result.snapshot, served);
  const compared = performance.now();
  served = result.snapshot;
  return { load: read - begun, compile: compiled - read, compare: compared - compiled };
}

function show(samples: readonly number[]): string {
  const { median = 0, min = 0, max = 0 } = summarise([...samples]) ?? {};
  return `${median.toFixed(1).padStart(6)} (${min.toFixed(1)}..${max.toFixed(1)})`;
}

async function coldOf(name: string): Promise<number> {
  const child = Bun.spawn([process.execPath, import.meta.path, name], { stdout: "pipe" });
  return Number(await new Response(child.stdout).text());
}

const only = Bun.argv[2];
if (only !== undefined) {
  console.log((await once(TEXTS[only] ?? "")).load);
} else {
  console.log(
    `config of ${ENDPOINTS} endpoints, ms; to reach without publishing: ≤ ${TO_REACH_MS}; Bun ${Bun.version}`,
  );
  for (const [name, text] of Object.entries(TEXTS)) {
    const cold: number[] = [];
    for (let run = 0; run < COLD_RUNS; run += 1) cold.push(await coldOf(name));
    const warm: Costs[] = [];
    for (let run = -WARM_UP; run < RUNS; run += 1) {
      const costs = await once(text);
      if (run >= 0) warm.push(costs);
    }
    const totals = warm.map(({ load, compile: compiling, compare }) => load + compiling + compare);
    const verdict = (summarise(totals)?.median ?? Infinity) <= TO_REACH_MS ? "✓" : "✗";
    console.log(name);
    console.log(`  load, cold ${show(cold)}  load, warm ${show(warm.map(({ load }) => load))}`);
    const parts = `compile ${show(warm.map((costs) => costs.compile))}  compare ${show(warm.map((costs) => costs.compare))}`;
    console.log(`  ${parts}  all, warm ${show(totals)} ${verdict}`);
  }
}
