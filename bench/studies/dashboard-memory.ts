// What a tab with the dashboard holds over time: a daemon with 20 listeners, 20 backends, 200 endpoints and 1,000 live connections, some of which fail each second, is looked at in
// Debian's Chromium, section after section, and beside it another browser shows an empty page.
//
//   bun bench/studies/dashboard-memory.ts [minutes] [seconds between two looks] [connections]     default 30 60 1000

import { loadavg } from "node:os";
import { startDaemon } from "../../test/support/daemon.ts";
import { unusedPort } from "../../test/support/servers.ts";
import { SteadyLoad, startEchoes } from "../../test/support/steady-load.ts";
import { Tab } from "./tab.ts";

const BACKENDS = 20;
const ENDPOINTS_EACH = 10;
/** New connections each second that end well, and that find no endpoint. */
const PER_SECOND = { well: 20, failing: 2 };
/** Each live connection says something so often. */
const STREAM_INTERVAL_MS = 5000;
/** What an operator looks at, in turns: tables that are not on the screen are not asked for. */
const SECTIONS = ["facts", "closes", "listeners", "backends", "connections", "peers", "certificates"];

const [minutes = 30, everySeconds = 60, connections = 1000] = process.argv.slice(2).map(Number);
await measure();
process.exit(0);

async function measure(): Promise<void> {
  await using echoes = await startEchoes(BACKENDS * ENDPOINTS_EACH);
  const [admin, nobody] = [`127.0.0.1:${await unusedPort()}`, `127.0.0.1:${await unusedPort()}`];
  await using daemon = await startDaemon(configOf(admin, nobody, echoes.addresses));
  const targets = [];
  for (let index = 0; index < BACKENDS; index++) targets.push({ address: await daemon.address(`l${index}`) });
  const seconds = minutes * 60 + 120;
  await using load = new SteadyLoad({
    ...{ targets, perSecond: PER_SECOND.well, streams: connections, seconds, maxPayloadBytes: 10_000 },
    streamIntervalMs: STREAM_INTERVAL_MS,
  });
  await load.ready();
  const failing = [{ address: await daemon.address("dead") }];
  await using _failures = new SteadyLoad({ targets: failing, perSecond: PER_SECOND.failing, streams: 0, seconds });
  await using page = await Tab.opened(`http://${admin}/`);
  await using empty = await Tab.opened("about:blank");
  console.log(
    `${connections} connections, ${BACKENDS + 1} listeners, ${BACKENDS * ENDPOINTS_EACH + 1} endpoints, an update each second; ${await page.version()}; in MB`,
  );
  const titles = ["min", "private", "empty page", "anonymous", "JS heap", "DOM nodes", "looks at", "load average"];
  console.log(titles.map((title) => title.padStart(12)).join(""));
  const startedMs = Date.now();
  for (let look = 0; ; look++) {
    const sinceS = (Date.now() - startedMs) / 1000;
    const section = SECTIONS[look % SECTIONS.length] as string;
    const seen = await page.seen();
    const cells = [
      (sinceS / 60).toFixed(1),
      megabytes(page.memory().privateBytes),
      megabytes(empty.memory().privateBytes),
      megabytes(page.memory().anonymousBytes),
      megabytes(seen.heapBytes),
      seen.nodes,
      section,
      (loadavg()[0] ?? 0).toFixed(2),
    ];
    console.log(cells.map((cell) => String(cell).padStart(12)).join(""));
    if (sinceS >= minutes * 60) break;
    await page.scrollTo(section);
    await Bun.sleep(Math.min(everySeconds, minutes * 60 - sinceS + 1) * 1000);
  }
}

function configOf(admin: string, nobody: string, addresses: readonly string[]): string {
  const names = Array.from({ length: BACKENDS }, (_, index) => index);
  const listeners = names.map((index) => `  - { name: l${index}, address: "127.0.0.1:0", backend: b${index} }\n`);
  const backends = names.map((index) => {
    const own = addresses.slice(index * ENDPOINTS_EACH, (index + 1) * ENDPOINTS_EACH);
    return `  b${index}: { endpoints: [${own.map((address) => `"${address}"`).join(", ")}] }\n`;
  });
  return `workers: 2
admin: { address: "${admin}" }
access_log: { output: off }
listeners:
${listeners.join("")}  - { name: dead, address: "127.0.0.1:0", backend: dead }
backends:
${backends.join("")}  dead: { endpoints: ["${nobody}"] }
`;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
