// A LiveConfig whose config file, certificates and names are in memory, and whose looks are the test's to take.

import { expect, spyOn } from "bun:test";
import { ProxyError } from "../../../src/base/errors.ts";
import { loadConfigFile } from "../../../src/config/load.ts";
import { LiveConfig, type LiveConfigOptions, LOOK_MS } from "../../../src/control/live-config.ts";
import { runtime as platform } from "../../../src/runtime/bun/bun-runtime.ts";
import type { Files } from "../../../src/runtime/files.ts";
import type { Runtime } from "../../../src/runtime/runtime.ts";
import type { Snapshot } from "../../../src/snapshot/snapshot.ts";
import type { Log } from "../../../src/telemetry/log.ts";

/** Files whose every write shows in their stamp. */
export class MemoryFiles implements Pick<Files, "readText" | "list" | "stamp"> {
  readonly #contents = new Map<string, { readonly text: string; readonly stamp: number }>();
  #writes = 0;
  /** Called before a file is read. */
  onRead: (path: string) => void = () => {};

  write(path: string, content: string): void {
    this.#contents.set(path, { text: content, stamp: ++this.#writes });
  }

  remove(path: string): void {
    this.#contents.delete(path);
  }

  readText(path: string): string {
    const file = this.#contents.get(path);
    if (file === undefined) throw new ProxyError("ENOENT", `cannot read ${path}: no such file or directory`);
    this.onRead(path);
    return file.text;
  }

  stamp(path: string): string {
    return String(this.#contents.get(path)?.stamp ?? "ENOENT");
  }

  list(): readonly string[] {
    return [];
  }
}

/** A line of the log, with what matters of its fields. */
export interface Line {
  readonly level: string;
  readonly message: string;
  readonly problem: string;
}

/** Name of the config file. */
export const CONFIG_FILE = "f.yaml";

/** A live config and all that it touches. */
export class LiveConfigFixture {
  readonly files = new MemoryFiles();
  /** The address of each host name; the others cannot be resolved. */
  readonly names = new Map<string, string | Promise<string>>();
  readonly published: Snapshot[] = [];
  readonly lines: Line[] = [];
  publishFails: Error | null = null;
  #live: LiveConfig | null = null;
  #look: () => void = () => {};

  get live(): LiveConfig {
    if (this.#live === null) throw new Error("it was not started");
    return this.#live;
  }

  get said(): string[] {
    return this.lines.map(({ level, message }) => `${level}: ${message}`);
  }

  /** Writes the config file. */
  write(config: string): void {
    this.files.write(CONFIG_FILE, config);
  }

  /** Loads and compiles it for the first time, and begins to look. */
  async start(options: Partial<LiveConfigOptions> = {}): Promise<LiveConfig> {
    const load = () => loadConfigFile(CONFIG_FILE, this.files, {});
    const loaded = load();
    if (!loaded.ok) throw new Error("the config is good");
    this.#live = new LiveConfig(loaded, {
      runtime: this.#runtime,
      log: this.#log,
      load,
      publish: async (snapshot) => {
        if (this.publishFails !== null) throw this.publishFails;
        this.published.push(snapshot);
      },
      ...options,
    });
    const first = await this.#live.compileFirst();
    if (!first.ok) throw new Error("the files are good");
    const timer = spyOn(globalThis, "setInterval").mockImplementation(((callback: () => void, periodMs: number) => {
      expect(periodMs).toBe(LOOK_MS);
      this.#look = callback;
      return 0;
    }) as unknown as typeof setInterval);
    this.#live.start();
    timer.mockRestore();
    return this.#live;
  }

  /** So many looks, each with time for all that it set going. */
  async looks(count: number): Promise<void> {
    for (let index = 0; index < count; index++) {
      this.#look();
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  get #runtime(): Runtime {
    const resolve = async (name: string): Promise<string> => {
      const address = await this.names.get(name);
      if (address === undefined) throw new ProxyError("ENOTFOUND", `${name}: ENOTFOUND`);
      return address;
    };
    return { ...platform, files: this.files as unknown as Files, resolve };
  }

  get #log(): Log {
    const say =
      (level: string) =>
      (fields: object | string, message?: string): void => {
        const { problem = "", err = "" } = typeof fields === "string" ? {} : (fields as Record<string, string>);
        this.lines.push({ level, message: message ?? String(fields), problem: problem || err });
      };
    // pino's own type has many forms; two of them are used.
    return { debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error") } as unknown as Log;
  }
}
