// Whether an endpoint is the one that was meant, by what its certificate says of it. The chain is the TLS library's to verify; this judges the
// names of a leaf whose chain is good. A common name is never looked at (RFC 9525, 2).

import { assert } from "../base/assert.ts";
import { isIp } from "../base/ip.ts";
import type { CertificateDetails } from "./certificate-details.ts";
import { leafProblem } from "./leaf.ts";
import { compileDnsPattern, compileUriPattern, type NamePattern } from "./name-pattern.ts";

/** Who the endpoints have to be, as a snapshot has it. */
export interface ServerNames {
  /** Patterns instead of the server name; those that are given must each match. */
  readonly verifyDns: readonly string[];
  readonly verifyUri: readonly string[];
  /** Empty: any certificate that verifies. */
  readonly trustDomains: readonly string[];
}

/** Judges the certificates of one backend's endpoints. */
export class ServerVerifier {
  readonly #dns: readonly NamePattern[];
  readonly #uri: readonly NamePattern[];
  readonly #trustDomains: readonly string[];

  constructor({ verifyDns, verifyUri, trustDomains }: ServerNames) {
    this.#dns = verifyDns.map((pattern) => mustCompile(compileDnsPattern(pattern)));
    this.#uri = verifyUri.map((pattern) => mustCompile(compileUriPattern(pattern)));
    this.#trustDomains = trustDomains;
  }

  /**
   * "" when the leaf is of the endpoint that was meant, or why it is not; null is one that cannot be read. `serverName` counts where no pattern is
   * given.
   */
  judge(names: CertificateDetails | null, serverName: string): string {
    if (names === null) return "the certificate cannot be read";
    const problem = leafProblem(names, this.#trustDomains);
    if (problem !== "") return problem;
    if (this.#dns.length > 0 && !anyMatches(this.#dns, names.dnsNames)) return "no DNS name matches verify.dns";
    if (this.#uri.length > 0 && !anyMatches(this.#uri, names.uris)) return "no URI name matches verify.uri";
    if (this.#dns.length > 0 || this.#uri.length > 0) return "";
    if (isIp(serverName)) return names.ips.includes(serverName) ? "" : `not for the address ${serverName}`;
    return names.dnsNames.some((name) => isFor(name, serverName)) ? "" : `not for the name ${serverName}`;
  }
}

/** Whether a DNS name of a certificate covers a host: a wildcard stands for the whole leftmost label and nothing else (RFC 9525, 6.3). */
function isFor(name: string, host: string): boolean {
  if (!name.startsWith("*.")) return name === host;
  const parent = name.slice(1);
  const label = host.slice(0, -parent.length);
  // At least two labels behind it: `*.com` would be for half the world.
  return parent.indexOf(".", 1) > 0 && host.endsWith(parent) && label !== "" && !label.includes(".");
}

function anyMatches(patterns: readonly NamePattern[], names: readonly string[]): boolean {
  return patterns.some((pattern) => names.some((name) => pattern.matches(name)));
}

/** Patterns were validated with the config: one that does not compile is a defect. */
function mustCompile(compiled: NamePattern | string): NamePattern {
  assert(typeof compiled !== "string", `the snapshot was validated: ${String(compiled)}`);
  return compiled;
}
