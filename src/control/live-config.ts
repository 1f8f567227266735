// What is served follows what lies on the disk: the config when a signal asks for it, and the files with certificates, keys and lists by
// themselves. A new state is judged as a whole and published as a whole; when anything in it is wrong, the old one stays and the log says why.
//
// Files are looked at by their stamps and not by notifications: those are lost on network file systems and when a directory is swapped, which is
// how Kubernetes replaces a secret. A file may be written in place, and a key and its certificate one after the other; so nothing is
// read before it has stood still from one look to the next.
//
// Names are resolved before anything else of a reload and outside of the queue: a certificate that was revoked cannot wait for a name server.

import { messageOf, ProxyError } from "../base/errors.ts";
import type { LoadedConfig, LoadResult } from "../config/load.ts";
import { formatProblem } from "../config/problems.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { Log } from "../telemetry/log.ts";
import { type CompileResult, compile, hostNamesOf } from "./compile.ts";
import { ExpiryWatch } from "./expiry-watch.ts";

/** How often files are looked at. A change is served after one to two of these. */
export const LOOK_MS = 500;

/** Files that were refused are read again after so many looks (30 s): a certificate comes of age, a disk recovers, and no stamp shows it. */
export const RETRY_LOOKS = 60;

const REFUSED = "new certificates refused: the old ones are still served";
const RELOAD_REFUSED = "reload refused: the old config is still served";

export interface LiveConfigOptions {
  readonly runtime: Runtime;
  readonly log: Log;
  /** What a predecessor leaves: who has which slot of the counts, and the number of its last snapshot. Default: nothing. */
  readonly before?: { readonly slots: Map<string, number>; readonly generation: number };
  /** Reads the config anew; null where it is embedded and cannot change. */
  readonly load: (() => LoadResult) | null;
  /** Makes a snapshot the one that is served. Rejects with a ProxyError when it cannot be, and then the old one is served. */
  publish(snapshot: Snapshot): Promise<void>;
  /** A config was taken over, whether or not its snapshot is another one: for what is no part of that. */
  adopted?(config: LoadedConfig["config"]): void;
}

/** What each host name was resolved to, or the error. */
type Answers = ReadonlyMap<string, Promise<string>>;

type Compiled = Extract<CompileResult, { ok: true }>;

/** What is served, and what it was made of. */
interface Served {
  readonly loaded: LoadedConfig;
  readonly snapshot: Snapshot;
  /** Certificates must be replaceable while a name server is down, so names keep what they were resolved to. */
  readonly answers: Answers;
  /** Of the files. */
  readonly texts: ReadonlyMap<string, string>;
}

/** A config that was compiled once, and from then on follows its files. */
export class LiveConfig {
  readonly #options: LiveConfigOptions;
  readonly #expiry: ExpiryWatch;
  readonly #slots: Map<string, number>;
  /** What a restart would change: as the process was started with. */
  readonly #started: LoadedConfig;
  #served: Served | null = null;
  /** Stamps of the files of the served config as they were read last, whether what was in them is served or was refused. */
  #read: ReadonlyMap<string, string> = new Map();
  /** Stamps that differ from those, as of the last look. */
  #changed: ReadonlyMap<string, string> | null = null;
  /** Why the files as they were read last are not served; "" when they are. */
  #reasons = "";
  /** Looks since they were refused. */
  #looksSince = 0;
  #looking: ReturnType<typeof setInterval> | null = null;
  #draining = false;
  #stopped = false;
  /** Reloads, one at a time: the next waits for the one before. */
  #reloads: Promise<void> = Promise.resolve();
  /** Compiling and publishing, one at a time. Nothing in here waits for the network. */
  #work: Promise<void> = Promise.resolve();
  /** How many of these are not done. */
  #pending = 0;

  constructor(loaded: LoadedConfig, options: LiveConfigOptions) {
    this.#started = loaded;
    this.#options = options;
    this.#slots = options.before?.slots ?? new Map();
    this.#expiry = new ExpiryWatch(options.log);
  }

  /** Who has which slot of the counts. */
  get slots(): ReadonlyMap<string, number> {
    return this.#slots;
  }

  /** The first snapshot, or what is wrong. Nothing is published. */
  async compileFirst(): Promise<CompileResult> {
    const loaded = this.#started;
    const answers = await this.#resolve(loaded);
    const result = await this.#compile(loaded, answers);
    if (result.ok) this.#adopt(loaded, result, answers);
    return result;
  }

  /** Looks at the files from now on. */
  start(): void {
    this.#expiry.look(Date.now());
    this.#looking = setInterval(() => this.#look(), LOOK_MS);
  }

  /** Refuses reloads from now on, those that are under way too. Files are still followed: who is revoked must go, also during a drain. */
  drain(): void {
    this.#draining = true;
  }

  /** Publishes nothing from now on. What is under way ends without effect, and is not waited for: a name server may keep it waiting for long. */
  stop(): void {
    if (this.#looking !== null) clearInterval(this.#looking);
    this.#looking = null;
    this.#stopped = true;
  }

  /** Reads the config itself anew, and names are resolved anew. Resolves when that is done, or refused. */
  reload(): Promise<void> {
    this.#reloads = this.#reloads.then(() => this.#guarded(() => this.#reload()));
    return this.#reloads;
  }

  async #reload(): Promise<void> {
    const { load, log } = this.#options;
    if (this.#isEnding) return;
    if (load === null) {
      log.warn("the embedded default has no config file to reload");
      return;
    }
    const loaded = load();
    if (!loaded.ok) return this.#say(RELOAD_REFUSED, loaded.problems.map(formatProblem));
    const answers = await this.#resolve(loaded);
    await this.#enqueue(async () => {
      if (this.#isEnding) return;
      this.#noteFixed(loaded);
      const result = await this.#compile(loaded, answers);
      if (!result.ok) return this.#say(RELOAD_REFUSED, result.problems.map(formatProblem));
      const isNew = !this.#isServed(result.snapshot);
      const problem = isNew ? await this.#publish(result.snapshot) : "";
      if (problem !== "") return this.#say(RELOAD_REFUSED, [problem]);
      this.#adopt(loaded, result, answers);
      for (const warning of result.warnings) log.warn(formatProblem(warning));
      if (isNew) log.info({ generation: result.snapshot.generation }, "config reloaded");
      else log.info("config reloaded: nothing has changed");
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
      if (this.#reasons !== "" && ++this.#looksSince >= RETRY_LOOKS) void this.#enqueue(() => this.#followFiles(true));
      return;
    }
    const stoodStill = this.#changed !== null && sameStamps(now, this.#changed);
    this.#changed = stoodStill ? null : now;
    if (stoodStill) void this.#enqueue(() => this.#followFiles(false));
  }

  /** Reads the files of the served config, and serves them if they are sound. */
  async #followFiles(isRetry: boolean): Promise<void> {
    const { log } = this.#options;
    if (this.#served === null) return;
    const { loaded, answers } = this.#served;
    const result = await this.#compile(loaded, answers);
    if (this.#stopped) return;
    this.#read = result.stamps;
    this.#looksSince = 0;
    const isNew = result.ok && !this.#isServed(result.snapshot);
    const problem = isNew ? await this.#publish(result.snapshot) : "";
    const problems = result.ok ? [problem].filter((text) => text !== "") : result.problems.map(formatProblem);
    const before = this.#reasons;
    this.#reasons = problems.join("\n");
    if (!isRetry || this.#reasons !== before) this.#say(REFUSED, problems);
    if (!result.ok || problem !== "") return;
    this.#adopt(loaded, result, answers);
    if (!isNew) {
      if (before !== "") log.info("certificates are again those that are served");
      return;
    }
    for (const warning of result.warnings) log.warn(formatProblem(warning));
    log.info({ generation: result.snapshot.generation }, "certificates replaced");
  }

  /** "" or why it is not served. */
  async #publish(snapshot: Snapshot): Promise<string> {
    try {
      await this.#options.publish(snapshot);
      return "";
    } catch (thrown) {
      if (!(thrown instanceof ProxyError)) throw thrown;
      return messageOf(thrown);
    }
  }

  /** What was compiled is what is served. */
  #adopt(loaded: LoadedConfig, { snapshot, expiring, stamps, texts }: Compiled, answers: Answers): void {
    // The number of the one that was published stays, when this one is the same.
    const isServed = this.#isServed(snapshot);
    this.#served = { loaded, answers, texts, snapshot: isServed && this.#served ? this.#served.snapshot : snapshot };
    this.#expiry.replace(expiring);
    this.#options.adopted?.(loaded.config);
    this.#read = stamps;
    this.#reasons = "";
  }

  /** Whether it would change nothing: files that were copied again, or a reload for nothing. Slots are also given out for what was then refused. */
  #isServed(snapshot: Snapshot): boolean {
    if (this.#served === null) return false;
    const { generation, slotCount } = snapshot;
    return JSON.stringify({ ...this.#served.snapshot, generation, slotCount }) === JSON.stringify(snapshot);
  }

  async #resolve({ config }: LoadedConfig): Promise<Answers> {
    const { runtime } = this.#options;
    // Together: a hundred names are then looked up in the time of one.
    const answers = new Map([...hostNamesOf(config)].map((name) => [name, runtime.resolve(name)]));
    await Promise.allSettled(answers.values());
    return answers;
  }

  #compile(loaded: LoadedConfig, answers: Answers): Promise<CompileResult> {
    const { runtime } = this.#options;
    return compile(loaded, {
      generation: (this.#served?.snapshot.generation ?? this.#options.before?.generation ?? 0) + 1,
      files: runtime.files,
      runtime,
      resolve: (name) => answers.get(name) ?? runtime.resolve(name),
      slots: this.#slots,
      nowMs: Date.now(),
      served: this.#served?.texts ?? null,
    });
  }

  #say(message: string, problems: readonly string[]): void {
    for (const problem of problems) this.#options.log.error({ problem }, message);
  }

  /** Tells of changes that only a restart brings about. */
  #noteFixed({ config }: LoadedConfig): void {
    for (const field of ["log", "access_log"] as const) {
      if (JSON.stringify(config[field]) !== JSON.stringify(this.#started.config[field]))
        this.#options.log.warn(`\`${field}\` was changed: that takes a restart`);
    }
  }

  get #isEnding(): boolean {
    return this.#draining || this.#stopped;
  }

  #enqueue(task: () => Promise<void>): Promise<void> {
    this.#pending++;
    this.#work = this.#work
      .then(() => (this.#stopped ? undefined : this.#guarded(task)))
      .finally(() => {
        this.#pending--;
      });
    return this.#work;
  }

  /** Tells of what nobody foresaw, and lets what comes after go on. */
  async #guarded(task: () => Promise<void>): Promise<void> {
    try {
      await task();
    } catch (thrown) {
      this.#options.log.error({ err: messageOf(thrown) }, "a defect in bunnel; please report it");
    }
  }
}

function sameStamps(first: ReadonlyMap<string, string>, second: ReadonlyMap<string, string>): boolean {
  if (first.size !== second.size) return false;
  for (const [path, stamp] of first) if (second.get(path) !== stamp) return false;
  return true;
}
