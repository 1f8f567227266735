// From the text of a config file to a Config, or to everything that is wrong with it. Opens nothing: certificates and
// what else the config names are control/compile.ts's.

import { messageOf } from "../base/errors.ts";
import { formatPath, type Path, type PlacedProblem, samePath, sortProblems } from "./problems.ts";
import type { Finding } from "./report.ts";
import { applyRules, type WrittenNames } from "./rules.ts";
import type { BackendTlsConfig, Config, TlsConfig } from "./schema.ts";
import type { AdminConfig } from "./schema-admin.ts";
import { readShape } from "./shape.ts";
import type { Environment } from "./substitute.ts";
import { type Places, type PlainValue, readYaml } from "./yaml.ts";

/** The little that configuration needs of a file system. */
export interface ConfigFiles {
  /** The file as UTF-8 text. Throws ProxyError with the errno's name as code (ENOENT, EACCES, EISDIR …). */
  readText(path: string): string;
  /** What tells one content of the file from the next. Never throws. */
  stamp(path: string): string;
}

/** A config in which every field and every reference is sound. */
export interface LoadedConfig {
  /** File paths in it are absolute, or relative to the working directory as the config file's own path is. */
  readonly config: Config;
  /** To say where something is that only turns out to be wrong later. */
  readonly places: Places;
  /** What is legal and yet probably not meant. */
  readonly warnings: readonly PlacedProblem[];
  /** Of the config file, just before it was read; "" where the text is from elsewhere. */
  readonly stamp: string;
}

export type LoadResult =
  | ({ readonly ok: true } & LoadedConfig)
  /** Problems are never none, and in the order of the file. */
  | { readonly ok: false; readonly problems: readonly PlacedProblem[]; readonly stamp: string };

export interface LoadOptions {
  /** What to call the file in problems; relative paths in the config start from its directory. */
  readonly file: string;
  /** For `${NAME}` in strings. */
  readonly environment: Environment;
  /** Of the file; "" by default. */
  readonly stamp?: string;
}

/** Reads a config file and judges it. A file that cannot be read is a problem like others. */
export function loadConfigFile(path: string, files: ConfigFiles, environment: Environment): LoadResult {
  // Before it is read: what is written meanwhile counts as new.
  const stamp = files.stamp(path);
  let text: string;
  try {
    text = files.readText(path);
  } catch (error) {
    // The place of a problem is the file already.
    const message = messageOf(error).replace(`cannot read ${path}:`, "cannot be read:");
    const problem = { file: path, line: 0, column: 0, path: [], message };
    return { ok: false, problems: [problem], stamp };
  }
  return loadConfig(text, { file: path, environment, stamp });
}

/** Judges the text of a config file: its YAML, its fields and what they are to one another, all at once. */
export function loadConfig(text: string, { file, environment, stamp = "" }: LoadOptions): LoadResult {
  const yaml = readYaml(text, file, environment);
  if (yaml.value === null) {
    const empty = {
      file,
      line: 1,
      column: 1,
      path: [],
      message: "is empty; a config has at least `listeners` and `backends`",
    };
    return { ok: false, problems: sortProblems(yaml.problems.length > 0 ? yaml.problems : [empty]), stamp };
  }
  const names = writtenNames(yaml.value);
  const shape = readShape(yaml.value);
  const { places } = yaml;
  // A variable that is not set leaves a text that is wrong as a value too.
  const unread = new Set(yaml.problems.map((problem) => formatPath(problem.path)));
  const shapeProblems = shape.problems.filter(
    (problem) => !unread.has(formatPath(problem.path)) || problem.path.length === 0,
  );
  const broken = [...yaml.problems, ...shape.problems].map((problem) => problem.path);
  const findings = (shape.config === null ? [] : applyRules(shape.config, names))
    .map((finding) => toOriginal(finding, shape.originalPath))
    .filter((finding) => !doubtful(finding, broken));
  const ofSeverity = (severity: Finding["severity"]): PlacedProblem[] =>
    findings.filter((finding) => finding.severity === severity).map((finding) => places.place(finding));
  const problems = sortProblems([
    ...yaml.problems,
    ...shapeProblems.map((problem) => places.place(problem)),
    ...ofSeverity("error"),
  ]);
  if (problems.length > 0 || shape.config === null) return { ok: false, problems, stamp };
  const warnings = sortProblems(ofSeverity("warning"));
  return { ok: true, config: withPaths(shape.config, file), places, warnings, stamp };
}

/** A path that an operator wrote in `file`, as the working directory sees it. */
export function pathBeside(file: string, path: string): string {
  if (path.startsWith("/")) return path;
  const directory = file.slice(0, file.lastIndexOf("/") + 1);
  return directory + (path.startsWith("./") ? path.slice(2) : path);
}

/** The same for all files of the admin API. */
export function withAdminPaths(admin: AdminConfig, file: string): AdminConfig {
  const { token_file, tls } = admin;
  const beside = (path: string): string => pathBeside(file, path);
  return {
    ...admin,
    ...(token_file !== undefined && { token_file: beside(token_file) }),
    ...(tls && { tls: { cert: beside(tls.cert), key: beside(tls.key), client_ca: tls.client_ca.map(beside) } }),
  };
}

interface TlsFiles {
  readonly certificates?: TlsConfig["certificates"] | undefined;
  readonly client_ca?: TlsConfig["client_ca"] | undefined;
  readonly client_crl?: TlsConfig["client_crl"] | undefined;
  readonly trust_domains?: TlsConfig["trust_domains"] | undefined;
  readonly spiffe_folder?: string | undefined;
}

function withPaths(config: Config, file: string): Config {
  const beside = (path: string): string => pathBeside(file, path);
  const withBundlePaths = (domains: TlsConfig["trust_domains"]): TlsConfig["trust_domains"] =>
    Object.fromEntries(Object.entries(domains).map(([domain, bundle]) => [domain, bundle.map(beside)]));
  const withTlsPaths = <T extends TlsFiles>(tls: T): T => ({
    ...tls,
    ...(tls.certificates && {
      certificates: tls.certificates.map(({ cert, key }) => ({ cert: beside(cert), key: beside(key) })),
    }),
    ...(tls.client_ca && { client_ca: tls.client_ca.map(beside) }),
    ...(tls.client_crl && { client_crl: tls.client_crl.map(beside) }),
    ...(tls.trust_domains && { trust_domains: withBundlePaths(tls.trust_domains) }),
    ...(tls.spiffe_folder !== undefined && { spiffe_folder: beside(tls.spiffe_folder) }),
  });
  const withBackendTlsPaths = (tls: BackendTlsConfig): BackendTlsConfig => ({
    ...tls,
    ...(tls.cert !== undefined && { cert: beside(tls.cert) }),
    ...(tls.key !== undefined && { key: beside(tls.key) }),
    ca: tls.ca.map(beside),
    crl: tls.crl.map(beside),
    trust_domains: withBundlePaths(tls.trust_domains),
    ...(tls.spiffe_folder !== undefined && { spiffe_folder: beside(tls.spiffe_folder) }),
  });
  const { output } = config.access_log;
  return {
    ...config,
    admin: withAdminPaths(config.admin, file),
    ...(config.pid_file !== undefined && { pid_file: beside(config.pid_file) }),
    access_log: { ...config.access_log, output: output.includes("/") ? withSlash(beside(output)) : output },
    listeners: config.listeners.map((listener) => ({
      ...listener,
      ...(listener.tls && { tls: withTlsPaths(listener.tls) }),
      ...(listener.routes && {
        routes: listener.routes.map((route) => ({
          ...route,
          ...(route.terminate && { terminate: withTlsPaths(route.terminate) }),
        })),
      }),
    })),
    backends: Object.fromEntries(
      Object.entries(config.backends).map(([name, backend]) => [
        name,
        { ...backend, ...(backend.tls && { tls: withBackendTlsPaths(backend.tls) }) },
      ]),
    ),
  };
}

/** The slash tells a path from `stdout` and the like, also beside a config that was named without a directory. */
function withSlash(path: string): string {
  return path.includes("/") ? path : `./${path}`;
}

function writtenNames(value: PlainValue): WrittenNames {
  const keysOf = (field: string): string[] => {
    const map = typeof value === "object" && value !== null && !Array.isArray(value) ? value[field] : undefined;
    return typeof map === "object" && map !== null && !Array.isArray(map) ? Object.keys(map) : [];
  };
  return { policies: keysOf("policies"), backends: keysOf("backends") };
}

function toOriginal(finding: Finding, originalPath: (path: Path) => Path): Finding {
  return { ...finding, path: originalPath(finding.path), about: finding.about.map(originalPath) };
}

/** Whether a map that the rule looked at has a field that could not be read: mend that first. */
function doubtful(finding: Finding, broken: readonly Path[]): boolean {
  return finding.about.some((map) => broken.some((path) => samePath(mapAround(path), map)));
}

/** The map that a field is in, also for an entry of a field that is a list. */
function mapAround(path: Path): Path {
  let length = path.length;
  while (length > 0 && typeof path[length - 1] === "number") length--;
  return path.slice(0, Math.max(length - 1, 0));
}
