// What is served follows what lies on the disk: the config when a signal asks for it, and the files with certificates, keys and lists by
// themselves. A new state is judged as a whole and published as a whole; when anything in it is wrong, the old one stays and the log says why.
//
// Files are looked at by their stamps and not by notifications: those are lost on network file systems and when a directory is swapped, which is
// how Kubernetes replaces a secret. A file may be written in place, and a key and its certificate one after the other; so nothing is
// read before it has stood still from one look to the next.

import { messageOf, ProxyError } from "../base/errors.ts";
import type { LoadedConfig, LoadResult } from "../config/load.ts";
import { formatProblem, type PlacedProblem } from "../config/problems.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { Log } from "../telemetry/log.ts";
import { type CompileResult, compile } from "./compile.ts";
import { ExpiryWatch } from "./expiry-watch.ts";

/** How often files are looked at. A change is served after one to two of these. */
export const LOOK_MS = 500;

export interface LiveConfigOptions {
  readonly runtime: Runtime;
  readonly log: Log;
  /** Reads the config anew; null where it is embedded and cannot change. */
  readonly load: (() => LoadResult) | null;
  /** Makes a snapshot the one that is served. Throws ProxyError when it cannot be, and then the old one is served. */
  publish(snapshot: Snapshot): void;
}

/** A config that was compiled once, and from then on follows its files. */
export class LiveConfig {
  readonly #options: LiveConfigOptions;
  readonly #expiry: ExpiryWatch;
  readonly #slots = new Map<string, number>();
  /** What a restart would change: as the process was started with. */
  readonly #started: LoadedConfig;
  /** Addresses of host names that are served: certificates must be replaceable while a name server is down. */
  #addresses: ReadonlyMap<string, string> = new Map();
  #loaded: LoadedConfig;
  #generation = 0;
  /** Stamps of the files of the served config as they were read last, whether what was in them is served or was refused. */
  #read: ReadonlyMap<string, string> = new Map();
  /** Stamps that differ from those, as of the last look. */
  #changed: ReadonlyMap<string, string> | null = null;
  #looking: ReturnType<typeof setInterval> | null = null;
  #stopped = false;
  /** One at a time: the next waits for the one before. */
  #work: Promise<void> = Promise.resolve();
  /** How many are not done. */
  #pending = 0;

  constructor(loaded: LoadedConfig, options: LiveConfigOptions) {
    this.#started = loaded;
    this.#loaded = loaded;
    this.#options = options;
    this.#expiry = new ExpiryWatch(options.log);
  }

  /** The first snapshot, or what is wrong. Nothing is published. */
  async compileFirst(): Promise<CompileResult> {
    const compiled = await this.#compile(this.#loaded, { strict: false, anew: true });
    if (compiled.result.ok) this.#adopt(this.#loaded, compiled.result, compiled.addresses);
    return compiled.result;
  }

  /** Looks at the files from now on. */
  start(): void {
    this.#expiry.look(Date.now());
    this.#looking = setInterval(() => this.#look(), LOOK_MS);
  }

  /** Publishes nothing from now on. What is under way ends without effect, and is not waited for: a name server may keep it waiting for long. */
  stop(): Promise<void> {
    if (this.#looking !== null) clearInterval(this.#looking);
    this.#looking = null;
    this.#stopped = true;
    return Promise.resolve();
  }

  /** Reads the config itself anew, and names are resolved anew. Resolves when that is done, or refused. */
  reload(): Promise<void> {
    return this.#enqueue(async () => {
      const { load, log } = this.#options;
      if (load === null) {
        log.warn("the embedded default has no config file to reload");
        return;
      }
      const loaded = load();
      if (!loaded.ok) return this.#refused("reload refused: the old config is still served", loaded.problems);
      this.#noteFixed(loaded);
      await this.#replace(loaded, {
        anew: true,
        what: "config reloaded",
        refused: "reload refused: the old config is still served",
      });
    });
  }

  #look(): void {
    this.#expiry.look(Date.now());
    // It reads the files itself, and the look after it goes by what it has read.
    if (this.#pending > 0) return;
    const { files } = this.#options.runtime;
    const now = new Map([...this.#read.keys()].map((path) => [path, files.stamp(path)]));
    if (sameStamps(now, this.#read)) {
      this.#changed = null;
      return;
    }
    const stoodStill = this.#changed !== null && sameStamps(now, this.#changed);
    this.#changed = stoodStill ? null : now;
    if (!stoodStill) return;
    void this.#enqueue(() =>
      this.#replace(this.#loaded, {
        anew: false,
        what: "certificates replaced",
        refused: "new certificates refused: the old ones are still served",
      }),
    );
  }

  async #replace(
    loaded: LoadedConfig,
    { anew, what, refused }: { readonly anew: boolean; readonly what: string; readonly refused: string },
  ): Promise<void> {
    const { log, publish } = this.#options;
    const { result, addresses } = await this.#compile(loaded, { strict: true, anew });
    if (this.#stopped) return;
    // A config that is refused says nothing about the files of the one that is served: those may have changed with it, and are still to be read.
    if (loaded === this.#loaded) this.#read = result.stamps;
    if (!result.ok) return this.#refused(refused, result.problems);
    try {
      publish(result.snapshot);
    } catch (thrown) {
      if (!(thrown instanceof ProxyError)) throw thrown;
      log.error({ problem: messageOf(thrown) }, refused);
      return;
    }
    this.#adopt(loaded, result, addresses);
    for (const warning of result.warnings) log.warn(formatProblem(warning));
    log.info({ generation: this.#generation }, what);
  }

  /** What was compiled is what is served. */
  #adopt(
    loaded: LoadedConfig,
    { snapshot, expiring, stamps }: Extract<CompileResult, { ok: true }>,
    addresses: ReadonlyMap<string, string>,
  ): void {
    this.#loaded = loaded;
    this.#generation = snapshot.generation;
    this.#expiry.replace(expiring);
    this.#read = stamps;
    this.#addresses = addresses;
  }

  async #compile(
    loaded: LoadedConfig,
    { strict, anew }: { readonly strict: boolean; readonly anew: boolean },
  ): Promise<{ readonly result: CompileResult; readonly addresses: ReadonlyMap<string, string> }> {
    const { runtime } = this.#options;
    const addresses = new Map(anew ? [] : this.#addresses);
    const result = await compile(loaded, {
      generation: this.#generation + 1,
      files: runtime.files,
      runtime,
      resolve: async (name) => {
        const address = addresses.get(name) ?? (await runtime.resolve(name));
        addresses.set(name, address);
        return address;
      },
      slots: this.#slots,
      nowMs: Date.now(),
      strict,
    });
    return { result, addresses };
  }

  #refused(message: string, problems: readonly PlacedProblem[]): void {
    for (const problem of problems) this.#options.log.error({ problem: formatProblem(problem) }, message);
  }

  /** Tells of changes that only a restart brings about. */
  #noteFixed({ config }: LoadedConfig): void {
    for (const field of ["log", "access_log"] as const) {
      if (JSON.stringify(config[field]) !== JSON.stringify(this.#started.config[field]))
        this.#options.log.warn(`\`${field}\` was changed: that takes a restart`);
    }
  }

  #enqueue(task: () => Promise<void>): Promise<void> {
    this.#pending++;
    this.#work = this.#work
      .then(() => (this.#stopped ? undefined : task()))
      .catch((thrown) => {
        this.#options.log.error({ err: messageOf(thrown) }, "a defect in bunnel; please report it");
      })
      .finally(() => {
        this.#pending--;
      });
    return this.#work;
  }
}

function sameStamps(first: ReadonlyMap<string, string>, second: ReadonlyMap<string, string>): boolean {
  if (first.size !== second.size) return false;
  for (const [path, stamp] of first) if (second.get(path) !== stamp) return false;
  return true;
}
