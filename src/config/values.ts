// The kinds of values that fields of the config have: durations, addresses, CIDRs, name patterns, names. Each is a
// zod schema that takes what the operator writes, says what is wrong with it, and gives what the program works with.
// A field's own description, default and limits are in schema.ts.

import { z } from "zod";
import { type Address, type ListenAddress, parseAddress, parseListenAddress } from "../base/address.ts";
import { latin1 } from "../base/bytes.ts";
import { formatIp, isIp, parseIp } from "../base/ip.ts";
import { formatDuration, formatSize, parseDuration, parseSize } from "../base/units.ts";
import { formatCidr, parseCidr } from "../protocol/cidr.ts";
import { hostNameProblem } from "../protocol/host-name.ts";
import { compileDnsPattern, compileUriPattern } from "../protocol/name-pattern.ts";
import { trustDomainProblem } from "../protocol/spiffe-id.ts";
import { didYouMean } from "./nearest.ts";

const DAY_MS = 86_400_000;
const NAME_PATTERN = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$/;

/** A listener's, route's, policy's or backend's name: it becomes a label of metrics and a word in logs. */
export const name = z.string().regex(NAME_PATTERN, {
  error: "a name is 1 to 63 letters, digits, _ . or -, and begins with a letter, a digit or _",
});

/**
 * Milliseconds, from a text with a unit. `allowed` is shown when the value is out of range, so it also says what 0s
 * means.
 */
export function duration(range: { readonly minMs: number; readonly maxMs: number; readonly zero?: string }) {
  const { minMs, maxMs, zero } = range;
  const bounds = `${formatDuration(minMs)} to ${maxMs % DAY_MS === 0 ? `${maxMs / DAY_MS}d` : formatDuration(maxMs)}`;
  const allowed = zero === undefined ? bounds : `0s (${zero}), or ${bounds}`;
  return text({ allowed, pattern: "^\\d+(\\.\\d+)?(ms|s|m|h|d)$", kind: "duration" }, (written): number | Wrong => {
    const ms = parseDuration(written);
    if (ms === null) return wrong(`"${written}" is not a duration: write a number with ms, s, m, h or d, such as 10s`);
    if ((ms === 0 && zero !== undefined) || (ms >= minMs && ms <= maxMs)) return ms;
    return wrong(`${written} is out of range; allowed: ${allowed}`);
  });
}

/** Bytes, from a text with a unit. `0B` means what `zero` says. */
export function size(range: { readonly min: number; readonly max: number; readonly zero: string }) {
  const { min, max, zero } = range;
  const allowed = `0B (${zero}), or ${formatSize(min)} to ${formatSize(max)}`;
  return text({ allowed, pattern: "^\\d+(\\.\\d+)?[kKMG]?i?B$", kind: "size" }, (written): number | Wrong => {
    const bytes = parseSize(written);
    if (bytes === null)
      return wrong(`"${written}" is not a size: write a number with B, kB, MB, GB, KiB, MiB or GiB, such as 10MiB`);
    if (bytes === 0 || (bytes >= min && bytes <= max)) return bytes;
    return wrong(`${written} is out of range; allowed: ${allowed}`);
  });
}

/** An integer within limits that are part of its message. */
export function integer(range: { readonly min: number; readonly max: number; readonly zero?: string }) {
  const allowed = range.zero === undefined ? `${range.min} to ${range.max}` : `0 (${range.zero}) to ${range.max}`;
  const outOfRange = {
    error: ({ input }: { readonly input?: unknown }) => `${String(input)} is out of range; allowed: ${allowed}`,
  };
  // A number too large to be exact breaks two limits at once: told in the same words, that is one problem.
  const notExact = ({ code, input }: { readonly code?: string | undefined; readonly input?: unknown }) =>
    code === "invalid_type" ? undefined : outOfRange.error({ input });
  return z.int({ error: notExact }).min(range.min, outOfRange).max(range.max, outOfRange).meta({ allowed });
}

/** How many processes relay. Says itself what is wrong: neither half of the union knows of the other. */
export function workerCount(max: number) {
  const allowed = `auto, or 0 (everything runs in one process) to ${max}`;
  const explain = ({ input }: { readonly input?: unknown }): string => {
    if (input === null) return `is empty; allowed: ${allowed}`;
    if (Number.isInteger(input)) return `${input} is out of range; allowed: ${allowed}`;
    if (typeof input !== "string") {
      const found = Array.isArray(input) ? "a list" : typeof input === "object" ? "a map" : String(input);
      return `expected a whole number or auto, found ${found}; allowed: ${allowed}`;
    }
    if (/^\d+$/.test(input)) return `"${input}" is text: write the number without quotes`;
    return `"${input}" is not allowed; allowed: ${allowed}${didYouMean(input, ["auto"])}`;
  };
  const count = z.int({ error: explain }).min(0, { error: explain }).max(max, { error: explain });
  return z.union([z.literal("auto"), count], { error: explain }).meta({ allowed });
}

/** Where a listener may listen. A name is refused: it may stand for several addresses, or for another one tomorrow. */
export const listenAddress = text(
  { allowed: "host:port, [v6]:port, unix:/path or systemd:NAME", kind: "address" },
  (written): ListenAddress | Wrong => {
    const address = parseListenAddress(written);
    if (typeof address === "string") return wrong(address);
    if (address.kind === "tcp" && !isIp(address.host))
      return wrong(`a listener needs an IP address and not the name "${address.host}"; for localhost write 127.0.0.1`);
    return address;
  },
);

/** Where the admin API may listen: on this host only. Null = nowhere. */
export const adminAddress = text(
  { allowed: "IP:port, [v6]:port, unix:/path or off", kind: "address" },
  (written): Address | null | Wrong => {
    if (written === "off") return null;
    if (written.startsWith("systemd:"))
      return wrong("the admin API takes no socket from systemd: use 127.0.0.1:port or unix:/path");
    const address = parseAddress(written);
    if (typeof address === "string") return wrong(written.includes(":") ? address : `${address}, or off for none`);
    if (address.kind === "unix" && address.path.startsWith("@"))
      return wrong(`every user of this host can reach ${written}: use unix:/path, whose file only its owner can open`);
    if (address.kind === "tcp" && !isIp(address.host))
      return wrong(
        `the admin API needs an IP address and not the name "${address.host}"; for localhost write 127.0.0.1`,
      );
    return address;
  },
);

/** Where an endpoint may be. */
export const endpointAddress = text(
  { allowed: "host:port, name:port, [v6]:port or unix:/path", kind: "address" },
  (written): Address | Wrong => {
    const address = parseAddress(written);
    if (typeof address === "string") return wrong(address);
    if (address.kind === "unix") return address;
    if (address.port === 0) return wrong("port 0 cannot be dialled; allowed: 1 to 65535");
    if (address.host === "0.0.0.0" || address.host === "::")
      return wrong(`"${address.host}" stands for all addresses to listen on and cannot be dialled`);
    return address;
  },
);

/** The canonical text of a block of addresses. */
export const cidr = text(
  { allowed: "10.0.0.0/8, 2001:db8::/32, or one address", kind: "CIDR" },
  (written): string | Wrong => {
    const parsed = parseCidr(written);
    return typeof parsed === "string" ? wrong(parsed) : formatCidr(parsed);
  },
);

/** A pattern for the DNS names of a certificate, in lower case. */
export const dnsPattern = text(
  { allowed: "db.internal, *.db.internal (one label), **.db.internal (one or more)", kind: "DNS name pattern" },
  (written) => {
    const pattern = compileDnsPattern(written);
    return typeof pattern === "string" ? wrong(pattern) : pattern.text;
  },
);

/** The same for the SNI of a ClientHello, where "" stands for a hello without one. */
export const sniPattern = text(
  {
    allowed:
      'db.internal, *.db.internal (one label), **.db.internal (one or more), or "" for a client that sends no SNI',
    kind: "SNI pattern",
  },
  (written) => {
    const pattern = compileDnsPattern(written, { allowEmpty: true });
    return typeof pattern === "string" ? wrong(pattern) : pattern.text;
  },
);

/** The name of a SPIFFE trust domain. */
export const trustDomain = text({ allowed: "prod.example.org (a-z, 0-9, . - _)", kind: "trust domain" }, (written) => {
  const problem = trustDomainProblem(written);
  return problem === "" ? written : wrong(problem);
});

/** What an endpoint is called: a host name in lower case, or an IP address in canonical form. */
export const serverName = text({ allowed: "a host name or an IP address", kind: "server name" }, (written) => {
  const ip = parseIp(written);
  if (ip !== null) return formatIp(ip);
  const problem = hostNameProblem(written);
  return problem === "" ? written.toLowerCase() : wrong(problem);
});

/** A pattern for the URI names of a certificate. */
export const uriPattern = text(
  {
    allowed: "spiffe://prod/web, spiffe://prod/*/web (one segment), spiffe://prod/** (one or more)",
    kind: "URI pattern",
  },
  (written) => {
    const pattern = compileUriPattern(written);
    return typeof pattern === "string" ? wrong(pattern) : pattern.text;
  },
);

/** A protocol's name in ALPN (RFC 7301, 3.1: 1 to 255 bytes). */
export const alpnName = text({ allowed: "1 to 255 bytes, such as h2", kind: "ALPN name" }, (written) => {
  const { length } = new TextEncoder().encode(written);
  return length >= 1 && length <= 255 ? written : wrong("an ALPN name has 1 to 255 bytes");
});

/**
 * A file, relative to the config file unless absolute; load.ts makes it absolute or relative to the working directory.
 */
export const filePath = text({ allowed: "a path, relative to this file", kind: "path" }, (written) => {
  if (written === "") return wrong("a path must not be empty");
  return written.includes("\0") ? wrong("a path cannot contain a NUL") : written;
});

/** A user of this host, by its name in the password file; whether there is one is seen when the program starts. */
export const userName = text({ allowed: "the name of a user of this host", kind: "user" }, (written) => {
  if (written === "") return wrong("a user must not be empty; to stay who you are, leave the field out");
  if (/^\d+$/.test(written)) return wrong(`"${written}" is a number: write the name of the user`);
  if (/[\s:/]|[^\x20-\x7e]/.test(written)) return wrong(`"${written}" is not the name of a user`);
  return written;
});

/** A share in percent, as a number from 0 to 1. */
export function percent(most: number) {
  const allowed = `0% to ${most}%`;
  return text({ allowed, pattern: "^\\d+(\\.\\d+)?%$", kind: "percentage" }, (written): number | Wrong => {
    const number = Number(/^(\d+(?:\.\d+)?)%$/.exec(written)?.[1]);
    if (Number.isNaN(number)) return wrong(`"${written}" is not a percentage: write a number with %, such as 10%`);
    return number <= most ? number / 100 : wrong(`${written} is out of range; allowed: ${allowed}`);
  });
}

const statusText = text({ allowed: "200, 200-299", kind: "status" }, (written) => {
  const [, first, last = first] = /^([1-5]\d\d)(?:-([1-5]\d\d))?$/.exec(written) ?? [];
  if (first === undefined || last === undefined)
    return wrong(`"${written}" is no HTTP status: write one such as 204, or a range such as 200-299`);
  return first <= last
    ? { first: Number(first), last: Number(last) }
    : wrong(`"${written}" is empty: ${first} is above ${last}`);
});

const statusNumber = integer({ min: 100, max: 599 }).transform((status) => ({ first: status, last: status }));

/** Statuses of HTTP: one, or from one to another. */
export const statusRange = z.union([statusNumber, statusText]).meta({ allowed: "200, 200-299" });

/** The path and query of an HTTP request, as they are sent (RFC 9112, 3.2.1). */
export const requestPath = text(
  { allowed: "a path such as /healthz, with a query if need be", kind: "path" },
  (written) =>
    /^\/[\x21-\x7e]{0,1023}$/.test(written)
      ? written
      : wrong(`"${written}" is no path of HTTP: it begins with / and has no blanks; write what is not ASCII as %NN`),
);

/** The Host of an HTTP request. */
export const hostHeader = text({ allowed: "a host name, with a port if need be", kind: "host" }, (written) =>
  /^[A-Za-z0-9._:[\]-]{1,255}$/.test(written) ? written : wrong(`"${written}" is not what a Host header can say`),
);

const ESCAPES: Readonly<Record<string, string>> = { r: "\r", n: "\n", t: "\t", "\\": "\\" };

/** Bytes, as a text with one character for each: `\r \n \t \\ \xNN` stand for bytes, and all else for itself in UTF-8. */
export function escapedBytes(most: number) {
  const allowed = `1 to ${most} bytes; \\r \\n \\t \\\\ and \\xNN stand for bytes`;
  return text({ allowed, kind: "bytes" }, (written): string | Wrong => {
    let bytes = "";
    // With the separator captured, what stands between two escapes has an even index.
    for (const [index, part] of written.split(/\\(x[0-9A-Fa-f]{2}|[^x]|x)/).entries()) {
      const special = index % 2 === 1 ? (ESCAPES[part] ?? (part.length === 3 ? hexByte(part) : undefined)) : "";
      if (special === undefined || (index % 2 === 0 && part.endsWith("\\")))
        return wrong(`\\${index % 2 === 1 ? part : ""} stands for nothing; known: \\r \\n \\t \\\\ \\xNN`);
      bytes += index % 2 === 1 ? special : latin1(new TextEncoder().encode(part));
    }
    return bytes.length >= 1 && bytes.length <= most
      ? bytes
      : wrong(`has ${bytes.length} bytes; allowed: 1 to ${most}`);
  });
}

function hexByte(digits: string): string {
  return String.fromCharCode(Number.parseInt(digits.slice(1), 16));
}

/** Any text that is not empty, compared as it is. */
export const exactText = z.string().min(1, { error: "must not be empty" }).meta({ allowed: "exact text" });

interface TextKind {
  /** What may be written, for messages and for the reference page. */
  readonly allowed: string;
  readonly kind: string;
  /** For editors that read the JSON Schema; here the parser judges, whose messages are better. */
  readonly pattern?: string;
}

/** What a parser in this file answers instead of a value. */
class Wrong {
  readonly message: string;

  constructor(message: string) {
    this.message = message;
  }
}

function wrong(message: string): Wrong {
  return new Wrong(message);
}

/** A schema that takes a text and gives what `parse` makes of it. */
function text<T>(kind: TextKind, parse: (written: string) => T | Wrong) {
  return z
    .string()
    .meta({ ...kind })
    .transform((written, context): T => {
      const parsed = parse(written);
      if (!(parsed instanceof Wrong)) return parsed;
      context.issues.push({ code: "custom", message: parsed.message, input: written });
      return z.NEVER;
    });
}
