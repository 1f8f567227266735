// One page in a Chromium of its own, and what its renderer process holds. It is driven by Chromium's own protocol, and only at the moments of a look: a debugger that stays attached, as
// playwright's does, has the page keep the body of every answer.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../../test/support/eventually.ts";
import { findProgram } from "../../test/support/programs.ts";

const START_MS = 20_000;
const ANSWER_MS = 20_000;
/** The page is there by then. */
const SETTLE_MS = 3000;
const OPTIONS = [
  ...["--headless", "--no-sandbox", "--remote-debugging-port=0", "--window-size=1400,1000"],
  // Pages of the browser itself, which have processes too.
  "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup",
];

/** A page that is the only one of its browser. */
export class Tab implements AsyncDisposable {
  readonly #browser: ChildProcess;
  readonly #directory: string;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #asked = 0;
  #pid = 0;

  private constructor(browser: ChildProcess, directory: string, socket: WebSocket) {
    this.#browser = browser;
    this.#directory = directory;
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      const answer = JSON.parse(String(data)) as Answer;
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
  }

  static async opened(url: string): Promise<Tab> {
    const program = findProgram("chromium");
    if (program === null) throw new Error("chromium is not installed");
    const directory = mkdtempSync(join(tmpdir(), "bunnel-dashboard-memory-"));
    const browser = spawn(program, [...OPTIONS, `--user-data-dir=${directory}`, url], { stdio: "ignore" });
    const place = join(directory, "DevToolsActivePort");
    await eventually(
      "Chromium has started",
      () => existsSync(place) && readFileSync(place, "utf8").includes("\n/"),
      START_MS,
    );
    const [port, path] = readFileSync(place, "utf8").split("\n");
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`);
    await new Promise((resolve, reject) => {
      socket.addEventListener("open", resolve, { once: true });
      socket.addEventListener("error", reject, { once: true });
    });
    const tab = new Tab(browser, directory, socket);
    await Bun.sleep(SETTLE_MS);
    const { processInfo } = (await tab.#ask("SystemInfo.getProcessInfo")) as {
      processInfo: { type: string; id: number; cpuTime: number }[];
    };
    // Beside that of the page there is one in reserve, that has done nothing yet.
    const renderers = processInfo.filter(({ type }) => type === "renderer");
    if (renderers.length > 2) throw new Error(`${renderers.length} processes render one page`);
    tab.#pid = renderers.sort((a, b) => b.cpuTime - a.cpuTime)[0]?.id ?? 0;
    return tab;
  }

  /** Of the process that renders it. */
  memory(): Memory {
    return memoryOf(this.#pid);
  }

  async version(): Promise<string> {
    return String(((await this.#ask("Browser.getVersion")) as { product: string }).product);
  }

  /** Not after a collection: what there is, with what waits to be collected. */
  async seen(): Promise<{ readonly heapBytes: number; readonly nodes: number }> {
    return await this.#attached(async (session) => {
      const heap = (await this.#ask("Runtime.getHeapUsage", {}, session)) as { usedSize: number };
      const { nodes } = (await this.#ask("Memory.getDOMCounters", {}, session)) as { nodes: number };
      return { heapBytes: heap.usedSize, nodes };
    });
  }

  async scrollTo(section: string): Promise<void> {
    const expression = `document.getElementById("${section}").scrollIntoView({ behavior: "instant" })`;
    await this.#attached((session) => this.#ask("Runtime.evaluate", { expression }, session));
  }

  async #attached<Result>(use: (session: string) => Promise<Result>): Promise<Result> {
    const { targetInfos } = (await this.#ask("Target.getTargets")) as {
      targetInfos: { type: string; targetId: string }[];
    };
    const targetId = targetInfos.find(({ type }) => type === "page")?.targetId;
    const { sessionId } = (await this.#ask("Target.attachToTarget", { targetId, flatten: true })) as {
      sessionId: string;
    };
    const result = await use(sessionId);
    await this.#ask("Target.detachFromTarget", { sessionId });
    return result;
  }

  #ask(method: string, params: object = {}, sessionId?: string): Promise<unknown> {
    const id = ++this.#asked;
    const answered = Promise.withResolvers<unknown>();
    const timer = setTimeout(() => answered.reject(new Error(`${method} was not answered`)), ANSWER_MS);
    this.#waiting.set(id, ({ result, error }) => {
      clearTimeout(timer);
      if (error === undefined) answered.resolve(result);
      else answered.reject(new Error(`${method}: ${error.message}`));
    });
    this.#socket.send(JSON.stringify({ id, method, params, ...(sessionId !== undefined && { sessionId }) }));
    return answered.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exited = new Promise((resolve) => this.#browser.once("exit", resolve));
    await this.#ask("Browser.close").catch(() => this.#browser.kill("SIGKILL"));
    await exited;
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: { readonly message: string };
}

interface Memory {
  /** Pages that no other process maps, of files too. */
  readonly privateBytes: number;
  /** Without files: what Chromium's task manager shows. */
  readonly anonymousBytes: number;
}

function memoryOf(pid: number): Memory {
  const sizes = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const of = (name: string): number => 1024 * Number(new RegExp(`^${name}: +(\\d+) kB`, "m").exec(sizes)?.[1] ?? 0);
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const anonymousKb = Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
  return { privateBytes: of("Private_Clean") + of("Private_Dirty"), anonymousBytes: 1024 * anonymousKb };
}
