// Patterns for names, as routes and policies have them: server names, DNS and URI SANs. They are deliberately weaker than
// regular expressions: a wildcard stands for whole labels or whole path segments, none matches everything by accident, and
// matching is one pass over the name.
//
// The wildcards are ghostunnel's, with one difference: its `spiffe://prod/**` also matches `spiffe://production/x`, since it
// takes the slash before `**` for optional. Here a wildcard begins after its slash and stands for at least one segment.

import { hostNameProblem, isLabelCode } from "./host-name.ts";

/** A compiled pattern. */
export interface NamePattern {
  /** As it was written, but for DNS names, which are in lower case. */
  readonly text: string;
  /** Whether the pattern holds for the whole name. Any text may be asked about. */
  matches(name: string): boolean;
}

const DOT = 0x2e;
const SLASH = 0x2f;

/**
 * `db.internal` matches itself, in any case; `*.db.internal` exactly one label more; `**.db.internal` one label or more.
 * Anywhere else a wildcard is an error, and so is one alone. With `allowEmpty` the pattern "" is allowed and matches "" only:
 * the client that names no server. Answers a string that says what is wrong otherwise.
 */
export function compileDnsPattern(
  pattern: string,
  { allowEmpty = false }: { readonly allowEmpty?: boolean } = {},
): NamePattern | string {
  if (pattern === "" && allowEmpty) return { text: "", matches: (name) => name === "" };
  if (isCatchAll(pattern)) return `"${pattern}" would match every name: write at least a domain, as in *.example.com`;
  const wildcard = pattern.startsWith("**.") ? "**" : pattern.startsWith("*.") ? "*" : "";
  const domain = wildcard === "" ? pattern : pattern.slice(wildcard.length + 1);
  if (domain.includes("*")) return `"${pattern}" has a wildcard that is not the whole first label, as in *.example.com`;
  const problem = domain.endsWith(".") ? "ends in a dot, which is to be left out" : hostNameProblem(domain);
  if (problem !== "") return `"${pattern}" is no DNS name pattern: the name ${problem}`;
  const lower = domain.toLowerCase();
  if (wildcard === "")
    return { text: lower, matches: (name) => name.length === lower.length && standsAt(name, 0, lower) };
  const suffix = `.${lower}`;
  const mayHaveDots = wildcard === "**";
  return {
    text: wildcard + suffix,
    matches: (name) => {
      const end = name.length - suffix.length;
      return end > 0 && standsAt(name, end, suffix) && areLabels(name, { start: 0, end, mayHaveDots });
    },
  };
}

/** The texts of all DNS patterns that match a name, as `NamePattern.text` has them: whoever has many patterns looks for these among them. */
export function dnsPatternsOf(name: string): readonly string[] {
  // No name holds a wildcard, and as text it would be the same as the pattern's.
  if (name.includes("*")) return [];
  // Not toLowerCase: see standsAt.
  const lower = /[A-Z]/.test(name) ? name.replace(/[A-Z]/g, (letter) => letter.toLowerCase()) : name;
  const texts = [lower];
  for (let start = 0; ; ) {
    const dot = lower.indexOf(".", start);
    if (dot < 0 || !areLabels(lower, { start, end: dot, mayHaveDots: false })) return texts;
    const suffix = lower.slice(dot);
    if (start === 0) texts.push(`*${suffix}`);
    texts.push(`**${suffix}`);
    start = dot + 1;
  }
}

/**
 * `spiffe://prod/ns/web` matches itself; `*` in it stands for one whole path segment; `**`, as the last one, for one segment
 * or more. Scheme and authority (the trust domain) must be literal and are compared in any case (RFC 5280, 7.4), the rest
 * byte for byte. No wildcard stands for an empty segment, `.` or `..`. Without wildcards a pattern may be any absolute URI.
 * Answers a string that says what is wrong otherwise.
 */
export function compileUriPattern(pattern: string): NamePattern | string {
  if (!/^[!-~]+$/.test(pattern))
    return `"${pattern}" is no URI pattern: it is empty or holds a character that no URI has`;
  if (isCatchAll(pattern)) return catchAll(pattern);
  // Scheme and authority (RFC 3986, 3.1 and 3.2), all that is compared without regard to case.
  const origin = /^([A-Za-z][A-Za-z0-9+.-]*|\*+):(?:\/\/[^/?#]*)?/.exec(pattern)?.[0];
  if (origin === undefined) return `"${pattern}" is no URI: write it whole, as in spiffe://prod/web`;
  if (origin.includes("*")) return catchAll(pattern);
  const lower = origin.toLowerCase();
  const path = pattern.slice(origin.length);
  if (!path.includes("*")) {
    const length = pattern.length;
    return {
      text: pattern,
      matches: (name) => name.length === length && standsAt(name, 0, lower) && name.endsWith(path),
    };
  }
  if (!path.startsWith("/") || !/:\/\/./.test(origin))
    return `"${pattern}" has a wildcard outside of a path: write scheme://authority/path, as in spiffe://prod/*/web`;
  const segments = path.slice(1).split("/");
  const problem = segmentsProblem(segments);
  if (problem !== "") return `"${pattern}" ${problem}`;
  return { text: pattern, matches: (name) => standsAt(name, 0, lower) && matchesPath(name, lower.length, segments) };
}

function isCatchAll(pattern: string): boolean {
  return pattern === "*" || pattern === "**";
}

function catchAll(pattern: string): string {
  return `"${pattern}" would match names of every trust domain: write it out, as in spiffe://prod/**`;
}

/** What is wrong with the segments of a path pattern, as the end of a sentence, or "". */
function segmentsProblem(segments: readonly string[]): string {
  for (const [index, segment] of segments.entries()) {
    if (segment === "" || segment === "." || segment === "..")
      return `has the path segment "${segment}", which names none`;
    if (segment === "**" && index < segments.length - 1) return "has ** before the end: it stands for the whole rest";
    if (segment.includes("*") && !isCatchAll(segment))
      return `has the path segment "${segment}": a wildcard stands for a whole one`;
  }
  return "";
}

/** Whether `name` from `at` on is a slash and a segment for each of `segments`, and ends there. */
function matchesPath(name: string, at: number, segments: readonly string[]): boolean {
  for (const segment of segments) {
    if (name.charCodeAt(at) !== SLASH) return false;
    const start = at + 1;
    if (segment === "**") return areSegments(name, start);
    at = segmentEnd(name, start);
    if (
      segment === "*" ? !isSegment(name, start, at) : at - start !== segment.length || !name.startsWith(segment, start)
    )
      return false;
  }
  return at === name.length;
}

function areSegments(name: string, start: number): boolean {
  for (let at = start; ; ) {
    const end = segmentEnd(name, at);
    if (!isSegment(name, at, end)) return false;
    if (end === name.length) return true;
    at = end + 1;
  }
}

function segmentEnd(name: string, start: number): number {
  const slash = name.indexOf("/", start);
  return slash < 0 ? name.length : slash;
}

/** Whether it names something: empty and dot segments go away or climb when somebody normalises the path (RFC 3986, 5.2.4). */
function isSegment(name: string, start: number, end: number): boolean {
  const length = end - start;
  if (length > 2 || length < 1) return length > 2;
  return !(name.charCodeAt(start) === DOT && name.charCodeAt(end - 1) === DOT);
}

/** Whether what lies between `start` and `end` is one label, or with dots several, of characters that labels are made of. */
function areLabels(
  name: string,
  { start, end, mayHaveDots }: { start: number; end: number; mayHaveDots: boolean },
): boolean {
  let labelLength = 0;
  for (let index = start; index < end; index++) {
    const code = name.charCodeAt(index);
    if (code === DOT) {
      if (!mayHaveDots || labelLength === 0) return false;
      labelLength = 0;
    } else if (isLabelCode(code)) labelLength++;
    else return false;
  }
  return labelLength > 0;
}

/**
 * Whether `lower` stands in `name` at `at`, ASCII letters in any case. By hand, as toLowerCase turns U+212A, the Kelvin sign,
 * into a plain k.
 */
function standsAt(name: string, at: number, lower: string): boolean {
  if (at + lower.length > name.length) return false;
  for (let index = 0; index < lower.length; index++) {
    const code = name.charCodeAt(at + index);
    const folded = code >= 0x41 && code <= 0x5a ? code + 0x20 : code;
    if (folded !== lower.charCodeAt(index)) return false;
  }
  return true;
}
