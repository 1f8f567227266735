// Keeps the snapshot in force up to date with the disk: with the config on a signal, or on a change with `watch_config`; with the files of
// certificates, keys and CRLs on every change. A new state is checked and published as a whole; when anything in it is wrong, the old one stays.
// Files are polled by their stamps, not watched by inotify: notifications are lost on network file systems and when a directory is swapped, as
// Kubernetes does with secrets. Nothing is read before it has stayed the same from one poll to the next (stand-still.ts).
// A reload resolves host names first and outside of the work queue: a revoked certificate must not wait for a name server.

import { messageOf, ProxyError } from "../base/errors.ts";
import type { LoadedConfig, LoadResult } from "../config/load.ts";
import { formatProblem } from "../config/problems.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { MeterBook } from "../snapshot/meters.ts";
import type { Snapshot } from "../snapshot/snapshot.ts";
import type { ConfigStatus } from "../snapshot/status.ts";
import type { Log } from "../telemetry/log.ts";
import type { AdminAccess } from "./admin-access.ts";
import { type CompileResult, compile, hostNamesOf, usedOfNames } from "./compile.ts";
import { ExpiryWatch } from "./expiry-watch.ts";
import { changedAround, fixedChanges } from "./fixed-fields.ts";
import { sameData } from "./same-data.ts";
import type { ServedCertificate } from "./served-certificates.ts";
import { StandStill } from "./stand-still.ts";

/** Between two polls of the files. A change is in force after one to two of these. */
export const LOOK_MS = 500;

/**
 * Files that were refused are read again after this many polls (30 s): a certificate becomes valid, a disk recovers, or a name can be resolved again,
 * without a change of any stamp.
 */
export const RETRY_LOOKS = 60;

const REFUSED = "new certificates refused: the old ones are still served";
const RELOAD_REFUSED = "reload refused: the old config is still served";
const EMBEDDED = "the embedded default has no config file to reload";
const ENDING = "the daemon is draining: it takes no new config any more";
const DEFECT = "a defect in bunnel; please report it";

export interface LiveConfigOptions {
  readonly runtime: Runtime;
  readonly log: Log;
  /** What a predecessor has handed over: the slots of the counts and the meters by name, and the number of its last snapshot. Default: nothing. */
  readonly before?: {
    readonly slots: Map<string, number>;
    readonly meters: Iterable<readonly [string, number]>;
    readonly generation: number;
  };
  /** Re-reads the config; null where it is embedded and cannot change. */
  readonly load: (() => LoadResult) | null;
  /** Puts a snapshot in force. Rejects with a ProxyError when that fails, and then the old one stays in force. */
  publish(snapshot: Snapshot): Promise<void>;
  /** Called when a config is in force, whether or not its snapshot differs: for settings that are not part of the snapshot. */
  adopted?(config: LoadedConfig["config"], admin: AdminAccess): void;
}

/** What each host name was resolved to, or the error. */
type Answers = ReadonlyMap<string, Promise<string>>;

type Compiled = Extract<CompileResult, { ok: true }>;

/** The snapshot in force, and what it was compiled from. */
interface Served {
  readonly loaded: LoadedConfig;
  readonly snapshot: Snapshot;
  /** Kept so that certificates can be replaced while a name server is down. */
  readonly answers: Answers;
  /** The texts of the files, by path. */
  readonly texts: ReadonlyMap<string, string>;
  readonly certificates: readonly ServedCertificate[];
}

/** A config that was compiled once, and from then on follows its files. */
export class LiveConfig {
  readonly #options: LiveConfigOptions;
  readonly #expiry: ExpiryWatch;
  readonly #slots: Map<string, number>;
  readonly #meters: MeterBook;
  /** The config that the process was started with: some fields need a restart to change. */
  readonly #started: LoadedConfig;
  #served: Served | null = null;
  /** The files that the config in force names. */
  readonly #material: StandStill;
  /** Why their last reading was refused; empty when it was not. */
  #reasons: readonly string[] = [];
  /** Polls since they were refused. */
  #looksSince = 0;
  #setsRefused = 0;
  /** The config file; and, of a config that was refused, the files that it names. */
  readonly #source: StandStill;
  /** Polls until a refused config is tried again; 0 when there is none for which that could help. */
  #looksToRetry = 0;
  #lastReload: { readonly at: string; readonly problems: readonly string[] } | null = null;
  /** Of the last reload that was taken over, if none was refused since. */
  #warnings: readonly string[] = [];
  #looking: ReturnType<typeof setInterval> | null = null;
  #draining = false;
  #onHold = false;
  #stopped = false;
  /** Reloads, one at a time: the next waits for the one before. */
  #reloads: Promise<unknown> = Promise.resolve();
  /** The last of these, until it begins: further requests share its result. */
  #nextReload: Promise<readonly string[]> | null = null;
  /** How many of these are not done. */
  #reloading = 0;
  /** Compiling and publishing, one at a time. Nothing in here waits for the network. */
  #work: Promise<readonly string[]> = Promise.resolve([]);
  /** How many of these are not done. */
  #pending = 0;

  constructor(loaded: LoadedConfig, options: LiveConfigOptions) {
    this.#started = loaded;
    this.#options = options;
    this.#slots = options.before?.slots ?? new Map();
    this.#meters = new MeterBook(options.before?.meters);
    this.#expiry = new ExpiryWatch(options.log);
    const stamp = (path: string): string => options.runtime.files.stamp(path);
    this.#material = new StandStill(stamp);
    this.#source = new StandStill(stamp);
    this.#source.wasRead(new Map([[loaded.places.file, loaded.stamp]]));
  }

  /** The slots of the counts, by name. */
  get slots(): ReadonlyMap<string, number> {
    return this.#slots;
  }

  /** The blocks of the meters, by name. */
  get meters(): MeterBook {
    return this.#meters;
  }

  /** The certificates that are served, and who uses them. */
  get certificates(): readonly ServedCertificate[] {
    return this.#served?.certificates ?? [];
  }

  /** What became of the config and its files, for `bunnel status`. */
  get status(): ConfigStatus {
    const problems = this.#lastReload?.problems ?? [];
    return {
      file: this.#options.load === null ? null : this.#started.places.file,
      last_reload_at: this.#lastReload?.at ?? null,
      last_reload_ok: problems.length === 0,
      last_reload_problems: problems,
      last_reload_warnings: this.#warnings,
      certificate_problems: this.#reasons,
      certificate_sets_refused: this.#setsRefused,
      names_used: usedOfNames(this.#slots.size, this.#meters.used),
    };
  }

  /** The first snapshot, or what is wrong. Nothing is published. */
  async compileFirst(): Promise<CompileResult> {
    const loaded = this.#started;
    const answers = await this.#resolve(loaded);
    const result = await this.#compile(loaded, answers);
    if (result.ok) this.#adopt(loaded, result, { answers, isNew: true });
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

  /** Reads no config until `release`, and resolves once what was under way is done. Files are still followed. */
  async hold(): Promise<void> {
    this.#onHold = true;
    await this.#reloads;
    await this.#work;
  }

  release(): void {
    this.#onHold = false;
  }

  /** Publishes nothing from now on. What is under way ends without effect, and is not waited for: a name server may keep it waiting for long. */
  stop(): void {
    if (this.#looking !== null) clearInterval(this.#looking);
    this.#looking = null;
    this.#stopped = true;
  }

  /** Re-reads the config itself and resolves host names again. Resolves with why it was refused; with nothing when it is served. */
  reload(): Promise<readonly string[]> {
    return this.#ask({ isRetry: false });
  }

  /** A retry says nothing when it is refused for the same reasons as before. */
  #ask({ isRetry }: { readonly isRetry: boolean }): Promise<readonly string[]> {
    // A reload reads what is on the disk when it begins. A hundred in a row that each wait for a name server would delay the next one by an hour.
    if (this.#nextReload !== null && this.#reloading > 1) return this.#nextReload;
    const at = new Date().toISOString();
    this.#reloading++;
    const outcome = this.#reloads.then(async () => {
      this.#nextReload = null;
      const problems = await this.#guarded(() => this.#reload());
      const before = this.#lastReload?.problems ?? [];
      if (problems.length > 0 && !this.#stopped && !(isRetry && sameData(problems, before)))
        this.#say(RELOAD_REFUSED, problems);
      this.#lastReload = { at, problems };
      this.#reloading--;
      return problems;
    });
    this.#reloads = outcome;
    this.#nextReload = outcome;
    return outcome;
  }

  async #reload(): Promise<readonly string[]> {
    const { load, log } = this.#options;
    this.#warnings = [];
    if (this.#isEnding) return [ENDING];
    if (load === null) return [EMBEDDED];
    const loaded = load();
    const source = new Map([[this.#started.places.file, loaded.stamp]]);
    this.#source.wasRead(source);
    this.#looksToRetry = 0;
    if (!loaded.ok) {
      // What was read stays as wrong as it is; what could not be read may be readable later.
      if (loaded.problems.some(({ line }) => line === 0)) this.#looksToRetry = RETRY_LOOKS;
      return loaded.problems.map(formatProblem);
    }
    const answers = await this.#resolve(loaded);
    return await this.#enqueue(async () => {
      if (this.#isEnding) return [ENDING];
      const result = await this.#compile(loaded, answers);
      const isNew = result.ok && !this.#isServed(result.snapshot);
      const problem = isNew ? await this.#publish(result.snapshot) : "";
      if (!result.ok || problem !== "") {
        this.#looksToRetry = RETRY_LOOKS;
        this.#source.wasRead(new Map([...source, ...result.stamps]));
        return result.ok ? [problem] : result.problems.map(formatProblem);
      }
      const before = this.#served?.loaded.config ?? loaded.config;
      this.#adopt(loaded, result, { answers, isNew });
      const warned = result.warnings.map(formatProblem);
      for (const warning of warned) log.warn(warning);
      this.#warnings = [...this.#tellOfReload(loaded, isNew || changedAround(before, loaded.config)), ...warned];
      return [];
    });
  }

  /** One line that says what a reload has brought about, and one for what it could not, which is returned. */
  #tellOfReload({ config }: LoadedConfig, isNew: boolean): readonly string[] {
    const { log } = this.#options;
    const fixed = fixedChanges(this.#started.config, config).map((field) => `\`${field}\``);
    const named = fixed.join(" and ");
    if (!isNew && fixed.length === 0) log.info("config reloaded: nothing has changed");
    else if (!isNew) log.warn(`config reloaded: nothing has changed but ${named}, and that takes a restart`);
    else {
      if (fixed.length > 0) log.warn(`${named} changed: that takes a restart, and the rest is taken over`);
      log.info({ generation: this.#served?.snapshot.generation }, "config reloaded");
    }
    return fixed.length === 0 ? [] : [`${named} changed: that takes a restart`];
  }

  #look(): void {
    this.#expiry.look(Date.now());
    // The reload reads the files itself, and the next poll compares with what it has read.
    if (this.#pending > 0) return;
    this.#lookAtConfig();
    const sight = this.#material.look();
    if (sight === "still") void this.#enqueue(() => this.#followFiles({ isRetry: false }));
    else if (sight === "same" && this.#reasons.length > 0 && ++this.#looksSince >= RETRY_LOOKS)
      void this.#enqueue(() => this.#followFiles({ isRetry: true }));
  }

  #lookAtConfig(): void {
    const isWatched = this.#served?.loaded.config.watch_config === true && this.#options.load !== null;
    // The reload under way reads the file itself, and the next poll compares with what it has read.
    if (!isWatched || this.#isEnding || this.#onHold || this.#reloading > 0) return;
    const sight = this.#source.look();
    if (sight === "still") void this.#ask({ isRetry: false });
    else if (sight === "same" && this.#looksToRetry > 0 && --this.#looksToRetry === 0)
      void this.#ask({ isRetry: true });
  }

  /** Reads the files of the served config, and serves them if they are sound. */
  async #followFiles({ isRetry }: { readonly isRetry: boolean }): Promise<readonly string[]> {
    const { log } = this.#options;
    if (this.#served === null) return [];
    const { loaded, answers } = this.#served;
    const result = await this.#compile(loaded, answers);
    if (this.#stopped) return [];
    this.#material.wasRead(result.stamps);
    this.#looksSince = 0;
    const isNew = result.ok && !this.#isServed(result.snapshot);
    const problem = isNew ? await this.#publish(result.snapshot) : "";
    const problems = result.ok ? [problem].filter((text) => text !== "") : result.problems.map(formatProblem);
    const before = this.#reasons;
    this.#reasons = problems;
    if (!isRetry && problems.length > 0) this.#setsRefused++;
    if (!isRetry || !sameData(problems, before)) this.#say(REFUSED, problems);
    if (!result.ok || problem !== "") return problems;
    this.#adopt(loaded, result, { answers, isNew });
    if (!isNew) {
      if (before.length > 0) log.info("certificates are again those that are served");
      return [];
    }
    for (const warning of result.warnings) log.warn(formatProblem(warning));
    log.info({ generation: result.snapshot.generation }, "certificates replaced");
    return [];
  }

  /** "" or why it is not served. */
  async #publish(snapshot: Snapshot): Promise<string> {
    try {
      await this.#options.publish(snapshot);
      return "";
    } catch (thrown) {
      return thrown instanceof ProxyError ? messageOf(thrown) : `${DEFECT}: ${messageOf(thrown)}`;
    }
  }

  /** What was compiled is what is served. */
  #adopt(
    loaded: LoadedConfig,
    { snapshot, expiring, certificates, stamps, texts, admin }: Compiled,
    { answers, isNew }: { readonly answers: Answers; readonly isNew: boolean },
  ): void {
    // The number of the one that was published stays, when this one is the same.
    const served = isNew || !this.#served ? snapshot : this.#served.snapshot;
    this.#served = { loaded, answers, texts, certificates, snapshot: served };
    this.#expiry.replace(expiring);
    this.#options.adopted?.(loaded.config, admin);
    this.#material.wasRead(stamps);
    this.#reasons = [];
  }

  /** Whether it would change nothing: files that were copied again, or a reload for nothing. Slots are also given out for what was then refused. */
  #isServed(snapshot: Snapshot): boolean {
    if (this.#served === null) return false;
    const { generation, slotCount } = snapshot;
    return sameData({ ...this.#served.snapshot, generation, slotCount }, snapshot);
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
      meters: this.#meters,
      nowMs: Date.now(),
      served: this.#served?.texts ?? null,
    });
  }

  #say(message: string, problems: readonly string[]): void {
    const { log } = this.#options;
    for (const problem of problems) {
      // With these nothing is wrong but the asking.
      if (problem === ENDING || problem === EMBEDDED) log.warn({ problem }, message);
      else log.error({ problem }, message);
    }
  }

  get #isEnding(): boolean {
    return this.#draining || this.#stopped;
  }

  #enqueue(task: () => Promise<readonly string[]>): Promise<readonly string[]> {
    this.#pending++;
    this.#work = this.#work
      .then(() => (this.#stopped ? [ENDING] : this.#guarded(task)))
      .finally(() => {
        this.#pending--;
      });
    return this.#work;
  }

  /** Makes what nobody foresaw a problem like others, and lets what comes after go on. */
  async #guarded(task: () => Promise<readonly string[]>): Promise<readonly string[]> {
    try {
      return await task();
    } catch (thrown) {
      this.#options.log.error({ err: messageOf(thrown) }, DEFECT);
      return [`${DEFECT}: ${messageOf(thrown)}`];
    }
  }
}
